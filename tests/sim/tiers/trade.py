"""What regions trade with each other, added up at each block of every chain."""

from collections.abc import Iterable
from typing import Any, Final

from consensus.checkpoint import SlotTotals
from tests.sim.errors import Violation
from tests.sim.tiers.chains import TierState
from tests.sim.tiers.machine import ESCROW_MICRO
from tests.sim.tiers.views import KEY_BASE, entry

ESCROW: Final = 0
DUE: Final = 2
SUMS: Final = ("imported_wh", "exported_wh", "paid_micro", "got_micro")
NOTHING: Final = [0, 0, 0, 0]


class TradeBooks:
    """The exchange's results, and what each region has made of its own."""

    def __init__(self, regions: Iterable[int]) -> None:
        # By region and slot: [imported, exported, paid, got] as the main chain has cleared it.
        self.legs: dict[tuple[int, int], list[int]] = {}
        self.claimed: dict[tuple[int, int], list[int]] = {}
        self.ends: dict[tuple[int, int], str] = {}
        self._fees: dict[int, int] = dict.fromkeys(regions, 0)
        self._first = 0
        self._states: dict[int, TierState] = {}

    @property
    def traded_wh(self) -> int:
        """What was sold from region to region."""
        return sum(legs[0] for legs in self.legs.values())

    # -- the main chain

    def on_main_block(self, state: TierState, gone: set[int], reclaimed: set[int]) -> None:
        """Between regions nothing is made and nothing lost; nobody spends beyond its escrow.

        `gone` : regions that had left or were frozen before this block.
        """
        fresh: dict[int, list[list[int]]] = {}
        for name in state.app.state.keys_under("exchange/legs/"):
            region, slot = (int(part) - KEY_BASE for part in name.split("/")[2:])
            if (region, slot) in self.legs:
                continue
            legs = self.legs[region, slot] = entry(state, name)
            fresh.setdefault(slot, []).append(legs)
            if region in gone and any(legs):
                raise Violation(f"trade: region {region}, which is gone, trades {legs}")
            result = entry(state, name.replace("legs", "result"))
            self._fees[region] += sum(row[3] for row in result["rows"])
        for slot, rows in fresh.items():
            imported, exported, paid, got = (sum(column) for column in zip(*rows, strict=True))
            if (imported, paid) != (exported, got):
                raise Violation(
                    f"trade: slot {slot}: {imported} Wh in for {paid} micro, "
                    f"{exported} Wh out for {got} micro"
                )
        self._check_escrow(state, reclaimed)
        self._first = entry(state, "exchange/window")[0]

    @property
    def fees_micro(self) -> int:
        """What the grid has had of trades between regions."""
        return sum(self._fees.values())

    def spent_micro(self, region: int) -> int:
        """What a region has paid beyond what it got, fees included."""
        own = [legs for (other, _), legs in self.legs.items() if other == region]
        return self._fees[region] + sum(legs[2] - legs[3] for legs in own)

    def _check_escrow(self, state: TierState, reclaimed: set[int]) -> None:
        """The escrow law: what a region has spent beyond what it got is its own escrow's loss."""
        for region in self._fees.keys() - reclaimed:
            money = entry(state, f"regions/money/{KEY_BASE + region}")
            spent = self.spent_micro(region)
            if min(money) < 0 or money[ESCROW] + money[DUE] != ESCROW_MICRO - spent:
                raise Violation(f"escrow: region {region} has {money}, and has spent {spent} micro")

    def on_settled(self, region: int, row: SlotTotals, where: str) -> None:
        """M13: what a settlement says was traded elsewhere was traded there, or it is nothing.

        Of slots that the exchange has forgotten it knows nothing.
        """
        legs = [getattr(row, name) for name in SUMS]
        if row.slot < self._first:
            return
        if legs not in (NOTHING, self.legs.get((region, row.slot), NOTHING)):
            raise Violation(f"trade: {where}: slot {row.slot} is settled with {legs}")

    # -- regions

    def on_region_block(self, region: int, state: TierState) -> None:
        """A region takes each result once, as the exchange made it."""
        self._states[region] = state
        for name in state.app.state.keys_under("export/legs/"):
            slot = int(name.split("/")[2]) - KEY_BASE
            legs = entry(state, name)
            known = self.claimed.setdefault((region, slot), legs)
            if known != legs:
                raise Violation(f"trade: region {region} takes slot {slot} again, as {legs}")
            # The main chain's block may be decided by somebody honest only after this one.
            if self.legs.get((region, slot), legs) != legs:
                raise Violation(f"trade: region {region} takes {legs} for slot {slot}")
        for name in state.app.state.keys_under("export/offer/"):
            slot, status = int(name.split("/")[2]) - KEY_BASE, entry(state, name)["status"]
            before = self.ends.get((region, slot), "open")
            if before in ("claimed", "refunded") and status != before:
                raise Violation(f"trade: slot {slot} of region {region} was {before}, is {status}")
            self.ends[region, slot] = status

    def unresolved(self, region: int) -> set[int]:
        """The slots of which a region does not know yet what came of its offer."""
        return {
            slot
            for (other, slot), status in self.ends.items()
            if other == region and status in ("open", "late")
        }

    def on_end(self, captured: set[int]) -> None:
        """Refunded is only what was never traded; sums since genesis are those of the results."""
        for (region, slot), legs in self.claimed.items():
            if legs != self.legs.get((region, slot), NOTHING):
                raise Violation(f"trade: region {region} took {legs} for slot {slot}")
        for (region, slot), status in self.ends.items():
            if status == "refunded" and any(self.legs.get((region, slot), ())):
                raise Violation(f"trade: slot {slot} of region {region} is refunded and traded")
        for region, state in self._states.items():
            if region not in captured:
                self._check_sums(region, entry(state, "export/sums"))

    def _check_sums(self, region: int, sums: dict[str, Any]) -> None:
        for place, name in enumerate(SUMS):
            shown = sums[name] + sums[f"covered_{name}"]
            made = sum(
                legs[place]
                for (other, slot), legs in self.legs.items()
                if other == region and self.ends.get((region, slot)) == "claimed"
            )
            if shown != made:
                raise Violation(f"trade: region {region} has {shown} {name}, the exchange {made}")
