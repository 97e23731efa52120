"""Drawn faults strike one authority at a time, however long the one before takes to vote again."""

import asyncio
import time
from typing import Any

import pytest

from testnet.chaos import run
from testnet.chaos.plan import Plan, Strike
from testnet.chaos.roster import Roster
from testnet.chaos.run import Runner
from testnet.chaos.scenario import Kill, Random, Scenario
from testnet.chaos.watch import Sample
from testnet.telling import Diary

NAMES = ("home-01", "home-02", "home-03", "home-04")
BACK_S = 0.1


class Watched:
    """What the runner sees: who votes."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.silent: set[str] = set()
        self.samples = dict.fromkeys(NAMES)
        self.diary = Diary("drawn", NAMES)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self._begun

    def last(self, name: str) -> Sample:
        return Sample(self.now_s, 5, name not in self.silent, 3, 100.0, 1.0, 1.0)


class Struck:
    """A target whose killed nodes vote again a while after their start, or never."""

    def __init__(self, watch: Watched, comes_back: bool = True) -> None:
        self._watch = watch
        self._comes_back = comes_back
        self.killed: list[str] = []
        self.others_silent: list[str] = []

    async def kill(self, name: str) -> None:
        self.killed.append(name)
        self.others_silent += self._watch.silent
        self._watch.silent.add(name)

    async def start(self, name: str) -> None:
        if self._comes_back:
            asyncio.get_running_loop().call_later(BACK_S, self._watch.silent.discard, name)


def plan_of(number: int) -> Plan:
    """Three kills within less time than a node takes to vote again; drawn if `number` is 1."""
    drawn = Random(length_s=1, every_s=1, for_s=(0.01, 0.01), kinds=["kill"])
    faults = [Kill(nodes=(name,), at_s=0, for_s=0.01) for name in NAMES[:3]]
    strikes = tuple(
        Strike(number, fault, fault.nodes, 0.02 * place, 0.02 * place + 0.01)
        for place, fault in enumerate(faults)
    )
    scenario = Scenario(about="a test", random=drawn, fault=[] if number else list(faults))
    return Plan(scenario, Roster(NAMES, NAMES, {}), strikes)


async def strike_all(plan: Plan, watch: Any, target: Any) -> list[str]:
    said: list[str] = []
    await Runner(plan, target, watch, said.append)._strike_all(watch.now_s)
    return said


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "POLL_S", 0.005)


async def test_drawn_faults_wait_until_all_vote_again() -> None:
    watch = Watched()
    target = Struck(watch)
    await strike_all(plan_of(1), watch, target)
    assert target.killed == list(NAMES[:3])
    assert target.others_silent == []


async def test_faults_of_the_file_are_when_it_says() -> None:
    watch = Watched()
    target = Struck(watch, comes_back=False)
    await strike_all(plan_of(0), watch, target)
    assert target.killed == list(NAMES[:3])


async def test_nobody_is_struck_once_one_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LEVEL_PATIENCE_S", 0.05)
    watch = Watched()
    target = Struck(watch, comes_back=False)
    said = await strike_all(plan_of(1), watch, target)
    assert target.killed == ["home-01"]
    assert len([line for line in said if "home-01 has not voted" in line]) == 1
