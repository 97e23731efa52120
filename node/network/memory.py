"""The network's twin in memory: same face, same semantics, no sockets.

Networks attach to a `Hub`, which carries everything between them through one queue, so that
messages of a link arrive in order and never within the call that sent them. The hub can lose,
delay and cut what it carries, by a seeded generator.
"""

import asyncio
import hashlib
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from typing import Final

from node.network._face import Face, peer_id_in
from node.network._limits import Budget, Limits, Offences
from node.network.base import EXCESS, EXCESS_OFFENCES, GossipCheck, NetworkError, Peer

LINK_QUEUE_MAX: Final = 1_024
SEEN_MAX: Final = 16_384
WANTED_MAX: Final = 1_024
HEARD_MAX: Final = 1_024
REDIAL_MIN_S: Final = 0.02
REDIAL_MAX_S: Final = 0.5


class Hub:
    """Carries messages between the networks attached to it, and breaks them for tests."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret  # nosec B311
        self._networks: dict[str, MemoryNetwork] = {}
        self._groups: dict[str, int] = {}
        self._losses: dict[tuple[str | None, str | None], float] = {}
        self._delay_s = (0.0, 0.0)
        self._links: dict[tuple[str, str], _Link] = {}
        self._queue: list[tuple[float, int, _Link, Callable[[], None]]] = []
        self._count = 0
        self._timer: tuple[float, asyncio.TimerHandle] | None = None

    # -- controls

    def partition(self, *groups: Iterable[str]) -> None:
        """Cut all links between peers of different groups; the unnamed form one more group."""
        self._groups = {peer: place for place, group in enumerate(groups, 1) for peer in group}
        for source, target in list(self._links):
            if not self._reaches(source, target):
                self.disconnect(source, target)

    def heal(self) -> None:
        """End the partition; wanted links come back by redialling."""
        self._groups = {}

    def drop(self, share: float, source: str | None = None, target: str | None = None) -> None:
        """Lose this share of messages (0 to 1), of all links or of those from or to a peer."""
        self._losses[source, target] = share

    def delay(self, min_s: float, max_s: float | None = None) -> None:
        """Let each message take this long; messages of one link never overtake each other."""
        self._delay_s = (min_s, max(min_s, max_s or min_s))

    def disconnect(self, one: str, other: str) -> None:
        """Cut the link of two peers; those who want it dial again."""
        here = self._links.pop((one, other), None)
        there = self._links.pop((other, one), None)
        if here is None or there is None:
            return
        here.alive = there.alive = False
        for peer, gone in ((one, other), (other, one)):
            network = self._networks.get(peer)
            if network is not None:
                network._link_down(gone)

    # -- for the networks

    def _attach(self, network: "MemoryNetwork") -> None:
        if network.peer_id in self._networks:
            raise NetworkError(f"{network.peer_id} is in use by another network of this hub")
        self._networks[network.peer_id] = network

    def _detach(self, network: "MemoryNetwork") -> None:
        for source, target in list(self._links):
            if source == network.peer_id:
                self.disconnect(source, target)
        if self._networks.get(network.peer_id) is network:
            del self._networks[network.peer_id]

    def _dial(self, source: str, target: str) -> bool:
        if (source, target) in self._links:
            return True
        here, there = self._networks.get(source), self._networks.get(target)
        if here is None or there is None or not self._reaches(source, target):
            return False
        if not (here._accepts(target) and there._accepts(source)):
            return False
        self._links[source, target] = _Link(source, target)
        self._links[target, source] = _Link(target, source)
        here._link_up(target)
        there._link_up(source)
        return True

    def _reaches(self, source: str, target: str) -> bool:
        return self._groups.get(source, 0) == self._groups.get(target, 0)

    def _carry(self, source: str, target: str, deliver: Callable[["MemoryNetwork"], None]) -> bool:
        """Queue a delivery; False if the link is away or full."""
        link = self._links.get((source, target))
        if link is None or link.queued >= LINK_QUEUE_MAX:
            return False
        if self._random.random() < self._loss(source, target):
            return True
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + self._random.uniform(*self._delay_s), link.due_s)
        link.due_s = due_s
        link.queued += 1
        self._count += 1
        network = self._networks[target]
        heapq.heappush(self._queue, (due_s, self._count, link, lambda: deliver(network)))
        self._wake(loop)
        return True

    def _loss(self, source: str, target: str) -> float:
        if not self._losses:
            return 0.0
        pairs = ((source, target), (source, None), (None, target), (None, None))
        return max(self._losses.get(pair, 0.0) for pair in pairs)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        due_s = self._queue[0][0]
        if self._timer is not None:
            if self._timer[0] <= due_s:
                return
            self._timer[1].cancel()
        self._timer = (due_s, loop.call_at(due_s, self._pump, loop))

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        # Only what was queued before: a delivery that sends again must let the loop breathe.
        last = self._count
        later = []
        while self._queue and self._queue[0][0] <= loop.time():
            item = heapq.heappop(self._queue)
            _, count, link, deliver = item
            if count > last:
                later.append(item)
                continue
            link.queued -= 1
            if link.alive:
                deliver()
        for item in later:
            heapq.heappush(self._queue, item)
        if self._queue:
            self._wake(loop)


class _Link:
    """One direction of a connection."""

    __slots__ = ("alive", "due_s", "queued", "source", "target")

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.alive = True
        self.due_s = 0.0
        self.queued = 0


class MemoryNetwork(Face):
    """A `Network` on a hub. Peer ids may be any text without a slash."""

    def __init__(
        self,
        peer_id: str,
        hub: Hub,
        limits: Limits | None = None,
        allowed: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(peer_id, limits or Limits())
        self._hub = hub
        self._allowed = allowed
        self._running = False
        self._links: dict[str, Budget] = {}
        self._wanted: dict[str, asyncio.Event] = {}
        self._pinned: frozenset[str] = frozenset()
        # Peers that others told of, so that one which is pinned later can be dialled.
        self._heard: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._offences = Offences(self.limits)
        self._asked: dict[asyncio.Future[bytes], str] = {}
        self._serving: dict[str, int] = {}

    async def start(self) -> None:
        """Attach to the hub and begin dialling."""
        if not self._registering:
            raise NetworkError("a network starts once; make a new one")
        self._hub._attach(self)
        self._registering = False
        self._running = True
        for peer_id in self._wanted:
            self._spawn(self._keep(peer_id))

    async def stop(self) -> None:
        """Cut all links and detach; idempotent."""
        if not self._running:
            return
        self._running = False
        self._hub._detach(self)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def listen_addresses(self) -> list[str]:
        """Return the one address of this network on its hub."""
        return [f"/memory/1/p2p/{self.peer_id}"]

    async def publish(self, topic: str, data: bytes) -> None:
        """Gossip to all connected subscribers; see `Network`."""
        self._must_run()
        self._check_publish(topic, data)
        self._counts["gossip_out"] += 1
        message = _Gossip(self.peer_id, topic, data)
        if self._remember(message):
            self._forward(message, exclude=self.peer_id)

    def send(self, peer_id: str, protocol: str, data: bytes) -> bool:
        """Queue a message to one peer; see `Network`."""
        self._check_send(protocol, data)
        queued = self._running and self._hub._carry(
            self.peer_id, peer_id, lambda there: there._receive(self.peer_id, protocol, data)
        )
        self._counts["sends_out" if queued else "sends_dropped"] += 1
        self._counts["bytes_out"] += len(data) if queued else 0
        return queued

    async def request(
        self, peer_id: str, protocol: str, data: bytes, timeout_s: float = 10.0
    ) -> bytes:
        """Ask one peer; see `Network`."""
        self._must_run()
        self._check_request(data)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[answer] = peer_id
        self._counts["requests_out"] += 1
        try:
            if not self._hub._carry(
                self.peer_id,
                peer_id,
                lambda there: there._serve(self.peer_id, protocol, data, answer),
            ):
                raise NetworkError(f"{peer_id} is not connected")
            # Not `wait_for`: it swallows a cancellation that comes with the answer.
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            self._counts["requests_failed"] += 1
            raise NetworkError(f"{peer_id} did not answer {protocol} in {timeout_s} s") from None
        except NetworkError:
            self._counts["requests_failed"] += 1
            raise
        finally:
            self._asked.pop(answer, None)

    def peers(self) -> list[Peer]:
        """Return the peers linked now."""
        return [Peer(peer_id, f"/memory/1/p2p/{peer_id}", 0.0) for peer_id in self._links]

    def want(self, address: str) -> None:
        """Keep a link to this address; see `Network`."""
        peer_id = peer_id_in(address)
        if peer_id == self.peer_id or peer_id in self._wanted:
            return
        if len(self._wanted) >= WANTED_MAX:
            raise NetworkError(f"at most {WANTED_MAX} addresses can be wanted")
        self._wanted[peer_id] = asyncio.Event()
        if self._running:
            self._spawn(self._keep(peer_id))

    def pin(self, peer_ids: Collection[str]) -> None:
        """Keep links to these peers beside all limits; see `Network`."""
        self._pinned = self._check_pinned(peer_ids)
        self._want_pinned()

    def penalize(self, peer_id: str, reason: str, count: int = 1) -> None:
        """Count an offence; at the limit the peer is cut off and banned for a while."""
        now_s = asyncio.get_running_loop().time()
        self._counts["offences"] += 1
        self._quiet.warn(peer_id, reason, now_s)
        if self._offences.add(peer_id, now_s, count):
            self._cut_off(peer_id)

    def counters(self) -> Mapping[str, int]:
        """Return the counts since the start."""
        return dict(self._counts)

    # -- called by the hub

    def _accepts(self, peer_id: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        refused = self._offences.banned(peer_id, now_s) or (
            self._allowed is not None and not self._allowed(peer_id)
        )
        others = len(self._links.keys() - self._pinned)
        if refused or (peer_id not in self._pinned and others >= self.limits.peers_max):
            self._counts["refused"] += 1
            return False
        return True

    def _link_up(self, peer_id: str) -> None:
        self._links[peer_id] = Budget(self.limits, asyncio.get_running_loop().time())
        self._notify_peer(peer_id, True)
        # The twin of peer exchange: each learns whom the other knows.
        self._hub._carry(self.peer_id, peer_id, lambda there: there._meet(list(self._links)))

    def _link_down(self, peer_id: str) -> None:
        if self._links.pop(peer_id, None) is None:
            return
        for answer, asked in self._asked.items():
            if asked == peer_id and not answer.done():
                answer.set_exception(NetworkError(f"{peer_id} went away"))
        if peer_id in self._wanted:
            self._wanted[peer_id].set()
        self._notify_peer(peer_id, False)

    def _meet(self, peer_ids: list[str]) -> None:
        self._heard.update(dict.fromkeys(peer_ids))
        while len(self._heard) > HEARD_MAX:
            self._heard.popitem(last=False)
        self._want_pinned()
        for peer_id in peer_ids:
            if len(self._links) >= self.limits.peers_target:
                return
            if peer_id != self.peer_id and peer_id not in self._links:
                self._dial(peer_id)

    def _want_pinned(self) -> None:
        for peer_id in self._pinned & self._heard.keys():
            self.want(f"/memory/1/p2p/{peer_id}")

    def _receive(self, peer_id: str, protocol: str, data: bytes) -> None:
        if self._afford(peer_id, len(data)):
            self._deliver_send(peer_id, protocol, data)

    def _receive_gossip(self, forwarder: str, message: "_Gossip") -> None:
        if not self._afford(forwarder, len(message.data)):
            return
        registered = self._gossip.get(message.topic)
        if registered is None or not self._remember(message):
            return
        if not self._passes(forwarder, message, registered[1]):
            return
        self._deliver_gossip(forwarder, message.topic, message.data)
        self._forward(message, exclude=forwarder)

    def _passes(self, forwarder: str, message: "_Gossip", check: GossipCheck | None) -> bool:
        if check is None:
            return True
        try:
            verdict = check(forwarder, message.data)
        except Exception as error:
            self._handler_failed(forwarder, f"the check of {message.topic}", error)
            return False
        if verdict == EXCESS:
            self._counts["gossip_dropped"] += 1
            if forwarder == message.author and forwarder not in self._pinned:
                what = f"more on {message.topic} than a peer may bring"
                self.penalize(forwarder, what, EXCESS_OFFENCES)
            return False
        if verdict is None:
            self._counts["gossip_ignored"] += 1
        elif not verdict:
            self._counts["gossip_invalid"] += 1
            self.penalize(forwarder, f"invalid gossip on {message.topic}")
        return bool(verdict)

    def _serve(
        self, peer_id: str, protocol: str, data: bytes, answer: asyncio.Future[bytes]
    ) -> None:
        if not self._afford(peer_id, len(data)):
            return
        if self._serving.get(peer_id, 0) >= self.limits.requests_max:
            self.penalize(peer_id, f"more than {self.limits.requests_max} requests at once")
            return
        self._spawn(self._serve_one(peer_id, protocol, data, answer))

    async def _serve_one(
        self, peer_id: str, protocol: str, data: bytes, answer: asyncio.Future[bytes]
    ) -> None:
        self._serving[peer_id] = self._serving.get(peer_id, 0) + 1
        try:
            result = await self._answer(peer_id, protocol, data)
        finally:
            self._serving[peer_id] -= 1
        self._counts["bytes_out"] += len(result or b"")

        def settle(_: MemoryNetwork) -> None:
            if answer.done():
                return
            if result is None:
                answer.set_exception(NetworkError(f"{self.peer_id} does not answer {protocol}"))
            else:
                answer.set_result(result)

        self._hub._carry(self.peer_id, peer_id, settle)

    # -- own parts

    async def _keep(self, peer_id: str) -> None:
        """Dial a wanted peer until it is linked, and again when it is lost."""
        lost = self._wanted[peer_id]
        delay_s = REDIAL_MIN_S
        while True:
            lost.clear()
            if self._dial(peer_id):
                delay_s = REDIAL_MIN_S
                await lost.wait()
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, REDIAL_MAX_S)

    def _dial(self, peer_id: str) -> bool:
        if peer_id in self._links:
            return True
        self._counts["dials"] += 1
        linked = self._hub._dial(self.peer_id, peer_id)
        self._counts["dials_failed"] += not linked
        return linked

    def _forward(self, message: "_Gossip", exclude: str) -> None:
        for peer_id in self._links:
            if peer_id == exclude:
                continue
            if self._hub._carry(
                self.peer_id, peer_id, lambda there: there._receive_gossip(self.peer_id, message)
            ):
                self._counts["bytes_out"] += len(message.data)
            else:
                self._counts["gossip_dropped"] += 1

    def _remember(self, message: "_Gossip") -> bool:
        if message.message_id in self._seen:
            return False
        self._seen[message.message_id] = None
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return True

    def _afford(self, peer_id: str, size: int) -> bool:
        now_s = asyncio.get_running_loop().time()
        budget = self._links.get(peer_id)
        problem = budget.problem(size, now_s) if budget is not None else None
        if problem is None:
            return budget is not None
        self._quiet.warn(peer_id, problem, now_s)
        self._offences.ban(peer_id, now_s)
        self._cut_off(peer_id)
        return False

    def _cut_off(self, peer_id: str) -> None:
        self._counts["bans"] += 1
        self._hub.disconnect(self.peer_id, peer_id)

    def _must_run(self) -> None:
        if not self._running:
            raise NetworkError("the network is not running")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Gossip:
    """A published message with the identity by which copies of it are told."""

    __slots__ = ("author", "data", "message_id", "topic")

    def __init__(self, author: str, topic: str, data: bytes) -> None:
        self.author = author
        self.topic = topic
        self.data = data
        self.message_id = hashlib.sha256(f"{author}/{topic}\0".encode() + data).digest()[:20]
