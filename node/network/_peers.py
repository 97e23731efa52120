"""Who is connected: admission, budgets and bans, and the connections a peer has (`Gate`)."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from libp2p.peer.id import ID

from node.network._bridge import Outbox
from node.network._limits import Budget, Limits, Offences, QuietLog
from node.network._room import Guest, Place, place_for

# Two connections this young were dialled from both sides at once; an older one is a leftover.
YOUNG_S: Final = 5.0
# How long a new peer may take to say what it subscribes to before it counts as here anyway.
GREETING_S: Final = 3.0


class PeerState:
    """A connected peer."""

    def __init__(self, peer_id: ID, limits: Limits) -> None:
        self.peer_id = peer_id
        self.name: str = peer_id.to_base58()
        self.budget = Budget(limits, trio.current_time())
        self.connections: list[Any] = []
        self.greeted = trio.Event()
        self.scope = trio.CancelScope()
        self.outbox: Outbox | None = None
        self.guest = Guest(self.name, "", False)
        self.address = ""
        self.listens: list[str] = []

    def live(self) -> list[Any]:
        """Return the connections that are not closed."""
        return [connection for connection in self.connections if not connection.is_closed]

    def remote(self) -> tuple[str, int] | None:
        """Return host and port the peer is seen at."""
        live = self.live()
        remote: tuple[str, int] | None = live[0].muxed_conn.get_remote_address() if live else None
        return remote


class Peers:
    """The connected peers. `bind` must be called before the first connection."""

    def __init__(
        self,
        limits: Limits,
        allowed: Callable[[str], bool] | None,
        counts: dict[str, int],
        offences: Offences,
    ) -> None:
        self._limits = limits
        self._allowed = allowed
        self._counts = counts
        self._offences = offences
        self._quiet = QuietLog()
        self._states: dict[ID, PeerState] = {}
        self._streams: Counter[ID] = Counter()
        self._pinned: frozenset[str] = frozenset()
        self.rtts_s: dict[str, float] = {}

    def bind(
        self,
        host: Any,
        run: Callable[..., None],
        serve: Callable[[PeerState], Awaitable[None]],
        gone: Callable[[PeerState], None],
        connection_lost: Callable[[ID], None],
    ) -> None:
        """Name the host, how to run a task, and who serves a peer while it is here."""
        self._swarm = host.get_network()
        self._own: ID = host.get_id()
        self._run = run
        self._serve = serve
        self._gone = gone
        self._connection_lost = connection_lost

    def pin(self, names: frozenset[str]) -> None:
        """Always have room for these peers, and for no others that had it so far."""
        self._pinned = names

    # -- what others ask

    def get(self, peer_id: ID) -> PeerState | None:
        """Return a connected peer."""
        return self._states.get(peer_id)

    def all(self) -> list[PeerState]:
        """Return the connected peers."""
        return list(self._states.values())

    def count(self) -> int:
        """Return how many peers are connected."""
        return len(self._states)

    def is_here(self, name: str) -> bool:
        """Tell whether a peer is connected."""
        return any(state.name == name for state in self._states.values())

    def is_hungry(self) -> bool:
        """Tell whether more peers are looked for: any at all, or one that is pinned."""
        if len(self._states) < self._limits.peers_target:
            return True
        return not self._pinned <= {state.name for state in self._states.values()}

    def is_pinned(self, name: str) -> bool:
        """Tell whether a connection to a peer is kept beside the limits."""
        return name in self._pinned

    def is_refused(self, name: str) -> bool:
        """Tell whether a peer is banned or not of this community."""
        return self._reason(name) is not None

    def afford(self, peer_id: ID, size: int, messages: int = 1) -> bool:
        """Charge a peer for what it sent; over its limits it is disconnected and banned."""
        state = self._states.get(peer_id)
        if state is None:
            return not self.is_refused(peer_id.to_base58())
        now_s = trio.current_time()
        problem = state.budget.problem(size, now_s, messages)
        if problem is None:
            return True
        self._quiet.warn(state.name, problem, now_s)
        self._offences.ban(state.name, now_s)
        self._expel(state)
        return False

    def offend(self, name: str, reason: str, count: int = 1) -> None:
        """Count an offence, or one as grave as `count`; at the limit the peer is banned."""
        now_s = trio.current_time()
        self._counts["offences"] += 1
        self._quiet.warn(name, reason, now_s)
        if self._offences.add(name, now_s, count):
            for state in self.all():
                if state.name == name:
                    self._expel(state)

    def note(self, what: str) -> None:
        """Log what failed on our side, now and then."""
        self._quiet.warn("", what, trio.current_time())

    # -- what the connections ask (`Gate`)

    def refusal(self, peer_id: ID, outbound: bool, host: str) -> str | None:
        """Say why a peer that proved its id is not taken, or None. `host` is where it is seen."""
        if peer_id == self._own:
            return "it is this node itself"
        name = peer_id.to_base58()
        reason = self._reason(name)
        if reason is not None:
            self._counts["refused"] += 1
            self._quiet.warn(name, f"refused: {reason}", trio.current_time())
            return reason
        state = self._states.get(peer_id)
        live = state.live() if state is not None else []
        if outbound and live:
            return "it is connected already"
        dialling = peer_id in self._swarm.upgrading
        if not outbound and dialling and self._own.to_bytes() < peer_id.to_bytes():
            return "both sides dialled; the one of the smaller id goes on"
        if not live and self._place_for(Guest(name, host, outbound)) is None:
            self._counts["refused"] += 1
            return "there are as many peers as allowed"
        return None

    def stranger_failed(self, address: str, error: Exception) -> None:
        """Count and log a connection that did not become a peer."""
        self._counts["hostile"] += 1
        reason = f"a connection that is none of ours: {told(error)}"
        self._quiet.warn(address, reason, trio.current_time())

    def stream_opened(self, peer_id: ID) -> bool:
        """Count an incoming stream; False refuses it."""
        self._streams[peer_id] += 1
        if self._streams[peer_id] <= self._limits.streams_max:
            return True
        self.stream_closed(peer_id)
        self.offend(peer_id.to_base58(), f"more than {self._limits.streams_max} streams at once")
        return False

    def stream_closed(self, peer_id: ID) -> None:
        """Count the end of an incoming stream."""
        count_down(self._streams, peer_id)

    def peer_failed(self, peer_id: ID, what: str, error: Exception) -> None:
        """Count what a peer sent that made something fail."""
        self._counts["hostile"] += 1
        self.offend(peer_id.to_base58(), f"{what}: {told(error)}")

    def peer_answered(self, peer_id: ID, rtt_s: float) -> None:
        """Keep a peer's round-trip time."""
        if peer_id in self._states:
            self.rtts_s[peer_id.to_base58()] = rtt_s

    # -- connections come and go

    def connected(self, connection: Any) -> None:
        """Take a new connection: of a new peer, or a second one of a known."""
        peer_id = connection.muxed_conn.peer_id
        state = self._states.get(peer_id)
        if state is not None:
            live = state.live()
            if all(_age_s(each) > YOUNG_S for each in live):
                # The peer restarted, or its address changed, before we noticed.
                self._end(state)
                self._close(live)
                state = None
        if state is None:
            guest = _guest_of(connection)
            place = self._place_for(guest)
            if place is None:
                # Several were admitted at once, when there was room for one.
                self._counts["refused"] += 1
                self._close([connection])
                return
            if place.instead_of is not None:
                self._give_way(place.instead_of)
            state = self._states[peer_id] = PeerState(peer_id, self._limits)
            state.guest = guest
            self._run(self._attend, state)
        state.connections.append(connection)
        live = state.live()
        if len(live) > 1:
            keep = self._preferred(live)
            self._close([each for each in live if each is not keep])

    def disconnected(self, connection: Any) -> None:
        """Let a connection go; the peer with it if it was the last."""
        peer_id = connection.muxed_conn.peer_id
        state = self._states.get(peer_id)
        if state is None or connection not in state.connections:
            return
        state.connections.remove(connection)
        if state.live():
            self._connection_lost(peer_id)
        else:
            self._end(state)

    def _place_for(self, guest: Guest) -> Place | None:
        here = [state.guest for state in self._states.values()]
        return place_for(guest, here, self._pinned, self._limits.peers_max)

    def _give_way(self, guest: Guest) -> None:
        """Let a peer go for another, without blame."""
        for state in self.all():
            if state.guest is guest:
                live = state.live()
                self._end(state)
                self._close(live)

    def _preferred(self, live: list[Any]) -> Any:
        """Choose as the other side does: what the peer of the smaller id dialled."""
        own = self._own.to_bytes()
        for connection in live:
            theirs = connection.muxed_conn.peer_id.to_bytes()
            if connection.muxed_conn.is_initiator == (own < theirs):
                return connection
        return live[-1]

    async def _attend(self, state: PeerState) -> None:
        """Wait until a peer can be talked to, then serve it until it goes."""
        with state.scope:
            with trio.move_on_after(GREETING_S):
                await state.greeted.wait()
            if state.live():
                await self._serve(state)

    def _end(self, state: PeerState) -> None:
        if self._states.get(state.peer_id) is not state:
            return
        del self._states[state.peer_id]
        self.rtts_s.pop(state.name, None)
        state.scope.cancel()
        self._gone(state)

    def _expel(self, state: PeerState) -> None:
        self._counts["bans"] += 1
        live = state.live()
        self._end(state)
        self._close(live)

    def _close(self, connections: list[Any]) -> None:
        for connection in connections:
            self._run(connection.close)

    def _reason(self, name: str) -> str | None:
        if self._offences.banned(name, trio.current_time()):
            return "it is banned for a while"
        if self._allowed is not None and not self._allowed(name):
            return "it is not of this community"
        return None


def told(error: BaseException) -> str:
    """Return an error's deepest cause in one phrase."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__


def count_down(counter: Counter[ID], peer_id: ID) -> None:
    """Take one from a count, and forget it at zero."""
    counter[peer_id] -= 1
    if counter[peer_id] <= 0:
        del counter[peer_id]


def _guest_of(connection: Any) -> Guest:
    muxed = connection.muxed_conn
    remote = muxed.get_remote_address()
    return Guest(muxed.peer_id.to_base58(), remote[0] if remote else "", muxed.is_initiator)


def _age_s(connection: Any) -> float:
    return time.time() - float(connection._created_at)
