"""What a forecast got wrong on days it had not seen, put right: level, lean and intervals.

All of it is measured on the validation days that training holds back and on the days since, never
on what was fitted.
"""

import math
from typing import Final, NamedTuple

import numpy as np

from hems.civil import BoolArray, FloatArray
from hems.forecast.base import HIGH_QUANTILE, LOW_QUANTILE

# How fast a home changes its ways and the sun its height; and as a level measured over few days is
# mostly chance, this many days at level 1 are added.
LEVEL_MEMORY_DAYS: Final = 30.0
LEVEL_PRIOR_DAYS: Final = 28
LEVEL_MIN: Final = 0.5
LEVEL_MAX: Final = 2.0
# The mean leans towards the median until it has lost this share of its energy; see docs/hems.md.
LEAN: Final = 0.035
LEAN_MAX: Final = 0.25
STRETCH_MIN: Final = 0.25
STRETCH_MAX: Final = 4.0
SCORES_MIN: Final = 200


class Stretch(NamedTuple):
    """By how much a sample's quantiles are stretched away from the median."""

    low: float = 1.0
    high: float = 1.0


class Level(NamedTuple):
    """How much came of what was foretold lately, by days a forecast has not learnt from.

    `came_wh` and `foretold_wh` are sums over days, each weighing less the longer ago it was;
    `prior_wh` is what is added to both.
    """

    came_wh: float = 0.0
    foretold_wh: float = 0.0
    prior_wh: float = 0.0

    @property
    def factor(self) -> float:
        """What to multiply a forecast with."""
        if self.foretold_wh + self.prior_wh <= 0:
            return 1.0
        factor = (self.came_wh + self.prior_wh) / (self.foretold_wh + self.prior_wh)
        return min(max(factor, LEVEL_MIN), LEVEL_MAX)

    def after(self, energy_wh: FloatArray, forecast_wh: FloatArray, use: BoolArray) -> "Level":
        """Return the level after some days, shape (days, steps); one not measured tells nothing."""
        came_wh, foretold_wh = self.came_wh, self.foretold_wh
        fading = math.exp(-1 / LEVEL_MEMORY_DAYS)
        measured = use.any(axis=1)
        came, foretold = (np.where(use, part, 0.0).sum(axis=1) for part in (energy_wh, forecast_wh))
        for day_came, day_foretold in zip(came[measured], foretold[measured], strict=True):
            came_wh = came_wh * fading + float(day_came)
            foretold_wh = foretold_wh * fading + float(day_foretold)
        return self._replace(came_wh=came_wh, foretold_wh=foretold_wh)


def level(energy_wh: FloatArray, forecast_wh: FloatArray, use: BoolArray) -> Level:
    """Return the level after the days held back, shape (days, steps)."""
    days = max(1, int(use.any(axis=1).sum()))
    prior_wh = float(forecast_wh[use].sum()) / days * LEVEL_PRIOR_DAYS
    return Level(prior_wh=prior_wh).after(energy_wh, forecast_wh, use)


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
