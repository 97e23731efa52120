import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.errors import ConfigError
from hems.forecast import HORIZON_STEPS_MAX, blend, pv_blend, same_time_mean

NONE = np.zeros(0)


def history(days: list[float], steps_per_day: int = 4) -> np.ndarray:
    """Days of equal steps, each day with its own value."""
    return np.repeat(np.array(days, float), steps_per_day)


def test_the_weights_are_half_month_quarter_weekday_quarter_yesterday() -> None:
    days = [float(day) for day in range(28)]
    expected = 0.5 * np.mean(days) + 0.25 * np.mean([0, 7, 14, 21]) + 0.25 * 27
    assert blend(history(days), 4, 4).mean_wh.tolist() == pytest.approx([expected] * 4)


def test_only_the_last_28_days_count() -> None:
    days = [float(day) for day in range(28)]
    old = blend(history([1e6] * 10 + days), 4, 4)
    assert old.mean_wh.tolist() == blend(history(days), 4, 4).mean_wh.tolist()


def test_the_second_day_ahead_takes_its_own_weekdays() -> None:
    days = [float(day) for day in range(28)]
    second = blend(history(days), 4, 8).mean_wh[4:]
    expected = 0.5 * np.mean(days) + 0.25 * np.mean([1, 8, 15, 22]) + 0.25 * 27
    assert second.tolist() == pytest.approx([expected] * 4)


def test_from_within_a_day_the_same_time_is_found() -> None:
    steps = np.tile([10.0, 20.0, 30.0, 40.0], 28)
    forecast = blend(np.concatenate((steps, [10.0, 20.0])), 4, 4)
    assert forecast.mean_wh.tolist() == pytest.approx([30, 40, 10, 20])


def test_chosen_steps_are_those_of_the_whole_horizon() -> None:
    values = np.random.default_rng(0).gamma(1, 100, 48 * 20)
    whole = blend(values, 48, 96).mean_wh
    chosen = blend(values, 48, np.array([0, 5, 50, 95])).mean_wh
    assert chosen.tolist() == whole[[0, 5, 50, 95]].tolist()


def test_a_gap_leaves_its_weight_to_the_rest() -> None:
    days = [10.0] * 27 + [50.0]
    values = history(days)
    values[-4:] = np.nan
    assert blend(values, 4, 4).mean_wh.tolist() == pytest.approx([10.0] * 4)


def test_one_day_of_history_is_repeated() -> None:
    assert blend(np.array([1.0, 2, 3, 4]), 4, 8).mean_wh.tolist() == [1, 2, 3, 4, 1, 2, 3, 4]


def test_without_history_the_typical_home_stands_in() -> None:
    typical = np.array([5.0, 6, 7, 8])
    assert blend(NONE, 4, 4, typical).mean_wh.tolist() == typical.tolist()
    assert blend(NONE, 4, 4).mean_wh.tolist() == [0, 0, 0, 0]


def test_times_never_seen_take_the_typical_shape_at_this_homes_level() -> None:
    forecast = blend(np.array([np.nan, np.nan, 30.0, 30.0]), 4, 4, np.array([5.0, 5, 10, 10]))
    assert forecast.mean_wh.tolist() == pytest.approx([15, 15, 30, 30])
    plain = blend(np.array([np.nan, np.nan, 20.0, 40.0]), 4, 4)
    assert plain.mean_wh.tolist() == pytest.approx([30, 30, 20, 40])


def test_a_mean_of_days_is_of_that_many() -> None:
    days = [100.0] * 3 + [float(day) for day in range(7)]
    assert same_time_mean(history(days), 4, 4, 7).mean_wh.tolist() == pytest.approx([3.0] * 4)


def leant(*drawn: float) -> list[float]:
    """A quarter of the way to the median day's 10 Wh."""
    return [0.75 * value + 0.25 * 10.0 for value in drawn]


def test_pv_is_a_fortnights_mean_drawn_to_yesterday_and_less_each_day_ahead() -> None:
    days = [500.0] * 6 + [10.0] * 13 + [24.0]  # a fortnight's mean is 11
    ahead = pv_blend(history(days), 4, np.array([0, 4, 8])).mean_wh
    assert ahead.tolist() == pytest.approx(leant(11 + 13 / 2, 11 + 13 / 4, 11 + 13 / 8))


def test_pv_takes_yesterdays_total_for_more_than_its_hours() -> None:
    past = history([10.0] * 14)
    past[-4:] = [0, 0, 10, 10]  # the usual day has 10 - 10/14 at the first two times
    usual = np.array([10 - 10 / 14, 10 - 10 / 14, 10, 10])
    yesterday = (past[-4:] + usual * 20 / usual.sum()) / 2
    assert pv_blend(past, 4, 4).mean_wh.tolist() == pytest.approx(leant(*(usual + yesterday) / 2))


def test_pv_is_the_mean_where_yesterday_has_a_gap() -> None:
    past = history([10.0] * 13 + [24.0])
    past[-4:-2] = np.nan
    drawn = 11 + 13 / 2
    assert pv_blend(past, 4, 4).mean_wh.tolist() == pytest.approx(leant(10, 10, drawn, drawn))


def test_quantiles_are_those_of_the_same_time() -> None:
    days = np.random.default_rng(1).permutation(np.arange(28.0))
    forecast = blend(history(list(days)), 4, 1)
    assert forecast.low_wh[0] == pytest.approx(np.quantile(days, 0.1))
    assert forecast.high_wh[0] == pytest.approx(np.quantile(days, 0.9))


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(0, 5000)), max_size=200),
    st.integers(1, 48),
    st.integers(0, 100),
)
def test_any_history_gives_finite_ordered_energy(
    values: list[float], steps_per_day: int, horizon: int
) -> None:
    for method in (blend, pv_blend):
        forecast = method(np.array(values, float), steps_per_day, horizon)
        assert all(part.shape == (horizon,) for part in forecast)
        assert np.isfinite(forecast.mean_wh).all()
        assert (forecast.low_wh >= 0).all()
        assert (forecast.low_wh <= forecast.mean_wh + 1e-9).all()
        assert (forecast.mean_wh <= forecast.high_wh + 1e-9).all()


def test_what_cannot_be_forecast_is_refused() -> None:
    with pytest.raises(ConfigError, match="horizon"):
        blend(NONE, 4, HORIZON_STEPS_MAX + 1)
    with pytest.raises(ConfigError, match="horizon"):
        blend(NONE, 4, np.array([-1]))
    with pytest.raises(ConfigError, match="step per day"):
        blend(NONE, 0, 4)
    with pytest.raises(ConfigError, match="step per day"):
        blend(np.zeros((2, 2)), 2, 4)
    with pytest.raises(ConfigError, match="fallback"):
        blend(NONE, 4, 4, np.zeros(3))
