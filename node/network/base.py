"""The network's asyncio face. `libp2p.py` is the real one, `memory.py` its twin for tests.

Three ways to say something:

- `publish`: gossip to all subscribers of a topic. Lossy; whatever must arrive is repaired by sync.
- `send`: a message on a persistent stream to one peer. In order while the stream lives, dropped
  (and counted) when the peer is away or its queue is full.
- `request`: one question, one answer (up to `RESPONSE_BYTES_MAX`, moved in chunks).

Handlers run in the event loop's thread; gossip checks run in the network's. What a handler raises
is logged and counted against the peer; it never ends the network. Bytes handed to a handler are
bounded in size and otherwise untrusted.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

GOSSIP_BYTES_MAX: Final = 131_072
SEND_BYTES_MAX: Final = 4 * 1_048_576
REQUEST_BYTES_MAX: Final = 65_536
RESPONSE_BYTES_MAX: Final = 16 * 1_048_576
# As many as a set of authorities can have.
PINNED_MAX: Final = 63

# What becomes of gossip: True delivers it and passes it on; False means invalid (counted against
# the forwarder); None ignores it: neither delivered nor passed on, and nobody's fault. EXCESS is
# more than the forwarder may bring: not taken from it, and counted against it if it is the author.
EXCESS: Final = "excess"
# Honest nodes stay below what they may bring, so going beyond it a few times shows enough.
EXCESS_OFFENCES: Final = 4
Verdict: TypeAlias = bool | Literal["excess"] | None
# Called in the network's thread before anything else hears of the message: pure and fast.
GossipCheck: TypeAlias = Callable[[str, bytes], Verdict]
GossipHandler: TypeAlias = Callable[[str, bytes], None]
SendHandler: TypeAlias = Callable[[str, bytes], None]
RequestHandler: TypeAlias = Callable[[str, bytes], Awaitable[bytes]]
PeerHandler: TypeAlias = Callable[[str, bool], None]


class NetworkError(Exception):
    """The network could not do what was asked (peer away, time-out, too large, port in use)."""


class Peer(NamedTuple):
    """A connected peer: its id, the multiaddress it was reached at, and its round-trip time."""

    peer_id: str
    address: str
    rtt_ms: float | None


class Network(Protocol):
    """What the rest of the node knows of the network."""

    peer_id: str

    async def start(self) -> None:
        """Listen and begin dialling. Raises `NetworkError` if the port is taken."""

    async def stop(self) -> None:
        """Close all streams and stop; idempotent."""

    def listen_addresses(self) -> list[str]:
        """Multiaddresses under which this node can be dialled, with `/p2p/<peer id>`."""

    # -- before start: what this node listens to
    def on_gossip(
        self, topic: str, handler: GossipHandler, check: GossipCheck | None = None
    ) -> None:
        """Subscribe. `handler(forwarder, data)`; `check(forwarder, data)` runs before forwarding.

        A node never hears its own messages; what one author says twice within two minutes on a
        topic is one message. Only subscribed topics can be published to.
        """

    def on_send(self, protocol: str, handler: SendHandler) -> None:
        """Receive `send` messages of a protocol: `handler(peer_id, data)`."""

    def on_request(self, protocol: str, handler: RequestHandler) -> None:
        """Answer `request`s of a protocol: `await handler(peer_id, data)` is the answer."""

    def on_peer(self, handler: PeerHandler) -> None:
        """Learn of peers that come (True) and go (False)."""

    # -- while running
    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip `data`, at most `GOSSIP_BYTES_MAX`; returns when it is queued."""

    def send(self, peer_id: str, protocol: str, data: bytes) -> bool:
        """Queue `data` on the persistent stream; False if it was dropped at once."""

    async def request(
        self, peer_id: str, protocol: str, data: bytes, timeout_s: float = 10.0
    ) -> bytes:
        """Ask one peer. Raises `NetworkError`."""

    def peers(self) -> list[Peer]:
        """The peers connected now."""

    def want(self, address: str) -> None:
        """Keep a connection to this multiaddress (with `/p2p/`): dial, and redial with back-off.

        May be called before `start`. Raises `NetworkError` if it is no such address.
        """

    def pin(self, peer_ids: Collection[str]) -> None:
        """Keep connections to these peers beside all limits on their number.

        They are never refused for want of room, and dialled as soon as an address of theirs is
        known. Each call replaces the last. May be called before `start`. Raises `NetworkError` for
        more than `PINNED_MAX`.
        """

    def penalize(self, peer_id: str, reason: str, count: int = 1) -> None:
        """Count an offence, or one as grave as `count`; at the limit the peer is cut off."""

    def counters(self) -> Mapping[str, int]:
        """Counts since start: messages and bytes in and out, drops, invalid, restarts, ..."""
