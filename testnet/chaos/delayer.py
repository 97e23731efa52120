"""Delays, drops and throttles packets that nftables queues: `python -m testnet.chaos.delayer`.

One process for all namespaces of a grid. It reads lines of JSON from its standard input: whole
`Orders`, which replace the ones before, and answers each with a line `ready` once its queues are
open. It ends with its input; then nobody listens on the queues, and the rules' `bypass` lets
packets through.

Theory of operation. A netlink socket belongs to the network namespace that it was made in, so one
is made in each (`setns`), bound to queue `QUEUE`. Each packet that comes over it is answered by a
verdict, now (drop) or at the time its link would have carried it: after what was before it on the
link, at the link's rate, plus delay and jitter; order is kept. Layouts are those of the kernel's
`linux/netfilter/nfnetlink_queue.h`.
"""

import ctypes
import errno
import heapq
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import msgspec

QUEUE: Final = 47
PACKETS_MAX: Final = 65_535
# What waits at a link beyond this is lost, as at a router.
WAITING_MAX: Final = 1_000
LINE_BYTES_MAX: Final = 4 * 1_048_576
RECEIVE_BYTES: Final = 65_536
RECEIVE_BUFFER_BYTES: Final = 16 * 1_048_576
# The part of each packet that is looked at: an IPv4 header.
COPIED_BYTES: Final = 20
READS_AT_ONCE: Final = 256

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_NO_ENOBUFS: Final = 5
SO_RCVBUFFORCE: Final = 33
SUBSYSTEM: Final = 3 << 8
PACKET, VERDICT, CONFIG = 0, 1, 2
REQUEST, ACK = 1, 4
CONFIG_COMMAND, CONFIG_PARAMS, CONFIG_LENGTH = 1, 2, 3
BIND, COPY_PACKET = 1, 2
HEADER_ATTRIBUTE, VERDICT_ATTRIBUTE, PAYLOAD_ATTRIBUTE = 1, 2, 10
DROP, ACCEPT = 0, 1
CLONE_NEWNET: Final = 0x40000000


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """A link: mean delay and its deviation [ms], packets lost [%], rate [kbit/s], 0: any."""

    delay_ms: float
    jitter_ms: float
    loss_percent: float
    rate_kbit: float


class Orders(msgspec.Struct, frozen=True):
    """Links by the sender's namespace (a path) and the hearer's IPv4 address."""

    links: dict[str, dict[str, Shape]]


class Link:
    """The state of one link."""

    def __init__(self, shape: Shape, draw: random.Random) -> None:
        self.shape = shape
        self._draw = draw
        self._free_s = 0.0
        self._last_s = 0.0
        self.waiting = 0

    def due_s(self, now_s: float, length: int) -> float | None:
        """Return when a packet of so many bytes arrives at the far end; None: never."""
        shape = self.shape
        if self.waiting >= WAITING_MAX or self._draw.random() * 100 < shape.loss_percent:
            return None
        sent_s = now_s
        if shape.rate_kbit:
            sent_s = max(now_s, self._free_s) + length * 8 / (shape.rate_kbit * 1000)
            self._free_s = sent_s
        late_ms = shape.delay_ms
        if shape.jitter_ms:
            late_ms = max(self._draw.gauss(late_ms, shape.jitter_ms), 0.0)
        # Never before the one before: jitter does not reorder.
        self._last_s = max(sent_s + late_ms / 1000, self._last_s)
        return self._last_s


class Packet(NamedTuple):
    """A queued packet: its id, bytes, and the IPv4 address it goes to."""

    number: int
    length: int
    to: str


def packets(data: bytes) -> Iterator[Packet]:
    """Return the packets that one read from the kernel tells."""
    offset = 0
    while offset + 20 <= len(data):
        length, kind = struct.unpack_from("IH", data, offset)
        if length < 20:
            return
        if kind == SUBSYSTEM | PACKET:
            packet = _packet(data[offset + 20 : offset + length])
            if packet is not None:
                yield packet
        offset += (length + 3) & ~3


def _packet(attributes: bytes) -> Packet | None:
    number, payload, offset = None, b"", 0
    while offset + 4 <= len(attributes):
        length, kind = struct.unpack_from("HH", attributes, offset)
        if length < 4:
            break
        value = attributes[offset + 4 : offset + length]
        if kind & 0x7FFF == HEADER_ATTRIBUTE:
            number = struct.unpack_from(">I", value)[0]
        elif kind & 0x7FFF == PAYLOAD_ATTRIBUTE:
            payload = value
        offset += (length + 3) & ~3
    if number is None:
        return None
    if len(payload) < COPIED_BYTES:
        return Packet(number, 0, "")
    return Packet(number, struct.unpack_from(">H", payload, 2)[0], socket.inet_ntoa(payload[16:20]))


def attribute(kind: int, value: bytes) -> bytes:
    """Return a netlink attribute."""
    return struct.pack("HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def message(kind: int, body: bytes, flags: int = REQUEST) -> bytes:
    """Return a netlink message to our queue."""
    body = struct.pack(">BBH", 0, 0, QUEUE) + body
    return struct.pack("IHHII", 16 + len(body), SUBSYSTEM | kind, flags, 0, 0) + body


class Queue:
    """The queue of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.socket = _socket_in(namespace)
        try:
            self._set_up()
        except BaseException:
            self.socket.close()
            raise
        self.links: dict[str, Link] = {}

    def _set_up(self) -> None:
        self.socket.bind((0, 0))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        # Without the flag for large packets, the kernel cuts them up as a wire would see them.
        self._configure(attribute(CONFIG_COMMAND, struct.pack(">BBH", BIND, 0, 0)))
        params = struct.pack(">IB", COPIED_BYTES, COPY_PACKET)
        self._configure(attribute(CONFIG_PARAMS, params))
        self._configure(attribute(CONFIG_LENGTH, struct.pack(">I", PACKETS_MAX)))
        self.socket.setblocking(False)

    def _configure(self, body: bytes) -> None:
        self.socket.send(message(CONFIG, body, REQUEST | ACK))
        code = struct.unpack_from("i", self.socket.recv(RECEIVE_BYTES), 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))

    def obey(self, shapes: Mapping[str, Shape]) -> None:
        """Take on these links; one whose shape stays keeps its state."""
        links = {}
        for to, shape in shapes.items():
            link = self.links.get(to)
            if link is None or link.shape != shape:
                link = Link(shape, random.Random())  # noqa: S311 - no secret  # nosec B311
            links[to] = link
        self.links = links

    def read(self) -> Iterator[Packet]:
        """Return what waits, at most so much that others have their turn."""
        for _ in range(READS_AT_ONCE):
            try:
                data = self.socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue
                raise
            yield from packets(data)

    def answer(self, number: int, verdict: int) -> None:
        """Let a packet go, or drop it."""
        body = attribute(VERDICT_ATTRIBUTE, struct.pack(">II", verdict, number))
        self.socket.send(message(VERDICT, body))


def _socket_in(namespace: str) -> socket.socket:
    """Make a netlink socket in another network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(libc, there)
            try:
                return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            finally:
                _enter(libc, own)
        finally:
            os.close(there)
    finally:
        os.close(own)


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class Delayer:
    """All queues, and the packets that are on their way."""

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._way: list[tuple[float, int, Queue, Link, int]] = []
        self._count = 0
        self._selector = selectors.DefaultSelector()

    def obey(self, orders: Orders) -> None:
        """Open the queues that are new, close those that are gone.

        A namespace that does not exist any more is that of a node that has just gone down.
        """
        for namespace in self._queues.keys() - orders.links.keys():
            self._close(namespace)
        for namespace, shapes in orders.links.items():
            if namespace not in self._queues:
                try:
                    queue = Queue(namespace)
                except (FileNotFoundError, ProcessLookupError):
                    continue
                self._queues[namespace] = queue
                self._selector.register(queue.socket, selectors.EVENT_READ, queue)
            self._queues[namespace].obey(shapes)

    def _close(self, namespace: str) -> None:
        # The kernel lets go of what waits in a queue that is closed.
        queue = self._queues.pop(namespace)
        self._way = [item for item in self._way if item[2] is not queue]
        heapq.heapify(self._way)
        self._selector.unregister(queue.socket)
        queue.socket.close()

    def run(self) -> None:
        """Carry packets until the input ends."""
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ)
        pending = b""
        while True:
            wait_s = max(self._way[0][0] - time.monotonic(), 0) if self._way else None
            for key, _ in self._selector.select(wait_s):
                if isinstance(key.data, Queue):
                    self._take(key.data)
                    continue
                data = os.read(0, RECEIVE_BYTES)
                if not data:
                    return
                pending += data
                if len(pending) > LINE_BYTES_MAX:
                    raise ValueError(f"orders of more than {LINE_BYTES_MAX} bytes")
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    self.obey(msgspec.json.decode(line, type=Orders))
                    sys.stdout.write("ready\n")
                    sys.stdout.flush()
            self._deliver()

    def _take(self, queue: Queue) -> None:
        now_s = time.monotonic()
        for packet in queue.read():
            link = queue.links.get(packet.to)
            if link is None:
                queue.answer(packet.number, ACCEPT)
                continue
            due_s = link.due_s(now_s, packet.length)
            if due_s is None:
                queue.answer(packet.number, DROP)
                continue
            link.waiting += 1
            self._count += 1
            heapq.heappush(self._way, (due_s, self._count, queue, link, packet.number))

    def _deliver(self) -> None:
        now_s = time.monotonic()
        while self._way and self._way[0][0] <= now_s:
            _, _, queue, link, number = heapq.heappop(self._way)
            link.waiting -= 1
            queue.answer(number, ACCEPT)


def main() -> int:
    """Run; return the exit code."""
    try:
        Delayer().run()
    except OSError as error:
        sys.stderr.write(f"delayer: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
