from typing import Any

import msgspec
import pytest

from hems.devices.loads import Adjustable, Appliance, Car, Deferrable, HeatPump
from hems.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        (Appliance, {"profile_w": ()}, "1 to 288 powers"),
        (Appliance, {"profile_w": (0, 100)}, "begins with a power above 0"),
        (Appliance, {"profile_w": (100, -1)}, "powers are 0 to"),
        (Appliance, {"profile_w": (100,), "step_minutes": 0}, "step_minutes 0: 1 to 60"),
        (Appliance, {"profile_w": (100,), "earliest": "7:00"}, "'7:00': a time of day"),
        (Appliance, {"profile_w": (100,), "deadline": "00:00"}, "a day is 00:00 to 24:00"),
        (
            Appliance,
            {"profile_w": (100,) * 8, "earliest": "23:00", "deadline": "00:45"},
            "120 minutes does not fit between 23:00 and 00:45 .105 minutes",
        ),
        (Deferrable, {"energy_wh": 0, "power_w": 100}, "energy_wh 0"),
        (
            Deferrable,
            {"energy_wh": 1000, "power_w": 400, "earliest": "10:00", "deadline": "12:00"},
            "would take 501 W, power_w is 400",
        ),
        (Deferrable, {"energy_wh": 100, "power_w": 100, "power_min_w": 101}, "power_min_w 101"),
        (Deferrable, {"energy_wh": 100, "power_w": 100, "run_minutes_min": 9}, "needs power_min_w"),
        (
            Deferrable,
            {"energy_wh": 100, "power_w": 200, "power_min_w": 200, "run_minutes_min": 60},
            "60 minutes at 200 W are more than the 100 Wh",
        ),
        (Car, {"capacity_wh": 0}, "capacity_wh 0"),
        (Car, {"soc_target": 1.1}, "soc_target 1.1"),
        (Car, {"charge_efficiency": 0.0}, "charge_efficiency"),
        (Car, {"trip_wh": 45_000}, "trip_wh 45000: 0 to what it leaves with, 40000 Wh"),
        (Car, {"arrive": "06:00", "leave": "06:00"}, "it is never away"),
        (
            Car,
            {"trip_wh": 30_000, "power_w": 2_000},
            "33333 Wh for the next trip cannot be charged between 18:00 and 07:30 at 2000 W; 27000",
        ),
        (HeatPump, {"comfort_min_c": 23.0}, "must be below comfort_max_c"),
        (HeatPump, {"cop": float("nan")}, "cop nan"),
        (HeatPump, {"power_w": 0}, "power_w 0"),
        (Adjustable, {"nominal_w": 500, "power_w": 400}, "ascending"),
        (
            Adjustable,
            {"nominal_w": 1, "power_w": 2, "discomfort_micro_per_kw2_h": 0},
            "discomfort_micro_per_kw2_h 0",
        ),
    ],
)
def test_a_load_that_cannot_be_is_refused(kind: Any, values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        kind(**values)
    # And from a configuration file.
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert({"kind": kind.__struct_config__.tag, **values}, kind)


def test_a_programmes_parts_add_up_to_it() -> None:
    washer = Appliance(profile_w=(2000, 150, 333))
    assert washer.run_minutes == 45
    for slot in (5, 7, 10, 60):
        edges = [minutes * 60_000 for minutes in range(0, 121, slot)]
        taken = [washer.energy_until_wh(edge) for edge in edges]
        assert taken == sorted(taken)
        assert taken[-1] == (2000 + 150 + 333) * 15 // 60
    assert washer.energy_until_wh(-5) == 0
    assert washer.energy_until_wh(15 * 60_000) == 500


def test_a_house_comes_to_rest_where_heat_in_is_heat_out() -> None:
    house = HeatPump(cop=4.0, loss_w_per_c=200.0, capacity_wh_per_c=4000.0)
    assert house.memory_h == 20
    # 500 W bring 2 kW of heat, which 200 W/°C lose at 10 degrees above the outside.
    assert house.warmed_c(500.0 * 1000, 1000) == pytest.approx(10)
    assert house.warmed_c(500.0, 1) == pytest.approx(10 * (1 - house.keep(1)))
    assert house.outdoor_c(15) == pytest.approx(15)
    assert house.outdoor_c(3) == pytest.approx(5)
    cooled = HeatPump(cooling=True)
    assert cooled.warmed_c(100, 1) < 0
