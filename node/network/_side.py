"""One run of libp2p in its trio thread: the parts, put together, and what the event loop orders."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import trio
from libp2p.abc import INotifee
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from node.network import _streams
from node.network._addresses import check_peer
from node.network._book import PeerBook
from node.network._bridge import Inbox, Outbox, Waker
from node.network._dialer import Dialer
from node.network._exchange import Exchange
from node.network._limits import Authors, Limits, Offences
from node.network._manager import Manager
from node.network._peers import Peers, PeerState, told
from node.network._pubsub import GuardedGossipSub, GuardedPubsub
from node.network._streams import PROTOCOL_PREFIX
from node.network._swarm import ENDED, GuardedHost, make_host
from node.network._talk import Listener, SettleAsked, Talk, shielded
from node.network.base import EXCESS, EXCESS_OFFENCES, GossipCheck, NetworkError

BOOK_SAVE_S: Final = 30.0
PUBLISHING_MAX: Final = 1_024
_FAMILIES: Final = {
    "dns": trio.socket.AF_UNSPEC,
    "dns4": trio.socket.AF_INET,
    "dns6": trio.socket.AF_INET6,
}


class Settings(NamedTuple):
    """What stays the same from run to run."""

    seed: bytes
    psk: bytes
    listen: str | None
    announce: tuple[str, ...]
    book_path: Path | None
    limits: Limits
    allowed: Callable[[str], bool] | None
    large: bool

    def __repr__(self) -> str:
        return f"Settings({self.listen})"


class Face(Listener, Protocol):
    """What the asyncio side does; called in the event loop's thread, by the inbox."""

    def deliver_gossip(self, forwarder: str, topic: str, data: bytes) -> None: ...
    def peer_up(self, peer_id: str, address: str, outbox: Outbox) -> None: ...
    def peer_down(self, peer_id: str) -> None: ...


class Side:
    """The trio side of one run. Methods under "orders" are called through `Orders`."""

    def __init__(
        self,
        settings: Settings,
        face: Face,
        inbox: Inbox,
        topics: dict[str, GossipCheck | None],
        protocols: Iterable[str],
        wanted: Iterable[str],
        pinned: frozenset[str],
        counts: dict[str, int],
        offences: Offences,
    ) -> None:
        self._settings = settings
        self._face = face
        self._inbox = inbox
        self._topics = topics
        self._protocols = tuple(protocols)
        self._wanted = tuple(wanted)
        self._pinned = pinned
        self._counts = counts
        self._scope = trio.CancelScope()
        self._host: GuardedHost
        self._manager: Manager
        self._gossip: GuardedPubsub
        self._dialer: Dialer
        self._talk: Talk
        self._exchange: Exchange
        self._token: trio.lowlevel.TrioToken
        self._waker: Waker
        self._peers = Peers(settings.limits, settings.allowed, counts, offences)
        self._authors = Authors(settings.limits)
        self._book = PeerBook(settings.book_path)
        self._publishing, self._to_publish = trio.open_memory_channel[tuple[str, bytes]](
            PUBLISHING_MAX
        )
        self.addresses: list[str] = []

    @property
    def rtts_s(self) -> dict[str, float]:
        """Round-trip times by peer id; read by both threads, written by this one."""
        return self._peers.rtts_s

    # -- the run

    async def run(self, started: Callable[["Side", trio.lowlevel.TrioToken], None]) -> None:
        """Run until `stop`. Raises `NetworkError` if the port cannot be had."""
        self._token = trio.lowlevel.current_trio_token()
        self._waker = Waker(self._token)
        self._make()
        swarm = self._host.get_network()
        async with trio.open_nursery() as nursery:
            self._manager = Manager(nursery, self._task_failed)
            self._peers.bind(
                self._host,
                self._manager.run_task,
                self._serve_peer,
                self._peer_gone,
                self._gossip.stream_lost,
            )
            for service in (swarm, self._gossip.router, self._gossip):
                service._manager = self._manager
                nursery.start_soon(service.run)
            with self._scope:
                await self._gossip.wait_until_ready()
                await self._listen()
                for topic in self._topics:
                    await self._gossip.subscribe(topic)
                self.pin(self._pinned)
                for address in self._wanted:
                    self._dialer.want(address)
                for daemon in (
                    self._dialer.run,
                    self._exchange.run,
                    self._publish_for_ever,
                    self._save_book_for_ever,
                ):
                    self._manager.run_daemon_task(daemon)
                started(self, self._token)
                await trio.sleep_forever()
            await self._close(swarm)
            self._manager.cancel()
            nursery.cancel_scope.cancel()

    def _make(self) -> None:
        settings, peers = self._settings, self._peers
        host = self._host = make_host(settings.seed, settings.psk, peers)
        router = GuardedGossipSub(settings.large)
        self._gossip = GuardedPubsub(host, router, self, set(self._topics))
        self._book.load()
        self._dialer = Dialer(
            self._book, settings.limits, self._dial, peers.is_here, peers.is_refused, peers.count
        )
        self._talk = Talk(host, peers, settings.limits, self._face, self._inbox, self._counts)
        own = host.get_id().to_base58()
        self._exchange = Exchange(own, peers, self._talk, self._book, self._dialer)
        host.get_network().register_notifee(_Notifee(peers))
        host.set_stream_handler(_streams.SEND_PROTOCOL, self._talk.receive)
        host.set_stream_handler(_streams.PEERS_PROTOCOL, self._exchange.serve)
        for protocol in self._protocols:
            handler = partial(self._talk.serve, protocol)
            host.set_stream_handler(PROTOCOL_PREFIX + protocol, handler)

    async def _listen(self) -> None:
        listen = self._settings.listen
        if listen is None:
            return
        if not await self._host.get_network().listen(Multiaddr(listen)):
            raise NetworkError(
                f"{listen} is in use by another process, or its host is not this machine"
            )
        own = self._host.get_id().to_base58()
        bound = [f"{address}/p2p/{own}" for address in self._host.get_transport_addrs()]
        self.addresses = [*self._settings.announce, *bound]
        # In place of what is listened to: that may be where nobody else can, or shall, come in.
        self._exchange.addresses = self._settings.announce or tuple(bound)

    async def _close(self, swarm: Any) -> None:
        """Close sockets, so that peers notice at once, and keep the book."""
        with shielded():
            for listener in list(swarm.listeners.values()):
                await listener.close()
            async with trio.open_nursery() as nursery:
                for connection in swarm.get_connections():
                    nursery.start_soon(_close_quietly, connection.muxed_conn.secured_conn)
        if self._book.changed:
            self._book.save()

    async def _publish_for_ever(self) -> None:
        """Publish in the order of the orders; tasks of their own would be shuffled."""
        async for topic, data in self._to_publish:
            await self._gossip.publish(topic, data)

    async def _save_book_for_ever(self) -> None:
        while True:
            await trio.sleep(BOOK_SAVE_S)
            if self._book.changed:
                await trio.to_thread.run_sync(self._book.save)

    def _task_failed(self, what: str, error: Exception) -> None:
        if not isinstance(error, ENDED):
            self._peers.note(f"{what} failed: {told(error)}")

    async def _serve_peer(self, state: PeerState) -> None:
        """Tell of a peer, learn of others from it, and write its outbox until it goes."""
        connection = state.live()[0]
        state.address = state.address or _seen_address(state)
        state.outbox = Outbox(self._waker)
        self._dialer.came(state.name)
        up = partial(self._face.peer_up, state.name, state.address, state.outbox)
        self._inbox.put(up, must=True)
        if connection.muxed_conn.is_initiator or self._peers.is_hungry():
            self._manager.run_task(self._exchange.ask, state)
        await self._talk.send_for_ever(state, state.outbox)

    def _peer_gone(self, state: PeerState) -> None:
        self._dialer.went(state.name)
        if state.outbox is not None:
            self._counts["sends_dropped"] += state.outbox.close()
            self._inbox.put(partial(self._face.peer_down, state.name), must=True)

    async def _dial(self, address: str) -> None:
        peer_id = ID.from_base58(check_peer(address))
        self._counts["dials"] += 1
        try:
            resolved = Multiaddr(await _resolve(address))
            await self._host.get_network().dial_addr(resolved, peer_id)
        except trio.Cancelled:
            # It took too long.
            self._counts["dials_failed"] += 1
            raise
        # Whatever the other end of an address does in a handshake: it was not the peer.
        except Exception as error:
            self._counts["dials_failed"] += 1
            raise NetworkError(f"{address} cannot be reached: {told(error)}") from None
        state = self._peers.get(peer_id)
        if state is not None:
            state.address = address
            state.listens = [address]
        self._book.add(address)

    # -- orders

    def stop(self) -> None:
        """End the run."""
        self._scope.cancel()

    def publish(self, topic: str, data: bytes) -> None:
        """Gossip a message."""
        try:
            self._publishing.send_nowait((topic, data))
        except trio.WouldBlock:
            self._counts["gossip_dropped"] += 1

    def want(self, address: str) -> None:
        """Keep a connection."""
        self._dialer.want(address)

    def pin(self, names: frozenset[str]) -> None:
        """Keep connections to these peers, and no more to those before."""
        self._peers.pin(names)
        self._dialer.pin(names)

    def ask(
        self, peer_id: str, protocol: str, data: bytes, timeout_s: float, settle: SettleAsked
    ) -> None:
        """Make a request."""
        self._manager.run_task(self._talk.ask, peer_id, protocol, data, timeout_s, settle)

    def offend(self, peer_id: str, reason: str, count: int = 1) -> None:
        """Count an offence of a peer."""
        self._peers.offend(peer_id, reason, count)

    # -- what gossip asks (`Ear`)

    def gossip_affordable(self, peer_id: ID, size: int, messages: int) -> bool:
        """Charge a peer for an RPC."""
        return self._peers.afford(peer_id, size, messages)

    def gossip_author(self, forwarder: ID, author: bytes) -> bool:
        """Ask whether an author is a member that does not say too much."""
        allowed = self._settings.allowed
        if allowed is not None and not allowed(ID(author).to_base58()):
            # No offence: a forwarder some blocks ahead knows members that are not known here.
            self._counts["gossip_invalid"] += 1
            return False
        if self._authors.afford(author, trio.current_time()):
            return True
        self._excess(forwarder, author, "more gossip than an author may say")
        return False

    def _excess(self, forwarder: ID, author: bytes, what: str, count: int = 1) -> None:
        """Count what is not taken; who passes on what others said is not to blame for it."""
        self._counts["gossip_dropped"] += 1
        name = forwarder.to_base58()
        if forwarder.to_bytes() == author and not self._peers.is_pinned(name):
            self._peers.offend(name, what, count)

    def gossip_verdict(self, forwarder: ID, author: bytes, topic: str, data: bytes) -> bool | None:
        """Run the application's check."""
        check = self._topics.get(topic)
        if check is None:
            return True
        name = forwarder.to_base58()
        try:
            verdict = check(name, data)
        except Exception as error:
            self._counts["handler_errors"] += 1
            self._peers.offend(name, f"the check of {topic} failed: {told(error)}")
            return False
        if verdict == EXCESS:
            what = f"more on {topic} than a peer may bring"
            self._excess(forwarder, author, what, EXCESS_OFFENCES)
            return False
        if verdict is None:
            self._counts["gossip_ignored"] += 1
        elif not verdict:
            self.gossip_invalid(forwarder, f"invalid gossip on {topic}")
        return verdict

    def gossip_invalid(self, forwarder: ID, reason: str) -> None:
        """Count gossip that must not have been passed on."""
        self._counts["gossip_invalid"] += 1
        self._peers.offend(forwarder.to_base58(), reason)

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

    def peer_failed(self, peer_id: ID, what: str, error: Exception) -> None:
        """Count what a peer sent that made something fail."""
        self._peers.peer_failed(peer_id, what, error)


class _Notifee(INotifee):  # type: ignore[misc]
    """Hears of connections from libp2p."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def connected(self, network: Any, conn: Any) -> None:
        self._peers.connected(conn)

    async def disconnected(self, network: Any, conn: Any) -> None:
        self._peers.disconnected(conn)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Nothing to do."""

    async def listen(self, network: Any, multiaddr: Any) -> None:
        """Nothing to do."""

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        """Nothing to do."""


async def _close_quietly(connection: Any) -> None:
    try:
        await connection.close()
    except (*ENDED, BaseLibp2pError):
        return


async def _resolve(address: str) -> str:
    """Return an address with its host's name looked up as the system does, hosts file and all.

    libp2p asks name servers only, which know no `localhost` and no container's `extra_hosts`.
    """
    parts = address.split("/")
    family = _FAMILIES.get(parts[1])
    if family is None:
        return address
    found = await trio.socket.getaddrinfo(parts[2], None, family, trio.socket.SOCK_STREAM)
    family, host = found[0][0], found[0][4][0]
    parts[1] = "ip6" if family == trio.socket.AF_INET6 else "ip4"
    parts[2] = str(host)
    return "/".join(parts)


def _seen_address(state: PeerState) -> str:
    remote = state.remote()
    if remote is None:
        return f"/p2p/{state.name}"
    family = "ip6" if ":" in remote[0] else "ip4"
    return f"/{family}/{remote[0]}/tcp/{remote[1]}/p2p/{state.name}"
