"""When a chain has work of its own, as the state names it: gates, windows, checkpoints due."""

from market.time import Clock
from market.vm.journal import State
from wire.codec import Plain, decode_plain


class Agenda:
    """What a committed state says of the moments at which `on_block` has work.

    Parameters
    ----------
    state : State
    clock : Clock
    intraday_every_ms : int
        How often slots are cleared before their gate, 0 if never. [ms of market time]
    checkpoint_ms : int
        Of a region, after how long its next record is closed; else 0. [ms]
    halt_ms : int
        Of a main chain, after how long without a checkpoint a region is halted; else 0. [ms]
    """

    def __init__(
        self,
        state: State,
        clock: Clock,
        intraday_every_ms: int,
        checkpoint_ms: int = 0,
        halt_ms: int = 0,
    ) -> None:
        self._state = state
        self._clock = clock
        self._intraday_every_ms = intraday_every_ms
        self._checkpoint_ms = checkpoint_ms
        self._halt_ms = halt_ms

    def has_work(self, time_ms: int) -> bool:
        """Tell whether a block after the one of `time_ms` finds work left over, or due by then."""
        awaited = self._list("export/open")
        ready = [slot for slot in self._list("settlement/ready") if slot not in awaited]
        if ready or self._list("audit/waiting") or self._rows("market/jobs"):
            return True
        clock = self._clock
        market_ms = clock.market_ms(time_ms)
        if any(
            row[0] <= market_ms
            for key in ("requests/open", "exchange/open")
            for row in self._rows(key)[:1]
        ):
            return True
        gates = self._list("market/open")
        windows = self._list("settlement/open")
        return any(clock.gate_close_real_ms(slot) <= time_ms for slot in gates) or any(
            clock.window_end_real_ms(slot) <= time_ms for slot in windows
        )

    def next_ms(self, after_ms: int) -> int:
        """Return the first moment after `after_ms` at which something is due. [ms, UTC]"""
        moments = [self._clock.next_deadline_ms(after_ms), *self._dated_ms(after_ms)]
        # By real time, whatever the market's clock does; one that is past waits for any block.
        return min([*moments, *(moment for moment in self._tier_ms() if moment > after_ms)])

    def _tier_ms(self) -> list[int]:
        """Return when a region closes its next record, or a main chain halts a silent region."""
        moments = []
        if self._checkpoint_ms:
            closed = self._plain("export/closed")
            since = closed.get("time_ms") if isinstance(closed, dict) else None
            moments.append((since, self._checkpoint_ms))
        if self._halt_ms:
            for key in self._state.keys_under("anchor/seen/"):
                moments.append((self._plain(key), self._halt_ms + 1))
        # Code that a vote brought may keep something else there; 0 is a region halted already.
        return [since + wait_ms for since, wait_ms in moments if type(since) is int and since > 0]

    def _plain(self, key: str) -> Plain:
        data = self._state.items.get(key)
        return None if data is None else decode_plain(data, len(data))

    def _dated_ms(self, after_ms: int) -> list[int]:
        """Return when the next auction, intraday round and request's gate are, if any."""
        clock = self._clock
        moments = [row[0] for row in self._rows("market/auctions")[:1]]
        moments += [row[0] for row in self._rows("requests/open")[:1]]
        moments += [row[0] for row in self._rows("exchange/open")[:1]]
        every_ms = self._intraday_every_ms
        if every_ms and self._list("market/open"):
            moments.append((clock.market_ms(after_ms) // every_ms + 1) * every_ms)
        found = [clock.real_ms(moment) for moment in moments]
        return [moment for moment in found if moment > after_ms]

    def _rows(self, key: str) -> list[list[int]]:
        data = self._state.items.get(key)
        rows: list[list[int]] = [] if data is None else decode_plain(data, len(data))
        return rows

    def _list(self, key: str) -> list[int]:
        data = self._state.items.get(key)
        found = [] if data is None else decode_plain(data, len(data))
        # Code that a vote brought may keep something else there.
        return [item for item in found if type(item) is int] if isinstance(found, list) else []
