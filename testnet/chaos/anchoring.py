"""What the main chain makes of the region that is watched: sampled beside it, for the verdict."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from node.api.control import ask
from node.errors import ControlError

SAMPLE_S: Final = 0.5
SAMPLES_MAX: Final = 200_000
ASK_TIMEOUT_S: Final = 5.0


class Keepers(NamedTuple):
    """Who keeps the main chain: its data `directories` by node, whatever region that is of.

    `region` is the number of the one that is watched; `quiet_s`: so long no block of the main chain
    need come when nobody has anything to say.
    """

    region: int
    directories: Mapping[str, Path]
    quiet_s: float


class Checkpoints(NamedTuple):
    """The last checkpoint that the region has closed, and that the main chain has anchored."""

    at_s: float
    closed: int
    anchored: int


class Height(NamedTuple):
    """How far a keeper's main chain was at a moment; it answered."""

    at_s: float
    height: int


class Main(NamedTuple):
    """What has been seen of the main chain. `heights` and `authorities` are by keeper."""

    quiet_s: float
    authorities: tuple[str, ...]
    heights: Mapping[str, Sequence[Height]]
    checkpoints: Sequence[Checkpoints]

    def rises_s(self) -> list[float]:
        """Return when the chain was first seen higher than before."""
        found, head = [], -1
        for at_s, height in sorted(one for heights in self.heights.values() for one in heights):
            if height > head:
                found.append(at_s)
                head = height
        return found

    def at(self, moment_s: float) -> Checkpoints:
        """Return what was known at a moment; none yet: all zero."""
        known = [one for one in self.checkpoints if one.at_s <= moment_s]
        return known[-1] if known else Checkpoints(0.0, 0, 0)

    def anchored_s(self, number: int, from_s: float) -> float | None:
        """Return when a checkpoint was first seen anchored, from a moment on, if it was."""
        for one in self.checkpoints:
            if one.at_s >= from_s and one.anchored >= number:
                return one.at_s
        return None


class Asker(Protocol):
    """Whoever can ask a node of the region (`testnet.chaos.targets.base.Target`)."""

    async def ask(self, name: str, question: str, **arguments: Any) -> Any:
        """Ask a node. Raises `ControlError`."""


class MainWatch:
    """Asks all that keep the main chain, over and over.

    Parameters
    ----------
    keepers : Keepers
    region : the watched region's nodes, asked what it has closed
    target : asks them
    now_s : the run's clock
    problem : told, in a sentence, what must not be
    """

    def __init__(
        self,
        keepers: Keepers,
        region: Sequence[str],
        target: Asker,
        now_s: Callable[[], float],
        problem: Callable[[str], None],
    ) -> None:
        self._keepers = keepers
        self._region = region
        self._target = target
        self._now_s = now_s
        self._problem = problem
        self._authorities: set[str] = set()
        self._heights: dict[str, list[Height]] = {name: [] for name in keepers.directories}
        self._checkpoints: list[Checkpoints] = []
        # Block hash and state root by height, and who said so first.
        self._blocks: dict[int, tuple[str, str, str]] = {}

    @property
    def seen(self) -> Main:
        """All that has been seen so far."""
        names = tuple(name for name in self._heights if name in self._authorities)
        return Main(self._keepers.quiet_s, names, self._heights, self._checkpoints)

    async def run(self) -> None:
        """Watch for ever."""
        each = (self._sample_for_ever(name) for name in self._heights)
        await asyncio.gather(*each, self._look_for_ever())

    async def _sample_for_ever(self, name: str) -> None:
        directory, kept = self._keepers.directories[name], self._heights[name]
        while True:
            begun = time.monotonic()
            try:
                status = await ask(directory, "status", timeout_s=ASK_TIMEOUT_S)
            except ControlError:
                # It is down; where that matters, the missing height shows.
                pass
            else:
                self._take(name, status, kept)
            await asyncio.sleep(max(SAMPLE_S - (time.monotonic() - begun), SAMPLE_S / 5))

    def _take(self, name: str, status: Mapping[str, Any], kept: list[Height]) -> None:
        height, told = status["height"], (status["block_hash"], status["state_root"])
        if status["authority"] is not None:
            self._authorities.add(name)
        if len(kept) < SAMPLES_MAX:
            kept.append(Height(self._now_s(), height))
        other, *first = self._blocks.setdefault(height, (name, *told))
        if tuple(first) != told:
            self._problem(
                f"main chain: {name} and {other} have different blocks or states at {height}"
            )

    async def _look_for_ever(self) -> None:
        while True:
            begun = time.monotonic()
            closed, anchored = await asyncio.gather(self._closed(), self._anchored())
            before = self._checkpoints[-1] if self._checkpoints else Checkpoints(0.0, 0, 0)
            if len(self._checkpoints) < SAMPLES_MAX:
                now = Checkpoints(
                    self._now_s(), max(closed, before.closed), max(anchored, before.anchored)
                )
                self._checkpoints.append(now)
            await asyncio.sleep(max(SAMPLE_S - (time.monotonic() - begun), SAMPLE_S / 5))

    async def _closed(self) -> int:
        """Return what the region has closed last, 0 while nobody of it answers."""
        for name in self._region:
            try:
                told = await self._target.ask(
                    name, "query", contract="export", entry="closed", args={}
                )
            except ControlError:
                continue
            return int(told["number"])
        return 0

    async def _anchored(self) -> int:
        """Return what the main chain has anchored last, as those tell who are not of the region."""
        mine = set(self._region)
        for name, directory in self._keepers.directories.items():
            if name in mine:
                continue
            try:
                told = await ask(
                    directory,
                    "query",
                    timeout_s=ASK_TIMEOUT_S,
                    contract="anchor",
                    entry="last",
                    args={"region": self._keepers.region},
                )
            except ControlError:
                continue
            return int(told["number"])
        return 0
