"""Matching and settlement once more, in plain Python, written from the mechanism's text and not
from the contracts."""

from collections import Counter
from typing import NamedTuple

BUY, SELL = 0, 1
GRID = 0


class Row(NamedTuple):
    """An order as the reference sees it."""

    number: int
    home: int
    side: int
    energy_wh: int
    price: int
    expires_ms: int = 0


class Match(NamedTuple):
    """A trade as the reference makes it."""

    buyer: int
    seller: int
    bid: int
    ask: int
    energy_wh: int
    price: int
    cost: int
    fee: int = 0


def match_by_the_watt_hour(orders: list[Row], tariff: int, rule: str) -> list[Match]:
    """Hu 5-6 by brute force: every watt-hour is an order of its own.

    The n-th best watt-hour demanded meets the n-th best offered, while its price is not below;
    the grid offers without end at the tariff, after homes that ask the same.
    """
    demanded = [o for o in orders if o.side == BUY for _ in range(o.energy_wh)]
    offered = [o for o in orders if o.side == SELL for _ in range(o.energy_wh)]
    demanded.sort(key=lambda o: (-o.price, o.number))
    offered.sort(key=lambda o: (o.price, o.number))
    offered = [o for o in offered if o.price <= tariff]
    grid = Row(10**9, GRID, SELL, 1, tariff)
    pairs: list[tuple[Row, Row]] = []
    for place, bid in enumerate(demanded):
        ask = offered[place] if place < len(offered) else grid
        if bid.price < ask.price:
            break
        pairs.append((bid, ask))
    matches: list[Match] = []
    for (bid, ask), energy in Counter(pairs).items():
        price = {"ask": ask.price, "bid": bid.price, "mid": (bid.price + ask.price) // 2}[rule]
        if ask is grid:
            price = tariff
        cost = energy * price // 1000
        matches.append(Match(bid.home, ask.home, bid.number, ask.number, energy, price, cost))
    return matches


class Due(NamedTuple):
    """What a home settles for a slot."""

    grid_wh: int
    fed_in_wh: int
    shortfall_wh: int
    penalty_micro: int
    total_micro: int


def settle_home(
    home: int,
    matches: list[Match],
    reading: tuple[int, int] | None,
    tariff: int,
    feed_in: int,
    penalty: int,
) -> Due:
    """One home's settlement, from its trades and its reading (import, export)."""
    bought = sum(m.energy_wh for m in matches if m.buyer == home and m.seller != GRID)
    backstop = sum(m.energy_wh for m in matches if m.buyer == home and m.seller == GRID)
    sold = sum(m.energy_wh for m in matches if m.seller == home)
    paid = sum(m.cost for m in matches if m.buyer == home and m.seller != GRID)
    earned = sum(m.cost for m in matches if m.seller == home)
    # A silent seller delivered nothing, a silent buyer took all.
    actual = -(bought + backstop) if reading is None else reading[1] - reading[0]
    difference = actual - (sold - bought)
    total = paid - earned
    if difference >= 0:
        return Due(0, difference, 0, 0, total - difference * feed_in // 1000)
    missing = -difference
    shortfall = min(sold, missing)
    fine = shortfall * penalty // 1000
    return Due(missing, 0, shortfall, fine, total + missing * tariff // 1000 + fine)


def match_rows(rows: list[list[int]], tariff: int = 200_000) -> tuple[list[int], list[int]]:
    """The contract's own algorithm over ready lists: the baseline of `bench/vm.py`."""
    bids = sorted([-row[4], row[0], row[1], row[3]] for row in rows if row[2] == BUY)
    asks = sorted([row[4], row[0], row[1], row[3]] for row in rows if row[2] == SELL)
    asks.append([tariff, 10**9, GRID, sum(bid[3] for bid in bids)])
    asks.sort()
    trades = []
    b = a = 0
    while b < len(bids) and a < len(asks) and -bids[b][0] >= asks[a][0]:
        bid, ask = bids[b], asks[a]
        energy = min(bid[3], ask[3])
        trades.append([bid[2], ask[2], bid[1], ask[1], energy, ask[0], energy * ask[0] // 1000])
        bid[3] -= energy
        ask[3] -= energy
        b += bid[3] == 0
        a += ask[3] == 0
    return bids, asks
