"""Tells homes with a dashboard how their whole testnet does: who is up, how high, what is done.

The page is `node/web/dashboard/testnet.py`; what it is told is `node.api.watched.Watched`. It has
all of the watch each time: the home that shows it may have been killed a moment ago.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from node.api.control import QUESTION_BYTES_MAX
from node.api.watched import (
    FAULTS_MAX,
    HEADS_MAX,
    NODES_MAX,
    SPANS_MAX,
    TITLE_CHARS_MAX,
    Watched,
    WatchedFault,
    WatchedNode,
)
from node.errors import ControlError

TELL_S: Final = 1.0
# Of all nodes together, so that a large grid's fits into a question, too.
SPANS_KEPT_MAX: Final = 1_500
# The name of the question, and what stands around the answer.
ROOM_BYTES: Final = 256
UNKNOWN: Final = "unknown_question"


class Ask(Protocol):
    """Asks a node by its name. Raises `ControlError`."""

    def __call__(self, name: str, question: str, **arguments: Any) -> Awaitable[Any]: ...


class _Fault(NamedTuple):
    kind: str
    who: str
    names: frozenset[str]
    began_s: float
    ended_s: float | None


class Diary:
    """What has been seen so far, and is worth telling.

    Parameters
    ----------
    title : str
        What is done with the testnet.
    names : sequence of str
        Its nodes, in the order in which they are shown; of more than `NODES_MAX` the first ones.
    """

    def __init__(self, title: str, names: Sequence[str]) -> None:
        self._title = title[:TITLE_CHARS_MAX]
        self._names = list(names[:NODES_MAX])
        self._spans_max = max(1, min(SPANS_MAX, SPANS_KEPT_MAX // max(1, len(self._names))))
        self._status: dict[str, Mapping[str, Any]] = {}
        self._up: set[str] = set()
        self._away: dict[str, list[tuple[float, float | None]]] = {name: [] for name in names}
        self._heads: list[tuple[float, int]] = []
        self._faults: dict[int, _Fault] = {}
        self._last = 0

    def saw(self, now_s: float, name: str, status: Mapping[str, Any] | None) -> None:
        """Note what a node says of itself; None: it does not answer."""
        away = self._away[name]
        if status is None:
            # Who has never answered has not been started yet.
            if name in self._up:
                self._up.discard(name)
                away.append((now_s, None))
                del away[: -self._spans_max]
            return
        if away and away[-1][1] is None:
            away[-1] = (away[-1][0], now_s)
        self._up.add(name)
        self._status[name] = status

    def begins(self, now_s: float, kind: str, who: str, names: Iterable[str]) -> int:
        """Note that a fault begins; return its number for `ends`."""
        self._last += 1
        fault = _Fault(kind, who[:TITLE_CHARS_MAX], frozenset(names), now_s, None)
        self._faults[self._last] = fault
        for number in list(self._faults)[:-FAULTS_MAX]:
            del self._faults[number]
        return self._last

    def ends(self, now_s: float, number: int) -> None:
        """Note that a fault is undone."""
        if number in self._faults:
            self._faults[number] = self._faults[number]._replace(ended_s=now_s)

    def watched(self, now_s: float) -> Watched:
        """Return all of it, and note the height of the first node's chain."""
        self._note_head(now_s)
        places = {name: place for place, name in enumerate(self._names)}
        faults = [
            WatchedFault(
                fault.kind,
                fault.who,
                sorted(places[name] for name in fault.names if name in places),
                round(fault.began_s, 1),
                None if fault.ended_s is None else round(fault.ended_s, 1),
            )
            for fault in self._faults.values()
        ]
        watched = Watched(
            self._title, round(now_s, 1), list(map(self._node, self._names)), self._heads, faults
        )
        while faults and len(msgspec.json.encode(watched)) > QUESTION_BYTES_MAX - ROOM_BYTES:
            del faults[: len(faults) // 4 + 1]
        return watched

    def _note_head(self, now_s: float) -> None:
        said = [self._status[name] for name in self._names if name in self._status]
        if not said:
            return
        head = max(s["height"] for s in said if s["chain_id"] == said[0]["chain_id"])
        if len(self._heads) >= HEADS_MAX:
            self._heads = self._heads[::2]
        self._heads.append((round(now_s, 1), head))

    def _node(self, name: str) -> WatchedNode:
        status = self._status.get(name)
        away = [(round(a, 1), None if b is None else round(b, 1)) for a, b in self._away[name]]
        if status is None:
            return WatchedNode(name, "", 0, 0, False, False, False, [])
        return WatchedNode(
            name,
            status["chain_id"],
            status["height"],
            len(status["peers"]),
            status["authority"] is not None,
            status["voting"],
            name in self._up,
            away,
        )


class Telling:
    """Tells whoever has a dashboard.

    Parameters
    ----------
    ask : callable
        Asks a node.
    names : iterable of str
        Who is told; one that says it has no dashboard is not told again.
    """

    def __init__(self, ask: Ask, names: Iterable[str]) -> None:
        self._ask = ask
        self._names = set(names)

    async def tell(self, watched: Watched) -> None:
        """Tell all once; one that does not answer is told the next time."""
        told = msgspec.to_builtins(watched)
        await asyncio.gather(*(self._tell(name, told) for name in sorted(self._names)))

    async def _tell(self, name: str, told: Any) -> None:
        try:
            await self._ask(name, "testnet_told", told=told)
        except ControlError as error:
            if str(error).startswith(UNKNOWN):
                self._names.discard(name)


async def tell_for_ever(telling: Telling, watched: Callable[[], Watched]) -> None:
    """Tell every `TELL_S`, for ever."""
    while True:
        await telling.tell(watched())
        await asyncio.sleep(TELL_S)
