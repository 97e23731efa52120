"""The books of a grid are compared whoever of it was wiped, and what differs is told."""

from typing import Any

import pytest

import testnet.chaos.audit
from node.errors import ControlError
from testnet.chaos.audit import ASKED_MAX, audit
from testnet.chaos.roster import Roster

NAMES = ("home-01", "home-02", "home-03")
HEIGHTS = range(1, 9)
MONEY = {"balances_micro": 5, "held_micro": 1, "minted_micro": 8, "redeemed_micro": 2}


class Told:
    """A grid that answers; `first` is the first height that each home has."""

    roster = Roster(NAMES, NAMES, {})

    def __init__(self, **first: int) -> None:
        self._first = {name.replace("_", "-"): height for name, height in first.items()}
        self.other: dict[tuple[str, int], str] = {}

    async def ask(self, name: str, question: str, **arguments: Any) -> Any:
        if question == "block":
            height = arguments["height"]
            if height < self._first.get(name, 1):
                return None
            root = self.other.get((name, height), f"root {height}")
            return {"height": height, "state_root": root, "time_ms": 1_000 * height}
        return MONEY if question == "money" else []


async def test_blocks_are_asked_of_a_home_that_has_them() -> None:
    """Who was wiped begins at a snapshot; the time before it is no gap of the chain."""
    grid: Any = Told(home_01=6)
    found = await audit(grid, {}, {"home-01"}, HEIGHTS[0], HEIGHTS[-1])
    assert found.block_times_ms == {height: 1_000 * height for height in HEIGHTS}
    assert (found.different, found.money, found.energy) == ([], [], [])


async def test_a_missing_or_another_block_is_told() -> None:
    grid: Any = Told(home_02=3)
    grid.other["home-03", 4] = "another"
    found = await audit(grid, {}, set(), HEIGHTS[0], HEIGHTS[-1])
    assert found.different == ["home-02 has no block 1", "home-03 has another block 4"]


@pytest.mark.parametrize("busy", [ASKED_MAX - 1, ASKED_MAX])
async def test_a_busy_node_is_asked_again_and_one_that_never_answers_is_told(
    monkeypatch: pytest.MonkeyPatch, busy: int
) -> None:
    monkeypatch.setattr(testnet.chaos.audit, "ASKED_AGAIN_S", 0.0)
    grid: Any = Told()
    ask, left = grid.ask, busy

    async def later(name: str, question: str, **arguments: Any) -> Any:
        nonlocal left
        if name == "home-02" and question == "money" and left:
            left -= 1
            raise ControlError("it did not answer in 5 s")
        return await ask(name, question, **arguments)

    grid.ask = later
    found = await audit(grid, {}, set(), HEIGHTS[0], HEIGHTS[-1])
    silent = ["home-02 does not tell its money: it did not answer in 5 s"]
    assert found.money == ([] if busy < ASKED_MAX else silent)
