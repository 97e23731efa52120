"""Forecasts of load and PV from a home's own past.

All functions take history as a flat array of civil steps (`hems.civil`: every day has the same
number), oldest first, ending where the forecast begins, with NaN where nothing was measured. They
work from any amount of it, none included. `mean_wh` forecasts the mean, which energy balances
need; the quantiles are for caution. They are different things: a median is not a mean.
"""

import math
from statistics import NormalDist
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from hems.civil import FloatArray, IntArray
from hems.errors import ConfigError

HISTORY_DAYS: Final = 28
PV_DAYS: Final = 7
WEEK_DAYS: Final = 7
HORIZON_STEPS_MAX: Final = 20_000

# Load: half the 28-day mean of the same time, a quarter the same weekday, a quarter yesterday.
WEIGHT_MONTH: Final = 0.5
WEIGHT_WEEKDAY: Final = 0.25
WEIGHT_YESTERDAY: Final = 0.25

LOW_QUANTILE: Final = 0.1
HIGH_QUANTILE: Final = 0.9

# Measured, the quantiles hold 70 % of daylight's PV rather than 80: they are those of 15 and 85 %.
_Z_OF_QUANTILES: Final = NormalDist().inv_cdf(0.85)
_SCENARIOS: Final = 11
_NORMAL: Final = np.array([NormalDist().inv_cdf((k + 0.5) / _SCENARIOS) for k in range(_SCENARIOS)])

Horizon: TypeAlias = int | IntArray


class Forecast(NamedTuple):
    """Energy per step of the horizon, shape (horizon,). [Wh]

    `low_wh` and `high_wh` are the 10 % and 90 % quantiles of the same time of the past days,
    widened where needed to hold the mean between them.
    """

    mean_wh: FloatArray
    low_wh: FloatArray
    high_wh: FloatArray


def blend(
    history_wh: FloatArray,
    steps_per_day: int,
    horizon: Horizon,
    fallback_wh: FloatArray | None = None,
) -> Forecast:
    """Forecast load: ½ 28-day mean, ¼ mean of four same weekdays, ¼ yesterday, at the same time.

    Parameters
    ----------
    history_wh : float array, shape (steps,)
        Civil steps up to the forecast's beginning, NaN where unknown. [Wh]
    steps_per_day : int
    horizon : int or int array
        Number of steps, or which steps after the history (0 is the first).
    fallback_wh : float array, shape (horizon,), optional
        A typical home's energy, for the times of day with no history at all; scaled to what is
        known of this home. Without it, the mean of what is known. [Wh]

    Returns
    -------
    Forecast
        Parts of the blend without a measurement leave their weight to the others.

    Raises
    ------
    ConfigError
        Negative or too long horizon, no steps per day, arrays of other shapes.
    """
    lagged = same_time(history_wh, steps_per_day, horizon, HISTORY_DAYS)
    month = _mean(lagged)
    same_weekday = _mean(_same_weekdays(lagged, _days_ahead(steps_per_day, horizon)))
    yesterday = lagged[0]
    parts = np.array([month, same_weekday, yesterday])
    weights = np.array([[WEIGHT_MONTH], [WEIGHT_WEEKDAY], [WEIGHT_YESTERDAY]])
    there = np.isfinite(parts)
    total = (weights * there).sum(axis=0)
    mean = np.divide(
        (weights * np.where(there, parts, 0.0)).sum(axis=0),
        total,
        out=np.full(parts.shape[1], np.nan),
        where=total > 0,
    )
    return _with_quantiles(_filled(mean, history_wh, fallback_wh), lagged)


def same_time_mean(
    history_wh: FloatArray,
    steps_per_day: int,
    horizon: Horizon,
    days: int = PV_DAYS,
    fallback_wh: FloatArray | None = None,
) -> Forecast:
    """Forecast PV: the mean of the same time over the last `days` days. Otherwise as `blend`.

    Without weather no learned model has beaten it; see docs/hems.md.
    """
    lagged = same_time(history_wh, steps_per_day, horizon, days)
    return _with_quantiles(_filled(_mean(lagged), history_wh, fallback_wh), lagged)


def surplus_errors_wh(load: Forecast, pv: Forecast, step: int) -> FloatArray:
    """Return equally likely errors of a step's surplus, PV minus load; their mean is 0. [Wh]

    A normal of two halves through the quantiles, those of load and PV taken as independent.
    """
    below = math.hypot(pv.mean_wh[step] - pv.low_wh[step], load.high_wh[step] - load.mean_wh[step])
    above = math.hypot(pv.high_wh[step] - pv.mean_wh[step], load.mean_wh[step] - load.low_wh[step])
    errors = np.where(_NORMAL < 0, below, above) * _NORMAL / _Z_OF_QUANTILES
    centred: FloatArray = errors - float(errors.mean())
    return centred


def offsets_of(horizon: Horizon) -> IntArray:
    """Return which steps after the history a horizon means. Raises `ConfigError`."""
    offsets = np.arange(horizon) if isinstance(horizon, int) else np.asarray(horizon)
    if offsets.ndim != 1 or len(offsets) > HORIZON_STEPS_MAX or (offsets < 0).any():
        raise ConfigError(f"a horizon is 0 to {HORIZON_STEPS_MAX} steps after the history")
    return offsets.astype(np.int64)


def _days_ahead(steps_per_day: int, horizon: Horizon) -> IntArray:
    """Return for each step of the horizon how many whole days after the history's end it is."""
    days: IntArray = offsets_of(horizon) // steps_per_day
    return days


def same_time(
    history_wh: FloatArray, steps_per_day: int, horizon: Horizon, days: int
) -> FloatArray:
    """Return the same time of the last `days` days, newest first, shape (days, horizon)."""
    if history_wh.ndim != 1 or steps_per_day < 1 or days < 1:
        raise ConfigError("history is one flat array, with at least one step per day")
    offsets = offsets_of(horizon)
    newest = len(history_wh) + offsets % steps_per_day - steps_per_day
    places = newest - steps_per_day * np.arange(days)[:, None]
    if len(history_wh) == 0:
        return np.full(places.shape, np.nan)
    return np.where(places >= 0, history_wh[np.maximum(places, 0)], np.nan)


def _same_weekdays(lagged: FloatArray, days_ahead: IntArray) -> FloatArray:
    """Return the rows that are whole weeks before each step, shape (4, horizon)."""
    # Row r is r + 1 days before a step of the first day ahead, r + 1 + d before one d days later.
    first = (WEEK_DAYS - 1 - days_ahead) % WEEK_DAYS
    rows = first + WEEK_DAYS * np.arange(HISTORY_DAYS // WEEK_DAYS)[:, None]
    result: FloatArray = np.take_along_axis(lagged, rows, axis=0)
    return result


def _mean(values: FloatArray) -> FloatArray:
    """Return the column means of what is there, NaN where nothing is."""
    there = np.isfinite(values)
    count = there.sum(axis=0)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.asarray(
        np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    )


def _filled(mean: FloatArray, history_wh: FloatArray, fallback_wh: FloatArray | None) -> FloatArray:
    """Replace times of day never seen."""
    missing = ~np.isfinite(mean)
    if not missing.any():
        return mean
    seen = mean[~missing]
    if fallback_wh is not None:
        if fallback_wh.shape != mean.shape:
            raise ConfigError(f"fallback of shape {fallback_wh.shape}, not {mean.shape}")
        typical = fallback_wh[~missing].sum()
        level = seen.sum() / typical if len(seen) and typical > 0 else 1.0
        return np.where(missing, fallback_wh * level, mean)
    known = history_wh[np.isfinite(history_wh)]
    return np.where(missing, known.mean() if len(known) else 0.0, mean)


def _with_quantiles(mean: FloatArray, lagged: FloatArray) -> Forecast:
    count = np.isfinite(lagged).sum(axis=0)
    ordered = np.sort(lagged, axis=0)  # NaN last
    low = np.minimum(mean, _quantile(ordered, count, LOW_QUANTILE, mean))
    high = np.maximum(mean, _quantile(ordered, count, HIGH_QUANTILE, mean))
    return Forecast(mean, low, high)


def _quantile(
    ordered: FloatArray, count: IntArray, share: float, default: FloatArray
) -> FloatArray:
    """Return the linearly interpolated quantile of the first `count` rows of each column."""
    at = share * np.maximum(count - 1, 0)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    low = np.take_along_axis(ordered, below[None], axis=0)[0]
    high = np.take_along_axis(ordered, above[None], axis=0)[0]
    return np.where(count > 0, low + (at - below) * (high - low), default)
