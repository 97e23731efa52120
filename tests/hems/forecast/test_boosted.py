import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.forecast import boosted

RNG = np.random.default_rng(5)
ROWS = 1_500
X = RNG.normal(0, 1, (ROWS, 4))
ONES = np.ones(ROWS)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosted, "TREES", 30)
    monkeypatch.setattr(boosted, "LEARNING_RATE", 0.2)


def steps_of(x: np.ndarray) -> np.ndarray:
    """What no line fits: a step up and down again in one feature."""
    return np.asarray(100.0 + 60.0 * (np.abs(x[:, 0]) > 0.7))


def test_trees_find_what_no_line_fits() -> None:
    energy = steps_of(X) + RNG.normal(0, 5, ROWS)
    trees = boosted.grow(boosted.binned(X), energy, ONES)
    fresh = RNG.normal(0, 1, (500, 4))
    error = trees.predict(fresh) - steps_of(fresh)
    assert (error**2).mean() < 0.1 * steps_of(fresh).var()


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_a_quantile_is_exceeded_by_its_share(level: float) -> None:
    energy = (100 + 50 * (X[:, 0] > 0)) * RNG.lognormal(0, 0.5, ROWS)
    trees = boosted.grow(boosted.binned(X), energy, ONES, level=level)
    told = trees.predict(X)
    for part in (X[:, 0] > 0, X[:, 0] <= 0):
        assert (energy[part] <= told[part]).mean() == pytest.approx(level, abs=0.05)


def test_the_root_is_squared_again() -> None:
    energy = np.where(X[:, 2] > 0, 400.0, 100.0)
    trees = boosted.grow(boosted.binned(X), energy, ONES, root=True)
    assert trees.predict(X)[X[:, 2] > 0.5].mean() == pytest.approx(400, rel=0.05)


def test_a_row_of_weight_nothing_teaches_nothing() -> None:
    energy = np.where(np.arange(ROWS) % 3 == 0, 1e6, 100.0)
    weights = np.where(np.arange(ROWS) % 3 == 0, 0.0, 1.0)
    for level in (None, 0.5):
        trees = boosted.grow(boosted.binned(X), energy, weights, level=level)
        assert trees.predict(X) == pytest.approx(100.0)


def test_a_threshold_is_where_its_bin_ends() -> None:
    # What is learnt from bins is told from the numbers: the same rows fall into the same leaves.
    energy = np.where(X[:, 0] > 0.3, 500.0, 100.0)
    rows = boosted.binned(X)
    assert all((column < boosted.BINS).all() for column in rows.bins)
    trees = boosted.grow(rows, energy, ONES)
    edge = trees.thresholds[trees.features == 0]
    edge = edge[np.isfinite(edge)][0]
    at = np.zeros((2, 4))
    at[:, 0] = edge, np.nextafter(edge, np.inf)
    low, high = trees.predict(at)
    assert high > low


@given(
    st.integers(1, 60),
    st.integers(1, 3),
    st.sampled_from([None, 0.1, 0.5]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_any_rows_give_finite_energy_within_what_came(
    count: int, features: int, level: float | None, root: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(0, 1, (count, features)), 1)
    energy = rng.gamma(0.5, 100.0, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boosted, "TREES", 3)
        trees = boosted.grow(boosted.binned(x), energy, np.ones(count), level, root)
    told = trees.predict(x.reshape(count, 1, features))
    assert told.shape == (count, 1)
    assert (told >= 0).all()
    assert (told <= energy.max() * 1.01 + 1e-6).all()


def test_the_same_rows_give_the_same_trees() -> None:
    energy = steps_of(X)
    first, second = (boosted.grow(boosted.binned(X), energy, ONES) for _ in range(2))
    assert np.array_equal(first.predict(X), second.predict(X))


def test_in_units_a_home_of_any_size_is_forecast() -> None:
    sizes = RNG.uniform(50, 100, ROWS)
    late = X[:, 0] > 0.3
    rows = np.column_stack((sizes, np.where(late, 2, 1) * sizes, X[:, 1]))
    energy = sizes * np.where(late, 5.0, 1.0)
    unit = boosted.Unit(0, 2)
    for root in (False, True):
        trees = boosted.grow(boosted.binned(rows, unit), energy, ONES, root=root)
        assert trees.predict(rows) == pytest.approx(energy, rel=0.1)
        # Ten times the home: trees in watt-hours would tell the largest they have seen.
        larger = rows * [10, 10, 1]
        assert trees.predict(larger) == pytest.approx(10 * trees.predict(rows))


def test_in_units_the_calendar_is_as_it_is() -> None:
    sizes = RNG.uniform(10, 1000, ROWS)
    hours = RNG.integers(0, 24, ROWS)
    energy = sizes * np.where(hours > 12, 3.0, 1.0)
    rows = np.column_stack((sizes, hours))
    trees = boosted.grow(boosted.binned(rows, boosted.Unit(0, 1)), energy, ONES)
    assert trees.predict(rows) == pytest.approx(energy, rel=0.1)


def test_a_unit_of_nothing_forecasts_nothing_much() -> None:
    sizes = np.where(np.arange(ROWS) % 10, 100.0, 0.0)
    trees = boosted.grow(boosted.binned(sizes[:, None], boosted.Unit(0, 1)), sizes, ONES)
    told = trees.predict(sizes[:, None])
    assert np.isfinite(told).all()
    assert told[sizes == 0].max() <= 1.0


def test_another_seed_grows_other_trees() -> None:
    energy = steps_of(X) + RNG.normal(0, 5, ROWS)
    rows = boosted.binned(X)
    first, again, other = (boosted.grow(rows, energy, ONES, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.predict(X), again.predict(X))
    assert not np.array_equal(first.predict(X), other.predict(X))
