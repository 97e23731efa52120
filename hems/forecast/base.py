"""What a forecast is, and how a history is read: the shared ground of all models.

All functions take history as a flat array of civil steps (`hems.civil`: every day has the same
number), oldest first, ending where the forecast begins, with NaN where nothing was measured.
"""

import math
from statistics import NormalDist
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from hems.civil import FloatArray, IntArray
from hems.errors import ConfigError

HISTORY_DAYS: Final = 28
WEEK_DAYS: Final = 7
HORIZON_STEPS_MAX: Final = 20_000

LOW_QUANTILE: Final = 0.1
HIGH_QUANTILE: Final = 0.9

# Measured, the quantiles hold 70 % of daylight's PV rather than 80: they are those of 15 and 85 %.
_Z_OF_QUANTILES: Final = NormalDist().inv_cdf(0.85)
_SCENARIOS: Final = 11
_NORMAL: Final = np.array([NormalDist().inv_cdf((k + 0.5) / _SCENARIOS) for k in range(_SCENARIOS)])

Horizon: TypeAlias = int | IntArray


class Forecast(NamedTuple):
    """Energy per step of the horizon, shape (horizon,). [Wh]

    `mean_wh` forecasts the mean, which energy balances need. `low_wh` and `high_wh` are the 10 %
    and 90 % quantiles, widened where needed to hold the mean between them. `median_wh` is what is
    exceeded half the time (a load's median is far below its mean); None where nobody asked for it.
    """

    mean_wh: FloatArray
    low_wh: FloatArray
    high_wh: FloatArray
    median_wh: FloatArray | None = None


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


def days_ahead(steps_per_day: int, horizon: Horizon) -> IntArray:
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
