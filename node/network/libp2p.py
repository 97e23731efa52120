"""The real network: libp2p in a trio thread of its own, behind an asyncio face.

Theory of operation. libp2p's Python implementation needs trio, the node is asyncio on uvloop. A
thread runs `trio.run` with one `Side` (host, gossip, streams, dialler); the face here gives it
orders and gets calls back, both through bounded queues (`_bridge.py`). If a run of libp2p ends by
an error, the thread logs one line and starts a fresh one: peers are told as gone, then come back.
Nothing of one run is used in the next but this node's key, port, wants, counts and offences.
(docs/adr/0001)
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from node.network import _spared  # noqa: F401 - before all that imports libp2p

# isort: split
from node.network import _patches, _streams
from node.network._addresses import check_listen, check_peer
from node.network._bridge import Inbox, Orders, Outbox
from node.network._dialer import WANTED_MAX
from node.network._face import COUNTERS, Face
from node.network._limits import LOG, Limits, Offences, one_line
from node.network._side import Settings, Side
from node.network.base import NetworkError, Peer
from wire.keys import SigningKey

PSK_BYTES: Final = 32
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
RESTART_MIN_S: Final = 0.5
RESTART_MAX_S: Final = 30.0
# A run that lasted so long was a good one: the next failure waits the shortest time again.
GOOD_RUN_S: Final = 60.0
ASKED_MAX: Final = 256
# Whoever cannot be dialled is of no use to the mesh, so it looks for no more peers.
DIALLER_LIMITS: Final = Limits(peers_target=0)

_patches.apply()


class Libp2pNetwork(Face):
    """A `Network` over TCP, Noise, Yamux and GossipSub, for members of one community.

    Parameters
    ----------
    key : SigningKey
        The node's key; its peer id names this node.
    listen : str or None
        `/ip4/HOST/tcp/PORT`; port 0 takes a free one. None: this node only dials, and
        with no other `limits` only whom it wants.
    psk : bytes
        The community's 32-byte pre-shared key. Who does not have it cannot connect.
    peer_book_path : Path, optional
        Where addresses of peers are kept across restarts.
    allowed : callable, optional
        `allowed(peer_id)` tells members from others; called in the network's thread.
    limits : Limits, optional
    announce : sequence of str, optional
        Addresses to tell others in place of what is listened to, without `/p2p/`: a host name in
        a container network, a router's forwarded port.
    large : bool
        Whether the community has more than 50 nodes, which take a wider gossip mesh.
    """

    def __init__(
        self,
        key: SigningKey,
        listen: str | None,
        psk: bytes,
        peer_book_path: Path | None = None,
        allowed: Callable[[str], bool] | None = None,
        limits: Limits | None = None,
        announce: Sequence[str] = (),
        large: bool = False,
    ) -> None:
        super().__init__(key.peer_id, limits or (DIALLER_LIMITS if listen is None else Limits()))
        if len(psk) != PSK_BYTES:
            raise NetworkError(f"a community key has {PSK_BYTES} bytes, not {len(psk)}")
        if listen is not None:
            check_listen(listen)
        told = tuple(f"{address}/p2p/{key.peer_id}" for address in announce)
        for address in told:
            check_peer(address)
        self._settings = Settings(
            key.seed, psk, listen, told, peer_book_path, self.limits, allowed, large
        )
        self._orders = Orders()
        self._inbox: Inbox
        self._side: Side | None = None
        self._side_counts = dict.fromkeys(COUNTERS, 0)
        self._offences = Offences(self.limits)
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._began = False
        self._addresses: list[str] = []
        self._wanted: dict[str, None] = {}
        self._pinned: frozenset[str] = frozenset()
        self._peers: dict[str, tuple[str, Outbox]] = {}
        self._asked: set[asyncio.Future[bytes]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- the face

    async def start(self) -> None:
        """Listen and begin dialling; see `Network`."""
        if not self._registering:
            raise NetworkError("a network starts once; make a new one")
        self._registering = False
        loop = asyncio.get_running_loop()
        self._inbox = Inbox(loop)
        started: asyncio.Future[None] = loop.create_future()
        self._thread = threading.Thread(
            target=self._main, args=(started,), name="libp2p", daemon=True
        )
        self._thread.start()
        try:
            await asyncio.wait_for(asyncio.shield(started), START_TIMEOUT_S)
        except TimeoutError:
            await self.stop()
            raise NetworkError(f"libp2p did not start in {START_TIMEOUT_S} s") from None
        except NetworkError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close all streams and stop; idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopping.set()
        self._orders.put(Side.stop, must=True)
        await asyncio.to_thread(thread.join, STOP_TIMEOUT_S)
        if thread.is_alive():
            LOG.error("libp2p did not stop in %s s; leaving its thread behind", STOP_TIMEOUT_S)
        self._inbox.close()
        self._run_ended()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def listen_addresses(self) -> list[str]:
        """Return the addresses under which this node can be dialled."""
        return list(self._addresses)

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip to all subscribers; see `Network`."""
        self._must_run()
        self._check_publish(topic, data)
        if self._orders.put(lambda side: side.publish(topic, data), len(data)):
            self._counts["gossip_out"] += 1
            self._counts["bytes_out"] += len(data)
        else:
            self._counts["gossip_dropped"] += 1

    def send(self, peer_id: str, protocol: str, data: bytes) -> bool:
        """Queue a message to one peer; see `Network`."""
        self._check_send(protocol, data)
        peer = self._peers.get(peer_id)
        queued = peer is not None and peer[1].offer(_streams.frame(protocol, data))
        self._counts["sends_out" if queued else "sends_dropped"] += 1
        self._counts["bytes_out"] += len(data) if queued else 0
        return queued

    async def request(
        self, peer_id: str, protocol: str, data: bytes, timeout_s: float = 10.0
    ) -> bytes:
        """Ask one peer; see `Network`."""
        self._must_run()
        self._check_request(data)
        if len(self._asked) >= ASKED_MAX:
            raise NetworkError(f"more than {ASKED_MAX} requests at once")
        if peer_id not in self._peers:
            raise NetworkError(f"{peer_id} is not connected")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked.add(answer)
        self._counts["requests_out"] += 1
        settle = partial(_settle, answer)
        try:
            order = partial(
                Side.ask,
                peer_id=peer_id,
                protocol=protocol,
                data=data,
                timeout_s=timeout_s,
                settle=settle,
            )
            if not self._orders.put(order, len(data)):
                raise NetworkError("the network is restarting or overloaded")
            return await answer
        except NetworkError:
            self._counts["requests_failed"] += 1
            raise
        finally:
            self._asked.discard(answer)

    def peers(self) -> list[Peer]:
        """Return the peers connected now."""
        rtts_s = self._side.rtts_s if self._side is not None else {}
        result = []
        for peer_id, (address, _) in self._peers.items():
            rtt_s = rtts_s.get(peer_id)
            result.append(Peer(peer_id, address, None if rtt_s is None else rtt_s * 1_000))
        return result

    def want(self, address: str) -> None:
        """Keep a connection to this multiaddress; see `Network`."""
        if check_peer(address) == self.peer_id or address in self._wanted:
            return
        if len(self._wanted) >= WANTED_MAX:
            raise NetworkError(f"at most {WANTED_MAX} addresses can be wanted")
        self._wanted[address] = None
        self._orders.put(lambda side: side.want(address))

    def pin(self, peer_ids: Collection[str]) -> None:
        """Keep connections to these peers beside all limits; see `Network`."""
        names = self._pinned = self._check_pinned(peer_ids)
        self._orders.put(lambda side: side.pin(names), must=True)

    def penalize(self, peer_id: str, reason: str, count: int = 1) -> None:
        """Count an offence; at the limit the peer is disconnected and banned."""
        self._orders.put(lambda side: side.offend(peer_id, reason, count))

    def counters(self) -> Mapping[str, int]:
        """Return the counts since the start."""
        side = dict(self._side_counts)
        return {name: self._counts[name] + side[name] for name in COUNTERS}

    # -- called by the inbox, in the event loop's thread

    def deliver_gossip(self, forwarder: str, topic: str, data: bytes) -> None:
        self._deliver_gossip(forwarder, topic, data)

    def deliver_send(self, peer_id: str, protocol: str, data: bytes) -> None:
        self._deliver_send(peer_id, protocol, data)

    def serve(
        self, peer_id: str, protocol: str, data: bytes, settle: Callable[[bytes | None], None]
    ) -> None:
        async def answer() -> None:
            result: bytes | None = None
            try:
                result = await self._answer(peer_id, protocol, data)
            finally:
                settle(result)

        task = asyncio.get_running_loop().create_task(answer())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def peer_up(self, peer_id: str, address: str, outbox: Outbox) -> None:
        self._peers[peer_id] = (address, outbox)
        self._notify_peer(peer_id, True)

    def peer_down(self, peer_id: str) -> None:
        if self._peers.pop(peer_id, None) is not None:
            self._notify_peer(peer_id, False)

    def _run_began(self, side: Side, addresses: list[str], started: Any) -> None:
        self._side = side
        self._addresses = addresses
        if not started.done():
            started.set_result(None)

    def _run_ended(self) -> None:
        self._side = None
        for peer_id in list(self._peers):
            self.peer_down(peer_id)
        for answer in self._asked:
            _settle(answer, None, NetworkError("the network stopped"))

    def _start_failed(self, started: "asyncio.Future[None]", error: NetworkError) -> None:
        if not started.done():
            started.set_exception(error)

    def _must_run(self) -> None:
        if self._thread is None:
            raise NetworkError("the network is not running")

    # -- the thread

    def _main(self, started: "asyncio.Future[None]") -> None:
        delay_s = RESTART_MIN_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                trio.run(self._run, started)
                return
            # The supervisor: libp2p may die of anything, the daemon may not.
            except BaseException as error:
                told = one_line(_told(error))
            finally:
                self._orders.detach()
            if not self._began:
                failed = NetworkError(told)
                self._inbox.put(partial(self._start_failed, started, failed), must=True)
                return
            self._inbox.put(self._run_ended, must=True)
            self._side_counts["restarts"] += 1
            LOG.error("libp2p ended (%s); starting it again in %s s", told, delay_s)
            self._stopping.wait(delay_s)
            good = time.monotonic() - began_s > GOOD_RUN_S
            delay_s = RESTART_MIN_S if good else min(delay_s * 2, RESTART_MAX_S)

    async def _run(self, started: "asyncio.Future[None]") -> None:
        side = Side(
            self._settings,
            self,
            self._inbox,
            {topic: check for topic, (_, check) in self._gossip.items()},
            self._requests,
            list(self._wanted),
            self._pinned,
            self._side_counts,
            self._offences,
        )

        def began(side: Side, token: trio.lowlevel.TrioToken) -> None:
            self._began = True
            # A port of 0 was given a number; a restart must come back at the same.
            if self._settings.listen is not None:
                bound = side.addresses[-1].rpartition("/p2p/")[0]
                self._settings = self._settings._replace(listen=bound)
            self._orders.attach(token, side)
            # It may have changed while this run was on its way.
            self.pin(self._pinned)
            if self._stopping.is_set():
                side.stop()
            self._inbox.put(partial(self._run_began, side, side.addresses, started), must=True)

        await side.run(began)


def _settle(answer: "asyncio.Future[bytes]", result: bytes | None, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result or b"")


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return str(error) if isinstance(error, NetworkError) else f"{type(error).__name__}: {error}"
