import math

import numpy as np
import pytest

from hems.forecast import calibration

RNG = np.random.default_rng(7)
ENERGY = RNG.gamma(1.0, 200.0, 2_000)


def test_the_level_is_drawn_towards_one() -> None:
    came, low = np.full((14, 24), 140.0), np.full((14, 24), 100.0)
    there = np.ones((14, 24), bool)
    after = calibration.level(came, low, there)
    memory, prior = calibration.LEVEL_MEMORY_DAYS, calibration.LEVEL_PRIOR_DAYS
    weighed = (1 - math.exp(-14 / memory)) / (1 - math.exp(-1 / memory))
    assert after.foretold_wh == pytest.approx(2_400 * weighed)
    assert after.factor == pytest.approx(1 + 0.4 * weighed / (weighed + prior))
    for _ in range(5):
        after = after.after(came, low, there)
    assert 1.15 < after.factor < 1.4
    assert calibration.level(came, np.zeros((14, 24)), there).factor == 1.0


def test_days_not_measured_leave_the_level() -> None:
    came, foretold = RNG.gamma(1.0, 200.0, (2, 30, 24))
    gaps = np.zeros((30, 24), bool)
    gaps[:10, 6:] = True
    before = calibration.level(came[:10], foretold[:10], gaps[:10])
    assert before.after(np.full((20, 24), np.nan), foretold[10:], gaps[10:]) == before
    assert before.came_wh < came[:10, 6:].sum()


def test_smearing_keeps_the_energy() -> None:
    roots = np.full(2_000, np.sqrt(ENERGY).mean() ** 2)
    factor = calibration.smearing(ENERGY, roots)
    assert (roots * factor).sum() == pytest.approx(ENERGY.sum())


def test_the_mean_leans_by_its_share_and_no_further() -> None:
    mean, median = np.full(10, 100.0), np.full(10, 70.0)
    share = calibration.lean(mean, median)
    assert (mean + share * (median - mean)).sum() == pytest.approx(
        mean.sum() * (1 - calibration.LEAN)
    )
    assert calibration.lean(mean, mean) == 0.0
    assert calibration.lean(median, mean) == 0.0
    assert calibration.lean(mean, np.full(10, 95.0)) <= calibration.LEAN_MAX


def test_intervals_hold_their_share_of_days_not_seen() -> None:
    median = np.full(2_000, np.median(ENERGY))
    low, high = median - 10, median + 10  # far too narrow
    first, second = slice(0, 1_000), slice(1_000, 2_000)
    by = calibration.stretch(ENERGY[first], low[first], median[first], high[first])
    assert by.low > 1
    assert by.high > 1
    low, high = median - 100, median + 1_000
    by = calibration.stretch(ENERGY[first], low[first], median[first], high[first])
    lows, highs = calibration.stretched(low, median, high, by)
    held = np.clip(ENERGY, lows, highs) == ENERGY
    assert abs(held[second].mean() - 0.8) < 0.05


def test_few_days_stretch_nothing() -> None:
    few = np.ones(calibration.SCORES_MIN - 1)
    assert calibration.stretch(few, few, few, few) == (1.0, 1.0)
