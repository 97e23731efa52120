"""What the nodes say while they are disturbed: sampled, compared, kept for the verdict."""

import asyncio
import bisect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from node.errors import ControlError
from testnet.chaos.anchoring import Height, MainWatch
from testnet.chaos.targets.base import Target
from testnet.telling import Diary

SAMPLE_S: Final = 0.5
SAMPLES_MAX: Final = 200_000
# Between two looks at what is slower to tell: decided transactions, latencies, the money.
SLOW_LOOK_S: Final = 2.0
TRANSACTIONS_LOOKED: Final = 20
TRANSACTIONS_KEPT_MAX: Final = 5_000
LATENCIES_MAX: Final = 100_000


class Sample(NamedTuple):
    """One node at one moment; `at_s` after the run's start, height -1 while it does not answer."""

    at_s: float
    height: int
    voting: bool
    peers: int
    rss_mib: float
    cpu_s: float
    uptime_s: float

    @property
    def up(self) -> bool:
        """Whether it answered."""
        return self.height >= 0


class Latency(NamedTuple):
    """How long a transaction took to be final, and about when that was."""

    at_s: float
    took_ms: float


DOWN: Final = Sample(0.0, -1, False, 0, 0.0, 0.0, 0.0)


class Watch:
    """Asks all nodes, over and over. `problems` are sentences, each said once.

    What is seen goes into `diary`, too, for a dashboard; the nodes outside the watched chain are
    asked for it alone.
    """

    def __init__(self, target: Target, say: Callable[[str], None], title: str = "") -> None:
        self._target = target
        self._say = say
        self._begun = time.monotonic()
        self.begun_ms = time.time_ns() // 1_000_000
        self.samples: dict[str, list[Sample]] = {name: [] for name in target.roster.names}
        self.diary = Diary(title, (*target.roster.names, *target.roster.outside))
        self.latencies: list[Latency] = []
        self._told: dict[str, list[float]] = {}
        # Height by id, of what a node has called decided.
        self.decided: dict[str, int] = {}
        self.problems: list[str] = []
        # Block hash and state root by height, and who said so first.
        self._blocks: dict[int, tuple[str, str, str]] = {}
        keepers, names = target.keepers(), target.roster.names
        self.main: MainWatch | None = None
        if keepers is not None:
            self.main = MainWatch(keepers, names, target, lambda: self.now_s, self.problem)

    @property
    def now_s(self) -> float:
        """Seconds since the run's start."""
        return time.monotonic() - self._begun

    def problem(self, sentence: str) -> None:
        """Note what must not be."""
        if sentence not in self.problems:
            self.problems.append(sentence)
            self._say(f"VIOLATION: {sentence}")

    async def run(self) -> None:
        """Watch for ever."""
        nodes = (self._sample_for_ever(name) for name in self.samples)
        beside = [self._look_for_ever(), *([self.main.run()] if self.main is not None else [])]
        outside = (self._note_for_ever(name) for name in self._target.roster.outside)
        await asyncio.gather(*nodes, *outside, *beside)

    async def _sample_for_ever(self, name: str) -> None:
        """Each node by itself: one that is slow to answer does not keep the others waiting."""
        kept = self.samples[name]
        while True:
            begun = time.monotonic()
            sample = await self._one(name)
            if len(kept) < SAMPLES_MAX:
                kept.append(sample)
            for sentence in self._target.failures():
                self.problem(sentence)
            await asyncio.sleep(max(SAMPLE_S - (time.monotonic() - begun), SAMPLE_S / 5))

    def last(self, name: str) -> Sample:
        """Return what a node said last."""
        return self.samples[name][-1] if self.samples[name] else DOWN

    async def _note_for_ever(self, name: str) -> None:
        while True:
            await self._status(name)
            await asyncio.sleep(SLOW_LOOK_S)

    async def _status(self, name: str) -> dict[str, Any] | None:
        try:
            status: dict[str, Any] | None = await self._target.ask(name, "status")
        except ControlError:
            status = None
        self.diary.saw(self.now_s, name, status)
        return status

    async def _one(self, name: str) -> Sample:
        status = await self._status(name)
        if status is None:
            return DOWN._replace(at_s=self.now_s)
        self._compare(name, status["height"], status["block_hash"], status["state_root"])
        return Sample(
            self.now_s,
            status["height"],
            status["voting"],
            len(status["peers"]),
            status["rss_mib"],
            status["cpu_s"],
            status["uptime_s"],
        )

    def _compare(self, name: str, height: int, block_hash: str, state_root: str) -> None:
        other, hash_, root = self._blocks.setdefault(height, (name, block_hash, state_root))
        if (hash_, root) != (block_hash, state_root):
            self.problem(f"{name} and {other} have different blocks or states at height {height}")

    async def _look_for_ever(self) -> None:
        names = list(self.samples)
        place = 0
        while True:
            await asyncio.sleep(SLOW_LOOK_S)
            await asyncio.gather(*(self._look_at_latencies(name) for name in names))
            await self._look_at_transactions(names[place % len(names)])
            place += 1

    async def _look_at_latencies(self, name: str) -> None:
        try:
            told = await self._target.ask(name, "latencies")
        except ControlError:
            return
        # What a node tells first may be older than the run.
        fresh = appended(self._told.get(name, told), told)
        self._told[name] = told
        room = LATENCIES_MAX - len(self.latencies)
        self.latencies += [Latency(self.now_s, took_ms) for took_ms in fresh[:room]]

    async def _look_at_transactions(self, name: str) -> None:
        try:
            found = await self._target.ask(name, "transactions", count=TRANSACTIONS_LOOKED)
        except ControlError:
            return
        for item in found:
            if item["status"] == "decided" and len(self.decided) < TRANSACTIONS_KEPT_MAX:
                before = self.decided.setdefault(item["id"], item["height"])
                if before != item["height"]:
                    self.problem(
                        f"transaction {item['id'][:12]} was decided at {before}, and by "
                        f"{name} at {item['height']}"
                    )


def appended(before: Sequence[float], now: Sequence[float]) -> Sequence[float]:
    """Return what has come to the end of a list that also forgets from its beginning.

    A list that shares nothing with the one before is new altogether.
    """
    for forgotten in range(len(before)):
        kept = len(before) - forgotten
        if kept <= len(now) and list(before[forgotten:]) == list(now[:kept]):
            return now[kept:]
    return now


class Heads:
    """The greatest height that any node has shown, by time."""

    def __init__(self, samples: Mapping[str, Sequence[Sample | Height]]) -> None:
        self._times: list[float] = []
        self._heights: list[int] = []
        looks = ((sample.at_s, sample.height) for node in samples.values() for sample in node)
        for at_s, height in sorted(looks):
            if not self._heights or height > self._heights[-1]:
                self._times.append(at_s)
                self._heights.append(height)

    def at(self, moment_s: float) -> int:
        """Return the head at a moment, -1 before there was one."""
        place = bisect.bisect_right(self._times, moment_s)
        return self._heights[place - 1] if place else -1
