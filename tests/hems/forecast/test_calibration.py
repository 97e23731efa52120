import numpy as np
import pytest

from hems.forecast import calibration

RNG = np.random.default_rng(7)
ENERGY = RNG.gamma(1.0, 200.0, 2_000)


def test_the_level_is_drawn_towards_one() -> None:
    low = np.full(2_000, ENERGY.mean() / 1.4)
    days = calibration.LEVEL_PRIOR_DAYS
    assert calibration.level(ENERGY, low, days) == pytest.approx(1.2)
    assert 1.35 < calibration.level(ENERGY, low, 100 * days) < 1.4
    assert calibration.level(ENERGY, np.zeros(2_000), days) == 1.0


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
