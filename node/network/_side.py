"""One run of libp2p in its trio thread: host, gossip, streams, dialler, and the peers they have."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import trio
from libp2p.abc import INotifee
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network import _streams
from node.network._addresses import check_peer, is_loopback, is_unspecified, told_by
from node.network._book import PeerBook
from node.network._bridge import Inbox, Outbox
from node.network._dialer import Dialer
from node.network._limits import Budget, Limits, Offences, QuietLog
from node.network._manager import Manager
from node.network._pubsub import GuardedGossipSub, GuardedPubsub
from node.network._streams import PROTOCOL_PREFIX, FrameError
from node.network._swarm import ENDED, GuardedHost, PeerRefused, make_host
from node.network.base import (
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    SEND_BYTES_MAX,
    GossipCheck,
    NetworkError,
)
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

# Two connections this young were dialled from both sides at once; an older one is a leftover.
YOUNG_S: Final = 5.0
# How long a new peer may take to say what it subscribes to before it counts as here anyway.
GREETING_S: Final = 3.0
REQUEST_READ_S: Final = 10.0
SERVE_S: Final = 60.0
ANSWER_WRITE_S: Final = 120.0
SEND_WRITE_S: Final = 20.0
SEND_BATCH_BYTES: Final = 131_072
SEND_RETRY_S: Final = 0.2
INBOX_FULL_S: Final = 0.05
EXCHANGE_S: Final = 60.0
EXCHANGE_HUNGRY_S: Final = 10.0
EXCHANGE_PEERS_MAX: Final = 32
EXCHANGE_BYTES_MAX: Final = 16_384
BOOK_SAVE_S: Final = 30.0
CLOSE_S: Final = 2.0


class Settings(NamedTuple):
    """What stays the same from run to run."""

    seed: bytes
    psk: bytes
    listen: str
    announce: tuple[str, ...]
    book_path: Path | None
    limits: Limits
    allowed: Callable[[str], bool] | None
    large: bool


class Face(Protocol):
    """What the asyncio side does; all but `check` in the event loop's thread, by the inbox."""

    def deliver_gossip(self, forwarder: str, topic: str, data: bytes) -> None: ...
    def deliver_send(self, peer_id: str, protocol: str, data: bytes) -> None: ...
    def serve(self, peer_id: str, protocol: str, data: bytes, settle: "Settle") -> None: ...
    def peer_up(self, peer_id: str, address: str, outbox: Outbox) -> None: ...
    def peer_down(self, peer_id: str) -> None: ...


Settle = Callable[[bytes | None], None]


class PeerAddresses(Message, frozen=True, tag="pex"):
    """Peer exchange, both ways: where a node listens, and where some of its peers do."""

    own: list[str]
    known: list[str]


class _PeerState:
    """A connected peer."""

    def __init__(self, peer_id: ID, limits: Limits) -> None:
        self.peer_id = peer_id
        self.name = peer_id.to_base58()
        self.budget = Budget(limits, trio.current_time())
        self.connections: list[Any] = []
        self.greeted = trio.Event()
        self.scope = trio.CancelScope()
        self.outbox: Outbox | None = None
        self.address = ""
        self.listens: list[str] = []

    def live(self) -> list[Any]:
        return [connection for connection in self.connections if not connection.is_closed]


class Side:
    """The trio side of one run. Methods called through `Orders` are marked so."""

    def __init__(
        self,
        settings: Settings,
        face: Face,
        inbox: Inbox,
        topics: dict[str, GossipCheck | None],
        protocols: Iterable[str],
        wanted: Iterable[str],
        counts: dict[str, int],
        offences: Offences,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._face = face
        self._inbox = inbox
        self._topics = topics
        self._protocols = tuple(protocols)
        self._wanted = tuple(wanted)
        self._counts = counts
        self._offences = offences
        self._quiet = QuietLog()
        self._scope = trio.CancelScope()
        self._peers: dict[ID, _PeerState] = {}
        self._streams: Counter[ID] = Counter()
        self._serving: Counter[ID] = Counter()
        self._random = random.Random()  # noqa: S311
        self.rtts_s: dict[str, float] = {}
        self.addresses: list[str] = []
        self._host: GuardedHost
        self._manager: Manager
        self._gossip: GuardedPubsub
        self._dialer: Dialer
        self._book: PeerBook
        self._token: trio.lowlevel.TrioToken

    # -- the run

    async def run(self, started: Callable[["Side", trio.lowlevel.TrioToken], None]) -> None:
        """Run until `stop`. Raises `NetworkError` if the port cannot be had."""
        settings = self._settings
        self._token = trio.lowlevel.current_trio_token()
        self._host = make_host(settings.seed, settings.psk, self)
        router = GuardedGossipSub(settings.large)
        self._gossip = GuardedPubsub(self._host, router, self, set(self._topics))
        self._book = PeerBook(settings.book_path)
        self._book.load()
        self._dialer = Dialer(
            self._book, self._limits, self._dial, self._is_here, self._is_refused, self._peer_count
        )
        swarm = self._host.get_network()
        swarm.register_notifee(_Notifee(self))
        self._host.set_stream_handler(_streams.SEND_PROTOCOL, self._receive)
        self._host.set_stream_handler(_streams.PEERS_PROTOCOL, self._serve_addresses)
        for protocol in self._protocols:
            self._host.set_stream_handler(
                PROTOCOL_PREFIX + protocol, partial(self._serve, protocol)
            )
        async with trio.open_nursery() as nursery:
            self._manager = Manager(nursery, self._task_failed)
            for service in (swarm, router, self._gossip):
                service._manager = self._manager
                nursery.start_soon(service.run)
            with self._scope:
                await self._gossip.wait_until_ready()
                await self._listen()
                for topic in self._topics:
                    await self._gossip.subscribe(topic)
                for address in self._wanted:
                    self._dialer.want(address)
                self._manager.run_daemon_task(self._dialer.run)
                self._manager.run_daemon_task(self._exchange_for_ever)
                self._manager.run_daemon_task(self._save_book_for_ever)
                started(self, self._token)
                await trio.sleep_forever()
            await self._close(swarm)
            self._manager.cancel()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """End the run. (Ordered.)"""
        self._scope.cancel()

    async def _listen(self) -> None:
        listen = self._settings.listen
        if not await self._host.get_network().listen(Multiaddr(listen)):
            raise NetworkError(f"{listen} is in use by another process, or not this machine's")
        own = self._host.get_id().to_base58()
        bound = [f"{address}/p2p/{own}" for address in self._host.get_transport_addrs()]
        self.addresses = [*self._settings.announce, *bound]

    async def _close(self, swarm: Any) -> None:
        """Close sockets, so that peers notice at once, and keep the book."""
        with _shielded():
            for listener in list(swarm.listeners.values()):
                await listener.close()
            async with trio.open_nursery() as nursery:
                for connection in swarm.get_connections():
                    nursery.start_soon(_close_quietly, connection.muxed_conn.secured_conn)
        if self._book.changed:
            self._book.save()

    async def _save_book_for_ever(self) -> None:
        while True:
            await trio.sleep(BOOK_SAVE_S)
            if self._book.changed:
                await trio.to_thread.run_sync(self._book.save)

    def _task_failed(self, what: str, error: Exception) -> None:
        if not isinstance(error, ENDED):
            self._quiet.warn("", f"{what} failed: {_told(error)}", trio.current_time())

    # -- orders

    def publish(self, topic: str, data: bytes) -> None:
        """Gossip a message. (Ordered.)"""
        self._manager.run_task(self._gossip.publish, topic, data)

    def want(self, address: str) -> None:
        """Keep a connection. (Ordered.)"""
        self._dialer.want(address)

    def ask(
        self,
        peer_id: str,
        protocol: str,
        data: bytes,
        timeout_s: float,
        settle: Callable[[bytes | None, Exception | None], None],
    ) -> None:
        """Make a request. (Ordered.)"""
        self._manager.run_task(self._ask, peer_id, protocol, data, timeout_s, settle)

    def offend(self, peer_id: str, reason: str) -> None:
        """Count one offence of a peer; at the limit it is banned. (Ordered.)"""
        now_s = trio.current_time()
        self._counts["offences"] += 1
        self._quiet.warn(peer_id, reason, now_s)
        if self._offences.add(peer_id, now_s):
            self._expel(peer_id)

    # -- what the connections ask (`Gate`)

    def refusal(self, peer_id: ID, outbound: bool) -> str | None:
        """Say why a peer is not taken, or None."""
        name = peer_id.to_base58()
        swarm = self._host.get_network()
        own = self._host.get_id()
        if peer_id == own:
            return "it is this node itself"
        reason = self._refused_for(name)
        if reason is not None:
            self._counts["refused"] += 1
            self._quiet.warn(name, f"refused: {reason}", trio.current_time())
            return reason
        state = self._peers.get(peer_id)
        live = state.live() if state is not None else []
        if outbound and live:
            return "it is connected already"
        if not outbound and peer_id in swarm.upgrading and own.to_bytes() < peer_id.to_bytes():
            return "both sides dialled; the one of the smaller id goes on"
        if not live and len(self._peers) >= self._limits.peers_max:
            self._counts["refused"] += 1
            return "there are as many peers as allowed"
        return None

    def stranger_failed(self, address: str, error: Exception) -> None:
        """Count and log a connection that did not become a peer."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, PeerRefused):
                return
            cause = cause.__cause__
        self._counts["hostile"] += 1
        reason = f"a connection that is none of ours: {_told(error)}"
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
        _count_down(self._streams, peer_id)

    def peer_failed(self, peer_id: ID, what: str, error: Exception) -> None:
        """Count what a peer sent that made something fail."""
        self._counts["hostile"] += 1
        self.offend(peer_id.to_base58(), f"{what}: {_told(error)}")

    def peer_answered(self, peer_id: ID, rtt_s: float) -> None:
        """Keep a peer's round-trip time."""
        self.rtts_s[peer_id.to_base58()] = rtt_s

    # -- what gossip asks (`Ear`)

    def gossip_affordable(self, peer_id: ID, size: int, messages: int) -> bool:
        """Charge a peer for an RPC."""
        return self._afford(peer_id, size, messages)

    def gossip_valid(self, forwarder: ID, topic: str, data: bytes) -> bool:
        """Run the application's check."""
        check = self._topics.get(topic)
        if check is None:
            return True
        try:
            if check(forwarder.to_base58(), data):
                return True
        except Exception as error:
            self._counts["handler_errors"] += 1
            self.offend(forwarder.to_base58(), f"the check of {topic} failed: {_told(error)}")
            return False
        self.gossip_invalid(forwarder, f"invalid gossip on {topic}")
        return False

    def gossip_invalid(self, forwarder: ID, reason: str) -> None:
        """Count gossip that must not have been passed on."""
        self._counts["gossip_invalid"] += 1
        self.offend(forwarder.to_base58(), reason)

    def gossip_arrived(self, forwarder: ID, topic: str, data: bytes) -> None:
        """Pass a message to the event loop."""
        call = partial(self._face.deliver_gossip, forwarder.to_base58(), topic, data)
        if not self._inbox.put(call, len(data)):
            self._counts["gossip_dropped"] += 1

    def gossip_ready(self, peer_id: ID) -> None:
        """Learn that a peer has told its subscriptions."""
        state = self._peers.get(peer_id)
        if state is not None:
            state.greeted.set()

    # -- peers

    def connected(self, connection: Any) -> None:
        """Take a new connection: of a new peer, or a second one of a known."""
        peer_id = connection.muxed_conn.peer_id
        state = self._peers.get(peer_id)
        if state is not None:
            live = state.live()
            if all(_age_s(each) > YOUNG_S for each in live):
                # The peer restarted, or its address changed, before we noticed.
                self._end(state)
                self._close_all(live)
                state = None
        if state is None:
            state = self._peers[peer_id] = _PeerState(peer_id, self._limits)
            self._manager.run_task(self._greet, state)
        state.connections.append(connection)
        live = state.live()
        if len(live) > 1:
            keep = self._preferred(live)
            self._close_all([each for each in live if each is not keep])

    def disconnected(self, connection: Any) -> None:
        """Let a connection go; the peer with it if it was the last."""
        peer_id = connection.muxed_conn.peer_id
        state = self._peers.get(peer_id)
        if state is None or connection not in state.connections:
            return
        state.connections.remove(connection)
        if state.live():
            self._gossip.stream_lost(peer_id)
        else:
            self._end(state)
            self._dialer.went(state.name)

    def _preferred(self, live: list[Any]) -> Any:
        """Choose as the other side does: what the peer of the smaller id dialled."""
        own = self._host.get_id().to_bytes()
        for connection in live:
            theirs = connection.muxed_conn.peer_id.to_bytes()
            if connection.muxed_conn.is_initiator == (own < theirs):
                return connection
        return live[-1]

    async def _greet(self, state: _PeerState) -> None:
        """Wait until a peer can be talked to, then tell of it and serve its outbox."""
        with state.scope:
            with trio.move_on_after(GREETING_S):
                await state.greeted.wait()
            if not state.live():
                return
            connection = state.live()[0]
            state.address = state.address or _remote_address(connection, state.name)
            state.outbox = Outbox(self._token)
            self._dialer.came(state.name)
            up = partial(self._face.peer_up, state.name, state.address, state.outbox)
            self._inbox.put(up, must=True)
            if connection.muxed_conn.is_initiator or self._is_hungry():
                self._manager.run_task(self._exchange, state)
            await self._send_for_ever(state, state.outbox)

    def _end(self, state: _PeerState) -> None:
        if self._peers.get(state.peer_id) is not state:
            return
        del self._peers[state.peer_id]
        self.rtts_s.pop(state.name, None)
        state.scope.cancel()
        if state.outbox is not None:
            self._counts["sends_dropped"] += state.outbox.close()
            self._inbox.put(partial(self._face.peer_down, state.name), must=True)

    def _close_all(self, connections: list[Any]) -> None:
        for connection in connections:
            self._manager.run_task(connection.close)

    def _expel(self, name: str) -> None:
        self._counts["bans"] += 1
        state = self._peers.get(ID.from_base58(name))
        if state is not None:
            live = state.live()
            self._end(state)
            self._close_all(live)

    def _afford(self, peer_id: ID, size: int, messages: int = 1) -> bool:
        state = self._peers.get(peer_id)
        if state is None:
            return not self._is_refused(peer_id.to_base58())
        now_s = trio.current_time()
        problem = state.budget.problem(size, now_s, messages)
        if problem is None:
            return True
        self._quiet.warn(state.name, problem, now_s)
        self._offences.ban(state.name, now_s)
        self._expel(state.name)
        return False

    def _is_here(self, name: str) -> bool:
        return any(state.name == name for state in self._peers.values())

    def _peer_count(self) -> int:
        return len(self._peers)

    def _is_hungry(self) -> bool:
        return len(self._peers) < self._limits.peers_target

    def _is_refused(self, name: str) -> bool:
        return self._refused_for(name) is not None

    def _refused_for(self, name: str) -> str | None:
        if self._offences.banned(name, trio.current_time()):
            return "it is banned for a while"
        if self._settings.allowed is not None and not self._settings.allowed(name):
            return "it is not of this community"
        return None

    async def _dial(self, address: str) -> None:
        name = check_peer(address)
        self._counts["dials"] += 1
        try:
            await self._host.get_network().dial_addr(Multiaddr(address), ID.from_base58(name))
        # Whatever the other end of an address does in a handshake: it was not the peer.
        except Exception as error:
            self._counts["dials_failed"] += 1
            raise NetworkError(f"{address} cannot be reached: {_told(error)}") from None
        state = self._peers.get(ID.from_base58(name))
        if state is not None:
            state.address = address
            state.listens = [address]
        self._book.add(address)

    # -- streams

    async def _open(self, peer_id: ID, protocol: str) -> Any:
        if peer_id not in self._peers:
            raise NetworkError(f"{peer_id} is not connected")
        try:
            return await self._host.new_stream(peer_id, [protocol])
        except StreamFailure as error:
            answered = "not supported" in str(error.__cause__).lower()
            what = "does not answer" if answered else "did not take a stream of"
            raise NetworkError(f"{peer_id} {what} {protocol}") from None

    async def _send_for_ever(self, state: _PeerState, outbox: Outbox) -> None:
        """Write a peer's outbox to its message stream, opened anew when it breaks."""
        stream = None
        try:
            while True:
                frames = await outbox.take(SEND_BATCH_BYTES)
                try:
                    with trio.fail_after(SEND_WRITE_S):
                        if stream is None or stream.muxed_conn.is_closed:
                            stream = await self._open(state.peer_id, _streams.SEND_PROTOCOL)
                        await stream.write(b"".join(frames))
                except (*ENDED, NetworkError, trio.TooSlowError):
                    self._counts["sends_dropped"] += len(frames)
                    if stream is not None:
                        await stream.reset()
                        stream = None
                    await trio.sleep(SEND_RETRY_S)
        finally:
            if stream is not None:
                with _shielded():
                    await stream.reset()

    async def _receive(self, stream: Any) -> None:
        """Read a peer's message stream."""
        peer_id = stream.muxed_conn.peer_id
        name = peer_id.to_base58()
        reader = _streams.Reader(stream)
        while True:
            body = await reader.sized(SEND_BYTES_MAX + 256)
            if not self._afford(peer_id, len(body)):
                return
            protocol, data = _streams.unframe(body)
            # Not reading on is what slows the sender; the event loop cannot set a trio event.
            while not self._inbox.has_room(len(data)):  # noqa: ASYNC110
                await trio.sleep(INBOX_FULL_S)
            self._inbox.put(partial(self._face.deliver_send, name, protocol, data), len(data))

    async def _serve(self, protocol: str, stream: Any) -> None:
        """Answer one request."""
        peer_id = stream.muxed_conn.peer_id
        name = peer_id.to_base58()
        if self._serving[peer_id] >= self._limits.requests_max:
            self._counts["refused"] += 1
            await self._finish(stream, _streams.STATUS_BUSY, b"")
            return
        self._serving[peer_id] += 1
        try:
            with trio.fail_after(REQUEST_READ_S):
                data = await _streams.Reader(stream).sized(REQUEST_BYTES_MAX)
            if not self._afford(peer_id, len(data)):
                return
            answer = await self._answer(name, protocol, data)
            status = _streams.STATUS_FAILED if answer is None else _streams.STATUS_OK
            await self._finish(stream, status, answer or b"")
        finally:
            _count_down(self._serving, peer_id)

    async def _answer(self, name: str, protocol: str, data: bytes) -> bytes | None:
        done = trio.Event()
        answers: list[bytes | None] = []

        def settle(answer: bytes | None) -> None:
            answers.append(answer)
            try:
                self._token.run_sync_soon(done.set)
            except trio.RunFinishedError:
                return

        call = partial(self._face.serve, name, protocol, data, settle)
        if not self._inbox.put(call, len(data)):
            return None
        with trio.move_on_after(SERVE_S):
            await done.wait()
        return answers[0] if answers else None

    async def _finish(self, stream: Any, status: int, answer: bytes) -> None:
        with trio.fail_after(ANSWER_WRITE_S):
            await _streams.reply(stream, status, answer)
            await stream.close()
        self._counts["bytes_out"] += len(answer)

    async def _ask(
        self,
        name: str,
        protocol: str,
        data: bytes,
        timeout_s: float,
        settle: Callable[[bytes | None, Exception | None], None],
    ) -> None:
        answer, problem = None, None
        try:
            with trio.fail_after(timeout_s):
                answer = await self._ask_peer(
                    ID.from_base58(name), PROTOCOL_PREFIX + protocol, data, RESPONSE_BYTES_MAX
                )
        except trio.TooSlowError:
            problem = NetworkError(f"{name} did not answer {protocol} in {timeout_s} s")
        except NetworkError as error:
            problem = error
        except ENDED:
            problem = NetworkError(f"{name} went away before it answered {protocol}")
        self._inbox.put(partial(settle, answer, problem), len(answer or b""), must=True)

    async def _ask_peer(self, peer_id: ID, protocol: str, data: bytes, answer_max: int) -> bytes:
        stream = await self._open(peer_id, protocol)
        done = False
        try:
            answer = await _streams.ask(stream, data, answer_max)
            await stream.close()
            done = True
            return answer
        except FrameError as error:
            self.peer_failed(peer_id, f"an answer to {protocol}", error)
            raise NetworkError(f"{peer_id} answered {protocol} against the rules") from None
        finally:
            if not done:
                with _shielded():
                    await stream.reset()

    # -- peer exchange

    async def _exchange_for_ever(self) -> None:
        while True:
            await trio.sleep(EXCHANGE_HUNGRY_S if self._is_hungry() else EXCHANGE_S)
            states = [state for state in self._peers.values() if state.outbox is not None]
            if states:
                await self._exchange(self._random.choice(states))

    async def _exchange(self, state: _PeerState) -> None:
        """Tell a peer where we listen, and hear where its peers do."""
        try:
            with trio.fail_after(REQUEST_READ_S):
                raw = await self._ask_peer(
                    state.peer_id, _streams.PEERS_PROTOCOL, encode(self._told()), EXCHANGE_BYTES_MAX
                )
            self._hear(state, decode(raw, PeerAddresses, EXCHANGE_BYTES_MAX))
        except DecodeError as error:
            self.peer_failed(state.peer_id, "peer exchange", error)
        except (*ENDED, NetworkError, trio.TooSlowError):
            return

    async def _serve_addresses(self, stream: Any) -> None:
        peer_id = stream.muxed_conn.peer_id
        with trio.fail_after(REQUEST_READ_S):
            raw = await _streams.Reader(stream).sized(EXCHANGE_BYTES_MAX)
        if not self._afford(peer_id, len(raw)):
            return
        told = decode(raw, PeerAddresses, EXCHANGE_BYTES_MAX)
        state = self._peers.get(peer_id)
        answer = encode(self._told())
        if state is not None:
            self._hear(state, told)
        await self._finish(stream, _streams.STATUS_OK, answer)

    def _told(self) -> PeerAddresses:
        known = [address for state in self._peers.values() for address in state.listens[:1]]
        self._random.shuffle(known)
        return PeerAddresses(self.addresses[:4], known[:EXCHANGE_PEERS_MAX])

    def _hear(self, state: _PeerState, told: PeerAddresses) -> None:
        live = state.live()
        remote = live[0].muxed_conn.get_remote_address() if live else None
        seen_host = remote[0] if remote else ""
        listens = told_by(state.name, told.own, seen_host)
        if listens:
            # What was dialled is known to work, and stays first.
            state.listens = list(dict.fromkeys([*state.listens, *listens]))
            for address in reversed(state.listens):
                self._book.add(address)
        own = self._host.get_id().to_base58()
        for address in told.known[:EXCHANGE_PEERS_MAX]:
            try:
                peer_id = check_peer(address)
            except NetworkError:
                continue
            host = address.split("/")[2]
            elsewhere = is_loopback(host) and not is_loopback(seen_host)
            if peer_id != own and not is_unspecified(host) and not elsewhere:
                self._dialer.hear(address)


class _Notifee(INotifee):  # type: ignore[misc]
    """Hears of connections from libp2p."""

    def __init__(self, side: Side) -> None:
        self._side = side

    async def connected(self, network: Any, conn: Any) -> None:
        self._side.connected(conn)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._side.disconnected(conn)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def listen(self, network: Any, multiaddr: Any) -> None:
        """Nothing to do."""

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        """Nothing to do."""


def _shielded() -> trio.CancelScope:
    """Return a short time in which to tidy up, cancelled or not."""
    return trio.CancelScope(deadline=trio.current_time() + CLOSE_S, shield=True)


async def _close_quietly(connection: Any) -> None:
    try:
        await connection.close()
    except (*ENDED, BaseLibp2pError):
        return


def _age_s(connection: Any) -> float:
    return time.time() - float(connection._created_at)


def _remote_address(connection: Any, name: str) -> str:
    remote = connection.muxed_conn.get_remote_address()
    if remote is None:
        return f"/p2p/{name}"
    family = "ip6" if ":" in remote[0] else "ip4"
    return f"/{family}/{remote[0]}/tcp/{remote[1]}/p2p/{name}"


def _count_down(counter: Counter[ID], peer_id: ID) -> None:
    counter[peer_id] -= 1
    if counter[peer_id] <= 0:
        del counter[peer_id]


def _told(error: BaseException) -> str:
    """Return an error's deepest cause in one phrase."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
