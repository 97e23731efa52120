"""What today has shown, carried into the coming hours of a day-ahead forecast.

A day-ahead forecast knows nothing of today's weather. The last hours do: what they produced above
or below what was forecast for them, as a share of the best the sky of the season allows, goes on
for a while (the persistence of the clear-sky index, with the best of 28 days at the same time in
the place of a clear-sky model). A home's load has a shorter and weaker memory, and is corrected by
energy: a kettle is no reason to scale the evening up.

Times are in hours, so that the constants hold for slots of 5 to 60 minutes. How they
were chosen, and on what, is in docs/hems.md; `bench.forecast` measures them.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from hems.civil import BoolArray, FloatArray, IntArray
from hems.forecast import (
    HISTORY_DAYS,
    Forecast,
    Horizon,
    blend,
    offsets_of,
    pv_blend,
    same_time,
    same_time_mean,
)

DAY_HOURS: Final = 24.0
# Steps older than this many memories weigh less than 1 % and are not looked at.
_MEMORIES: Final = 5.0
# What sees less light than this share of the mean best of a day says nothing of the sky.
_FAINT: Final = 0.05


class Persistence(NamedTuple):
    """How today's deviation is seen and how it fades.

    `memory_h`: of the weights of the past steps. `gain`, `fade_h`: share of the deviation carried
    on at once, and its decay. `known`, `known_h`: correlation of the forecast's error with what
    was seen, which narrows the quantiles, and its decay.
    """

    memory_h: float
    gain: float
    fade_h: float
    known: float
    known_h: float


PV: Final = Persistence(0.5, 0.9, 9.0, 0.87, 5.7)
LOAD: Final = Persistence(0.25, 0.4, 0.75, 0.37, 0.75)


def persist_pv(
    day_ahead: Forecast, history_wh: FloatArray, steps_per_day: int, horizon: Horizon
) -> Forecast:
    """Correct a PV forecast by today's clear-sky index.

    Parameters
    ----------
    day_ahead : Forecast
        `pv_blend` of the same history and horizon.
    history_wh : float array, shape (steps,)
        Civil steps up to the forecast's beginning, NaN where unknown. [Wh]
    steps_per_day : int
    horizon : int or int array

    Returns
    -------
    Forecast
        Within 0 and the best seen at that time in 28 days (or the day-ahead mean, if that is
        higher). At night, after a gap and without history, the day-ahead forecast.
    """
    offsets = offsets_of(horizon)
    steps = _steps_seen(PV, len(history_wh), steps_per_day)
    if steps == 0 or len(offsets) == 0:
        return day_ahead
    expected = pv_blend(history_wh[:-steps], steps_per_day, steps).mean_wh
    best = _best(history_wh, steps_per_day)
    seen, weights = _weighed(PV, history_wh, steps, steps_per_day)
    past_best = best[np.arange(-steps, 0) % steps_per_day]
    light = float((weights * seen * past_best).sum())
    deviation = float((weights * np.where(seen, history_wh[-steps:] - expected, 0.0)).sum())
    faint = _FAINT * float(best.mean())
    if light <= 0 or faint <= 0:
        return day_ahead
    index = deviation / (light + faint)
    top = np.maximum(best[offsets % steps_per_day], day_ahead.mean_wh)
    hours = _hours(offsets, steps_per_day)
    moved = index * top * PV.gain * np.exp(-hours / PV.fade_h)
    mean = np.clip(day_ahead.mean_wh + moved, 0.0, top)
    narrow = _narrowed(PV, hours, light / (light + faint))
    # Seven days are too few for quantiles: daylight's 80 % interval would hold 70 %.
    month = same_time_mean(history_wh, steps_per_day, horizon, HISTORY_DAYS)
    low = np.maximum(mean - narrow * (month.mean_wh - month.low_wh), 0.0)
    high = mean + narrow * (month.high_wh - month.mean_wh)
    median = _moved(day_ahead, moved)
    return Forecast(
        mean,
        low,
        np.maximum(np.minimum(high, top), mean),
        None if median is None else np.minimum(median, top),
    )


def persist_load(
    day_ahead: Forecast, history_wh: FloatArray, steps_per_day: int, horizon: Horizon
) -> Forecast:
    """Correct a load forecast by the energy today has taken beyond it. Otherwise as `persist_pv`.

    `day_ahead` is any forecast from the same history for the same horizon. Never below 0; steps at
    whose time nothing was measured before say nothing.
    """
    offsets = offsets_of(horizon)
    steps = _steps_seen(LOAD, len(history_wh), steps_per_day)
    if steps == 0 or len(offsets) == 0:
        return day_ahead
    before = history_wh[:-steps]
    expected = blend(before, steps_per_day, steps).mean_wh
    seen, weights = _weighed(LOAD, history_wh, steps, steps_per_day)
    deviation = float((weights * np.where(seen, history_wh[-steps:] - expected, 0.0)).sum())
    hours = _hours(offsets, steps_per_day)
    moved = deviation * LOAD.gain * np.exp(-hours / LOAD.fade_h)
    mean = np.maximum(day_ahead.mean_wh + moved, 0.0)
    narrow = _narrowed(LOAD, hours, float((weights * seen).sum()))
    low = np.maximum(mean - narrow * (day_ahead.mean_wh - day_ahead.low_wh), 0.0)
    high = mean + narrow * (day_ahead.high_wh - day_ahead.mean_wh)
    return Forecast(mean, low, high, _moved(day_ahead, moved))


def _moved(day_ahead: Forecast, by_wh: FloatArray) -> FloatArray | None:
    """Return the median, moved as the mean is."""
    if day_ahead.median_wh is None:
        return None
    return np.asarray(np.maximum(day_ahead.median_wh + by_wh, 0.0))


def _hours(offsets: IntArray, steps_per_day: int) -> FloatArray:
    """Return how far ahead steps begin. [h]"""
    hours: FloatArray = offsets.astype(np.float64) * (DAY_HOURS / steps_per_day)
    return hours


def _steps_seen(memory: Persistence, steps_known: int, steps_per_day: int) -> int:
    steps = math.ceil(_MEMORIES * memory.memory_h * steps_per_day / DAY_HOURS)
    # With less history than this nothing was forecast for them.
    return steps if steps_known > steps else 0


def _weighed(
    memory: Persistence, history_wh: FloatArray, steps: int, steps_per_day: int
) -> tuple[BoolArray, FloatArray]:
    """Return which of the last steps can be judged, and their weights, newest last, sum 1."""
    lagged = same_time(history_wh[:-steps], steps_per_day, steps, HISTORY_DAYS)
    seen = np.isfinite(history_wh[-steps:]) & np.isfinite(lagged).any(axis=0)
    ages = np.arange(steps - 1, -1, -1) * (DAY_HOURS / steps_per_day)
    weights = np.exp(-ages / memory.memory_h)
    return seen, weights / weights.sum()


def _best(history_wh: FloatArray, steps_per_day: int) -> FloatArray:
    """Return the most energy of each step of the day to come in the last 28 days, 0 unknown."""
    lagged = same_time(history_wh, steps_per_day, steps_per_day, HISTORY_DAYS)
    best: FloatArray = np.max(np.where(np.isfinite(lagged), lagged, 0.0), axis=0)
    return best


def _narrowed(memory: Persistence, hours: FloatArray, trust: float) -> FloatArray:
    """Return the share of the day-ahead spread that is left: sqrt(1 - correlation²)."""
    correlation = trust * memory.known * np.exp(-hours / memory.known_h)
    left: FloatArray = np.asarray(np.sqrt(1.0 - correlation**2), np.float64)
    return left
