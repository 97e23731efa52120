"""Synthetic households: the same for the same seed, and what was asked for is in the load."""

from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hems.civil import FloatArray
from hems.errors import ConfigError
from hems.sources.synthetic import SyntheticSource

SYDNEY = ZoneInfo("Australia/Sydney")
SUMMER, WINTER = 20_470, 20_650


def source(**settings: object) -> SyntheticSource:
    return SyntheticSource(2, 1, SYDNEY, **settings)  # type: ignore[arg-type]


def daily_kwh(of: SyntheticSource, first: int, days: int = 14) -> FloatArray:
    return np.array([of.day_energy(day).load_uwh.sum() / 1e9 for day in range(first, first + days)])


def test_any_day_in_any_order_is_the_same() -> None:
    settings = {"persons": 4, "heating": "heat_pump", "pv_peak_w": 5_000, "ev_km_per_day": 40.0}
    one, other = source(**settings), source(**settings)
    forward = [one.day_energy(day) for day in range(SUMMER, SUMMER + 5)]
    backward = [other.day_energy(day) for day in reversed(range(SUMMER, SUMMER + 5))]
    for a, b in zip(forward, reversed(backward), strict=True):
        np.testing.assert_array_equal(a.load_uwh, b.load_uwh)
        np.testing.assert_array_equal(a.pv_uwh, b.pv_uwh)


def test_homes_differ_and_share_the_weather() -> None:
    one, other = (SyntheticSource(home, 1, SYDNEY, pv_peak_w=5_000) for home in (1, 2))
    assert one.day_energy(SUMMER).load_uwh.tolist() != other.day_energy(SUMMER).load_uwh.tolist()
    assert one.temperature_c(SUMMER).tolist() == other.temperature_c(SUMMER).tolist()
    days = range(SUMMER, SUMMER + 30)
    sun = [[s.day_energy(day).pv_uwh.sum() for day in days] for s in (one, other)]
    assert np.corrcoef(sun)[0, 1] > 0.95


def test_a_household_is_plausible() -> None:
    alone, many = daily_kwh(source(persons=1), SUMMER), daily_kwh(source(persons=5), SUMMER)
    assert 2 < alone.mean() < 8
    assert alone.mean() + 2 < many.mean() < 20


def test_each_part_is_in_the_load() -> None:
    plain = daily_kwh(source(), WINTER).mean()
    car = daily_kwh(source(ev_km_per_day=40.0), WINTER, 60).mean()
    plain_long = daily_kwh(source(), WINTER, 60).mean()
    assert car - plain_long == pytest.approx(40 * 0.18 * (0.9 * 5 + 0.5 * 2) / 7, rel=0.25)
    water = daily_kwh(source(hot_water=True), WINTER).mean()
    assert water - plain == pytest.approx(4.4, rel=0.25)
    electric = daily_kwh(source(heating="electric"), WINTER).mean() - plain
    pump = daily_kwh(source(heating="heat_pump"), WINTER).mean() - plain
    assert electric > 5
    assert pump == pytest.approx(electric / 3.2, rel=0.01)
    summer = (
        daily_kwh(source(heating="electric"), SUMMER).mean() - daily_kwh(source(), SUMMER).mean()
    )
    assert summer < electric / 5


def test_the_sun_shines_by_day_and_more_in_summer() -> None:
    home = source(pv_peak_w=5_000)
    summer = np.array([home.day_energy(day).pv_uwh for day in range(SUMMER, SUMMER + 30)])
    winter = np.array([home.day_energy(day).pv_uwh for day in range(WINTER, WINTER + 30)])
    assert summer[:, :48].max() == summer[:, -48:].max() == 0
    assert summer.max() <= 5_000 * 1e6 / 12
    assert summer.sum() > 1.5 * winter.sum() > 0
    north = source(pv_peak_w=5_000, latitude=40.0)
    assert north.day_energy(SUMMER).pv_uwh.sum() < north.day_energy(WINTER).pv_uwh.sum()


@pytest.mark.parametrize(
    "settings",
    [
        {"persons": 0},
        {"heating": "gas"},
        {"pv_peak_w": -1},
        {"ev_km_per_day": 1_000.0},
        {"latitude": 80.0},
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        source(**settings)
