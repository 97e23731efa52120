"""When a chain has work of its own, as the state names it: gates, windows, checkpoints due."""

from typing import Protocol

from market.time import Clock
from market.vm.journal import State
from wire.codec import Plain, decode_plain


class Agenda(Protocol):
    """What a committed state says of the moments at which `on_block` has work."""

    def has_work(self, time_ms: int) -> bool:
        """Tell whether a block after the one of `time_ms` finds work left over, or due by then."""
        ...

    def next_ms(self, after_ms: int) -> int | None:
        """Return the first moment after `after_ms` at which something is due. [ms, UTC]"""
        ...


class _Values:
    def __init__(self, state: State) -> None:
        self._state = state

    def plain(self, key: str) -> Plain:
        data = self._state.items.get(key)
        return None if data is None else decode_plain(data, len(data))

    def rows(self, key: str) -> list[list[int]]:
        data = self._state.items.get(key)
        rows: list[list[int]] = [] if data is None else decode_plain(data, len(data))
        return rows

    def integers(self, key: str) -> list[int]:
        found = self.plain(key)
        # Code that a vote brought may keep something else there.
        return [item for item in found if type(item) is int] if isinstance(found, list) else []

    def moments(self, folder: str) -> list[int]:
        """Return what stands under a folder, but for 0: that is nothing awaited any more."""
        found = [self.plain(key) for key in self._state.keys_under(folder)]
        return [value for value in found if type(value) is int and value > 0]


class MarketAgenda:
    """Of a chain with homes: gates, rounds, windows, and of a region its records.

    Parameters
    ----------
    state : State
    clock : Clock
    intraday_every_ms : int
        How often slots are cleared before their gate, 0 if never. [ms of market time]
    checkpoint_ms : int
        Of a region, after how long its next record is closed; else 0. [ms]
    """

    def __init__(
        self, state: State, clock: Clock, intraday_every_ms: int, checkpoint_ms: int = 0
    ) -> None:
        self._values = _Values(state)
        self._clock = clock
        self._intraday_every_ms = intraday_every_ms
        self._checkpoint_ms = checkpoint_ms

    def has_work(self, time_ms: int) -> bool:
        """Tell whether a block after the one of `time_ms` finds work left over, or due by then."""
        values, clock = self._values, self._clock
        awaited = values.integers("export/open")
        ready = [slot for slot in values.integers("settlement/ready") if slot not in awaited]
        if ready or values.rows("market/jobs"):
            return True
        market_ms = clock.market_ms(time_ms)
        if any(row[0] <= market_ms for row in values.rows("requests/open")[:1]):
            return True
        gates = values.integers("market/open")
        windows = values.integers("settlement/open")
        return any(clock.clearing_real_ms(slot) <= time_ms for slot in gates) or any(
            clock.window_end_real_ms(slot) <= time_ms for slot in windows
        )

    def next_ms(self, after_ms: int) -> int:
        """Return the first moment after `after_ms` at which something is due. [ms, UTC]"""
        moments = [self._clock.next_deadline_ms(after_ms), *self._dated_ms(after_ms)]
        closed = self._values.plain("export/closed")
        since_ms = closed.get("time_ms") if isinstance(closed, dict) else None
        # By real time, whatever the market's clock does; once past it waits for any block.
        if self._checkpoint_ms and type(since_ms) is int and since_ms > 0:
            closes_ms = since_ms + self._checkpoint_ms
            moments += [closes_ms] if closes_ms > after_ms else []
        return min(moments)

    def _dated_ms(self, after_ms: int) -> list[int]:
        """Return when the next auction, round, request's gate and last clearing are, if any."""
        clock, values = self._clock, self._values
        moments = [row[0] for row in values.rows("market/auctions")[:1]]
        moments += [row[0] for row in values.rows("requests/open")[:1]]
        every_ms = self._intraday_every_ms
        if every_ms and values.integers("market/open"):
            moments.append((clock.market_ms(after_ms) // every_ms + 1) * every_ms)
        found = [clock.real_ms(moment) for moment in moments]
        found += [clock.clearing_real_ms(slot) for slot in values.integers("market/open")[:2]]
        return [moment for moment in found if moment > after_ms]


class MainAgenda:
    """Of a main chain: it closes slots between regions, halts who is silent, draws auditors.

    Nothing else happens by itself, so that it has blocks to spare for what regions tell it: whoever
    comes just after one waits for a whole interval.

    Parameters
    ----------
    state : State
    clock : Clock
    halt_ms : int
        After how long without a checkpoint a region is halted. [ms]
    close_ms : int or None
        How long after a slot has begun its trade between regions is closed; None: there is none.
        [ms of market time]
    block_interval_ms : int
        Of the chain. Auditors are drawn by the next block that comes anyhow, so soon at the latest.
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        halt_ms: int,
        close_ms: int | None = None,
        block_interval_ms: int = 1,
    ) -> None:
        self._values = _Values(state)
        self._clock = clock
        self._halt_ms = halt_ms
        self._close_ms = close_ms
        self._block_interval_ms = block_interval_ms

    def has_work(self, time_ms: int) -> bool:
        """Tell whether a block after the one of `time_ms` finds work left over, or due by then."""
        market_ms = self._clock.market_ms(time_ms)
        return any(row[0] <= market_ms for row in self._values.rows("exchange/open")[:1])

    def next_ms(self, after_ms: int) -> int | None:
        """Return the first moment after `after_ms` at which something is due; None: nothing is."""
        values, clock = self._values, self._clock
        moments = [since_ms + self._halt_ms + 1 for since_ms in values.moments("anchor/seen/")]
        moments += [until_ms + 1 for until_ms in values.moments("audit/answer_by/")]
        if values.integers("audit/waiting"):
            moments.append(after_ms + self._block_interval_ms)
        if self._close_ms is not None:
            slot = (clock.market_ms(after_ms) - self._close_ms) // clock.slot_ms + 1
            moments.append(clock.real_ms(slot * clock.slot_ms + self._close_ms))
        return min((moment for moment in moments if moment > after_ms), default=None)
