"""What the real network and its twin share: registration, safe dispatch, checks and counters."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from node.network._limits import Limits, QuietLog
from node.network.base import (
    GOSSIP_BYTES_MAX,
    PINNED_MAX,
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    SEND_BYTES_MAX,
    GossipCheck,
    GossipHandler,
    NetworkError,
    PeerHandler,
    RequestHandler,
    SendHandler,
)

NAME_CHARS_MAX: Final = 128
TOPICS_MAX: Final = 64
PROTOCOLS_MAX: Final = 64

COUNTERS: Final = (
    "gossip_in",
    "gossip_out",
    "gossip_invalid",
    "gossip_ignored",
    "gossip_dropped",
    "sends_in",
    "sends_out",
    "sends_dropped",
    "requests_in",
    "requests_out",
    "requests_failed",
    "bytes_in",
    "bytes_out",
    "dials",
    "dials_failed",
    "handler_errors",
    "hostile",
    "offences",
    "bans",
    "refused",
    "restarts",
)


class Face:
    """Registration before the start, and calls of handlers that can do no harm."""

    def __init__(self, peer_id: str, limits: Limits) -> None:
        self.peer_id = peer_id
        self.limits = limits
        self._gossip: dict[str, tuple[GossipHandler, GossipCheck | None]] = {}
        self._sends: dict[str, SendHandler] = {}
        self._requests: dict[str, RequestHandler] = {}
        self._peer_handlers: list[PeerHandler] = []
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._quiet = QuietLog()
        self._registering = True

    def on_gossip(
        self, topic: str, handler: GossipHandler, check: GossipCheck | None = None
    ) -> None:
        """Subscribe to a topic; see `Network`."""
        self._may_register(topic, self._gossip, TOPICS_MAX)
        self._gossip[topic] = (handler, check)

    def on_send(self, protocol: str, handler: SendHandler) -> None:
        """Receive `send` messages of a protocol; see `Network`."""
        self._may_register(protocol, self._sends, PROTOCOLS_MAX)
        self._sends[protocol] = handler

    def on_request(self, protocol: str, handler: RequestHandler) -> None:
        """Answer requests of a protocol; see `Network`."""
        self._may_register(protocol, self._requests, PROTOCOLS_MAX)
        self._requests[protocol] = handler

    def on_peer(self, handler: PeerHandler) -> None:
        """Learn of peers that come and go; see `Network`."""
        if not self._registering:
            raise NetworkError("handlers are registered before the network starts")
        self._peer_handlers.append(handler)

    def _may_register(self, name: str, table: Mapping[str, object], most: int) -> None:
        if not self._registering:
            raise NetworkError("handlers are registered before the network starts")
        _check_name(name)
        if name in table:
            raise NetworkError(f"{name!r} already has its handler")
        if len(table) >= most:
            raise NetworkError(f"at most {most} names can be registered")

    def _check_publish(self, topic: str, data: bytes) -> None:
        if topic not in self._gossip:
            raise NetworkError(f"topic {topic!r} is not subscribed: call on_gossip before start")
        if len(data) > GOSSIP_BYTES_MAX:
            raise NetworkError(f"gossip of {len(data)} bytes, at most {GOSSIP_BYTES_MAX}")

    def _check_send(self, protocol: str, data: bytes) -> None:
        _check_name(protocol)
        if len(data) > SEND_BYTES_MAX:
            raise NetworkError(f"a message of {len(data)} bytes, at most {SEND_BYTES_MAX}")

    def _check_request(self, data: bytes) -> None:
        if len(data) > REQUEST_BYTES_MAX:
            raise NetworkError(f"a request of {len(data)} bytes, at most {REQUEST_BYTES_MAX}")

    def _check_pinned(self, peer_ids: Collection[str]) -> frozenset[str]:
        if len(peer_ids) > PINNED_MAX:
            raise NetworkError(f"at most {PINNED_MAX} peers can be pinned, not {len(peer_ids)}")
        return frozenset(peer_ids) - {self.peer_id}

    # -- calls of handlers: all in the event loop's thread

    def _deliver_gossip(self, forwarder: str, topic: str, data: bytes) -> None:
        registered = self._gossip.get(topic)
        if registered is None:
            return
        self._counts["gossip_in"] += 1
        self._counts["bytes_in"] += len(data)
        try:
            registered[0](forwarder, data)
        except Exception as error:
            self._handler_failed(forwarder, topic, error)

    def _deliver_send(self, peer_id: str, protocol: str, data: bytes) -> None:
        handler = self._sends.get(protocol)
        if handler is None:
            return
        self._counts["sends_in"] += 1
        self._counts["bytes_in"] += len(data)
        try:
            handler(peer_id, data)
        except Exception as error:
            self._handler_failed(peer_id, protocol, error)

    async def _answer(self, peer_id: str, protocol: str, data: bytes) -> bytes | None:
        """Return the handler's answer; None if there is no such handler or it failed."""
        handler = self._requests.get(protocol)
        if handler is None:
            return None
        self._counts["requests_in"] += 1
        self._counts["bytes_in"] += len(data)
        try:
            answer = await handler(peer_id, data)
        except Exception as error:
            self._handler_failed(peer_id, protocol, error)
            return None
        if len(answer) > RESPONSE_BYTES_MAX:
            problem = f"its answer has {len(answer)} bytes, at most {RESPONSE_BYTES_MAX}"
            self._handler_failed(peer_id, protocol, NetworkError(problem))
            return None
        return answer

    def _notify_peer(self, peer_id: str, here: bool) -> None:
        for handler in self._peer_handlers:
            try:
                handler(peer_id, here)
            except Exception as error:
                self._handler_failed(peer_id, "peer events", error, theirs=False)

    def _handler_failed(
        self, peer_id: str, name: str, error: Exception, theirs: bool = True
    ) -> None:
        self._counts["handler_errors"] += 1
        reason = f"the handler of {name} failed: {type(error).__name__}: {error}"
        if theirs:
            self.penalize(peer_id, reason)
        else:
            self._quiet.warn(peer_id, reason, asyncio.get_running_loop().time())

    def penalize(self, peer_id: str, reason: str, count: int = 1) -> None:
        """Count an offence; see `Network`."""
        raise NotImplementedError


def _check_name(name: str) -> None:
    """Refuse what is no topic or protocol; names that begin with a dot are the network's own."""
    good = name.isascii() and name.isprintable() and not name.startswith(".")
    if not good or not 0 < len(name) <= NAME_CHARS_MAX:
        raise NetworkError(
            f"{name[:NAME_CHARS_MAX]!r} is no name: 1 to {NAME_CHARS_MAX} printable ASCII "
            "characters, the first no dot"
        )


def peer_id_in(address: str) -> str:
    """Return the peer id at the end of a multiaddress.

    Raises
    ------
    NetworkError
        The address does not end in `/p2p/<peer id>`.
    """
    head, mark, peer_id = address.rpartition("/p2p/")
    if not mark or not head.startswith("/") or not peer_id or "/" in peer_id:
        raise NetworkError(
            f"{address!r} is no address of a peer: expected /ip4/HOST/tcp/PORT/p2p/PEER_ID"
        )
    return peer_id
