"""Auditors in the simulator: the daemon's own (`node.regions.audits`), driven by hand.

An auditor is a coroutine that waits for nothing but answers of peers. So each question goes through
the grid's network as everything else does, and what comes back, or a time-out, goes on with it.
"""

from collections.abc import Callable, Coroutine, Generator, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

from consensus.sync_messages import Answer, Question, decode_answer
from market.client import Call
from node.network.base import NetworkError, Peer
from node.regions.audits import Auditor
from node.regions.showing import RegionServer
from tests.sim.liar import twist_answer
from tests.sim.tiers.views import entry
from wire.codec import Plain, encode
from wire.errors import DecodeError
from wire.keys import peer_id_of

if TYPE_CHECKING:
    from tests.sim.syncer import Syncer
    from tests.sim.tiers.chains import TierState
    from tests.sim.tiers.node import TierNode

TIMEOUT_MS: Final = 4_000
DUTIES: Final = "audit/duty/"


class _Asked:
    """A question on its way; awaiting it is handing it to whoever drives the coroutine."""

    def __init__(self, peer_id: str, data: bytes) -> None:
        self.peer_id = peer_id
        self.data = data

    def __await__(self) -> Generator["_Asked", bytes, bytes]:
        answer = yield self
        return answer


class SimAuditor:
    """One life of a node's auditor: application and network are the grid's.

    `answers` tells whether it does its duty; who does not is silent.
    """

    def __init__(self, node: "TierNode", answers: bool) -> None:
        self._node = node
        self._grid = node.world.grid
        self._main: TierState = self._grid.main.first_state
        self._task: Coroutine[_Asked, bytes, None] | None = None
        self._number = 0
        self.answers = answers
        view: Any = self
        address = node.account.address
        self._auditor = Auditor(address, view, view, self._hand_in, lambda: self._grid.now_ms)

    @property
    def counts(self) -> dict[str, int]:
        return self._auditor.counts

    def look(self, main: "TierState") -> None:
        """The main chain has come so far: do what is due, unless it is being done."""
        if not self.answers or main.height < self._main.height:
            return
        self._main = main
        if self._task is None and self._is_due(main):
            self._task = self._auditor.step()
            self._go_on(lambda task: task.send(None))

    def _is_due(self, main: "TierState") -> bool:
        if self._auditor._case is not None:
            return True
        duties = (entry(main, name) for name in main.app.state.keys_under(DUTIES))
        mine = self._node.account.address
        return any(mine in duty["drawn"] and mine not in duty["content"] for duty in duties)

    def _hand_in(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._node.send_call(self._node.account, call, to_main=True)

    # -- what an auditor asks of its main chain's application

    def query(self, contract: str, name: str, args: dict[str, Plain]) -> Plain:
        return self._grid.main.machine.query(self._main.app, contract, name, args)

    def value(self, name: str) -> bytes | None:
        return self._main.value(name)

    # -- and of its network

    def peers(self) -> list[Peer]:
        there = {peer_id_of(node.public) for node in self._reachable()}
        return [Peer(peer_id, "", None) for peer_id in sorted(there)]

    def _reachable(self) -> list["TierNode"]:
        grid, own = self._grid, self._node.world.number
        return [
            node
            for number, chain in grid.chains.items()
            if number and not {number, own} & grid.cut
            for node in chain.nodes
            if node.up
        ]

    async def request(self, peer_id: str, protocol: str, data: bytes, timeout_s: float) -> bytes:
        return await _Asked(peer_id, data)

    # -- the coroutine

    def answered(self, number: int, data: bytes) -> None:
        """An answer has come, perhaps too late."""
        if self._task is not None and number == self._number:
            self._go_on(lambda task: task.send(data))

    def timed_out(self, number: int) -> None:
        """No answer has come."""
        if self._task is not None and number == self._number:
            self._go_on(lambda task: task.throw(NetworkError("no answer in time")))

    def _go_on(self, how: Callable[[Coroutine[_Asked, bytes, None]], _Asked]) -> None:
        assert self._task is not None
        self._number += 1
        try:
            asked = how(self._task)
        except StopIteration:
            self._task = None
            return
        node = self._node
        for other in self._reachable():
            if peer_id_of(other.public) == asked.peer_id:
                question = ("region-question", self._number, node.generation, asked.data)
                self._grid.ask(node, other, question)
                break
        node.world.schedule(node, TIMEOUT_MS, ("audit-late", self._number))


class _Shown:
    """What a node's region shows, from its own disk."""

    def __init__(self, syncer: "Syncer") -> None:
        self._syncer = syncer
        self.handler: Any = None

    def on_request(self, protocol: str, handler: Any) -> None:
        self.handler = handler

    async def answer_to(self, question: Question) -> Answer:
        return self._syncer.answer_to(question)


def shown(node: "TierNode", data: bytes, rng: Random) -> bytes | None:
    """What a node answers an auditor; None: nothing."""
    parts: Any = _Shown(node.syncer)
    RegionServer(node.world.machine.genesis, parts, parts, Path("inherited"))
    try:
        parts.handler("", data).send(None)
    except StopIteration as stop:
        answer: bytes = stop.value
    except DecodeError:
        return None
    else:
        raise RuntimeError("a region's server waits for something")
    if node.lies and rng.random() < node.world.lying_share:
        return _twisted(answer, rng)
    return answer


def _twisted(answer: bytes, rng: Random) -> bytes | None:
    try:
        found = decode_answer(answer)
    except DecodeError:
        return encode(rng.randbytes(8))
    return twist_answer(found, rng) or None
