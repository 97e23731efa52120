import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.errors import ConfigError
from hems.forecast import features

STEPS = 6
RNG = np.random.default_rng(3)


def days(count: int) -> np.ndarray:
    return RNG.gamma(1.0, 100.0, count * STEPS)


def test_a_row_knows_nothing_of_what_comes_after_its_origin() -> None:
    history = days(60)
    origins, offsets = np.array([30, 45]) * STEPS, np.arange(2 * STEPS)
    told = features.rows(history, origins, offsets, STEPS)
    for place, origin in enumerate(origins):
        changed = history.copy()
        changed[origin:] = 1e9
        again = features.rows(changed, origins, offsets, STEPS)
        assert np.array_equal(again.values[place], told.values[place])


def test_rows_are_the_same_alone_as_among_others() -> None:
    history = days(50)
    origins = np.arange(0, 50) * STEPS
    together = features.rows(history, origins, np.arange(STEPS), STEPS)
    alone = features.rows(history[: 40 * STEPS], origins[40:41], np.arange(STEPS), STEPS)
    assert np.allclose(together.values[40], alone.values[0])


def test_the_last_28_days_are_enough_of_a_history() -> None:
    history = days(70)
    long = features.rows(history, np.array([70 * STEPS]), np.arange(STEPS), STEPS)
    short = features.rows(history[-28 * STEPS :], np.array([28 * STEPS]), np.arange(STEPS), STEPS)
    assert np.allclose(long.values, short.values)


def test_the_evening_is_that_before_the_last_midnight() -> None:
    steps = 24
    history = np.zeros(30 * steps)
    history[29 * steps - 3 : 29 * steps] = (1.0, 2.0, 6.0)
    # Issued at noon: this morning is no evening.
    history[29 * steps :] = 50.0
    row = features.rows(history[: 29 * steps + 12], np.array([29 * steps + 12]), np.arange(2), 24)
    at = dict(zip(features.NAMES, row.values[0, 0], strict=True))
    assert (at["evening"], at["late"]) == (3.0, 6.0)


def test_the_sample_weighs_the_same_weekday_double() -> None:
    history = np.zeros(28 * STEPS)
    history[21 * STEPS : 22 * STEPS] = 1.0  # seven days before the day to come
    row = features.rows(history, np.array([28 * STEPS]), np.array([2]), STEPS)
    weights = np.exp(-np.arange(28) / features.SAMPLE_MEMORY_DAYS)
    weights[6::7] *= features.WEEKDAY_WEIGHT
    at = dict(zip(features.NAMES, row.values[0, 0], strict=True))
    assert at["sample_mean"] == pytest.approx(weights[6] / weights.sum())
    assert (at["week_1"], at["day_1"], at["weekdays_4"]) == (1.0, 0.0, 0.25)


def test_quantiles_are_those_of_the_weight() -> None:
    sample = np.array([[[4.0], [1.0], [3.0], [2.0], [np.nan]]])
    weight = np.array([[[1.0], [1.0], [7.0], [1.0], [0.0]]])
    low, middle, high = features.weighted_quantiles(sample, weight, (0.1, 0.5, 0.95))
    assert (low[0, 0], middle[0, 0], high[0, 0]) == (1.0, 3.0, 4.0)


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(0, 5000)), max_size=150),
    st.integers(1, 24),
    st.integers(0, 60),
    st.integers(0, 23),
)
def test_any_history_gives_finite_features(
    values: list[float], steps_per_day: int, horizon: int, first_step: int
) -> None:
    history = np.array(values, float)
    rows = features.rows(
        history,
        np.array([len(history)]),
        np.arange(horizon),
        steps_per_day,
        first_step % steps_per_day,
    )
    assert np.isfinite(rows.values).all()
    assert (rows.values[~rows.known] == 0).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="step per day"):
        features.rows(days(3), np.array([1]), np.arange(1), 0)
    with pytest.raises(ConfigError, match="origins"):
        features.rows(days(3), np.array([1000]), np.arange(1), STEPS)
