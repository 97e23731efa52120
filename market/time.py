"""Market time: a pure function of block time.

Blocks carry real time. A market's clock starts at `market_start_ms` in the genesis block and runs
`time_lapse` times as fast, so a day can be traded in 24 minutes. A slot is one delivery interval;
its number counts slots since the epoch, in market time. Functions named `_real_ms` return block
time: the first millisecond at which the market's clock has reached the moment in question.
"""

from typing import Final, NamedTuple

MINUTE_MS: Final = 60_000
# What can be told as a date; the last day of the year 9999 is left to time zones.
CALENDAR_END_MS: Final = 253_402_214_400_000


class Clock(NamedTuple):
    """How block time, market time and slots belong together in one market."""

    genesis_ms: int
    market_start_ms: int
    time_lapse: int
    slot_ms: int
    gate_lead_ms: int
    settle_window_ms: int
    reveal_ms: int = 0

    def market_ms(self, time_ms: int) -> int:
        """Return the market time at block time `time_ms`."""
        return self.market_start_ms + (time_ms - self.genesis_ms) * self.time_lapse

    def real_ms(self, market_ms: int) -> int:
        """Return the first block time at which the market's clock shows `market_ms` or more."""
        return self.genesis_ms - (self.market_start_ms - market_ms) // self.time_lapse

    def slot_at(self, time_ms: int) -> int:
        """Return the slot in delivery at block time `time_ms`."""
        return self.market_ms(time_ms) // self.slot_ms

    def slot_start_market_ms(self, slot: int) -> int:
        """Return the market time at which delivery of `slot` begins."""
        return slot * self.slot_ms

    def slot_start_real_ms(self, slot: int) -> int:
        """Return the block time at which delivery of `slot` begins."""
        return self.real_ms(slot * self.slot_ms)

    def slot_end_real_ms(self, slot: int) -> int:
        """Return the block time at which delivery of `slot` has ended: readings may come."""
        return self.real_ms((slot + 1) * self.slot_ms)

    def gate_close_real_ms(self, slot: int) -> int:
        """Return the block time from which orders for `slot` are refused.

        It is cleared then, or `reveal_ms` later at the latest where orders are sealed.
        """
        return self.real_ms(slot * self.slot_ms - self.gate_lead_ms)

    def clearing_real_ms(self, slot: int) -> int:
        """Return the block time at which `slot` is cleared with whatever orders there are."""
        return self.real_ms(slot * self.slot_ms - self.gate_lead_ms + self.reveal_ms)

    def window_end_real_ms(self, slot: int) -> int:
        """Return the block time at which `slot` is settled with whatever readings have come."""
        return self.real_ms((slot + 1) * self.slot_ms + self.settle_window_ms)

    def next_gate_slot(self, time_ms: int) -> int:
        """Return the first slot whose gate is still open at block time `time_ms`."""
        return (self.market_ms(time_ms) + self.gate_lead_ms) // self.slot_ms + 1

    def next_deadline_ms(self, after_ms: int) -> int:
        """Return the first block time after `after_ms` that is a gate closure or a window's end."""
        window_slot = (self.market_ms(after_ms) - self.settle_window_ms) // self.slot_ms - 1
        times = [self.gate_close_real_ms(self.next_gate_slot(after_ms) + step) for step in range(2)]
        times += [self.window_end_real_ms(window_slot + step) for step in range(3)]
        return min(time_ms for time_ms in times if time_ms > after_ms)
