"""Market time against its definition, searched by brute force around each deadline."""

from hypothesis import given
from hypothesis import strategies as st

from market.time import Clock

clocks = st.builds(
    lambda genesis, slots, lapse, minutes, lead, window: Clock(
        genesis_ms=genesis,
        market_start_ms=slots * minutes * 60_000,
        time_lapse=lapse,
        slot_ms=minutes * 60_000,
        gate_lead_ms=lead,
        settle_window_ms=window,
    ),
    st.integers(0, 2 * 10**12),
    st.integers(0, 3_000_000),
    st.integers(1, 3_600),
    st.sampled_from([5, 15, 30, 60]),
    st.integers(0, 7_200_000),
    st.integers(1, 7_200_000),
)


@given(clocks, st.integers(0, 10**9))
def test_real_ms_is_the_first_moment(clock: Clock, ahead: int) -> None:
    market_ms = clock.market_start_ms + ahead
    time_ms = clock.real_ms(market_ms)
    assert clock.market_ms(time_ms) >= market_ms
    assert clock.market_ms(time_ms - 1) < market_ms


@given(clocks, st.integers(0, 10**8))
def test_next_gate_slot_is_the_first_open_one(clock: Clock, ahead: int) -> None:
    time_ms = clock.genesis_ms + ahead
    slot = clock.next_gate_slot(time_ms)
    assert clock.gate_close_real_ms(slot) > time_ms
    assert clock.gate_close_real_ms(slot - 1) <= time_ms


@given(clocks, st.integers(0, 10**8))
def test_next_deadline_is_the_nearest(clock: Clock, ahead: int) -> None:
    time_ms = clock.genesis_ms + ahead
    found = clock.next_deadline_ms(time_ms)
    assert found > time_ms
    now = clock.slot_at(time_ms)
    reach = 4 + max(clock.gate_lead_ms, clock.settle_window_ms) // clock.slot_ms
    times = [
        moment
        for slot in range(now - reach, now + reach + 1)
        for moment in (clock.gate_close_real_ms(slot), clock.window_end_real_ms(slot))
        if moment > time_ms
    ]
    assert found == min(times)


def test_by_hand() -> None:
    """A day in 24 minutes: one real second is one market minute."""
    clock = Clock(1_000, 900_000 * 100, 60, 900_000, 300_000, 1_800_000)
    assert clock.slot_at(1_000) == 100
    assert clock.slot_at(1_000 + 15_000) == 101
    assert clock.slot_at(1_000 + 14_999) == 100
    assert clock.gate_close_real_ms(101) == 1_000 + 10_000
    assert clock.slot_start_real_ms(101) == 1_000 + 15_000
    assert clock.slot_end_real_ms(101) == 1_000 + 30_000
    assert clock.window_end_real_ms(101) == 1_000 + 60_000
    assert clock.next_gate_slot(1_000 + 10_000) == 102
    assert clock.next_deadline_ms(1_000) == 1_000 + 10_000
