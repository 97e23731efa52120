"""Changes made to libp2p 0.8.1 itself, where it offers no other way in.

Each is wire-compatible with an unchanged libp2p. The guards that need only subclassing live in
`_swarm.py` and `_pubsub.py`; the numbers are those of docs/adr/0001.
"""

import hashlib
import logging
import socket
from typing import Any, Final

import libp2p.io.trio as trio_io
import libp2p.network.connection.swarm_connection as swarm_connection
import libp2p.protocol_muxer.multiselect_communicator as multiselect_communicator
import libp2p.pubsub.gossipsub as gossipsub
import libp2p.pubsub.mcache as mcache
import libp2p.pubsub.pubsub as pubsub
import libp2p.pubsub.rpc_queue as rpc_queue
import libp2p.stream_muxer.yamux.yamux as yamux
import libp2p.transport.tcp.tcp as tcp
import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.utils import read_exactly
from libp2p.network.stream.net_stream import NetStream
from libp2p.stream_muxer.rw_lock import ReadWriteLock
from libp2p.utils.varint import decode_uvarint_from_stream

from node.network._locks import QuickLock

SUBSCRIPTION_QUEUE_MAX: Final = 4_096
RPC_QUEUE_MAX: Final = 1_024
RPC_QUEUE_BYTES_MAX: Final = 4 * 1_048_576
MULTISELECT_BYTES_MAX: Final = 1_024
MESSAGE_ID_BYTES: Final = 20
WINDOW_BYTES_MAX: Final = 4 * 1_048_576
READ_AHEAD_BYTES: Final = 65_536
_QUIET: Final = logging.getLogger("libp2p.quiet")

_original_sender_record = pubsub.env_to_send_in_RPC


def apply() -> None:
    """Apply all changes; calling it again changes nothing."""
    _quieten()
    pubsub.SUBSCRIPTION_CHANNEL_SIZE = SUBSCRIPTION_QUEUE_MAX
    pubsub.RpcQueue = BoundedRpcQueue
    mcache.default_msg_id_fn = message_id
    for module in (pubsub, gossipsub):
        module.maybe_consume_signed_record = _ignore_sender_record
        module.env_to_send_in_RPC = _sender_record
    multiselect_communicator.read_delim = _read_delim_bounded
    yamux.YamuxStream = LeanYamuxStream
    swarm_connection.NetStream = LeanNetStream
    tcp.TrioTCPStream = LeanTCPStream
    trio_io.TrioTCPStream.get_remote_address = _remote_address
    tcp._set_reuse_flags = _set_reuse_address_only


def message_id(message: Any) -> bytes:
    """Return a gossip message's id: its author, topic and data, without the sequence number.

    libp2p's own id ends in a number that starts again at the time of day in seconds, so that peers
    drop what a restarted node says (guard 6).
    """
    digest = hashlib.sha256(message.from_id)
    for topic in message.topicIDs:
        digest.update(topic.encode() + b"\0")
    digest.update(message.data)
    return digest.digest()[:MESSAGE_ID_BYTES]


class BoundedRpcQueue(rpc_queue.RpcQueue):  # type: ignore[misc]
    """A peer's outgoing gossip: longer than libp2p's 32 (guard 9), but bounded in bytes as well."""

    def __init__(self) -> None:
        super().__init__(max_size=RPC_QUEUE_MAX)
        self._queue = _BoundedPriorityQueue(RPC_QUEUE_MAX)

    def pop_nowait(self) -> Any:
        """Return the next RPC if there is one, else None."""
        return self._queue.pop()


class _BoundedPriorityQueue(rpc_queue.PriorityQueue):  # type: ignore[misc]
    def __init__(self, size_max: int) -> None:
        super().__init__(size_max)
        self._bytes = 0

    def push(self, rpc: Any, priority: bool = False) -> bool:
        size = rpc.ByteSize()
        if self._bytes + size > RPC_QUEUE_BYTES_MAX or not super().push(rpc, priority):
            return False
        self._bytes += size
        return True

    def pop(self) -> Any:
        rpc = super().pop()
        if rpc is not None:
            self._bytes -= rpc.ByteSize()
        return rpc


class LeanTCPStream(trio_io.TrioTCPStream):  # type: ignore[misc]
    """Reads what there is; 0.8.1 asks the system twice for each message: its length, then it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self.read_lock = QuickLock()
        self.write_lock = QuickLock()
        self._ahead = bytearray()

    async def read(self, n: int | None = None) -> bytes:
        async with self.read_lock:
            if n == 0:
                return b""
            if not self._ahead:
                try:
                    self._ahead += await self.stream.receive_some(READ_AHEAD_BYTES)
                except trio.BrokenResourceError as error:
                    raise ConnectionClosedError(
                        f"the peer broke the connection: {error}", transport="tcp"
                    ) from error
                except trio.ClosedResourceError:
                    return b""
            if n is None or n >= len(self._ahead):
                data, self._ahead = bytes(self._ahead), bytearray()
                return data
            with memoryview(self._ahead) as view:
                data = bytes(view[:n])
            del self._ahead[:n]
            return data


class LeanNetStream(NetStream):  # type: ignore[misc]
    """Looks at its state without a pause."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._state_lock = QuickLock()


class _QuickWriteLock(ReadWriteLock):  # type: ignore[misc]
    """Taken for writing only, as Yamux does: without a pause if it is free."""

    async def acquire_write(self) -> None:
        try:
            self._writer_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._writer_lock.acquire()


class LeanYamuxStream(yamux.YamuxStream):  # type: ignore[misc]
    """Gives window back when half of it is used; 0.8.1 answers every read with a frame."""

    _pending_recv_release: int
    target_recv_window: int
    recv_window: int

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.window_lock = QuickLock()
        self.rw_lock = _QuickWriteLock()

    async def _auto_tune_and_send_window_update(self, *, bytes_read: int = 0) -> None:
        self._pending_recv_release += bytes_read
        if self._pending_recv_release < self.target_recv_window // 2:
            return
        increment, self._pending_recv_release = self._pending_recv_release, 0
        if self.target_recv_window < WINDOW_BYTES_MAX:
            increment += self.target_recv_window
            self.target_recv_window *= 2
        self.recv_window += increment
        await self.send_window_update(increment)


def _quieten() -> None:
    """Silence loggers of libp2p that have no handler, and so would print to stderr."""
    for name in ("libp2p", "multiaddr", "noise"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("libp2p."):
            logging.getLogger(name).setLevel(logging.NOTSET)
    # It logs by the root logger's functions, which install a handler for the whole process.
    swarm_connection.logging = _QUIET


def _ignore_sender_record(_rpc: Any, _host: Any, _peer_id: Any) -> bool:
    """Skip the signed address record each RPC carries: 0.4 ms, and addresses nobody asked for."""
    return True


def _sender_record(host: Any) -> tuple[bytes, bool]:
    """Make this host's own signed address record once instead of once per RPC."""
    record = getattr(host, "sender_record", None)
    if record is None:
        record, _ = _original_sender_record(host)
        if host.get_transport_addrs():
            host.sender_record = record
    return record, True


async def _read_delim_bounded(reader: Any) -> bytes:
    """Read one line of protocol negotiation; libp2p's own believes any length a stranger claims."""
    size = await decode_uvarint_from_stream(reader)
    if not 0 < size <= MULTISELECT_BYTES_MAX:
        raise ParseError(f"a negotiation line of {size} bytes, at most {MULTISELECT_BYTES_MAX}")
    line = await read_exactly(reader, size)
    if not line.endswith(b"\n"):
        raise ParseError("a negotiation line without its end")
    if not line.isascii():
        raise ParseError("a negotiation line that is not ASCII")
    return bytes(line[:-1])


def _remote_address(stream: Any) -> tuple[str, int] | None:
    """Return host and port of the other end; 0.8.1 knows no such pair of an IPv6 socket."""
    if stream._cached_remote_address is None:
        try:
            host, port = stream.stream.socket.getpeername()[:2]
        except OSError:
            return None
        stream._cached_remote_address = (str(host), int(port))
    known: tuple[str, int] = stream._cached_remote_address
    return known


def _set_reuse_address_only(listener: Any) -> None:
    """Let the kernel refuse a port in use: with SO_REUSEPORT a second daemon would share it."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
