"""Regions as processes, one of which loses more authorities than it can spare, and returns.

    uv run python -m tests.e2e.tiers --regions 3 --homes 12 --slots 4

The others go on and trade meanwhile; the main chain marks the region halted, and live again. In
the end every watt-hour and every micro-unit is added up over all chains.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TextIO

from bench.machine import describe
from node.api.control import ask
from node.errors import ControlError
from node.genesis import read_genesis
from node.setup import DATA_NAME, GENESIS_NAME
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.regions import (
    BOND_MICRO,
    ESCROW_MICRO,
    Neighbours,
    admit,
    create,
    main_data,
    neutral_names,
    regions_of,
)
from testnet.report import bills_add_up, energy_balanced, money_conserved
from testnet.street import BALANCE_MICRO, StreetPlan

# Bites on failure only.
PATIENCE_S: Final = 900.0
POLL_S: Final = 0.5
UNRESOLVED: Final = ("open", "late")
SLOTS_MAX: Final = 150
SUMS: Final = ("imported_wh", "exported_wh", "paid_micro", "got_micro", "fees_micro")


class Trial:
    """One grid of processes, and what is done to it.

    Parameters
    ----------
    directory : Path
        Where it is made.
    plan : StreetPlan
    say : callable
        Told what happens, a line each.
    halt_ms : int
        After how long without a checkpoint a region is halted. [ms]
    """

    def __init__(
        self, directory: Path, plan: StreetPlan, say: Callable[[str], None], halt_ms: int
    ) -> None:
        self.street = create(directory / "grid", plan, halt_ms=halt_ms)
        self.groups = regions_of(plan)
        names = [*self.street.names, *neutral_names(plan)]
        self.homes = {name: HomeProcess(name, self.street.home(name)) for name in names}
        clock = read_genesis(self.street.home(names[0]) / GENESIS_NAME).market.clock()
        self._first_slot = clock.slot_at(time.time_ns() // 1_000_000)
        self._clock = clock
        self._say = say
        self._begun = time.monotonic()
        self._lost_ms = 0
        self.told: dict[str, Any] = {}
        # What is final and was looked at: asked once, so that the rest is asked within a slot.
        self._cleared: dict[int, list[Any]] = {}
        self._ended: set[tuple[int, int]] = set()
        self._sound: set[tuple[int, int]] = set()

    def say(self, sentence: str) -> None:
        self._say(f"{time.monotonic() - self._begun:6.1f} s  {sentence}")

    async def run(self, slots: int) -> dict[str, Any]:
        """Let all trade for some slots, stop a region, let it return; return what came of it."""
        try:
            await start_all(list(self.homes.values()))
            await admit(self.street)
            self.say(f"{len(self.groups)} regions are let in")
            for group in self.groups:
                await self.anchored_to(group, slots)
            self.say(f"{slots} slots of each region are settled and anchored")
            await self.lose_and_return(self.groups[-1], slots)
            problems = await self.accounts()
        finally:
            await stop_all(list(self.homes.values()))
        return self.told | {"problems": problems, "machine": describe()}

    async def lose_and_return(self, lost: Neighbours, slots: int) -> None:
        seats = self.street.plan.authorities
        faulty = (seats - 1) // 3 + 1
        # Not the delegate: the main chain is to go on.
        gone = [self.homes[name] for name in lost.names[1 : 1 + faulty]]
        others = [group for group in self.groups if group is not lost]
        before = {group.number: await self.last(group) for group in self.groups}
        await asyncio.gather(*(home.kill() for home in gone))
        begun_s = time.monotonic()
        self._lost_ms = time.time_ns() // 1_000_000
        self.say(f"region {lost.number} has lost {', '.join(home.name for home in gone)}")
        await self.until(lambda: self.is_status(lost, "halted"), "the region is marked halted")
        halted_s = time.monotonic() - begun_s
        stood = await self.last(lost)
        for group in others:
            number = before[group.number]["number"] + slots
            await self.until(lambda g=group, n=number: self.has(g, n), "others go on")  # type: ignore[misc]
        self.say(f"region {lost.number} is marked halted; the others are anchored further")
        begun_slot = self._clock.slot_at(self._lost_ms)
        traded_wh = {}
        for group in others:

            async def trades(group: Neighbours = group) -> bool:
                traded_wh[group.number] = await self.traded_since(group, begun_slot)
                return traded_wh[group.number] > 0

            await self.until(trades, f"homes of region {group.number} trade meanwhile")
        assert (await self.last(lost))["number"] == stood["number"]
        self.say(f"homes of the other regions have traded meanwhile: {traded_wh} Wh")
        begun_s = time.monotonic()
        await start_all(gone)
        await self.until(lambda: self.is_status(lost, "live"), "the region is live again")
        back_s = time.monotonic() - begun_s
        await self.until(lambda: self.has(lost, stood["number"] + slots), "it is anchored again")
        self.say(f"region {lost.number} is back")
        self.told |= {
            "regions": len(self.groups),
            "homes": len(self.street.names),
            "lost": len(gone),
            "halted_s": round(halted_s, 1),
            "back_s": round(back_s, 1),
            "others_traded_wh": traded_wh,
        }

    # -- asking

    async def until(self, holds: Callable[[], Awaitable[bool]], what: str) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with contextlib.suppress(ControlError):
                if await holds():
                    return
            failed = [home.failure for home in self.homes.values() if home.failure]
            assert not failed, failed
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"not within {PATIENCE_S:g} s: {what}")

    async def anchored_to(self, group: Neighbours, slots: int) -> None:
        """Wait until so many slots of a region have been anchored."""

        async def reached() -> bool:
            newest: int = (await self.last(group))["newest_slot"]
            return newest >= self._first_slot + slots

        await self.until(reached, f"{slots} slots of region {group.number} are anchored")

    async def traded_since(self, group: Neighbours, first: int) -> int:
        """Return what homes of a region have traded after slot `first`, also elsewhere. [Wh]"""
        slots = await self.home(group, "slots", count=SLOTS_MAX)
        kinds = ("traded_wh", "imported_wh", "exported_wh")
        return sum(slot[kind] for slot in slots if slot["slot"] > first for kind in kinds)

    async def has(self, group: Neighbours, number: int) -> bool:
        return bool((await self.last(group))["number"] >= number)

    async def is_status(self, group: Neighbours, status: str) -> bool:
        return bool((await self.main("regions", "show", region=group.number))["status"] == status)

    async def last(self, group: Neighbours) -> dict[str, Any]:
        found: dict[str, Any] = await self.main("anchor", "last", region=group.number)
        return found

    async def main(self, contract: str, entry: str, **args: Any) -> Any:
        data = main_data(self.street)
        return await ask(data, "query", timeout_s=60, contract=contract, entry=entry, args=args)

    async def home(self, group: Neighbours, question: str, **asked: Any) -> Any:
        data = self.street.home(group.names[0]) / DATA_NAME
        return await ask(data, question, timeout_s=60, **asked)

    async def inside(self, group: Neighbours, contract: str, entry: str, **args: Any) -> Any:
        return await self.home(group, "query", contract=contract, entry=entry, args=args)

    # -- adding up

    async def accounts(self) -> list[str]:
        """Add everything up; what is on its way while it is asked for is asked for again."""
        problems: list[str] = ["not asked"]
        end_s = time.monotonic() + 120.0
        while problems and time.monotonic() < end_s:
            try:
                problems = await self._problems()
            except ControlError as error:
                problems = [str(error)]
            if problems:
                await asyncio.sleep(POLL_S)
        self.say("all accounts add up" if not problems else f"{problems[0]}")
        return problems

    async def _problems(self) -> list[str]:
        found: list[str] = []
        flows = await self._flows()
        sums = {group.number: dict.fromkeys(SUMS, 0) for group in self.groups}
        for _, buyer, seller, energy_wh, cost_micro, fee_micro in flows:
            sums[buyer]["imported_wh"] += energy_wh
            sums[buyer]["paid_micro"] += cost_micro
            sums[buyer]["fees_micro"] += fee_micro
            sums[seller]["exported_wh"] += energy_wh
            sums[seller]["got_micro"] += cost_micro
        for group in self.groups:
            found += await self._region_problems(group, sums[group.number], flows)
        account = await self.main("ledger", "balance", address=self._regulator())
        fees_micro = sum(one["fees_micro"] for one in sums.values())
        if account["balance_micro"] != fees_micro:
            found.append(f"the grid got {account['balance_micro']}, fees were {fees_micro}")
        self.told["exported_wh"] = sum(one["exported_wh"] for one in sums.values())
        return found

    def _regulator(self) -> str:
        genesis = read_genesis(self.street.home(self.street.names[0]) / GENESIS_NAME)
        return genesis.market.regulator

    async def _flows(self) -> list[tuple[int, int, int, int, int, int]]:
        """Return (slot, buyer, seller, energy, cost, fee) of all that the exchange has cleared."""
        _, closed = await self.main("exchange", "window")
        for slot in range(self._first_slot, closed + 1):
            if slot not in self._cleared:
                cleared = await self.main("exchange", "cleared", slot=slot)
                self._cleared[slot] = [] if cleared is None else cleared["flows"]
        return [(slot, *row) for slot, rows in self._cleared.items() for row in rows]

    async def _region_problems(
        self, group: Neighbours, sums: dict[str, int], flows: list[Any]
    ) -> list[str]:
        number, found = group.number, []
        shown = await self.inside(group, "export", "traded")
        waiting = dict.fromkeys(SUMS, 0)
        for slot, buyer, seller, energy_wh, cost_micro, fee_micro in flows:
            if number not in (buyer, seller) or (number, slot) in self._ended:
                continue
            offered = await self.inside(group, "export", "offered", slot=slot)
            if offered["status"] not in UNRESOLVED:
                self._ended.add((number, slot))
                continue
            if number == buyer:
                waiting["imported_wh"] += energy_wh
                waiting["paid_micro"] += cost_micro
                waiting["fees_micro"] += fee_micro
            if number == seller:
                waiting["exported_wh"] += energy_wh
                waiting["got_micro"] += cost_micro
        for name in SUMS:
            told = shown[name] + shown[f"covered_{name}"] + waiting[name]
            if told != sums[name]:
                found.append(f"region {number}: {name} is {told}, the exchange says {sums[name]}")
        funds = await self.main("regions", "funds", region=number)
        spent_micro = sums["paid_micro"] + sums["fees_micro"] - sums["got_micro"]
        left_micro = funds["escrow_micro"] + funds["due_micro"]
        if left_micro != ESCROW_MICRO - spent_micro or funds["bond_micro"] != BOND_MICRO:
            found.append(f"region {number}: {funds} of {ESCROW_MICRO}, spent {spent_micro}")
        return found + await self._books_problems(group)

    def _first_micro(self, group: Neighbours) -> int:
        """Return a region's first money: its homes' balances and its first authorities' bonds."""
        genesis = read_genesis(self.street.home(group.names[0]) / GENESIS_NAME)
        bonds_micro = len(genesis.authorities) * genesis.governance.bond_micro
        return len(group.names) * BALANCE_MICRO + bonds_micro

    async def _books_problems(self, group: Neighbours) -> list[str]:
        """Add up a region's bills, and its accounts by them."""
        number, found = group.number, []
        money = await self.home(group, "money")
        slots = await self.home(group, "slots", count=SLOTS_MAX)
        expected_micro = self._first_micro(group)
        for slot in slots:
            place = (number, slot["slot"])
            if place not in self._sound:
                book = await self.home(group, "slot", slot=slot["slot"])
                if energy_balanced(book) and bills_add_up(book):
                    self._sound.add(place)
                else:
                    found.append(f"region {number}: slot {slot['slot']} does not add up")
            expected_micro += slot["feed_in_micro"] + slot["got_micro"]
            expected_micro -= slot["grid_micro"] + slot["penalty_micro"]
            expected_micro -= slot["fees_micro"] + slot["paid_micro"]
        after = (await self.home(group, "money"), await self.home(group, "slots", count=SLOTS_MAX))
        held_micro = money["balances_micro"] + money["held_micro"]
        if not money_conserved(money):
            found.append(f"region {number}: {money} is not conserved")
        if after != (money, slots):
            found.append(f"region {number} settled a slot while its accounts were added up")
        elif held_micro != expected_micro:
            found.append(f"region {number}: accounts hold {held_micro}, bills say {expected_micro}")
        if len(slots) >= SLOTS_MAX:
            found.append(f"region {number}: more than {SLOTS_MAX} slots, not all are added up")
        settled = {slot["slot"] for slot in slots}
        left_out = sorted(set(range(min(settled), max(settled))) - settled)
        self.told.setdefault("slots", {})[number] = len(slots)
        self.told.setdefault("slots_left_out", {})[number] = left_out
        self.told.setdefault("traded_wh", {})[number] = sum(slot["traded_wh"] for slot in slots)
        return found


def _say(text: str, where: TextIO) -> None:
    where.write(text + "\n")
    where.flush()


def main() -> int:
    """Run one trial; print its report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--regions", type=int, default=3)
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--time-lapse", type=int, default=180)
    parser.add_argument("--halt-ms", type=int, default=30_000)
    given = parser.parse_args()
    plan = StreetPlan(homes=given.homes, regions=given.regions, time_lapse=given.time_lapse)
    with tempfile.TemporaryDirectory(prefix="commonwatt-") as directory:
        trial = Trial(Path(directory), plan, lambda line: _say(line, sys.stderr), given.halt_ms)
        report = asyncio.run(trial.run(given.slots))
    _say(json.dumps(report, indent=1), sys.stdout)
    return 1 if report["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
