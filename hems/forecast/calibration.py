"""What a forecast got wrong on days it had not seen, put right: level, lean and intervals.

All of it is measured on the validation days that training holds back, never on what was fitted.
"""

from typing import Final, NamedTuple

import numpy as np

from hems.civil import FloatArray
from hems.forecast.base import HIGH_QUANTILE, LOW_QUANTILE

# A level measured over few days is mostly chance: this many days at level 1 are added.
LEVEL_PRIOR_DAYS: Final = 42
LEVEL_MIN: Final = 0.5
LEVEL_MAX: Final = 2.0
# The mean leans towards the median until it has lost this share of its energy; see docs/hems.md.
LEAN: Final = 0.03
LEAN_MAX: Final = 0.25
STRETCH_MIN: Final = 0.25
STRETCH_MAX: Final = 4.0
SCORES_MIN: Final = 200


class Stretch(NamedTuple):
    """By how much a sample's quantiles are stretched away from the median."""

    low: float = 1.0
    high: float = 1.0


def level(energy_wh: FloatArray, forecast_wh: FloatArray, days: int) -> float:
    """Return the factor that gives a forecast the energy that came, drawn towards 1."""
    total, foretold = float(energy_wh.sum()), float(forecast_wh.sum())
    if foretold <= 0 or days == 0:
        return 1.0
    prior = foretold / days * LEVEL_PRIOR_DAYS
    return min(max((total + prior) / (foretold + prior), LEVEL_MIN), LEVEL_MAX)


def smearing(energy_wh: FloatArray, forecast_wh: FloatArray) -> float:
    """Return the factor that makes a mean of a median or a root's square (Duan's smearing)."""
    foretold = float(forecast_wh.sum())
    return float(energy_wh.sum()) / foretold if foretold > 0 else 1.0


def lean(mean_wh: FloatArray, median_wh: FloatArray) -> float:
    """Return the share of the median to mix into the mean, for a loss of `LEAN` of its energy."""
    total = float(mean_wh.sum())
    gap = 1.0 - float(median_wh.sum()) / total if total > 0 else 0.0
    return min(LEAN / gap, LEAN_MAX) if gap > LEAN else 0.0


def stretch(
    energy_wh: FloatArray, low_wh: FloatArray, median_wh: FloatArray, high_wh: FloatArray
) -> Stretch:
    """Return what makes the interval hold its share of the validation days (split conformal).

    A step's score is its distance from the median in units of the sample's own quantile there, so
    that the evening's interval widens more than the night's.
    """
    if len(energy_wh) < SCORES_MIN:
        return Stretch()
    least = 0.01 * max(float(energy_wh.mean()), 1e-9)
    below = (median_wh - energy_wh) / np.maximum(median_wh - low_wh, least)
    above = (energy_wh - median_wh) / np.maximum(high_wh - median_wh, least)
    ends = np.quantile(below, 1.0 - LOW_QUANTILE), np.quantile(above, HIGH_QUANTILE)
    return Stretch(*(min(max(float(end), STRETCH_MIN), STRETCH_MAX) for end in ends))


def stretched(
    low_wh: FloatArray, median_wh: FloatArray, high_wh: FloatArray, by: Stretch
) -> tuple[FloatArray, FloatArray]:
    """Return the calibrated quantiles, never negative. [Wh]"""
    low = np.maximum(median_wh - by.low * np.maximum(median_wh - low_wh, 0.0), 0.0)
    high = median_wh + by.high * np.maximum(high_wh - median_wh, 0.0)
    return low, high
