"""What the main chain says of its regions: shown while they run, reported at the end."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from node.api.control import ask
from node.errors import ControlError
from node.setup import DATA_NAME
from node.status import summary_ms
from testnet.regions import Neighbours, main_data, main_directory, neutral_names, regions_of
from testnet.report import Observations, node_row
from testnet.street import Street

POLL_TIMEOUT_S: Final = 5.0
REGIONS_ASKED_MAX: Final = 100
# A record that is anchored later than so many blocks is counted as anchored in this one.
BLOCKS_COUNTED_MAX: Final = 100
# Cleared slots whose flows are asked for in one poll; what is older is left out.
SLOTS_ASKED_MAX: Final = 24


class _Record(NamedTuple):
    """When a record's header was decided, and when and in which block it was anchored."""

    header_ms: int
    anchored_ms: int
    anchored_height: int


class MainObservations:
    """What has been seen of the main chain so far.

    `status` is that of a node that keeps only it; `regions`, `lasts`, `audits` and `inside` are by
    region: how the main chain has it, its last anchored record, how far it is audited, and what it
    knows of itself. `offers` is how many the exchange has closed in the slots seen, `flows` the
    energy that regions have sold each other in them, by seller and buyer. [Wh]
    """

    def __init__(self, street: Street) -> None:
        self._street = street
        self._groups = regions_of(street.plan)
        self.status: dict[str, Any] | None = None
        self.regions: dict[int, dict[str, Any]] = {}
        self.lasts: dict[int, dict[str, Any]] = {}
        self.inside: dict[int, dict[str, Any]] = {}
        self.audits: dict[int, dict[str, Any]] = {}
        self.offers = 0
        self.flows: Counter[tuple[int, int]] = Counter()
        # The last slot whose flows are counted.
        self._cleared = -1
        # Records seen to be anchored, by region and number.
        self._records: dict[tuple[int, int], _Record] = {}
        # When a region was let in, by its number: what it closed before could not be anchored. [ms]
        self._live_ms: dict[int, int] = {}
        # From a record's block to the main chain's in which it was audited, by the same. [ms]
        self._audited_ms: dict[tuple[int, int], int] = {}

    @property
    def groups(self) -> list[Neighbours]:
        """The regions with the names of their homes."""
        return self._groups

    async def poll(self, observed: Sequence[Observations]) -> None:
        """Ask the main chain, and of each region the first home that answers."""
        data = main_data(self._street)
        try:
            self.status = await _ask(data, "status")
            asked = {"first": 1, "count": REGIONS_ASKED_MAX}
            for row in await _query(data, "regions", "regions", asked):
                self.regions[row["number"]] = row
                if row["status"] == "live":
                    self._live_ms.setdefault(row["number"], row["since_ms"])
            for group in self._groups:
                last = await _query(data, "anchor", "last", {"region": group.number})
                self._take_last(group.number, last)
                audit = await _query(data, "audit", "status", {"region": group.number})
                self._take_audit(group.number, audit)
            await self._poll_flows(data)
        except ControlError:
            # It starts, or is busy; the next poll may do.
            pass
        for group, seen in zip(self._groups, observed, strict=True):
            for name in seen.alive()[:1]:
                await self._poll_region(group.number, self._street.home(name) / DATA_NAME)

    async def _poll_flows(self, data: Path) -> None:
        """Count what regions have sold each other in the slots cleared since the last poll."""
        window = await _query(data, "exchange", "window", {})
        if window is None:
            return
        first, last = window
        for slot in range(max(first, self._cleared + 1, last - SLOTS_ASKED_MAX + 1), last + 1):
            found = await _query(data, "exchange", "cleared", {"slot": slot})
            self._cleared = slot
            if found is None:
                continue
            self.offers += len(found["regions"])
            for buyer, seller, energy_wh, _, _ in found["flows"]:
                self.flows[seller, buyer] += energy_wh

    async def _poll_region(self, number: int, data: Path) -> None:
        try:
            closed = await _query(data, "export", "closed", {})
            anchored = await _query(data, "export", "anchored", {})
            traded = await _query(data, "export", "traded", {})
        except ControlError:
            return
        self.inside[number] = {"closed": closed["number"], "known": anchored["number"], **traded}

    def _take_last(self, region: int, last: dict[str, Any]) -> None:
        self.lasts[region] = last
        if last["number"] > 0 and last["header_ms"] >= self._live_ms.get(region, 0):
            self._records[region, last["number"]] = _Record(
                last["header_ms"], last["anchored_ms"], last["anchored_height"]
            )

    def _take_audit(self, region: int, audit: dict[str, Any]) -> None:
        """Note when records were audited: if a poll has missed an audit, by the one after it."""
        self.audits[region] = audit
        for (whose, number), record in self._records.items():
            if whose == region and number <= audit["number"]:
                took_ms = audit["time_ms"] - record.header_ms
                self._audited_ms.setdefault((whose, number), took_ms)

    def have_anchored(self, slots: Sequence[int]) -> bool:
        """Tell whether each region's given slot, or a later one, is anchored."""
        newest = [self.lasts.get(group.number, {}).get("newest_slot", -1) for group in self._groups]
        return all(anchored >= slot for anchored, slot in zip(newest, slots, strict=True))

    async def report(
        self, observed: Sequence[Observations], restarts: dict[str, int]
    ) -> dict[str, Any]:
        """Ask once more, and return what there is to say of the second tier."""
        await self.poll(observed)
        rows = [self._row(group, seen) for group, seen in zip(self._groups, observed, strict=True)]
        main, at = await self._main_row()
        neutral = []
        for name in neutral_names(self._street.plan):
            status = await _status(self._street.home(name) / DATA_NAME)
            neutral.append(node_row(name, status, at, restarts))
        return {
            "regions": rows,
            "anchored": sum(row["anchored"] for row in rows),
            "audited": sum(row["audited"] for row in rows),
            "exported_wh": sum(row["exported_wh"] for row in rows),
            "imported_wh": sum(row["imported_wh"] for row in rows),
            "offers": self.offers,
            "flows": [
                {"from": seller, "to": buyer, "energy_wh": energy_wh}
                for (seller, buyer), energy_wh in sorted(self.flows.items())
            ],
            "anchoring_ms": summary_ms(
                [float(one.anchored_ms - one.header_ms) for one in self._records.values()]
            ),
            "anchoring_blocks": await self._anchoring_blocks(),
            "auditing_ms": summary_ms([float(took) for took in self._audited_ms.values()]),
            "main": main,
            "neutral": neutral,
        }

    async def _anchoring_blocks(self) -> dict[str, int]:
        """Count in which block of the main chain after its region's decision a record was anchored.

        Returns
        -------
        dict
            How many records by that number, as text: "1" is the first block decided later.
        """
        times_ms: dict[int, int] = {}

        async def is_later(height: int, header_ms: int) -> bool:
            if height not in times_ms:
                block = await _ask(main_data(self._street), "block", height=height)
                times_ms[height] = -1 if block is None else block["time_ms"]
            return times_ms[height] > header_ms

        found: Counter[int] = Counter()
        for record in self._records.values():
            count = 1
            while count < BLOCKS_COUNTED_MAX and await is_later(
                record.anchored_height - count, record.header_ms
            ):
                count += 1
            found[count] += 1
        return {str(count): found[count] for count in sorted(found)}

    def _row(self, group: Neighbours, seen: Observations) -> dict[str, Any]:
        known, last = self.regions.get(group.number, {}), self.lasts.get(group.number, {})
        slots = seen.slots.values()
        heights = [seen.status[name]["height"] for name in seen.alive()]
        inside = self.inside.get(group.number, {})
        return {
            "region": group.number,
            "homes": len(group.names),
            "status": known.get("status"),
            "height": max(heights, default=None),
            "slots": len(slots),
            "traded_wh": sum(slot["traded_wh"] for slot in slots),
            "exported_wh": inside.get("exported_wh", 0),
            "imported_wh": inside.get("imported_wh", 0),
            "closed": inside.get("closed", 0),
            "anchored": last.get("number", 0),
            "anchored_height": last.get("to_height", 0),
            "audited": self.audits.get(group.number, {}).get("number", 0),
        }

    async def _main_row(self) -> tuple[dict[str, Any] | None, dict[str, tuple[int, str]]]:
        """Compare what all who keep the main chain have computed at one height.

        Returns
        -------
        tuple
            What is to be said of the main chain, None if nobody answers; and by the name of each
            who answers that height and its state root.
        """
        seats = self._street.plan.authorities
        places = {
            name: main_directory(self._street, name)
            for group in self._groups
            for name in group.names[:seats]
        }
        for name in neutral_names(self._street.plan):
            places[name] = self._street.home(name) / DATA_NAME
        told = await asyncio.gather(*(_status(data) for data in places.values()))
        alive = {name: status for name, status in zip(places, told, strict=True) if status}
        if not alive:
            return None, {}
        height = min(status["height"] for status in alive.values())
        blocks = await asyncio.gather(
            *(_ask(places[name], "block", height=height) for name in alive)
        )
        at = {
            name: (height, block["state_root"]) for name, block in zip(alive, blocks, strict=True)
        }
        return {
            "chain_id": next(iter(alive.values()))["chain_id"],
            "height": height,
            "nodes": len(alive),
            "authorities": sum(status["authority"] is not None for status in alive.values()),
            "state_roots_equal": len({root for _, root in at.values()}) == 1,
        }, at


async def _status(data: Path) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = await _ask(data, "status")
    except ControlError:
        return None
    return status


async def _ask(data: Path, question: str, **arguments: Any) -> Any:
    return await ask(data, question, timeout_s=POLL_TIMEOUT_S, **arguments)


async def _query(data: Path, contract: str, entry: str, args: dict[str, Any]) -> Any:
    return await _ask(data, "query", contract=contract, entry=entry, args=args)
