"""Loads that can be moved, over days: what they ask for, and what they remember."""

from datetime import datetime
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest

from hems import civil
from hems.devices.flexible import FlexibleLoads
from hems.devices.loads import Adjustable, Appliance, Car, Deferrable, HeatPump, Load
from hems.devices.needs import Adjust, Job, Run
from hems.devices.progress import DeviceState
from hems.errors import ConfigError, InvariantError

SYDNEY = civil.zone_of("Australia/Sydney")
SLOT_MS = 15 * civil.MINUTE_MS
CAR = Car(capacity_wh=40_000, power_w=7_000, soc_target=0.8, trip_wh=9_000, charge_efficiency=0.9)


def at(text: str) -> int:
    local = datetime.fromisoformat(f"2026-11-{text}").replace(tzinfo=ZoneInfo("Australia/Sydney"))
    return int(local.timestamp()) * 1000


def edges(text: str, hours: int = 24) -> np.ndarray:
    return at(text) + SLOT_MS * np.arange(4 * hours + 1, dtype=np.int64)


def live(
    loads: FlexibleLoads,
    states: dict[str, DeviceState],
    begin_ms: int,
    end_ms: int,
    planned: dict[str, float] | None = None,
) -> tuple[dict[str, DeviceState], dict[str, list[int]]]:
    """Let slots pass as planned (None: as soon as possible); return what was taken in each."""
    taken: dict[str, list[int]] = {name: [] for name in loads.loads}
    for start_ms in range(begin_ms, end_ms, SLOT_MS):
        ranges = loads.ranges(states, start_ms, SLOT_MS, planned)
        for one in ranges:
            assert 0 <= one.least_wh <= one.planned_wh <= one.most_wh
            taken[one.name].append(one.planned_wh)
        states = loads.after(
            states, start_ms, SLOT_MS, {one.name: (one, one.planned_wh) for one in ranges}
        )
        # What a restart keeps is all there is.
        states = msgspec.convert(msgspec.to_builtins(states), dict[str, DeviceState])
    return states, taken


def only(load: Load) -> FlexibleLoads:
    return FlexibleLoads({"it": load}, SYDNEY)


def test_a_car_leaves_as_full_as_it_should_and_comes_back_without_its_trip() -> None:
    loads = only(CAR)
    states, taken = live(loads, {}, at("20T12:00"), at("21T08:00"))
    assert states["it"].stored_uwh >= CAR.target_uwh
    # To the watt-hour: not more than it takes to be there.
    assert sum(taken["it"]) == 10_000
    assert taken["it"][:24] == [0] * 24
    assert taken["it"][24] == 7_000 // 4
    states, _ = live(loads, states, at("21T08:00"), at("21T18:15"), {"it": 0.0})
    assert states["it"].stored_uwh == CAR.target_uwh - 9_000_000_000


def test_a_car_is_planned_for_tonight_and_not_for_the_night_after() -> None:
    (need,) = only(CAR).outlook({}, edges("20T12:00")).needs
    assert isinstance(need, Job)
    assert [window.energy_wh for window in need.windows] == [10_000]
    room = need.windows[0].room_wh
    assert np.flatnonzero(room).tolist() == list(range(24, 78))
    assert room.max() == 1750


def test_what_can_no_longer_be_charged_is_told() -> None:
    outlook = only(CAR).outlook({}, edges("21T07:00"))
    assert outlook.missed_wh == {"it": pytest.approx(10_000 - 3_500)}
    # Whatever the plan says, it must charge now.
    (one,) = only(CAR).ranges({}, at("21T07:00"), SLOT_MS, {"it": 0.0})
    assert one.planned_wh == one.least_wh == 1750


def test_an_owner_knows_better_than_the_timetable() -> None:
    loads = only(CAR)
    states, _ = live(loads, {}, at("20T12:00"), at("21T08:00"))
    early = loads.plugged("it", states["it"], at("21T14:00"), True, 20_000)
    (need,) = loads.outlook({"it": early}, edges("21T14:00")).needs
    assert isinstance(need, Job)
    assert need.windows[0].energy_wh == pytest.approx(12_000 / 0.9, abs=1)
    assert need.windows[0].room_wh[0] > 0
    # It has had its trip: coming home does not take it again.
    after, taken = live(loads, {"it": early}, at("21T14:00"), at("22T08:00"))
    assert sum(taken["it"]) == 13_334
    assert after["it"].plugged is None
    gone = loads.plugged("it", states["it"], at("21T20:00"), False)
    _, taken = live(loads, {"it": gone}, at("21T20:00"), at("22T18:00"))
    assert sum(taken["it"]) == 0
    _, taken = live(loads, {"it": gone}, at("21T20:00"), at("23T08:00"))
    assert sum(taken["it"]) > 0


def test_only_a_car_can_be_plugged() -> None:
    loads = FlexibleLoads({"it": CAR, "heat": HeatPump()}, SYDNEY)
    with pytest.raises(ConfigError, match="'heat' is not a car of this home; its cars: it"):
        loads.plugged("heat", DeviceState(), at("20T12:00"), True)
    with pytest.raises(ConfigError, match="stored_wh 40001: 0 to the car's 40000"):
        loads.plugged("it", DeviceState(), at("20T12:00"), True, 40_001)


def test_a_programme_runs_once_in_its_window_and_to_its_end() -> None:
    washer = Appliance(profile_w=(2000, 100, 700), earliest="19:00", deadline="23:00")
    loads = only(washer)
    outlook = loads.outlook({}, edges("20T12:00"))
    (need,) = outlook.needs
    assert isinstance(need, Run)
    (starts,) = need.starts
    assert starts.steps.tolist() == list(range(28, 42))
    assert starts.energy_wh[0, 28:31].tolist() == [500, 25, 175]
    begun, taken = live(loads, {}, at("20T19:00"), at("20T19:15"), {"it": 1.0})
    assert taken["it"] == [500]
    # Begun, it is no longer to be moved: what it takes is load.
    outlook = loads.outlook(begun, edges("20T19:15", 12))
    assert outlook.needs == ()
    assert outlook.running_wh[:3].tolist() == [25, 175, 0]
    _, taken = live(loads, begun, at("20T19:15"), at("20T23:00"), {"it": 0.0})
    assert sum(taken["it"]) == 200
    _, taken = live(loads, begun, at("20T19:15"), at("22T23:00"))
    assert sum(taken["it"]) == 200 + 2 * 700


def test_a_programme_that_does_not_fit_any_more_is_told_and_left_out() -> None:
    loads = only(Appliance(profile_w=(2000, 100), earliest="19:00", deadline="23:00"))
    outlook = loads.outlook({}, edges("20T22:45", 12))
    assert outlook.missed_wh == {"it": 525}
    assert loads.ranges({}, at("20T22:45"), SLOT_MS, None)[0].planned_wh == 0


def test_energy_that_waits_is_taken_before_its_deadline_whatever_is_planned() -> None:
    loads = only(Deferrable(energy_wh=3_333, power_w=1_000, earliest="10:00", deadline="16:00"))
    _, taken = live(loads, {}, at("20T00:00"), at("21T00:00"), {"it": 0.0})
    assert sum(taken["it"]) == 3_333
    assert sum(taken["it"][: 4 * 12]) == 0
    _, soon = live(loads, {}, at("20T00:00"), at("22T00:00"))
    assert sum(soon["it"]) == 2 * 3_333
    assert sum(soon["it"][: 4 * 14]) == 3_333


def test_on_or_off_keeps_to_its_least_and_its_run() -> None:
    pump = Deferrable(energy_wh=2_000, power_w=1_000, power_min_w=800, run_minutes_min=60)
    loads = only(pump)
    states, taken = live(loads, {}, at("20T06:00"), at("20T06:30"), {"it": 220.0})
    assert taken["it"] == [220, 220]
    (need,) = loads.outlook(states, edges("20T06:30", 20)).needs
    assert isinstance(need, Job)
    assert (need.least_w, need.run_ms_min, need.on_ms) == (800, 3_600_000, 1_800_000)
    assert need.windows[0].energy_wh == 1560
    off, taken = live(loads, states, at("20T06:30"), at("20T06:45"), {"it": 60.0})
    assert taken["it"] == [0]
    assert off["it"].begun_ms is None


def test_a_house_is_held_where_it_should_be() -> None:
    for pump in (HeatPump(), HeatPump(power_min_w=700), HeatPump(cooling=True, outdoor_mean_c=30)):
        states, taken = live(only(pump), {}, at("20T00:00"), at("22T00:00"))
        inside = states["it"].inside_mc / 1000
        assert pump.comfort_min_c - 0.2 <= inside <= pump.comfort_max_c + 0.2
        assert 0 < sum(taken["it"]) < pump.power_w * 48


def test_an_adjustable_load_stays_between_its_bounds_in_its_hours() -> None:
    cooler = Adjustable(nominal_w=800, power_w=1000, power_min_w=400, begin="09:00", end="17:10")
    loads = only(cooler)
    need = loads.outlook({}, edges("20T00:00")).needs[0]
    assert isinstance(need, Adjust)
    assert need.hours.sum() == pytest.approx(8 + 1 / 6)
    (one,) = loads.ranges({}, at("20T12:00"), SLOT_MS, {"it": 1.0})
    assert (one.planned_wh, one.least_wh, one.most_wh) == (100, 100, 250)
    assert loads.ranges({}, at("20T12:00"), SLOT_MS, None)[0].planned_wh == 200
    assert loads.ranges({}, at("20T03:00"), SLOT_MS, None)[0].most_wh == 0


def test_taking_what_is_not_allowed_is_a_bug() -> None:
    loads = only(CAR)
    (one,) = loads.ranges({}, at("20T19:00"), SLOT_MS, None)
    with pytest.raises(InvariantError, match="it took 1751 Wh"):
        loads.after({}, at("20T19:00"), SLOT_MS, {"it": (one, 1751)})


def test_a_state_that_cannot_be_is_refused() -> None:
    for values in ({"stored_uwh": -1}, {"taken_wh": -1}, {"window_ms": 2**60}):
        with pytest.raises(ConfigError):
            DeviceState(**values)
    smaller = msgspec.structs.replace(CAR, capacity_wh=20_000)
    full = only(smaller).state_of("it", {"it": DeviceState(stored_uwh=30_000_000_000)})
    assert full.stored_uwh == 20_000_000_000
