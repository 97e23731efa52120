"""Loads with meters of their own: what they took is how far they are."""

import numpy as np
import pytest

from hems.devices.flexible import FlexibleLoads
from hems.devices.loads import Appliance, Deferrable, Load
from hems.devices.metered import metered, on_w
from hems.devices.needs import Job
from hems.devices.progress import DeviceState
from tests.hems.devices.test_flexible import CAR, SLOT_MS, SYDNEY, at

WASHER = Appliance(profile_w=(2_000, 200, 200, 400), earliest="09:00", deadline="17:00")
PUMP = Deferrable(energy_wh=2_000, power_w=1_000, earliest="10:00", deadline="16:00")


def lived(load: Load, state: DeviceState, begin_ms: int, took_wh: list[int]) -> list[DeviceState]:
    """Return the progress after each of some slots in which a load took so much."""
    loads, found = FlexibleLoads({"it": load}, SYDNEY), []
    for number, wh in enumerate(took_wh):
        start_ms, states = begin_ms + number * SLOT_MS, {"it": state}
        (one,) = metered(loads.loads, states, start_ms, SLOT_MS, {"it": wh}, SYDNEY)
        assert (one.least_wh, one.planned_wh, one.most_wh) == (wh, wh, wh)
        state = loads.after(states, start_ms, SLOT_MS, {"it": (one, wh)})["it"]
        found.append(state)
    return found


def test_a_programme_has_begun_when_its_meter_says_so() -> None:
    assert on_w(WASHER) == 70
    idle, begun, more, *_, done = lived(
        WASHER, DeviceState(), at("20T11:00"), [3, 480, 55, 45, 100, 3]
    )
    assert (idle.begun_ms, idle.window_ms) == (None, None)
    assert (begun.begun_ms, begun.taken_wh) == (at("20T11:15"), 480)
    assert (more.begun_ms, more.taken_wh) == (at("20T11:15"), 535)
    # Standing by afterwards is no second programme; neither is one more in the same window.
    assert done.begun_ms == at("20T11:15")
    again = lived(WASHER, done, at("20T14:00"), [500])[0]
    assert again == done
    # The next day's is.
    (tomorrow,) = lived(WASHER, done, at("21T12:00"), [500])
    assert (tomorrow.begun_ms, tomorrow.window_ms) == (at("21T12:00"), at("21T09:00"))


def test_what_its_owner_starts_outside_the_window_is_no_progress() -> None:
    states = lived(WASHER, DeviceState(), at("20T19:00"), [500, 50, 50, 100])
    assert [state.begun_ms for state in states] == [None] * 4


def test_energy_taken_counts_within_the_window_whatever_was_planned() -> None:
    first, *_, last = lived(PUMP, DeviceState(), at("20T09:45"), [400, 250, 0, 900])
    assert first.taken_wh == 0
    assert last.taken_wh == 1_150
    edges_ms = at("20T10:45") + SLOT_MS * np.arange(40, dtype=np.int64)
    (need,) = FlexibleLoads({"it": PUMP}, SYDNEY).outlook({"it": last}, edges_ms).needs
    assert isinstance(need, Job)
    assert need.windows[0].energy_wh == 850


@pytest.mark.parametrize(("took_wh", "stored_wh"), [(1_000, 20_900), (90_000, 40_000)])
def test_a_car_holds_what_it_took_and_never_more_than_it_can(took_wh: int, stored_wh: int) -> None:
    loads = FlexibleLoads({"it": CAR}, SYDNEY)
    there = loads.plugged("it", DeviceState(), at("20T14:00"), True, 20_000)
    (after,) = lived(CAR, there, at("20T14:00"), [took_wh])
    assert after.stored_uwh == stored_wh * 1_000_000
