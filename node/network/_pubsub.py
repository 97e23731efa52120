"""GossipSub, guarded: no input ends it, nothing a peer says makes it grow, own limits per peer."""

import time
from collections import OrderedDict
from typing import Any, Final, Protocol

import trio
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.utils import safe_bytes_from_hex
from libp2p.pubsub.validators import signature_validator
from libp2p.utils import encode_varint_prefixed

from node.network._patches import message_id
from node.network._swarm import ENDED
from node.network.base import GOSSIP_BYTES_MAX

MESHSUB_ID: Final = "/meshsub/1.1.0"
# One RPC may carry several messages and their control.
RPC_BYTES_MAX: Final = 1_048_576
READ_BYTES: Final = 65_536
WRITE_BYTES: Final = 65_536
SEEN_S: Final = 120.0
SEEN_MAX: Final = 65_536
MESSAGES_PER_RPC_MAX: Final = 1_024
SUBSCRIPTIONS_PER_RPC_MAX: Final = 256
SUBSCRIPTIONS_PER_PEER_MAX: Final = 128
CONTROLS_PER_RPC_MAX: Final = 512
IDS_PER_CONTROL_MAX: Final = 512
# An answer to IWANT, in bytes: the same message asked for a thousand times is a flood by us.
IWANT_ANSWER_BYTES_MAX: Final = 1_048_576
DEGREES: Final = (4, 3, 6)
DEGREES_LARGE: Final = (6, 4, 8)
JANITOR_S: Final = 60.0
_VARINT_BYTES_MAX: Final = 5


class Ear(Protocol):
    """Who is told what gossip brings; the trio side implements it."""

    def gossip_affordable(self, peer_id: ID, size: int, messages: int) -> bool:
        """Charge a peer for an RPC; False once it is over its limits."""

    def gossip_author(self, forwarder: ID, author: bytes) -> bool:
        """Tell whether an author, by its signature, may say something now."""

    def gossip_verdict(self, forwarder: ID, author: bytes, topic: str, data: bytes) -> bool | None:
        """Check a message before it is passed on; None if its copies need no look either."""

    def gossip_arrived(self, forwarder: ID, topic: str, data: bytes) -> None:
        """Take a new, valid message."""

    def gossip_invalid(self, forwarder: ID, reason: str) -> None:
        """Learn that a peer passed on what it must not."""

    def gossip_ready(self, peer_id: ID) -> None:
        """Learn that gossip flows both ways: a peer's subscriptions came, and ours can go."""

    def peer_failed(self, peer_id: ID, what: str, error: Exception) -> None:
        """Learn that what a peer sent made `what` fail."""


class SeenIds:
    """Ids of the messages seen in the last `SEEN_S`; libp2p's own runs a thread and has no end."""

    def __init__(self) -> None:
        self._ids: OrderedDict[bytes, float] = OrderedDict()

    def has(self, key: bytes) -> bool:
        """Tell whether an id was added and is still remembered."""
        return key in self._ids

    def add(self, key: bytes) -> bool:
        """Remember an id; False if it already was."""
        now_s = trio.current_time()
        while self._ids:
            oldest, added_s = next(iter(self._ids.items()))
            if now_s - added_s < SEEN_S and len(self._ids) < SEEN_MAX:
                break
            del self._ids[oldest]
        if key in self._ids:
            return False
        self._ids[key] = now_s
        return True

    def length(self) -> int:
        """Return how many ids are remembered."""
        return len(self._ids)


class GuardedGossipSub(GossipSub):  # type: ignore[misc]
    """The router. What control messages may name, and how often, is bounded here."""

    def __init__(self, large: bool) -> None:
        degree, low, high = DEGREES_LARGE if large else DEGREES
        super().__init__(
            [MESHSUB_ID],
            degree,
            low,
            high,
            heartbeat_interval=1,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
            do_px=False,
            prune_back_off=10,
            unsubscribe_back_off=5,
            max_pending_messages_per_peer=1,
            pending_messages_ttl=0.0,
        )
        # Scores gate by address, and a street may well share one; our own limits replace them.
        self.scorer = None

    async def run(self) -> None:
        self.manager.run_daemon_task(self._janitor)
        await super().run()

    async def _janitor(self) -> None:
        """Forget what 0.8.1 never forgets (guard 12)."""
        while True:
            await trio.sleep(JANITOR_S)
            self.tidy()

    def tidy(self) -> None:
        """Drop delivery times and back-offs that are over."""
        self.recent_message_deliveries.clear()
        now_s = time.time()
        for topic, peers in list(self.back_off.items()):
            self.back_off[topic] = {peer: until for peer, until in peers.items() if until > now_s}

    def _get_peers_to_send(
        self, topic_ids: Any, msg_forwarder: ID, origin: ID, msg_id: bytes | None = None
    ) -> Any:
        """Send what this node says to all its peers, what it passes on to the mesh.

        GossipSub 1.1's flood publishing, which 0.8.1 lacks: a peer that is not in the mesh yet
        hears the first message too, and one hop is saved.
        """
        if msg_forwarder != origin or self.pubsub is None or origin != self.pubsub.my_id:
            return super()._get_peers_to_send(topic_ids, msg_forwarder, origin, msg_id)
        return set().union(*(self.pubsub.peer_topics.get(topic, ()) for topic in topic_ids))

    def _check_equivocation(self, msg: Any) -> bool:
        """Skip it: it would keep a thousand messages, and consensus has its own evidence."""
        return True

    async def handle_graft(self, graft_msg: Any, sender_peer_id: ID) -> None:
        if graft_msg.topicID in self.mesh:
            await super().handle_graft(graft_msg, sender_peer_id)

    async def handle_prune(self, prune_msg: Any, sender_peer_id: ID) -> None:
        if prune_msg.topicID in self.mesh:
            del prune_msg.peers[:]
            await super().handle_prune(prune_msg, sender_peer_id)

    async def handle_ihave(self, ihave_msg: Any, sender_peer_id: ID) -> None:
        if ihave_msg.topicID in self.mesh:
            del ihave_msg.messageIDs[IDS_PER_CONTROL_MAX:]
            await super().handle_ihave(ihave_msg, sender_peer_id)

    async def handle_iwant(self, iwant_msg: Any, sender_peer_id: ID) -> None:
        wanted = []
        size = 0
        for wire_id in dict.fromkeys(iwant_msg.messageIDs[:IDS_PER_CONTROL_MAX]):
            message = self.mcache.get(safe_bytes_from_hex(wire_id))
            size += message.ByteSize() if message is not None else 0
            if size > IWANT_ANSWER_BYTES_MAX:
                break
            wanted.append(wire_id)
        if wanted:
            await super().handle_iwant(rpc_pb2.ControlIWant(messageIDs=wanted), sender_peer_id)


class GuardedPubsub(Pubsub):  # type: ignore[misc]
    """Reads, checks and delivers gossip itself; libp2p forms the meshes and sends."""

    def __init__(self, host: Any, router: GuardedGossipSub, ear: Ear, topics: set[str]) -> None:
        super().__init__(
            host,
            router,
            strict_signing=True,
            msg_id_constructor=message_id,
            max_subscriptions_per_rpc=SUBSCRIPTIONS_PER_RPC_MAX,
            max_subscriptions_per_peer=SUBSCRIPTIONS_PER_PEER_MAX,
            max_inbound_rpc_size=RPC_BYTES_MAX,
            allowed_topics=topics,
        )
        self._ear = ear
        self._topics = topics
        self._own_id = self.my_id.to_bytes()
        self._heard: set[ID] = set()
        self._replace_seen()
        # In seconds it would start below the last run's after a quick restart (guard 6).
        self.counter = time.time_ns()

    def _replace_seen(self) -> None:
        self.seen_messages.stop()
        self.seen_messages: Any = SeenIds()

    async def stream_handler(self, stream: Any) -> None:
        """Read a peer's gossip until it ends; whatever it says, only this stream pays (1, 2)."""
        peer_id = stream.muxed_conn.peer_id
        try:
            await self._read(stream, peer_id)
        except ENDED:
            pass
        except Exception as error:
            self._ear.peer_failed(peer_id, "gossip", error)
        # The peer's next write finds the stream gone, and opens another with its subscriptions.
        await stream.reset()

    async def handle_sending_messages(self, peer_id: ID, stream: Any, queue: Any) -> None:
        """Write what is queued for a peer, as much as there is in one go."""
        try:
            while (rpc := await queue.pop()) is not None:
                parts = [_prefixed(rpc)]
                size = len(parts[0])
                while size < WRITE_BYTES and (rpc := queue.pop_nowait()) is not None:
                    parts.append(_prefixed(rpc))
                    size += len(parts[-1])
                await stream.write(b"".join(parts))
        except ENDED:
            if self.peers.get(peer_id) is stream:
                self._handle_dead_peer(peer_id)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        stream = self.peers.get(peer_id)
        if stream is not None and stream.muxed_conn.is_closed:
            self._drop_stream(peer_id)
        await super()._handle_new_peer(peer_id)
        # A subscription that arrived before this stream was up did not graft the peer.
        for topic, peers in list(self.peer_topics.items()):
            if peer_id in peers:
                await self.router.on_peer_subscribed(peer_id, topic)
        self._tell_if_ready(peer_id)

    def _tell_if_ready(self, peer_id: ID) -> None:
        if peer_id in self.peers and peer_id in self._heard:
            self._ear.gossip_ready(peer_id)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        """Forget a peer that is gone; only open another stream to one that is here.

        Of two simultaneous connections one is closed, and libp2p would forget what the peer
        subscribed to on the other.
        """
        if not self._peer_is_connected(peer_id):
            self._heard.discard(peer_id)
            super()._handle_dead_peer(peer_id)
            return
        self._drop_stream(peer_id)
        self._schedule_peer_stream_retry(peer_id)

    def stream_lost(self, peer_id: ID) -> None:
        """Learn that a connection of a peer ended; renew the stream if it was on that one."""
        stream = self.peers.get(peer_id)
        if stream is not None and stream.muxed_conn.is_closed:
            self._handle_dead_peer(peer_id)

    def _drop_stream(self, peer_id: ID) -> None:
        self.peers.pop(peer_id, None)
        queue = self.peer_queues.pop(peer_id, None)
        if queue is not None:
            queue.close()

    async def _read(self, stream: Any, peer_id: ID) -> None:
        reader = _RpcReader(stream)
        first = True
        while self.manager.is_running:
            data = await reader.next()
            rpc = rpc_pb2.RPC()
            rpc.ParseFromString(data)
            count = max(1, len(rpc.publish))
            if count > MESSAGES_PER_RPC_MAX or _controls(rpc) > CONTROLS_PER_RPC_MAX:
                raise ValueError("an RPC with more parts than allowed")
            if not self._ear.gossip_affordable(peer_id, len(data), count):
                return
            if len(rpc.subscriptions) > SUBSCRIPTIONS_PER_RPC_MAX:
                raise ValueError("an RPC with more subscriptions than allowed")
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer_id, subscription)
            for message in rpc.publish:
                # No honest peer passes that on: a thousand more are not worth a signature check.
                if not await self.push_msg(peer_id, message):
                    break
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer_id)
            if first:
                first = False
                self._heard.add(peer_id)
                self._tell_if_ready(peer_id)

    async def push_msg(self, msg_forwarder: ID, msg: Any) -> bool:
        """Check a message, once, deliver it and pass it on; False if its form or signature is bad.

        libp2p, which publishes through this too, ignores the answer.
        """
        own = msg_forwarder == self.my_id
        if len(msg.topicIDs) != 1 or msg.topicIDs[0] not in self._topics:
            return True
        if self._is_msg_seen(msg):
            return True
        topic, data = msg.topicIDs[0], msg.data
        if not own:
            if len(data) > GOSSIP_BYTES_MAX:
                self._ear.gossip_invalid(msg_forwarder, f"gossip of {len(data)} bytes")
                return False
            if msg.from_id == self._own_id:
                return True
            if not _signed(msg):
                self._ear.gossip_invalid(msg_forwarder, "gossip that its author did not sign")
                return False
            if not self._ear.gossip_author(msg_forwarder, msg.from_id):
                return True
            verdict = self._ear.gossip_verdict(msg_forwarder, msg.from_id, topic, data)
            if verdict is None:
                self._mark_msg_seen(msg)
            if not verdict:
                return True
        self._mark_msg_seen(msg)
        if not own:
            self._ear.gossip_arrived(msg_forwarder, topic, data)
        await self.router.publish(msg_forwarder, msg)
        return True


class _RpcReader:
    """Length-prefixed RPCs from a stream, with one read for many instead of three for each."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def next(self) -> bytes:
        """Return the next RPC. Raises `MessageTooLarge`, an `IOException` at the end."""
        size, start = await self._size()
        if size > RPC_BYTES_MAX:
            raise MessageTooLarge(f"an RPC of {size} bytes")
        while len(self._buffer) < start + size:
            await self._more()
        data = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        return data

    async def _size(self) -> tuple[int, int]:
        size = 0
        for place in range(_VARINT_BYTES_MAX):
            while len(self._buffer) <= place:
                await self._more()
            byte = self._buffer[place]
            size |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return size, place + 1
        raise ValueError("an RPC whose length is no varint")

    async def _more(self) -> None:
        data = await self._stream.read(READ_BYTES)
        if not data:
            raise IncompleteReadError("the stream ended")
        self._buffer += data


def _prefixed(rpc: Any) -> bytes:
    return bytes(encode_varint_prefixed(rpc.SerializeToString()))


def _signed(msg: Any) -> bool:
    """Check a message's signature; a key that is none, which libp2p lets raise, is just False."""
    try:
        return bool(signature_validator(msg))
    except Exception:
        return False


def _controls(rpc: Any) -> int:
    control = rpc.control
    return sum(map(len, (control.ihave, control.iwant, control.graft, control.prune)))
