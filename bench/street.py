"""What a street earns by trading: homes planned, matched and settled as the market does it.

    uv run python -m bench.street [--homes 12] [--days 2] [--seeds 1,2,3] [--slot-minutes 15]

As in a running street a slot is traded two slots after the last delivered one. Matching is
`high_low`, pay as ask; a seller's shortfall pays tariff and penalty. A home's saving is what the
same meter readings would have cost at the grid's prices alone, minus what they did cost.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

from bench.figures import Said, command, figure
from hems import civil
from hems.bid import Order, Suggested
from hems.config import HomeConfig
from hems.delivery import Delivery
from hems.home import HomeEnergyManager, MarketView
from hems.neighbourhood import built_in
from testnet.street import FEED_IN_MICRO_PER_KWH, TARIFF_BANDS

ZONE: Final = "Australia/Sydney"
FIRST_DAY: Final = date(2026, 11, 20)
PENALTY: Final = 50_000
LEAD_SLOTS: Final = 2
REMEMBERED: Final = 32


class HomeTotal(NamedTuple):
    """A home's run. [Wh, micro]"""

    bought_wh: int
    sold_wh: int
    shortfall_wh: int
    penalty_micro: int
    saved_micro: int


class Trade(NamedTuple):
    """Energy between two homes, by their places in the street."""

    buyer: int
    seller: int
    energy_wh: int
    ask_micro_per_kwh: int
    bid_micro_per_kwh: int


def tariff(at_ms: int) -> int:
    """Return CE table 2's price of a moment. [micro/kWh]"""
    zone = civil.zone_of(ZONE)
    minute = (at_ms + civil.offset_ms(at_ms, zone)) // civil.MINUTE_MS % (24 * 60)
    return next(price for begin, price in reversed(TARIFF_BANDS) if begin <= minute)


def match(orders: list[list[Order]]) -> list[Trade]:
    """Match each home's orders: dearest bid with cheapest ask, while they cross."""
    bids = sorted(
        [-o.price_micro_per_kwh, i, o.energy_wh]
        for i, own in enumerate(orders)
        for o in own
        if o.side == "bid"
    )
    asks = sorted(
        [o.price_micro_per_kwh, i, o.energy_wh]
        for i, own in enumerate(orders)
        for o in own
        if o.side == "ask"
    )
    trades = []
    while bids and asks and -bids[0][0] >= asks[0][0]:
        energy_wh = min(bids[0][2], asks[0][2])
        trades.append(Trade(bids[0][1], asks[0][1], energy_wh, asks[0][0], -bids[0][0]))
        for book in (bids, asks):
            book[0][2] -= energy_wh
            if book[0][2] == 0:
                book.pop(0)
    return trades


def settle(delivery: Delivery, trades: list[Trade], home: int) -> HomeTotal:
    """Return a home's slot as the settlement contract bills it."""
    price = tariff(delivery.slot_start_ms)
    bought = sum(t.energy_wh for t in trades if t.buyer == home)
    sold = sum(t.energy_wh for t in trades if t.seller == home)
    paid = sum(
        t.energy_wh * t.ask_micro_per_kwh // 1000 * ((t.buyer == home) - (t.seller == home))
        for t in trades
    )
    net_wh = delivery.import_wh - delivery.export_wh
    grid_wh = net_wh + sold - bought
    shortfall = min(sold, max(0, grid_wh))
    penalty = shortfall * PENALTY // 1000
    cost = (
        paid
        + max(0, grid_wh) * price // 1000
        - max(0, -grid_wh) * FEED_IN_MICRO_PER_KWH // 1000
        + penalty
    )
    alone = max(0, net_wh) * price // 1000 - max(0, -net_wh) * FEED_IN_MICRO_PER_KWH // 1000
    return HomeTotal(bought, sold, shortfall, penalty, alone - cost)


def run(configs: list[HomeConfig], days: int, slot_ms: int) -> list[HomeTotal]:
    """Let homes trade for some days; return each one's total."""
    homes = [HomeEnergyManager(config) for config in configs]
    start_ms = civil.day_start_ms(civil.day_number(FIRST_DAY), civil.zone_of(ZONE))
    slots = days * civil.DAY_MS // slot_ms
    accepted: list[tuple[int, int]] = []
    cleared: dict[int, list[Trade]] = {}
    totals = [HomeTotal(0, 0, 0, 0, 0)] * len(homes)
    for home in homes:
        home.plan_slot(start_ms, slot_ms, MarketView(tariff, FEED_IN_MICRO_PER_KWH))
    for slot in range(slots):
        target_ms = start_ms + (slot + LEAD_SLOTS) * slot_ms
        view = MarketView(tariff, FEED_IN_MICRO_PER_KWH, _suggested(accepted, target_ms), PENALTY)
        trades = match([home.plan_slot(target_ms, slot_ms, view).orders for home in homes])
        cleared[target_ms] = trades
        accepted += [(t.ask_micro_per_kwh, t.bid_micro_per_kwh) for t in trades]
        now_ms = start_ms + slot * slot_ms
        for i, home in enumerate(homes):
            net_wh = sum(t.energy_wh * ((t.buyer == i) - (t.seller == i)) for t in trades)
            if net_wh:
                home.commit(target_ms, net_wh)
            one = settle(home.deliver(now_ms, slot_ms, view), cleared.get(now_ms, []), i)
            totals[i] = HomeTotal(*(a + b for a, b in zip(totals[i], one, strict=True)))
    return totals


def _suggested(accepted: list[tuple[int, int]], at_ms: int) -> Suggested:
    """Return CE 5 and 6 without imbalance: root mean squares of what was accepted last."""
    low, high = FEED_IN_MICRO_PER_KWH, tariff(at_ms)
    last = accepted[-REMEMBERED:] or [((low + high) // 2,) * 2]
    prices = [
        round(statistics.fmean(p * p for p in side) ** 0.5) for side in zip(*last, strict=True)
    ]
    return Suggested(*(min(max(price, low), high) for price in prices))


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--slot-minutes", type=int, default=15)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Let the streets trade."""
    slot_ms = given.slot_minutes * civil.MINUTE_MS
    yield f"{given.homes} homes, {given.days} days, slots of {given.slot_minutes} min"
    yield (
        "seed battery  traded kWh  short kWh  penalties  worst saving  losers  saving of all  CPU s"
    )
    saved: dict[bool, list[float]] = {True: [], False: []}
    spent_s: list[float] = []
    for seed in map(int, given.seeds.split(",")):
        for stores in (True, False):
            configs = built_in(given.homes, seed=seed).homes
            if not stores:
                configs = built_in(given.homes, seed=seed, battery=None).homes
            begin = time.process_time()
            totals = run(configs, given.days, slot_ms)
            spent = time.process_time() - begin
            yield (
                f"{seed:4} {'yes' if stores else 'no':7}"
                f" {sum(t.sold_wh for t in totals) / 1000:11.1f}"
                f" {sum(t.shortfall_wh for t in totals) / 1000:10.1f}"
                f" {sum(t.penalty_micro for t in totals) / 1e6:10.2f}"
                f" {min(t.saved_micro for t in totals) / 1e6:13.3f}"
                f" {sum(t.saved_micro < 0 for t in totals):7}"
                f" {sum(t.saved_micro for t in totals) / 1e6:14.2f} {spent:6.1f}"
            )
            saved[stores].append(sum(t.saved_micro for t in totals) / 1e6)
            spent_s.append(spent)
    without = "without batteries", saved[False]
    yield figure(
        "saving of all with batteries", "dollars", saved[True], over=without, better="higher"
    )
    yield figure("a run", "s", spent_s)


if __name__ == "__main__":
    command(__doc__, options, figures)
