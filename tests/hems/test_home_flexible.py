"""A home with several batteries and loads that can be moved: whole days, to the watt-hour."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hems import civil, neighbourhood
from hems.config import CommunityHome, HomeConfig, PlanSettings
from hems.control import Intent, follow
from hems.devices import Battery
from hems.devices.loads import Adjustable, Appliance, Car, Deferrable, HeatPump, Load
from hems.devices.progress import DeviceState
from hems.errors import ConfigError
from hems.home import HomeEnergyManager
from hems.sources.base import Measurements, check_window
from hems.state import HomeState
from tests.hems.test_home import MARKET, START_MS, Fixed

HALF_HOUR_MS = 30 * civil.MINUTE_MS
LOADS: dict[str, Load] = {
    "car": Car(power_min_w=1380),
    "dishwasher": Appliance(profile_w=(2000, 100, 1800, 100), earliest="19:00", deadline="06:00"),
    "pump": Deferrable(energy_wh=3000, power_w=1000, earliest="08:00", deadline="18:00"),
    "heat": HeatPump(),
    "cooler": Adjustable(nominal_w=400, power_w=600, power_min_w=100, begin="09:00", end="17:00"),
}


class Changing:
    """A source of random load and production, the same for the same moment."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        steps = check_window(start_ms, end_ms, step_ms)
        hours = (start_ms + step_ms * np.arange(steps)) // step_ms
        noise = (hours * 2_654_435_761 + self._seed * 40_503) % 1_000
        sun = (noise * 7 % 1_000) * ((hours // 2) % 24 > 12)
        return Measurements(
            (noise * step_ms // civil.HOUR_MS).astype(np.int64),
            (3 * sun * step_ms // civil.HOUR_MS).astype(np.int64),
            np.ones(steps, bool),
        )


def config(**changes: object) -> HomeConfig:
    whole = HomeConfig(
        source=CommunityHome(home=0),
        battery=Battery(),
        more_batteries={"shed": Battery(capacity_wh=2000, discharge_power_w=500)},
        devices=LOADS,
    )
    return msgspec.structs.replace(whole, **changes)


def live(
    home: HomeEnergyManager, slots: Sequence[int], traded: dict[int, int], restart: bool
) -> dict[str, int]:
    """Let slots be delivered; check each; return what each device took. [Wh]"""
    taken = dict.fromkeys(home.config.devices, 0)
    for slot in slots:
        at = START_MS + slot * HALF_HOUR_MS
        if restart:
            home.state = HomeState.from_plain(home.state.to_plain())
        if slot in traded:
            home.plan_slot(at, HALF_HOUR_MS, MARKET)
            home.commit(at, traded[slot])
        before = home.state
        found = home.deliver(at, HALF_HOUR_MS, MARKET)
        came = found.import_wh + found.pv_wh + found.discharge_wh
        assert came == found.load_wh + found.charge_wh + found.export_wh + found.curtail_wh
        measured = home.source.window(at, at + HALF_HOUR_MS, HALF_HOUR_MS).load_wh[0]
        assert found.load_wh == measured + sum(found.device_wh.values())
        batteries = [home.config.battery, *home.config.more_batteries.values()]
        contents = zip(
            (before.stored_uwh, *before.batteries.values()),
            (home.state.stored_uwh, *home.state.batteries.values()),
            strict=True,
        )
        most_change = 0
        for battery, (was, now) in zip(batteries, contents, strict=True):
            assert battery is not None
            assert min(was, battery.min_uwh) <= now <= max(was, battery.max_uwh)
            most_change += abs(now - was)
        assert most_change <= (found.charge_wh + found.discharge_wh) * 1_060_000
        for name, wh in found.device_wh.items():
            taken[name] += wh
    return taken


def check_physical_day(seed: int, cap: int | None, slots: range) -> None:
    rng = np.random.default_rng(seed)
    names = [name for name in LOADS if rng.random() < 0.7]
    home = HomeEnergyManager(
        config(devices={name: LOADS[name] for name in names}, import_cap_w=cap),
        source=Changing(seed),
    )
    sold = rng.choice(np.array(slots), 3, replace=False)
    live(home, slots, {int(slot): int(rng.integers(-900, 400)) for slot in sold}, restart=True)


@pytest.mark.parametrize(("seed", "cap"), [(3, None), (4, 3000)])
def test_slots_are_physical_whatever_was_sold(seed: int, cap: int | None) -> None:
    check_physical_day(seed, cap, range(36, 40))


@pytest.mark.slow
@settings(max_examples=2, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([None, 3000]))
def test_any_day_is_physical_whatever_was_sold(seed: int, cap: int | None) -> None:
    check_physical_day(seed, cap, range(24, 48))


@pytest.mark.slow
def test_a_day_keeps_every_deadline() -> None:
    home = HomeEnergyManager(config(), source=Changing(1))
    taken = live(home, range(28, 63), {}, restart=True)
    car = home.state.devices["car"]
    assert car.stored_uwh >= LOADS["car"].target_uwh  # type: ignore[union-attr]
    assert taken["dishwasher"] == 1000
    assert taken["heat"] > 0
    assert 19_500 <= home.state.devices["heat"].inside_mc <= 22_500
    # A restart changes nothing of it: the same day without one.
    other = HomeEnergyManager(config(), source=Changing(1))
    assert live(other, range(28, 63), {}, restart=False) == taken
    assert other.state == home.state


def test_loads_that_can_wait_give_way_to_what_was_sold() -> None:
    pump = Deferrable(energy_wh=3000, power_w=2000, earliest="00:00", deadline="24:00")
    took = []
    for sold_wh in (0, 200):
        home = HomeEnergyManager(
            config(battery=None, more_batteries={}, devices={"pump": pump}), source=Fixed(100, 250)
        )
        home.plan_slot(START_MS, HALF_HOUR_MS, MARKET)
        # Planned before it was known what would be sold: what remains is the slot's own doing.
        planned = {"pump": 900.0}
        ranges = home._loads.ranges(home.state.devices, START_MS, HALF_HOUR_MS, planned)
        intent = Intent(0, 750, curtails=False)
        flows = follow(None, 0, HALF_HOUR_MS, 100, 250, -sold_wh, intent, loads=ranges)
        took.append(flows.taken_wh)
        assert flows.export_wh - flows.import_wh == (150 if sold_wh else -750)
    assert took == [(900,), (0,)]


def test_missed_slots_are_lived_through_by_the_devices_too() -> None:
    home = HomeEnergyManager(config(), source=Changing(2))
    home.plan_slot(START_MS, HALF_HOUR_MS, MARKET)
    home.deliver(START_MS + 47 * HALF_HOUR_MS, HALF_HOUR_MS, MARKET)
    assert home.state.devices["dishwasher"].taken_wh > 0
    assert home.state.devices["car"].stored_uwh >= 32_000_000_000


def test_a_car_that_leaves_early_is_not_charged() -> None:
    home = HomeEnergyManager(config(devices={"car": LOADS["car"]}), source=Changing(3))
    home.state = msgspec.structs.replace(home.state, next_slot_ms=START_MS + 40 * HALF_HOUR_MS)
    home.plug("car", False)
    assert live(home, range(40, 50), {}, restart=True) == {"car": 0}
    home.plug("car", True, 10_000)
    assert live(home, range(50, 63), {}, restart=True)["car"] > 20_000


def test_a_reported_state_of_charge_changes_nothing_else() -> None:
    fast = Battery(power_w=500, charge_power_w=5000)
    home = HomeEnergyManager(config(battery=fast), source=Changing(1))
    home.state = msgspec.structs.replace(home.state, agent={"name": "mpc"})
    before = home.state
    # As far as the quicker of its two limits goes.
    assert home.report_soc(0.6, HALF_HOUR_MS)
    assert home.state == msgspec.structs.replace(before, stored_uwh=3_000_000_000)


def test_todays_states_still_load() -> None:
    plain = {"stored_uwh": 5, "next_slot_ms": 900_000, "committed_wh": {"900000": -40}}
    state = HomeState.from_plain(plain)
    assert (state.batteries, state.devices) == ({}, {})
    assert state.to_plain() == plain
    home = HomeEnergyManager(config(), state, Changing(1))
    assert home.state.batteries == {"shed": 400_000_000}
    assert set(home.state.devices) == set(LOADS)


def test_states_and_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 4 batteries and 12 devices, not 0 and 13"):
        HomeState(devices={f"d{i}": DeviceState() for i in range(13)})
    with pytest.raises(ConfigError, match="not a home's state"):
        HomeState.from_plain({"devices": {"car": {"stored_uwh": -5}}})
    with pytest.raises(ConfigError, match="'Dish Washer' is not a name"):
        config(devices={"Dish Washer": LOADS["pump"]})
    with pytest.raises(ConfigError, match="the first one is"):
        config(battery=None)
    with pytest.raises(ConfigError, match="caution 2"):
        PlanSettings(caution=2)
    with pytest.raises(ConfigError, match="time_limit_ms 0"):
        PlanSettings(time_limit_ms=0)


def test_a_cautious_plans_cost_is_kept_by_every_better_day() -> None:
    """The promise of `caution`: with more surplus than it counted on, no day costs more."""
    plain = neighbourhood.built_in(1, pv_share=1.0).homes[0]
    costs = []
    for caution in (0.0, 0.5, 1.0):
        bold = msgspec.structs.replace(plain, planning=PlanSettings(caution=caution))
        home = HomeEnergyManager(bold)
        home.plan_slot(START_MS, HALF_HOUR_MS, MARKET)
        given, load, pv = home._given(HALF_HOUR_MS, 8, MARKET)
        plan = home._planner.solve(given)
        costs.append(plan.total_micro)
        # What is planned for is at most the mean less the share of the way to the quantiles.
        assert given.load_wh.sum() >= load.mean_wh.sum() - 1e-6
        assert given.pv_wh.sum() <= pv.mean_wh.sum() + 1e-6
        rng = np.random.default_rng(4)
        for _ in range(5):
            better = given._replace(
                load_wh=given.load_wh * rng.uniform(0.3, 1, len(given.load_wh)),
                pv_wh=given.pv_wh * rng.uniform(1, 2, len(given.pv_wh)),
            )
            assert home._planner.solve(better).total_micro <= plan.total_micro + 10
    assert costs == sorted(costs)
    assert costs[2] > costs[0]


def test_a_flexible_street_has_the_same_homes_with_devices() -> None:
    plain = neighbourhood.built_in(6).homes
    flexible = neighbourhood.built_in(6, flexible=True).homes
    bare = [msgspec.structs.replace(home, devices={}) for home in flexible]
    assert bare == plain
    kinds = {type(load) for home in flexible for load in home.devices.values()}
    assert kinds == {Appliance, Car, HeatPump}


def test_the_documents_example_is_a_home() -> None:
    text = (Path(__file__).parents[2] / "docs" / "hems.md").read_text()
    section = text[text.index("## Devices") :]
    example = section[section.index("```toml") + 7 :]
    content = tomllib.loads(example[: example.index("```")])["home"]
    source = {"kind": "community", "home": 0}
    found = msgspec.convert({"source": source, **content}, HomeConfig)
    assert {type(load) for load in found.devices.values()} == {type(one) for one in LOADS.values()}
    assert [battery.capacity_wh for battery in found.batteries] == [5000, 2000]
