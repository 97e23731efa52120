"""When the market has work of its own: gates, auctions, windows, as the state names them."""

from market.time import Clock
from market.vm.journal import State
from wire.codec import decode_plain


class Agenda:
    """What a committed state says of the moments at which `on_block` has work.

    Parameters
    ----------
    state : State
    clock : Clock
    intraday_every_ms : int
        How often slots are cleared before their gate, 0 if never. [ms of market time]
    """

    def __init__(self, state: State, clock: Clock, intraday_every_ms: int) -> None:
        self._state = state
        self._clock = clock
        self._intraday_every_ms = intraday_every_ms

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
        return min([self._clock.next_deadline_ms(after_ms), *self._dated_ms(after_ms)])

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
