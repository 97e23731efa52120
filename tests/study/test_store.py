"""A battery's promises are kept, and what it cannot hold is counted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.ce.store import Store, spread
from study.errors import InvariantError


@given(st.integers(0, 10_000), st.integers(1, 150))
def test_energy_is_divided_to_the_watt_hour(energy_wh: int, minutes: int) -> None:
    flow = spread(energy_wh, minutes)
    assert flow.sum() == energy_wh
    assert len(flow) == minutes
    assert flow[: minutes // 2].sum() == energy_wh * (minutes // 2) // minutes


def test_a_full_battery_overflows_and_nothing_is_lost() -> None:
    store = Store(5_000)
    store.add(0, 60, 6_000)
    store.pass_to(60)
    assert store.energy_wh == 5_000
    assert store.overflow.sum() == 1_000
    assert store.overflow[:50].sum() == 0


def test_surplus_that_is_still_to_come_can_be_promised_once_it_is_there() -> None:
    store = Store(5_000)
    store.add(0, 60, 600)
    assert store.room(60, 120) == 600
    # Half of it is there when it begins, and it comes as fast as it goes.
    assert store.room(0, 60) == 600
    assert store.room(0, 30) == 300


def test_what_is_promised_is_not_promised_again() -> None:
    store = Store(5_000)
    store.add(0, 60, 1_000)
    store.add(90, 150, -700)
    assert store.room(60, 120) == 300
    store.add(60, 120, -300)
    assert store.room(60, 150) == 0
    store.pass_to(200)
    assert store.energy_wh == 0


def test_more_promised_than_there_is_is_a_mistake_of_the_study() -> None:
    store = Store(5_000)
    store.add(0, 10, -1)
    with pytest.raises(InvariantError, match="more was promised"):
        store.pass_to(10)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 90), st.integers(0, 3_000)),
                min_size=1, max_size=8),
       st.integers(0, 4_000))  # fmt: skip
def test_whatever_has_room_can_be_given(
    promises: list[tuple[int, int, int]], surplus_wh: int
) -> None:
    store = Store(2_000)
    store.add(0, 120, surplus_wh)
    given_wh = 0
    for start, minutes, wanted_wh in promises:
        energy_wh = min(wanted_wh, store.room(start, start + minutes))
        store.add(start, start + minutes, -energy_wh)
        given_wh += energy_wh
    store.pass_to(400)
    assert store.energy_wh + given_wh + store.overflow.sum() == surplus_wh
