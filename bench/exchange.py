"""What trade across regions is worth: `uv run python -m bench.exchange [--homes 8] [--slots 96]`.

Three regions of homes of the built-in community, of which nine, five and one in ten have PV and a
battery. Their own energy managers plan, bid and deliver; orders, readings, checkpoints, offers and
claims are transactions of real chains in this process, with real certificates, at CE table 2's
tariffs and 8 c of feed-in. All live through the same days twice: each region for itself, and with
trade between regions, for 2 c a kWh of grid fee.

Printed for each region: its load; the share of it that homes served, which is one less what the
grid delivered; energy from and to other regions; and what its homes paid. The baseline is the
first run, in which regions do not trade.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.figures import Said, command, figure
from hems.home import HomeEnergyManager, MarketView
from hems.neighbourhood import built_in
from market import client
from market.client import Call
from market.tiers import ExchangeRules, ExportRules
from tests.market.street import FEED_IN, SLOT, SLOT_MS
from tests.regions.grid import Region
from tests.regions.trading import World
from wire.keys import SigningKey

PV_SHARES: Final = (0.9, 0.5, 0.1)
# Of the chain's clock, which begins at midnight in Sydney: CE table 2.
OFFSET_MINUTES: Final = 600
TARIFFS: Final = ((0, 177_000), (420, 277_100), (840, 541_100), (1_200, 277_100), (1_320, 177_000))
GATE_MS: Final = SLOT_MS // 3
PENALTY: Final = 50_000
FEE: Final = 20_000
CALLS_PER_BLOCK: Final = 200


class Sums(NamedTuple):
    """A region's run. [Wh, micro]"""

    load_wh: int
    grid_wh: int
    fed_in_wh: int
    imported_wh: int
    exported_wh: int
    paid_micro: int

    @property
    def served_percent(self) -> float:
        """The share of the load that came from homes."""
        return 100 * (1 - self.grid_wh / self.load_wh)


class Village:
    """A region's homes, and what they have contracted."""

    def __init__(self, region: Region, homes: int, pv_share: float) -> None:
        self.region = region
        configs = built_in(homes, seed=region.number, pv_share=pv_share).homes
        self.homes = [HomeEnergyManager(config) for config in configs]
        self.view = MarketView(self.tariff, FEED_IN, None, PENALTY)
        self.load_wh = 0

    def tariff(self, at_ms: int) -> int:
        """Return the price of a moment, as the chain has it. [micro/kWh]"""
        slot = at_ms // SLOT_MS
        found: int = self.region.query("tariff", "prices", {"slot": slot})[0]
        return found

    def plan(self, slot: int) -> None:
        """Post orders for a slot, and go on to its gate."""
        calls = []
        for key, home in zip(self.region.home_keys, self.homes, strict=True):
            for order in home.plan_slot(slot * SLOT_MS, SLOT_MS, self.view).orders:
                side = "buy" if order.side == "bid" else "sell"
                price = max(1, order.price_micro_per_kwh)
                calls.append((key, client.post_order(slot, side, order.energy_wh, price)))
        self.send(calls, slot * SLOT_MS - GATE_MS - 10_000)
        self.region.block(at_ms=slot * SLOT_MS - GATE_MS)
        self.commit(slot)

    def send(self, calls: list[tuple[SigningKey, Call]], at_ms: int) -> None:
        """Have calls decided from a moment on. A refusal ends the benchmark."""
        for first in range(0, len(calls), CALLS_PER_BLOCK):
            block = self.region.block(calls[first : first + CALLS_PER_BLOCK], at_ms=at_ms)
            at_ms += 1_000
            wrong = [one for one in block.result.receipts if one.code != "ok"]
            if wrong:
                raise SystemExit(f"region {self.region.number} refused: {wrong[0]}")

    def commit(self, slot: int) -> None:
        """Tell the homes what they have contracted, at home and elsewhere."""
        net_wh = [0] * (len(self.homes) + 1)
        for trade in client.trades_of_slot(self.region.query, slot):
            if not trade.backstop:
                net_wh[trade.buyer] += trade.energy_wh
                net_wh[trade.seller] -= trade.energy_wh
        for one in client.traded_elsewhere(self.region.query, slot):
            net_wh[one.home] += one.bought_wh - one.sold_wh
        for number, home in enumerate(self.homes, start=1):
            if net_wh[number]:
                home.commit(slot * SLOT_MS, net_wh[number])

    def deliver(self, slot: int) -> None:
        """Let a slot happen, and settle it."""
        readings = []
        for home in self.homes:
            done = home.deliver(slot * SLOT_MS, SLOT_MS, self.view)
            self.load_wh += done.load_wh
            readings.append((done.import_wh, done.export_wh))
        self.region.meter(slot, readings)

    def sums(self, first: int, last: int) -> Sums:
        """Return what the settled slots come to. One that is not settled ends the benchmark."""
        found = [client.slot_summary(self.region.query, slot) for slot in range(first, last + 1)]
        open_slots = [one.slot for one in found if one.status != "settled"]
        if open_slots:
            raise SystemExit(f"region {self.region.number}: slots {open_slots} are not settled")
        bills = [
            bill
            for slot in range(first, last + 1)
            for bill in client.bills_of_slot(self.region.query, slot)
        ]
        return Sums(
            self.load_wh,
            sum(one.grid_wh for one in found),
            sum(one.fed_in_wh for one in found),
            sum(one.imported_wh for one in found),
            sum(one.exported_wh for one in found),
            sum(bill.total_micro for bill in bills),
        )


def run(homes: int, slots: int, trading: bool) -> list[Sums]:
    """Live through so many slots; return each region's sums."""
    exchange = ExchangeRules(fees=((FEE,),)) if trading else None
    world = World(
        len(PV_SHARES),
        exchange=exchange,
        exports=[ExportRules() if trading else None for _ in PV_SHARES],
        homes=homes,
        balance_micro=100_000_000,
        tariffs=((0, TARIFFS),),
        utc_offsets=((0, OFFSET_MINUTES),),
        penalty_micro_per_kwh=PENALTY,
    )
    villages = [
        Village(region, homes, share)
        for region, share in zip(world.regions, PV_SHARES, strict=True)
    ]
    last = SLOT + slots - 1
    for slot in range(SLOT, last + 1):
        for village in villages:
            village.plan(slot)
        # Before the slot begins, the exchange takes what the gates have left.
        world.anchor()
        for village in villages:
            if slot > SLOT:
                village.deliver(slot - 1)
        world.close(slot)
        if trading:
            world.show()
        for village in villages:
            village.commit(slot)
    for village in villages:
        village.deliver(last)
    if trading:
        world.check()
    found = [village.sums(SLOT, last) for village in villages]
    if trading and not any(one.imported_wh for one in found):
        raise SystemExit("regions that could have traded did not")
    return found


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=8)
    parser.add_argument("--slots", type=int, default=96)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    yield f"3 regions of {given.homes} homes, {given.slots} slots of a quarter of an hour"
    yield "trade  region  homes with PV  load kWh  served %  from kWh  to kWh  fed in kWh  paid"
    for trading in (False, True):
        begun = time.process_time()
        found = run(given.homes, given.slots, trading)
        word = "yes" if trading else "no"
        for number, (share, one) in enumerate(zip(PV_SHARES, found, strict=True), start=1):
            yield row(word, str(number), f"{share:.0%}", one)
        together = Sums(*(sum(column) for column in zip(*found, strict=True)))
        yield row(word, "all", "", together)
        name = "with trade across regions" if trading else "each for itself"
        yield figure(f"{name}, served", "%", together.served_percent, better="higher")
        yield figure(f"{name}, paid", "dollars", together.paid_micro / 1e6)
        yield figure(f"{name}, the run", "s", time.process_time() - begun)


def row(trade: str, region: str, share: str, one: Sums) -> str:
    """Return one region's line."""
    return (
        f"{trade:5}  {region:>6}  {share:>13}  {one.load_wh / 1000:8.1f}  {one.served_percent:8.1f}"
        f"  {one.imported_wh / 1000:8.1f}  {one.exported_wh / 1000:6.1f}"
        f"  {one.fed_in_wh / 1000:10.1f}  {one.paid_micro / 1e6:6.2f}"
    )


if __name__ == "__main__":
    command(__doc__, options, figures)
