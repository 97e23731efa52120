"""The grid's books after a run: asked of all nodes once more, and added up again."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from node.errors import ControlError
from testnet.chaos.targets.base import Target
from testnet.report import bills_add_up, energy_balanced, money_conserved

HEIGHTS_COMPARED_MAX: Final = 200
BLOCKS_MAX: Final = 20_000
TRANSACTIONS_MAX: Final = 300
SLOTS_MAX: Final = 100
AT_ONCE: Final = 8
# A machine that is busy for longer than one question may wait has lost nothing.
ASKED_MAX: Final = 5
ASKED_AGAIN_S: Final = 2.0


class Audit(NamedTuple):
    """What the books say. Lists of sentences are empty if all is well.

    `block_times_ms` by height, of all blocks of the run; `compared` heights, `sought` transactions
    and `slots` say how much was looked at.
    """

    block_times_ms: Mapping[int, int]
    compared: int
    different: Sequence[str]
    sought: int
    lost: Sequence[str]
    money: Sequence[str]
    slots: int
    energy: Sequence[str]


async def audit(
    target: Target, decided: Mapping[str, int], wiped: set[str], first_height: int, last: int
) -> Audit:
    """Ask all nodes for the blocks `first_height` to `last`, money, slots, and what was decided.

    `wiped` nodes may have begun again at a snapshot and lack what was before. A node that does not
    answer is asked again, `ASKED_MAX` times in all.
    """
    names = target.roster.names
    books = _Patient(target)
    # One that was wiped may lack what was before its snapshot.
    whole = next((name for name in names if name not in wiped), names[0])
    times, different = await _chain(books, whole, first_height, last)
    heights = _spread(sorted(times), HEIGHTS_COMPARED_MAX)
    for name in names:
        different += await _compare(books, name, heights, times, name in wiped)
    sought = dict(_spread(sorted(decided.items(), key=lambda item: item[1]), TRANSACTIONS_MAX))
    lost = await _each(names, lambda name: _lost(books, name, sought, name in wiped))
    money = await _each(names, lambda name: _money(books, name))
    slots, energy = await _energy(books, names[0])
    return Audit(
        {height: block["time_ms"] for height, block in times.items()},
        len(heights),
        different,
        len(sought),
        lost,
        money,
        slots,
        energy,
    )


class _Patient:
    """The questions of a target, asked again where nobody answers."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def ask(self, name: str, question: str, **arguments: Any) -> Any:
        for _ in range(ASKED_MAX - 1):
            with contextlib.suppress(ControlError):
                return await self._target.ask(name, question, **arguments)
            await asyncio.sleep(ASKED_AGAIN_S)
        return await self._target.ask(name, question, **arguments)


def _spread(items: Sequence[Any], count_max: int) -> list[Any]:
    """Return at most so many items, evenly from all, the last among them."""
    if len(items) <= count_max:
        return list(items)
    step = (len(items) - 1) / (count_max - 1)
    return [items[round(place * step)] for place in range(count_max)]


async def _each(names: Sequence[str], look: Any) -> list[str]:
    found = await asyncio.gather(*(look(name) for name in names))
    return [sentence for sentences in found for sentence in sentences]


async def _chain(
    target: _Patient, name: str, first: int, last: int
) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """Return a node's blocks in short by height, and what is wrong with them."""
    blocks: dict[int, dict[str, Any]] = {}
    heights = range(max(first, last - BLOCKS_MAX), last + 1)
    for begin in range(0, len(heights), AT_ONCE):
        some = heights[begin : begin + AT_ONCE]
        try:
            found = await asyncio.gather(*(target.ask(name, "block", height=h) for h in some))
        except ControlError as error:
            return blocks, [f"{name} does not tell its blocks: {error}"]
        blocks |= {h: block for h, block in zip(some, found, strict=True) if block is not None}
    return blocks, []


async def _compare(
    target: _Patient,
    name: str,
    heights: Sequence[int],
    blocks: Mapping[int, Mapping[str, Any]],
    wiped: bool,
) -> list[str]:
    for height in heights:
        try:
            block = await target.ask(name, "block", height=height)
        except ControlError as error:
            return [f"{name} does not tell block {height}: {error}"]
        if block is None and not wiped:
            return [f"{name} has no block {height}"]
        if block is not None and block != blocks[height]:
            return [f"{name} has another block {height}"]
    return []


async def _lost(
    target: _Patient, name: str, sought: Mapping[str, int], wiped: bool
) -> list[str]:  # fmt: skip
    for tx_id, height in sought.items():
        try:
            found = await target.ask(name, "transaction", id=tx_id)
            if found["height"] == height:
                continue
            # Nobody tells who began at a snapshot how the transactions of its block ended.
            if wiped and None in [
                await target.ask(name, "block", height=h) for h in (height - 1, height)
            ]:
                continue
        except ControlError as error:
            return [f"{name} does not tell of transaction {tx_id[:12]}: {error}"]
        where = "nowhere" if found["height"] is None else f"at {found['height']}"
        return [f"transaction {tx_id[:12]} was decided at {height}; {name} has it {where}"]
    return []


async def _money(target: _Patient, name: str) -> list[str]:
    try:
        money = await target.ask(name, "money")
    except ControlError as error:
        return [f"{name} does not tell its money: {error}"]
    return [] if money_conserved(money) else [f"{name}: money is not conserved: {money}"]


async def _energy(target: _Patient, name: str) -> tuple[int, list[str]]:
    problems = []
    try:
        slots = await target.ask(name, "slots", count=SLOTS_MAX)
        for slot in slots:
            book = await target.ask(name, "slot", slot=slot["slot"])
            if not energy_balanced(book):
                problems.append(f"slot {slot['slot']}: energy does not balance")
            if not bills_add_up(book):
                problems.append(f"slot {slot['slot']}: the bills do not add up")
    except ControlError as error:
        return 0, [f"{name} does not tell its slots: {error}"]
    return len(slots), problems
