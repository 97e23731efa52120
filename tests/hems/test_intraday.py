import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.forecast import Forecast, blend, pv_blend
from hems.intraday import persist_load, persist_pv

STEPS = 96


def sunny_days(days: int, steps_per_day: int = STEPS) -> np.ndarray:
    hours = (np.arange(steps_per_day) + 0.5) * 24 / steps_per_day
    bell = np.maximum(0.0, np.sin((hours - 6) / 12 * np.pi)) * 1000 * 24 / steps_per_day
    weather = np.where(np.arange(days) % 3 == 0, 0.6, 1.0)
    return np.outer(weather, bell).ravel()


def pv(history: np.ndarray, steps_per_day: int, horizon: int) -> tuple[Forecast, Forecast]:
    before = pv_blend(history, steps_per_day, horizon)
    return before, persist_pv(before, history, steps_per_day, horizon)


@pytest.mark.parametrize("minutes", [5, 15, 30, 60])
def test_an_overcast_morning_lowers_the_afternoon_whatever_the_slot(minutes: int) -> None:
    steps = 1440 // minutes
    past = sunny_days(28, steps)
    noon = steps // 2
    morning = 0.2 * past[-steps:][:noon]
    before, after = pv(np.concatenate((past, morning)), steps, steps // 4)
    share = after.mean_wh.sum() / before.mean_wh.sum()
    assert 0.3 < share < 0.65
    # The next slot is nearly as dark as the last, the evening less surely so.
    kept = after.mean_wh / before.mean_wh
    assert kept[0] < 0.4
    assert kept[0] < kept[steps // 8] < kept[-1] < 1
    # And there is less doubt than before.
    assert after.high_wh[0] - after.low_wh[0] < before.high_wh[0] - before.low_wh[0]


def test_a_day_like_its_forecast_changes_nothing() -> None:
    past = sunny_days(28)
    today = pv_blend(past, STEPS, STEPS).mean_wh
    before, after = pv(np.concatenate((past, today[:50])), STEPS, 30)
    # The total of the last 24 hours has moved on a little since the last steps were forecast.
    assert after.mean_wh.tolist() == pytest.approx(before.mean_wh.tolist(), rel=0.02)


def test_night_and_the_first_light_leave_the_day_ahead_forecast() -> None:
    past = sunny_days(28)
    for hour, tolerance in ((4, 0.0), (6.25, 0.25)):
        today = 0.2 * past[-STEPS:][: int(hour * 4)]
        before, after = pv(np.concatenate((past, today)), STEPS, STEPS)
        assert np.abs(after.mean_wh - before.mean_wh).max() <= tolerance * before.mean_wh.max()


def test_a_sunnier_day_is_bounded_by_the_best_of_the_season() -> None:
    past = sunny_days(28)
    today = 5.0 * past[-STEPS:][:48]
    _, after = pv(np.concatenate((past, today)), STEPS, 48)
    best = past.reshape(28, STEPS).max(axis=0)[48:]
    assert (after.mean_wh <= best + 1e-9).all()
    assert after.mean_wh[0] == pytest.approx(best[0])


def test_gaps_today_and_no_history_say_nothing() -> None:
    past = sunny_days(28)
    for history in (
        np.concatenate((past, np.full(48, np.nan))),
        np.zeros(0),
        np.full(STEPS, np.nan),
        past[:40],
    ):
        for day_ahead, correct in ((pv_blend, persist_pv), (blend, persist_load)):
            before = day_ahead(history, STEPS, 8)
            after = correct(before, history, STEPS, 8)
            assert after.mean_wh.tolist() == before.mean_wh.tolist()


def test_load_above_its_forecast_goes_on_for_a_while() -> None:
    past = np.full(28 * STEPS, 100.0)
    before = blend(past, STEPS, STEPS)
    more = persist_load(before, np.concatenate((past, np.full(24, 300.0))), STEPS, STEPS).mean_wh
    assert 150 < more[0] < 200
    assert (np.diff(more) <= 0).all()
    assert more[16] == pytest.approx(100, abs=1)
    less = persist_load(before, np.concatenate((past, np.zeros(24))), STEPS, STEPS)
    assert 50 < less.mean_wh[0] < 100


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(0, 5000)), max_size=300),
    st.sampled_from([1, 2, 24, 48, 96, 288]),
    st.integers(0, 100),
)
def test_any_history_gives_finite_ordered_energy(
    values: list[float], steps_per_day: int, horizon: int
) -> None:
    history = np.array(values, float)
    for day_ahead, correct in ((blend, persist_load), (pv_blend, persist_pv)):
        after = correct(day_ahead(history, steps_per_day, horizon), history, steps_per_day, horizon)
        assert all(part.shape == (horizon,) for part in after)
        assert all(np.isfinite(part).all() for part in after)
        assert (after.low_wh >= 0).all()
        assert (after.low_wh <= after.mean_wh + 1e-9).all()
        assert (after.mean_wh <= after.high_wh + 1e-9).all()
