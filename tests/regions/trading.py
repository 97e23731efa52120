"""Regions that trade with each other, every micro-unit and watt-hour of it added up."""

from collections.abc import Sequence

from consensus.light import ends_epoch
from market import client
from market.client import Call, regions
from market.invariants import count_money
from market.tiers import ExchangeRules, ExportRules
from market.vm.engine import Engine
from node.regions.exchange import ENDS_AT_ONCE_MAX, ends_due, offers_due
from tests.regions.grid import ESCROW, REGULATOR, SLOT_MS, Main, Region
from wire.keys import SigningKey

SUMS = ("imported_wh", "exported_wh", "paid_micro", "got_micro", "fees_micro")
UNRESOLVED = ("open", "late")


class World:
    """A main chain with an exchange, its regions, and whoever carries things between them."""

    def __init__(
        self,
        count: int = 2,
        exchange: ExchangeRules | None = None,
        exports: Sequence[ExportRules | None] = (),
        twin: type[Engine] | None = None,
        **changes: object,
    ) -> None:
        self.regions = [
            Region(
                number,
                exports=exports[number - 1] if exports else ExportRules(),
                twin=None if twin is None else twin(),
                **changes,
            )
            for number in range(1, count + 1)
        ]
        self.main = Main(
            [region.sponsor for region in self.regions],
            twin=None if twin is None else twin(),
            exchange=exchange or ExchangeRules(),
        )
        for region in self.regions:
            self.main.admit(region)
        self.accounts = {
            region.number: count_money(region.app._state).in_accounts for region in self.regions
        }

    def trade(self, slot: int, orders: dict[int, list[tuple[int, str, int, int]]]) -> None:
        for region in self.regions:
            if region.number in orders:
                region.trade(slot, orders[region.number])

    def anchor(self, *there: Region) -> None:
        """Post what the regions have closed and offered since."""
        for region in there or self.regions:
            # All live in one time.
            self.main.time_ms = max(self.main.time_ms, region.time_ms)
            last = self.main.query("anchor", "last", {"region": region.number})["number"]
            for checkpoint in region.checkpoints[last:]:
                receipt = self.main.anchor(region, checkpoint)
                assert receipt.code == "ok", receipt
            for call in offers_due(region.offers, self.main.app):
                self.main.ok(region.seated[0], call)
            assert offers_due(region.offers, self.main.app) == [], "all of it is there now"

    def close(self, slot: int) -> None:
        """Let the exchange clear a slot, unless it has."""
        self.main.block(at_ms=max(slot * SLOT_MS, self.main.time_ms + 1_000))

    def due(self, region: Region) -> list[tuple[SigningKey, Call]]:
        assert self.main.head is not None
        shown = self.main.signed_header(self.main.head)
        calls = ends_due(region.app, self.main.app, shown)
        known = region.query("export", "main_head", {})["height"]
        if calls:
            ends = [one for one in self.main.blocks[known:-1] if ends_epoch(one.header)]
            calls = [regions.follow(self.main.signed_header(one)) for one in ends] + calls
        return [(region.home_keys[0], call) for call in calls]

    def show(self, *there: Region) -> None:
        """Show regions what became of their offers."""
        for region in there or self.regions:
            while calls := self.due(region):
                assert len(calls) <= ENDS_AT_ONCE_MAX + 1
                for sender, call in calls:
                    region.ok(sender, call)

    def meter(self, slot: int, readings: dict[int, list[tuple[int, int]]]) -> None:
        for region in self.regions:
            if region.number in readings:
                region.meter(slot, readings[region.number])

    def results(self, region: Region) -> dict[int, dict[str, int]]:
        """Return what the exchange holds of a region's trades, in sums by slot."""
        found = {}
        for offer in region.offers:
            args = {"region": region.number, "slot": offer.slot}
            result = self.main.query("exchange", "result", args)
            if result is None:
                continue
            entry = region.query("export", "offered", {"slot": offer.slot})
            sums = dict.fromkeys(SUMS, 0)
            for step, energy_wh, cost_micro, fee_micro, _ in result["rows"]:
                side = entry["steps"][step][0]
                sums["exported_wh" if side else "imported_wh"] += energy_wh
                sums["got_micro" if side else "paid_micro"] += cost_micro
                sums["fees_micro"] += fee_micro
            found[offer.slot] = sums
        return found

    def check(self) -> None:
        """Add everything up, over all chains as they stand."""
        traded = dict.fromkeys(SUMS, 0)
        for region in self.regions:
            results = self.results(region)
            self._check_shown(region, results)
            self._check_accounts(region, results)
            for sums in results.values():
                for name in SUMS:
                    traded[name] += sums[name]
            funds = self.main.query("regions", "funds", {"region": region.number})
            assert min(funds.values()) >= 0
            spent = sum(cost_of(sums) for sums in results.values())
            assert funds["escrow_micro"] + funds["due_micro"] == ESCROW - spent
            sponsor = client.account(self.main.query, region.sponsor.address)
            assert sponsor.held_micro == sum(funds.values())
        # Between regions nothing is lost and nothing is made, but for what the grid gets.
        assert traded["imported_wh"] == traded["exported_wh"]
        assert traded["paid_micro"] == traded["got_micro"]
        grid = client.account(self.main.query, REGULATOR.address)
        assert grid.balance_micro == traded["fees_micro"]

    def _check_shown(self, region: Region, results: dict[int, dict[str, int]]) -> None:
        """Each result is in the homes' positions, or covered, or still to be shown: once."""
        shown = region.query("export", "traded", {})
        waiting = [slot for slot in results if self.status(region, slot) in UNRESOLVED]
        for name in SUMS:
            everything = sum(sums[name] for sums in results.values())
            missing = sum(results[slot][name] for slot in waiting)
            assert shown[name] + shown[f"covered_{name}"] + missing == everything, name

    def _check_accounts(self, region: Region, results: dict[int, dict[str, int]]) -> None:
        """What is in a region's accounts is what came in from the grid and from other regions."""
        money = count_money(region.app._state)
        balance_micro = self.accounts[region.number]
        for slot in client.settled_slots(region.query, 1_000):
            found = client.slot_summary(region.query, slot)
            legs = {name: getattr(found, name) for name in SUMS[:4]}
            if any(legs.values()):
                assert self.status(region, slot) == "claimed"
                assert legs == {name: results[slot][name] for name in SUMS[:4]}
            balance_micro += found.feed_in_micro + found.got_micro
            balance_micro -= found.grid_micro + found.penalty_micro
            balance_micro -= found.fees_micro + found.paid_micro
            bills = client.bills_of_slot(region.query, slot)
            net_wh = found.imported_wh - found.exported_wh
            assert sum(bill.bought_wh - bill.sold_wh for bill in bills) == net_wh
            grid_wh = found.grid_wh - found.fed_in_wh
            assert found.import_wh - found.export_wh == grid_wh + net_wh
        assert money.in_accounts == balance_micro

    def status(self, region: Region, slot: int) -> str:
        entry = region.query("export", "offered", {"slot": slot})
        return str(entry["status"])


def cost_of(sums: dict[str, int]) -> int:
    """Return what a region pays for its trades, less what it gets. [micro]"""
    return sums["paid_micro"] + sums["fees_micro"] - sums["got_micro"]
