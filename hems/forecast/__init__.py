"""Forecasts of load and PV from a home's own past.

`blend` (load) and `pv_blend` need no training; `model.train` learns from the home's own history,
validates by walking forward through it, and says which model to use. `mean_wh` forecasts the mean,
which energy balances need; `median_wh` and the quantiles are different things.
"""

from hems.forecast.base import (
    HISTORY_DAYS,
    HORIZON_STEPS_MAX,
    Forecast,
    Horizon,
    offsets_of,
    same_time,
    surplus_errors_wh,
)
from hems.forecast.blend import blend, pv_blend, same_time_mean

__all__ = [
    "HISTORY_DAYS",
    "HORIZON_STEPS_MAX",
    "Forecast",
    "Horizon",
    "blend",
    "offsets_of",
    "pv_blend",
    "same_time",
    "same_time_mean",
    "surplus_errors_wh",
]
