"""libp2p's connections, guarded: who may connect, how long a silent peer lives, what it may buffer.

Stack: TCP, Noise XX with the community's key as prologue, Yamux. Nothing else is offered.
"""

import struct
from collections import Counter
from typing import Any, Final, Protocol

import trio
from libp2p.crypto.ed25519 import create_new_key_pair as ed25519_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as x25519_key_pair
from libp2p.host.basic_host import BasicHost
from libp2p.io.exceptions import IOException
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.peer.peerstore import PeerStore
from libp2p.security.noise.patterns import PatternXX
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.exceptions import MuxedConnError, MuxedStreamError
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_SYN,
    TYPE_PING,
    YAMUX_HEADER_FORMAT,
    Yamux,
)
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_ID
from libp2p.transport.exceptions import SecurityUpgradeFailure
from libp2p.transport.tcp.tcp import TCP
from libp2p.transport.upgrader import TransportUpgrader

from node.network._locks import QuickLock

PING_INTERVAL_S: Final = 10.0
PING_MISSES_MAX: Final = 2
# After this long without a completed handshake a stranger is let go.
UPGRADE_TIMEOUT_S: Final = 5.0
NEGOTIATE_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 256
CONNECTIONS_PER_PEER_MAX: Final = 4
# Handshakes one address may have open, so that one host cannot take all slots. Neighbours behind
# one router, or a whole test street on one machine, arrive together.
PENDING_PER_ADDRESS_MAX: Final = 64
# What one connection may have sent that nobody has read yet. Yamux only warns when a peer goes
# beyond its window, and buffers on.
BUFFERED_BYTES_MAX: Final = 32 * 1_048_576

# What a connection's ordinary end looks like from inside a stream.
ENDED: Final = (
    IOException,
    RawConnError,
    SwarmException,
    MuxedConnError,
    MuxedStreamError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)


class Gate(Protocol):
    """Who decides about peers; the trio side implements it."""

    def refusal(self, peer_id: ID, outbound: bool, host: str) -> str | None:
        """Say why a peer that proved its id is not taken, or None. `host` is where it is seen."""

    def stranger_failed(self, address: str, error: Exception) -> None:
        """Learn that a connection from an address did not become a peer."""

    def stream_opened(self, peer_id: ID) -> bool:
        """Count an incoming stream; False refuses it."""

    def stream_closed(self, peer_id: ID) -> None:
        """Count the end of an incoming stream."""

    def peer_failed(self, peer_id: ID, what: str, error: Exception) -> None:
        """Learn that what a peer sent made `what` fail."""

    def peer_answered(self, peer_id: ID, rtt_s: float) -> None:
        """Learn a peer's round-trip time."""


class CommunityNoise(NoiseTransport):  # type: ignore[misc]
    """Noise whose handshake only members complete: both sides must know the community's key.

    The key is the handshake's prologue, which enters the hash every handshake message is
    authenticated with. It costs nothing per byte, unlike libp2p's pre-shared-key cipher.
    """

    def __init__(self, key_pair: Any, psk: bytes) -> None:
        super().__init__(key_pair, noise_privkey=x25519_key_pair().private_key)
        self._prologue = b"commonwatt/community/1\0" + psk

    def get_pattern(self) -> Any:
        return PatternXX(
            self.local_peer, self.libp2p_privkey, self.noise_privkey, prologue=self._prologue
        )


class _Overflow(trio.TooSlowError):
    """Yamux takes this for a time-out, the one error after which it always closes."""


class GuardedYamux(Yamux):  # type: ignore[misc]
    """Yamux with pings, a bound on what it buffers, and frames that are written whole."""

    gate: Gate

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.streams_lock = QuickLock()
        self._write_lock = QuickLock()

    async def start(self) -> None:
        try:
            await super().start()
        except Exception as error:
            self.gate.peer_failed(self.peer_id, "the multiplexer", error)
            await self._cleanup_on_error()
        finally:
            # Whoever waits for the start must also learn of a start that failed.
            self.event_started.set()

    async def _measure_rtt_loop(self) -> None:
        """Ping every `PING_INTERVAL_S`; close after `PING_MISSES_MAX` unanswered (guard 15)."""
        misses = 0
        wait_s = 0.5
        while not self.event_shutting_down.is_set():
            with trio.move_on_after(wait_s):
                await self.event_shutting_down.wait()
                return
            wait_s = PING_INTERVAL_S
            self._ping_id = (self._ping_id + 1) & 0xFFFFFFFF
            self._ping_event = trio.Event()
            self._ping_sent_time = trio.current_time()
            # In a task of its own: a peer that stopped reading lets no write end.
            self._nursery.start_soon(self._send_ping, self._ping_id)
            with trio.move_on_after(PING_INTERVAL_S) as waiting:
                await self._ping_event.wait()
            if waiting.cancelled_caught:
                misses += 1
                if misses >= PING_MISSES_MAX:
                    await self.secured_conn.close()
                    return
            else:
                misses = 0
                wait_s = max(0.0, self._ping_sent_time + PING_INTERVAL_S - trio.current_time())
                self.gate.peer_answered(self.peer_id, self._rtt)

    async def _send_ping(self, number: int) -> None:
        try:
            await self._write_frame(
                struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, number)
            )
        except ENDED:
            return

    async def _write_frame(self, data: bytes) -> None:
        async with self._write_lock:
            # Half a frame on the wire would end the connection for all streams.
            with trio.CancelScope(shield=True):
                await self.secured_conn.write(data)

    async def _read_data_body(self, length: int) -> bytes:
        buffered = sum(map(len, self.stream_buffers.values()))
        if buffered + length > BUFFERED_BYTES_MAX:
            self.gate.peer_failed(
                self.peer_id, "flow control", ValueError(f"{buffered + length} bytes unread")
            )
            raise _Overflow
        return bytes(await super()._read_data_body(length))


class _Muxers(MuxerMultistream):  # type: ignore[misc]
    """Makes the muxer it is given; libp2p's makes its own Yamux, whatever class it is told."""

    async def new_conn(self, conn: Any, peer_id: ID) -> Any:
        protocol, muxer = await self._selector.select(
            conn, conn.is_initiator, self.negotiate_timeout
        )
        return self._annotate_connection(muxer(conn, peer_id, conn.is_initiator), conn, protocol)


class _Upgrader(TransportUpgrader):  # type: ignore[misc]
    """Asks the gate as soon as a peer has proved who it is, before it gets any stream."""

    def __init__(self, gate: Gate, security: Any, muxers: Any) -> None:
        super().__init__(security, muxers)
        self.muxer_multistream = _Muxers(muxers, NEGOTIATE_TIMEOUT_S)
        self._gate = gate

    async def upgrade_security(
        self, raw_conn: Any, is_initiator: bool, peer_id: ID | None = None
    ) -> Any:
        secured = await super().upgrade_security(raw_conn, is_initiator, peer_id)
        raw_conn.is_member = True
        remote = raw_conn.get_remote_address()
        host = remote[0] if remote else ""
        reason = self._gate.refusal(secured.get_remote_peer(), is_initiator, host)
        if reason is not None:
            await secured.close()
            raise PeerRefused(reason)
        return secured


class PeerRefused(SecurityUpgradeFailure):  # type: ignore[misc]
    """The gate did not take a peer."""


class _NoAutoConnector(AutoConnector):  # type: ignore[misc]
    """Dials nobody: our dialer knows whom (guard 16), this one keeps a list of all who left."""

    async def start(self) -> None:
        """Not."""

    async def maybe_connect(self) -> None:
        """Not."""

    def record_disconnect(self, peer_id: ID) -> None:
        """Not."""


class GuardedSwarm(Swarm):  # type: ignore[misc]
    """libp2p's connections, dialled only by our dialer and released when they end."""

    def __init__(self, gate: Gate, peer_id: ID, peerstore: Any, upgrader: Any) -> None:
        super().__init__(
            peer_id,
            peerstore,
            upgrader,
            transports=[TCP()],
            retry_config=RetryConfig(max_retries=0),
            connection_config=ConnectionConfig(
                max_connections=CONNECTIONS_MAX,
                min_connections=0,
                low_watermark=0,
                high_watermark=CONNECTIONS_MAX,
                max_connections_per_peer=CONNECTIONS_PER_PEER_MAX,
                inbound_upgrade_timeout=UPGRADE_TIMEOUT_S,
                outbound_upgrade_timeout=UPGRADE_TIMEOUT_S,
                inbound_stream_protocol_negotiation_timeout=NEGOTIATE_TIMEOUT_S,
                outbound_stream_protocol_negotiation_timeout=NEGOTIATE_TIMEOUT_S,
            ),
        )
        self.auto_connector = _NoAutoConnector(swarm=self)
        self._gate = gate
        self._pending: Counter[str] = Counter()
        self.upgrading: set[ID] = set()

    async def dial_peer(self, peer_id: ID) -> Any:
        """Refuse: libp2p would dial, whom it likes, when a stream is asked of an absent peer."""
        await trio.lowlevel.checkpoint()
        raise SwarmException(f"{peer_id} is not connected")

    async def upgrade_outbound_raw_conn(
        self, raw_conn: Any, peer_id: ID, pre_scope: Any = None
    ) -> Any:
        self.upgrading.add(peer_id)
        try:
            return await super().upgrade_outbound_raw_conn(raw_conn, peer_id, pre_scope)
        finally:
            self.upgrading.discard(peer_id)

    async def upgrade_inbound_raw_conn(self, raw_conn: Any, maddr: Any) -> Any:
        """Take a connection and stay until it ends, then free its slot (guard 4)."""
        remote = raw_conn.get_remote_address()
        address = remote[0] if remote else ""
        if self._pending[address] >= PENDING_PER_ADDRESS_MAX:
            await raw_conn.close()
            raise SwarmException("too many open handshakes")
        self._pending[address] += 1
        try:
            muxed = await super().upgrade_inbound_raw_conn(raw_conn, maddr)
        except Exception as error:
            # A member that thought better of it, because the other's dial was first, is none.
            if not getattr(raw_conn, "is_member", False):
                self._gate.stranger_failed(address, error)
            raise
        finally:
            self._pending[address] -= 1
            if not self._pending[address]:
                del self._pending[address]
        await muxed.event_closed.wait()
        raise SwarmException("the connection ended")


class GuardedHost(BasicHost):  # type: ignore[misc]
    """A host without identify, whose stream handlers may fail (guards 1 and 3)."""

    sender_record: bytes | None = None

    def __init__(self, gate: Gate, network: GuardedSwarm) -> None:
        super().__init__(network, disable_identify_address_discovery=True)
        self._gate = gate
        # Identify, its push and libp2p's ping: answers nobody here asks for, at 25 ms a peer.
        self.multiselect.handlers.clear()

    def _schedule_identify(self, peer_id: ID, *, reason: str) -> None:
        """Skip it: addresses come from our own peer exchange, protocols are known."""

    async def _push_identify_to_all_peers(self) -> None:
        """Skip it."""

    async def _swarm_stream_handler(self, net_stream: Any) -> None:
        peer_id = net_stream.muxed_conn.peer_id
        if not self._gate.stream_opened(peer_id):
            await net_stream.reset()
            return
        try:
            await super()._swarm_stream_handler(net_stream)
        except ENDED:
            await net_stream.reset()
        except Exception as error:
            self._gate.peer_failed(peer_id, f"a stream of {net_stream.get_protocol()}", error)
            await net_stream.reset()
        finally:
            self._gate.stream_closed(peer_id)


def make_host(seed: bytes, psk: bytes, gate: Gate) -> GuardedHost:
    """Return a host of the Ed25519 key made from `seed`, open to the community of `psk` only."""
    key_pair = ed25519_key_pair(seed)
    peer_id = ID.from_pubkey(key_pair.public_key)
    peerstore = PeerStore()
    peerstore.add_key_pair(peer_id, key_pair)
    muxer = type("BoundYamux", (GuardedYamux,), {"gate": gate})
    upgrader = _Upgrader(gate, {NOISE_ID: CommunityNoise(key_pair, psk)}, {YAMUX_ID: muxer})
    return GuardedHost(gate, GuardedSwarm(gate, peer_id, peerstore, upgrader))
