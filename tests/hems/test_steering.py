"""What an owner wants of a battery: never beyond it, never for ever."""

import math

import msgspec
import numpy as np
import pytest

from hems.config import ConstantHome, HomeConfig
from hems.devices import Battery
from hems.errors import ConfigError
from hems.home import HomeEnergyManager, MarketView
from hems.state import HomeState
from hems.steering import MINUTES_MAX, Steering, allowed_w, reserved

BATTERY = Battery(capacity_wh=5_000, power_w=2_000, soc_min=0.1, soc_end=0.5, grid_charging=True)
START_MS = 1_762_120_800_000
SLOT_MS = 900_000
MINUTE_MS = 60_000
VIEW = MarketView(lambda _: 300_000, 50_000)


def home_of(
    battery: Battery | None = BATTERY, load_w: int = 400, pv_w: int = 0
) -> HomeEnergyManager:
    config = HomeConfig(source=ConstantHome(load_w=load_w, pv_w=pv_w), battery=battery)
    home = HomeEnergyManager(config)
    home.plan_slot(START_MS, SLOT_MS, VIEW)
    return home


@pytest.mark.parametrize("soc", [0.1, 0.4, 0.999])
def test_a_reserve_is_kept_by_the_battery(soc: float) -> None:
    kept = reserved(BATTERY, soc)
    assert (kept.soc_min, kept.soc_max) == (soc, 1.0)
    assert kept.soc_end >= soc


@pytest.mark.parametrize("soc", [0.09, 1.0, -1.0, math.nan, math.inf])
def test_what_no_reserve_can_be(soc: float) -> None:
    with pytest.raises(ConfigError, match="reserve"):
        reserved(BATTERY, soc)


@pytest.mark.parametrize(
    ("power_w", "minutes"),
    [(2_001, 10), (-2_001, 10), (math.nan, 10), (math.inf, 10), (100, 0), (100, MINUTES_MAX + 1)],
)
def test_a_command_beyond_the_battery_is_refused_and_the_last_one_holds(
    power_w: float, minutes: int
) -> None:
    steering = Steering()
    steering.command(BATTERY, 500, 60, START_MS)
    with pytest.raises(ConfigError):
        steering.command(BATTERY, power_w, minutes, START_MS)
    held = steering.at(START_MS)
    assert held is not None
    assert held.power_w == 500


def test_a_command_ends_by_itself_and_by_the_next() -> None:
    steering = Steering()
    steering.command(BATTERY, 1_000, 10, START_MS)
    assert steering.at(START_MS + 10 * MINUTE_MS) is None
    steering.command(BATTERY, -1_000, 30, START_MS + 5 * MINUTE_MS)
    steering.release(START_MS + 20 * MINUTE_MS)
    assert steering.at(START_MS + 20 * MINUTE_MS) is None
    # 1 kW for 5 min and -1 kW for 10 min of the first 15; 5 more minutes of the next.
    assert steering.wanted_wh(START_MS, START_MS + SLOT_MS, 900) == round(1_000 / 12 - 1_000 / 6)
    assert steering.wanted_wh(START_MS + SLOT_MS, START_MS + 2 * SLOT_MS, 300) == round(
        -1_000 / 12 + 300 * 2 / 3
    )
    assert steering.wanted_wh(START_MS + 2 * SLOT_MS, START_MS + 3 * SLOT_MS, 300) is None
    steering.forget(START_MS + 20 * MINUTE_MS)
    assert steering.wanted_wh(START_MS, START_MS + SLOT_MS, 900) is None


@pytest.mark.parametrize(
    ("share", "power_w", "allowed"),
    [(0.5, 900, 900), (0.5, -9_000, -2_000), (1.0, 900, 0), (0.1, -900, 0), (0.05, -1, 0)],
)
def test_what_is_allowed_of_a_power(share: float, power_w: int, allowed: int) -> None:
    assert allowed_w(BATTERY, round(share * 5_000_000_000), power_w) == allowed


@pytest.mark.parametrize("power_w", [2_000, -2_000, 0, -300])
def test_the_battery_does_what_its_owner_says(power_w: int) -> None:
    home = home_of()
    home.steering.command(home.config.battery or BATTERY, power_w, 15, START_MS)
    assert home.setpoint_w(START_MS) == power_w
    flows = home.deliver(START_MS, SLOT_MS, VIEW)
    assert flows.charge_wh - flows.discharge_wh == power_w // 4
    assert flows.import_wh - flows.export_wh == 100 + power_w // 4
    # It was for a quarter of an hour, and is over.
    assert home.steering.at(START_MS + SLOT_MS) is None


def test_a_command_does_not_go_past_the_reserve_the_limit_or_the_grid_s_rule() -> None:
    home = home_of()
    home.keep_reserve(0.48)
    home.steering.command(BATTERY, -2_000, 60, START_MS)
    for slot in range(4):
        home.deliver(START_MS + slot * SLOT_MS, SLOT_MS, VIEW)
        assert home.soc is not None
        assert home.soc >= 0.48 - 1e-9
    assert home.setpoint_w(START_MS + 4 * SLOT_MS - 1) in (0, None)
    full = home_of()
    full.steering.command(BATTERY, 2_000, 240, START_MS)
    for slot in range(16):
        full.deliver(START_MS + slot * SLOT_MS, SLOT_MS, VIEW)
    assert full.soc is not None
    assert 0.99 < full.soc <= 1
    # What may not be charged from the grid is not, whoever says so.
    strict = home_of(Battery(capacity_wh=5_000, power_w=2_000, soc_end=0.5), load_w=400, pv_w=800)
    strict.steering.command(BATTERY, 2_000, 15, START_MS)
    assert strict.deliver(START_MS, SLOT_MS, VIEW).charge_wh == 100


def test_the_set_point_is_the_plan_s_until_that_is_old() -> None:
    home = home_of()
    planned = home.planned
    assert planned is not None
    first = planned.plan.batteries[0]
    wanted_w = round(float(first.charge_wh[0] - first.discharge_wh[0]) * 4)
    assert home.setpoint_w(START_MS + 1) == allowed_w(BATTERY, home.state.stored_uwh, wanted_w)
    assert home.setpoint_w(START_MS - 1) is None
    assert home.setpoint_w(START_MS + 3 * 3_600_000) is None


def test_a_home_without_a_battery_has_nothing_to_steer() -> None:
    home = home_of(None)
    assert home.setpoint_w(START_MS) is None
    with pytest.raises(ConfigError, match="no battery"):
        home.keep_reserve(0.5)


def test_a_reserve_is_planned_with() -> None:
    battery = msgspec.structs.replace(BATTERY, soc_end=0.2)
    config = HomeConfig(source=ConstantHome(load_w=400), battery=battery)
    home = HomeEnergyManager(config, HomeState(2_500_000_000))
    # Dear for two hours, then cheap: it is better given out now.
    view = MarketView(lambda at_ms: 500_000 if at_ms < START_MS + 7_200_000 else 60_000, 50_000)

    def least_wh() -> float:
        home.plan_slot(START_MS, SLOT_MS, view)
        assert home.planned is not None
        return float(np.min(home.planned.plan.batteries[0].stored_wh))

    home.keep_reserve(0.48)
    assert least_wh() == pytest.approx(2_400, abs=1)
    home.keep_reserve(0.2)
    assert least_wh() < 2_000
