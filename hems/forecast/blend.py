"""Forecasts of load and PV that need no training: means and quantiles of the same time of the past.

They work from any amount of history, none included; every learned model is measured against them
and falls back to them.
"""

from typing import Final

import numpy as np

from hems.civil import FloatArray, IntArray
from hems.errors import ConfigError
from hems.forecast.base import (
    HIGH_QUANTILE,
    HISTORY_DAYS,
    LOW_QUANTILE,
    WEEK_DAYS,
    Forecast,
    Horizon,
    days_ahead,
    offsets_of,
    same_time,
)

PV_DAYS: Final = 14
# Quantiles of PV are those of fewer days: the sun's path moves on.
PV_QUANTILE_DAYS: Final = 7
# A day's sky departs from the mean half as far as the day's before it did.
PV_PERSISTENCE: Final = 0.5
# Clear days are many and dull ones far below them: a mean that leans to the median by this share is
# nearer to most days, for a few per cent of the energy.
PV_LEAN: Final = 0.25

# Load: half the 28-day mean of the same time, a quarter the same weekday, a quarter yesterday.
WEIGHT_MONTH: Final = 0.5
WEIGHT_WEEKDAY: Final = 0.25
WEIGHT_YESTERDAY: Final = 0.25


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
    same_weekday = _mean(_same_weekdays(lagged, days_ahead(steps_per_day, horizon)))
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
    return _with_quantiles(filled(mean, history_wh, fallback_wh), lagged)


def pv_blend(
    history_wh: FloatArray,
    steps_per_day: int,
    horizon: Horizon,
    fallback_wh: FloatArray | None = None,
) -> Forecast:
    """Forecast PV: the mean of 14 days at the same time, drawn to the last 24 hours. As `blend`.

    Skies persist: an overcast day follows an overcast one more often than not, but its clouds come
    at other hours. So yesterday is half itself, half the mean day at yesterday's total; it counts
    for `PV_PERSISTENCE`, and for half as much with each day ahead. In its gaps the mean stands. All
    of it leans by `PV_LEAN` to the median of the same days.
    """
    offsets = offsets_of(horizon)
    day = same_time(history_wh, steps_per_day, steps_per_day, PV_DAYS)
    usual = _mean(day)
    seen = np.isfinite(day[0])
    total = float(usual[seen].sum())
    clearness = float(day[0][seen].sum()) / total if total > 0 else 1.0
    at = offsets % steps_per_day
    lagged, mean = day[:, at], usual[at]
    yesterday = np.where(seen[at], (lagged[0] + clearness * mean) / 2, mean)
    share = PV_PERSISTENCE ** (1 + days_ahead(steps_per_day, horizon))
    drawn = mean + share * (yesterday - mean)
    middle = _quantile(np.sort(lagged, axis=0), np.isfinite(lagged).sum(axis=0), 0.5, drawn)
    drawn += PV_LEAN * (middle - drawn)
    return _with_quantiles(filled(drawn, history_wh, fallback_wh), lagged[:PV_QUANTILE_DAYS])


def same_time_mean(
    history_wh: FloatArray,
    steps_per_day: int,
    horizon: Horizon,
    days: int,
    fallback_wh: FloatArray | None = None,
) -> Forecast:
    """Forecast the mean of the same time over the last `days` days. Otherwise as `blend`."""
    lagged = same_time(history_wh, steps_per_day, horizon, days)
    return _with_quantiles(filled(_mean(lagged), history_wh, fallback_wh), lagged)


def _same_weekdays(lagged: FloatArray, ahead: IntArray) -> FloatArray:
    """Return the rows that are whole weeks before each step, shape (4, horizon)."""
    # Row r is r + 1 days before a step of the first day ahead, r + 1 + d before one d days later.
    first = (WEEK_DAYS - 1 - ahead) % WEEK_DAYS
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


def filled(mean: FloatArray, history_wh: FloatArray, fallback_wh: FloatArray | None) -> FloatArray:
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
    middle = _quantile(ordered, count, 0.5, mean)
    return Forecast(mean, low, high, middle)


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
