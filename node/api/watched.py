"""What a testnet that is watched from outside says of all its nodes, for this node's dashboard.

A home knows its chain and its neighbours, not whose process was killed on purpose. Whoever runs a
testnet, or disturbs one, tells those of its homes that have a dashboard: the control socket takes
it, which only the home's owner can open. It is kept in memory, the last one only.

testnet_told   take in a `Watched` as `told`
testnet        the last one, and how long ago it was told
"""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from node.api.control import Answer
from node.errors import AbsentError, ControlError

NODES_MAX: Final = 256
SPANS_MAX: Final = 100
FAULTS_MAX: Final = 100
HEADS_MAX: Final = 400
NAME_CHARS_MAX: Final = 64
TITLE_CHARS_MAX: Final = 200
SECONDS_MAX: Final = 10.0**8
HEIGHT_MAX: Final = 2**53

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_CHARS_MAX)]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=TITLE_CHARS_MAX)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=SECONDS_MAX)]
Height: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=HEIGHT_MAX)]
Place: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=NODES_MAX)]


class WatchedNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node, as it was seen last.

    chain : which it keeps; empty while it has not said so
    height, peers : as it last said
    is_authority, is_voting : whether it decides blocks, and does so now
    is_up : whether it answers
    away : when it did not, each (from, to) in seconds of the watch; the last one's end is None
        while it does not
    """

    name: Name
    chain: Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX)]
    height: Height
    peers: Height
    is_authority: bool
    is_voting: bool
    is_up: bool
    away: Annotated[list[tuple[Seconds, Seconds | None]], msgspec.Meta(max_length=SPANS_MAX)]


class WatchedFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault: what is done to whom, by their places in the nodes; `ended_s` None: it goes on."""

    kind: Name
    who: Text
    nodes: Annotated[list[Place], msgspec.Meta(max_length=NODES_MAX)]
    began_s: Seconds
    ended_s: Seconds | None


class Watched(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of a testnet at one moment, `now_s` after it began to be watched. [s]

    title : what is done with it
    heads : the greatest height seen, each [seconds, height], in the order of time
    faults : in the order of their beginnings
    """

    title: Text
    now_s: Seconds
    nodes: Annotated[list[WatchedNode], msgspec.Meta(min_length=1, max_length=NODES_MAX)]
    heads: Annotated[list[tuple[Seconds, Height]], msgspec.Meta(max_length=HEADS_MAX)]
    faults: Annotated[list[WatchedFault], msgspec.Meta(max_length=FAULTS_MAX)]


class WatchedGrid:
    """Keeps what was told last.

    Parameters
    ----------
    tell : callable
        Called after something was told.
    """

    def __init__(self, tell: Callable[[], None] = lambda: None) -> None:
        self._tell = tell
        self._watched: Watched | None = None
        self._told_s = 0.0
        self.count = 0

    def table(self) -> dict[str, Answer]:
        """Return the answers by the question's name."""
        return {"testnet": self.testnet, "testnet_told": self.told}

    async def told(self, question: Mapping[str, Any]) -> Any:
        """Take in what is told. Raises `ControlError` for what is none."""
        try:
            watched = msgspec.convert(question.get("told"), Watched)
        except msgspec.ValidationError as error:
            raise ControlError(f"told is not what is seen of a testnet: {error}") from None
        unknown = [
            fault for fault in watched.faults if max(fault.nodes, default=0) >= len(watched.nodes)
        ]
        if unknown:
            raise ControlError(
                f"told.faults: {unknown[0].kind} strikes node {max(unknown[0].nodes)} of "
                f"{len(watched.nodes)}, counted from 0"
            )
        self._watched, self._told_s = watched, time.monotonic()
        self.count += 1
        self._tell()
        return {"taken": True}

    async def testnet(self, question: Mapping[str, Any]) -> Any:
        """The last that was told. Raises `AbsentError` if nothing was."""
        del question
        if self._watched is None:
            raise AbsentError("nobody watches this node's grid")
        return {"watched": self._watched, "told_s_ago": round(time.monotonic() - self._told_s, 1)}
