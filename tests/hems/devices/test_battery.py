from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.devices import HOUR_MS, MICRO, Battery, PvArray
from hems.errors import ConfigError, InvariantError


@st.composite
def batteries(draw: st.DrawFn) -> Battery:
    low = draw(st.floats(0, 0.5))
    high = draw(st.floats(0.55, 1))
    return Battery(
        capacity_wh=draw(st.integers(100, 50_000)),
        power_w=draw(st.one_of(st.none(), st.integers(1, 20_000))),
        charge_efficiency=draw(st.floats(0.5, 1)),
        discharge_efficiency=draw(st.floats(0.5, 1)),
        soc_min=low,
        soc_max=high,
        soc_end=draw(st.floats(low, high)),
        grid_charging=draw(st.booleans()),
    )


@given(batteries(), st.lists(st.integers(-30_000, 30_000), max_size=40), st.integers(5, 60))
def test_energy_is_never_created(battery: Battery, wishes: list[int], minutes: int) -> None:
    step_ms = minutes * 60_000
    stored = start = battery.min_uwh
    charged = discharged = 0
    for wish in wishes:
        action = min(wish, battery.charge_max_wh(stored, step_ms))
        action = max(action, -battery.discharge_max_wh(stored, step_ms))
        assert abs(action) <= battery.power_limit_w * minutes / 60
        stored = battery.step(stored, action, step_ms)
        assert battery.min_uwh <= stored <= battery.max_uwh
        charged += max(action, 0)
        discharged += max(-action, 0)
    # What came out, with its loss, is what went in less its loss: to a micro-watt-hour per step.
    into = charged * battery.charge_ppm
    out = discharged * MICRO * MICRO / battery.discharge_ppm
    assert -1e-3 <= (start + into - out) - stored <= len(wishes) + 1e-3


def test_charging_and_discharging_lose_as_equations_7_to_9_say() -> None:
    battery = Battery(capacity_wh=5000, power_w=2500)
    assert battery.step(1_000_000_000, 1000, HOUR_MS) == 1_950_000_000
    assert battery.step(3_000_000_000, -950, HOUR_MS) == 2_000_000_000


def test_the_paper_battery_has_no_losses() -> None:
    battery = Battery(
        capacity_wh=5000,
        power_w=100_000,
        charge_efficiency=1,
        discharge_efficiency=1,
        soc_min=0,
        soc_end=0,
    )
    full = battery.step(0, 5000, HOUR_MS)
    assert full == 5_000_000_000
    assert battery.step(full, -5000, HOUR_MS) == 0


def test_what_is_beyond_its_limits_is_a_bug() -> None:
    battery = Battery()
    with pytest.raises(InvariantError, match="cannot charge"):
        battery.step(5_000_000_000, 1, HOUR_MS)
    with pytest.raises(InvariantError, match="cannot discharge"):
        battery.step(500_000_000, -1, HOUR_MS)
    with pytest.raises(InvariantError, match="cannot discharge"):
        battery.step(5_000_000_000, -2501, HOUR_MS)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"capacity_wh": 0}, "capacity_wh 0"),
        ({"capacity_wh": 10**7}, "capacity_wh"),
        ({"power_w": 0}, "power_w 0"),
        ({"charge_efficiency": 0.0}, "charge_efficiency"),
        ({"discharge_efficiency": 1.01}, "discharge_efficiency"),
        ({"charge_efficiency": float("nan")}, "charge_efficiency"),
        ({"soc_min": 0.5, "soc_max": 0.5}, "soc_min 0.5"),
        ({"soc_max": 1.2}, "soc_max 1.2"),
        ({"soc_end": 0.05}, "soc_end 0.05"),
        ({"wear_micro_per_kwh": -1}, "wear_micro_per_kwh -1"),
        ({"wear_micro_per_kwh": 10**10}, "wear_micro_per_kwh 10000000000: 0 to"),
    ],
)
def test_a_battery_that_cannot_be_is_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Battery(**values)
    # And from a configuration file, with the place.
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(values, Battery)


def test_pv_is_area_times_efficiency_times_irradiance_up_to_the_inverter() -> None:
    array = PvArray(area_m2=20, efficiency=0.2)
    assert array.power_w(0.5) == 2000
    assert array.power_w(0) == 0
    assert PvArray(area_m2=40, efficiency=0.2).power_w(1.0) == 5000


def test_a_pv_array_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="area_m2"):
        PvArray(area_m2=0, efficiency=0.2)
    with pytest.raises(ConfigError, match="efficiency"):
        PvArray(area_m2=20, efficiency=20)
    with pytest.raises(ConfigError, match="rating_w"):
        PvArray(area_m2=20, efficiency=0.2, rating_w=0)
    with pytest.raises(ConfigError, match="irradiance"):
        PvArray(area_m2=20, efficiency=0.2).power_w(-0.1)
