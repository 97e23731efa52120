"""Movable loads of a live home: nothing is asked of what is not heard, not there, or too much."""

import math
from pathlib import Path

import numpy as np
import pytest

from hems.civil import DAY_MS, MINUTE_MS
from hems.config import HomeConfig, LiveHome
from hems.devices.loads import Appliance, Car, Deferrable, Load
from hems.errors import ConfigError
from hems.home import HomeEnergyManager, MarketView, SlotPlan
from hems.sources.live import LiveSource
from node.home.devices import LiveDevices

START_MS = 20_000 * DAY_MS
SLOT_MS = 15 * MINUTE_MS
STALE_MS = 5 * MINUTE_MS
VIEW = MarketView(lambda ms: 300_000, 100_000)
CAR = Car(capacity_wh=40_000, power_w=7_000, power_min_w=1_400, arrive="00:00", leave="06:00")
WASHER = Appliance(profile_w=(2_000, 100), earliest="00:00", deadline="00:30")
PUMP = Deferrable(energy_wh=1_000, power_w=2_000, earliest="00:00", deadline="00:30")


class Home:
    """A live home with one load beside, at the beginning of a slot."""

    def __init__(self, path: Path, load: Load, import_cap_w: int | None = None) -> None:
        self.source = LiveSource(path / "measured.db", False, STALE_MS, None, ["it"])
        config = HomeConfig(
            source=LiveHome(), zone="UTC", devices={"it": load}, import_cap_w=import_cap_w
        )
        self.manager = HomeEnergyManager(config, None, self.source, device_wh=self.source.taken_wh)
        self.devices = LiveDevices(self.manager, self.source)

    def come(self, at_ms: int = START_MS, soc: float = 0.5, power_w: float = 0.0) -> None:
        self.source.heard_power("it", at_ms, power_w)
        self.devices.heard_soc("it", at_ms, soc)
        self.devices.heard_plugged("it", at_ms, True)

    def plan(self, power_w: float | None = None) -> SlotPlan:
        """Plan for now; with a power, as if so much were planned in the first slot. [W]"""
        planned = self.manager.plan_slot(START_MS, SLOT_MS, VIEW)
        if power_w is not None:
            taken_wh = np.zeros(len(planned.plan.given.step_ms))
            taken_wh[0] = power_w / 4
            plan = planned.plan._replace(device_wh={"it": taken_wh})
            planned = self.manager.planned = planned._replace(plan=plan)
        return planned

    def asked(self, at_ms: int = START_MS) -> int | None:
        return self.devices.asked(at_ms)["it"]


def test_a_car_is_asked_for_what_the_plan_wants(tmp_path: Path) -> None:
    home = Home(tmp_path, CAR)
    home.manager.deliver(START_MS - SLOT_MS, SLOT_MS, VIEW)
    home.come()
    home.devices.take(START_MS, is_slot_over=False)
    assert home.manager.state.devices["it"].stored_uwh == 20_000_000_000
    assert home.asked() is None
    planned = home.plan()
    assert sum(planned.plan.device_wh["it"]) * 0.9 == pytest.approx(12_000, abs=2_000)
    for power_w, asked in ((3_000, 3_000), (0, 0), (600, 0), (900, 1_400), (9_999, 7_000)):
        home.plan(power_w)
        assert home.asked() == asked
    shown = home.devices.state(START_MS)["it"]
    assert (shown["plugged"], shown["soc"], shown["steered_by"]) == (True, 50, "plan")
    assert shown["starts_ms"] == START_MS


def test_a_car_that_left_or_is_not_heard_is_asked_for_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path, CAR)
    home.plan(3_000)
    assert home.asked() is None
    home.devices.heard_plugged("it", START_MS, True)
    home.source.heard_power("it", START_MS, 0.0)
    # How full it is it has not said.
    assert home.asked() is None
    home.devices.heard_soc("it", START_MS, 0.5)
    assert home.asked() == 3_000
    home.devices.command("it", 2_000, 60, START_MS)
    assert home.asked() == 2_000
    home.devices.heard_plugged("it", START_MS + 1, False)
    assert home.asked(START_MS + 1) is None
    with pytest.raises(ConfigError, match="not there"):
        home.devices.command("it", 2_000, 60, START_MS + 1)
    # It comes back without the command it left with.
    home.come(START_MS + 2, 0.4)
    assert home.asked(START_MS + 2) == 3_000
    late_ms = START_MS + 2 + STALE_MS
    home.source.heard_power("it", late_ms + 1, 3_000.0)
    assert home.asked(late_ms) == 3_000
    # The charging point says nothing more, or its meter does not.
    assert home.asked(late_ms + 1) is None
    home.devices.heard_plugged("it", late_ms + 1, True)
    assert home.asked(late_ms + 1) is None
    home.devices.heard_soc("it", late_ms + 1, 0.45)
    assert home.asked(late_ms + 1) == 3_000


def test_how_full_a_car_says_it_is_holds_while_it_stays(tmp_path: Path) -> None:
    home = Home(tmp_path, CAR)
    home.plan(3_000)
    home.come()
    for minute in range(1, 14):
        at_ms = START_MS + minute * MINUTE_MS
        home.source.heard_power("it", at_ms, 3_000.0)
        home.devices.heard_plugged("it", at_ms, True)
        assert home.asked(at_ms) == 3_000


@pytest.mark.parametrize("soc", [-0.01, 1.01, math.nan])
def test_a_level_that_cannot_be_is_counted(tmp_path: Path, soc: float) -> None:
    home = Home(tmp_path, CAR)
    home.plan(3_000)
    home.come(soc=soc)
    assert home.asked() is None
    # 80 % of 40 kWh is what it shall leave with: it cannot lack more.
    home.devices.heard_needed("it", START_MS + 1, 32_001)
    assert home.source.faults.counts == {"it_soc": 2}
    home.devices.heard_needed("it", START_MS + 2, 12_000)
    home.devices.take(START_MS + 2, is_slot_over=True)
    assert home.manager.state.devices["it"].stored_uwh == 20_000_000_000
    assert home.asked(START_MS + 2) == 3_000


@pytest.mark.parametrize(
    ("power_w", "minutes"),
    [(7_001, 10), (-1, 10), (1_399, 10), (math.nan, 10), (math.inf, 10), (2_000, 0), (2_000, 241)],
)
def test_a_command_beyond_the_car_changes_nothing(
    tmp_path: Path, power_w: float, minutes: int
) -> None:
    home = Home(tmp_path, CAR)
    home.plan(3_000)
    home.come()
    home.devices.command("it", 5_000, 20, START_MS)
    with pytest.raises(ConfigError):
        home.devices.command("it", power_w, minutes, START_MS)
    assert home.asked() == 5_000
    assert home.devices.state(START_MS)["it"]["minutes_left"] == 20
    home.devices.release("it")
    assert home.asked() == 3_000


def test_a_full_car_and_a_full_connection_are_asked_for_no_more(tmp_path: Path) -> None:
    home = Home(tmp_path, CAR, import_cap_w=6_000)
    home.plan(5_000)
    home.come()
    # What passes the connection is not known.
    assert home.asked() is None
    home.source.heard_power("load", START_MS, 1_500.0)
    assert home.asked() == 4_500
    home.source.heard_power("load", START_MS + 1, 4_700.0)
    assert home.asked(START_MS + 1) == 0
    home.source.heard_power("load", START_MS + 2, 500.0)
    assert home.asked(START_MS + 2) == 5_000
    home.devices.heard_soc("it", START_MS + 2, 1.0)
    home.devices.take(START_MS + 2, is_slot_over=True)
    assert home.asked(START_MS + 2) == 0


@pytest.mark.parametrize(("has_left", "stored_wh"), [(False, 20_000), (True, 12_000)])
def test_a_car_that_stays_has_driven_no_trip_whatever_its_timetable_says(
    tmp_path: Path, has_left: bool, stored_wh: int
) -> None:
    home = Home(tmp_path, CAR)
    leaves_ms = START_MS + 24 * SLOT_MS
    for start_ms in (leaves_ms - 2 * SLOT_MS, leaves_ms - SLOT_MS):
        home.manager.deliver(start_ms, SLOT_MS, VIEW)
        at_ms = start_ms + SLOT_MS
        if at_ms < leaves_ms:
            home.come(at_ms, 0.5)
        elif has_left:
            home.devices.heard_plugged("it", at_ms, False)
            home.devices.take(at_ms, is_slot_over=True)
        home.devices.heard_plugged("it", at_ms, True)
        home.devices.take(at_ms, is_slot_over=True)
    state = home.manager.state.devices["it"]
    assert (state.plugged, state.stored_uwh) == (True, stored_wh * 1_000_000)


def test_an_appliance_is_told_to_begin_until_its_meter_says_that_it_has(tmp_path: Path) -> None:
    home = Home(tmp_path, WASHER)
    home.plan(2_000)
    assert home.asked() is None
    home.source.heard_power("it", START_MS, 2.0)
    assert home.asked() == 2_000
    assert "it" not in home.devices.commandable
    home.source.heard_power("it", START_MS + 1, 1_900.0)
    assert home.asked(START_MS + 1) is None
    # In a pause of its programme it is not told again.
    home.source.heard_power("it", START_MS + 2, 0.0)
    assert home.asked(START_MS + 2) is None
    home.manager.deliver(START_MS, SLOT_MS, VIEW)
    assert home.manager.state.devices["it"].begun_ms is None


def test_an_appliance_that_is_planned_for_later_waits(tmp_path: Path) -> None:
    home = Home(tmp_path, WASHER)
    planned = home.plan()
    taken_wh = np.zeros(len(planned.plan.given.step_ms))
    taken_wh[1] = 500
    plan = planned.plan._replace(device_wh={"it": taken_wh})
    home.manager.planned = planned._replace(plan=plan)
    home.source.heard_power("it", START_MS, 2.0)
    assert home.asked() is None
    assert home.devices.state(START_MS)["it"]["starts_ms"] == START_MS + SLOT_MS
    home.source.heard_power("it", START_MS + SLOT_MS, 2.0)
    assert home.asked(START_MS + SLOT_MS) == 2_000


def test_a_pump_follows_the_plan_and_its_owner(tmp_path: Path) -> None:
    home = Home(tmp_path, PUMP)
    home.plan(1_200)
    with pytest.raises(ConfigError, match="not heard"):
        home.devices.command("it", 500, 5, START_MS)
    home.source.heard_power("it", START_MS, 0.0)
    assert home.asked() == 1_200
    home.devices.command("it", 500, 5, START_MS)
    assert home.asked() == 500
    assert home.asked(START_MS + 5 * MINUTE_MS) == 1_200


def test_a_home_that_is_not_live_has_none(tmp_path: Path) -> None:
    home = Home(tmp_path, PUMP)
    devices = LiveDevices(home.manager, None)
    assert (devices.loads, devices.commandable, devices.asked(START_MS)) == ({}, {}, {})
    assert devices.state(START_MS) == {}
    devices.take(START_MS, is_slot_over=True)
