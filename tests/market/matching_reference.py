"""The mechanisms of the libraries once more, in plain Python: written from their text, with exact
fractions, by the watt-hour or by trying everything out, and not the way the contract does it."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import NamedTuple

GRID = 0
STANDING = 1_000_000_000
WHOLE = 10_000


class Order(NamedTuple):
    """A bid or an ask; the grid's ask has home 0."""

    number: int
    home: int
    price: int
    energy_wh: int
    green: int = 0
    partner: int = 0


class Fees(NamedTuple):
    """What a buyer pays on top; `clusters` by home."""

    constant: int = 0
    share_bp: int = 0
    matrix: Sequence[Sequence[int]] = ()
    clusters: Sequence[int] = ()

    def rate(self, buyer: int, seller: int) -> int:
        distance = 0
        if self.matrix:
            distance = self.matrix[self.clusters[buyer]][self.clusters[seller]]
        return self.constant + distance

    def total(self, buyer: int, seller: int, price: int) -> int:
        """What a kilowatt-hour costs the buyer, exactly: in ten-thousandths."""
        if seller == GRID:
            return price * WHOLE
        return price * WHOLE + price * self.share_bp + self.rate(buyer, seller) * WHOLE

    def net(self, buyer: int, seller: int, limit: int) -> int:
        """The highest price that costs the buyer no more than its limit."""
        factor = 1 + Fraction(self.share_bp, 10_000)
        return math.floor((limit - self.rate(buyer, seller)) / factor)

    def row(self, bid: Order, ask: Order, energy: int, price: int) -> list[int]:
        cost = math.floor(Fraction(energy * price, 1000))
        fee = 0
        if ask.home != GRID:
            fee = math.floor(Fraction(energy * self.rate(bid.home, ask.home), 1000))
            fee += math.floor(Fraction(cost * self.share_bp, 10_000))
        return [bid.home, ask.home, bid.number, ask.number, energy, price, cost, fee]


class Pair(NamedTuple):
    bid: Order
    ask: Order
    energy_wh: int


def suits(bid: Order, ask: Order) -> bool:
    if ask.home == GRID:
        return True
    return (
        (not bid.green or bool(ask.green))
        and bid.partner in (0, ask.home)
        and ask.partner in (0, bid.home)
    )


def pairs_by_the_watt_hour(bids: Iterable[Order], asks: Sequence[Order], fees: Fees) -> list[Pair]:
    """Each watt-hour, from the best bid on, takes the cheapest left that it may and can pay for."""
    left = {ask: ask.energy_wh for ask in asks}
    pairs: Counter[tuple[Order, Order]] = Counter()
    for bid in sorted(bids, key=lambda o: (-o.price, o.number)):
        offered = [
            (fees.total(bid.home, ask.home, ask.price), ask.number, ask)
            for ask in asks
            if suits(bid, ask)
        ]
        offered = sorted(row for row in offered if row[0] <= bid.price * WHOLE)
        for _ in range(bid.energy_wh):
            for _, _, ask in offered:
                if ask.home == GRID or left[ask]:
                    left[ask] -= 1
                    pairs[bid, ask] += 1
                    break
    return [Pair(bid, ask, energy) for (bid, ask), energy in pairs.items()]


def high_low(
    bids: Sequence[Order], asks: Sequence[Order], rule: str, fees: Fees
) -> list[list[int]]:
    rows = []
    for bid, ask, energy in pairs_by_the_watt_hour(bids, asks, fees):
        price = ask.price
        if ask.home != GRID:
            net = fees.net(bid.home, ask.home, bid.price)
            price = {"ask": ask.price, "bid": net, "mid": (ask.price + net) // 2}[rule]
        rows.append(fees.row(bid, ask, energy, price))
    return rows


def uniform(
    bids: Sequence[Order], asks: Sequence[Order], rule: str, fees: Fees
) -> tuple[list[list[int]], int, int]:
    """Drop who cannot bear the price, find the price of the others, until nobody is dropped.

    Returns the trades, the price, and how many watt-hours of homes met before anybody was dropped.
    """
    pairs = pairs_by_the_watt_hour(bids, asks, fees)
    nets = {pair: fees.net(pair.bid.home, pair.ask.home, pair.bid.price) for pair in pairs}
    homes = [pair for pair in pairs if pair.ask.home != GRID]
    met_wh = sum(pair.energy_wh for pair in homes)
    price = 0
    while homes:
        dearest = max(pair.ask.price for pair in homes)
        lowest = min(nets[pair] for pair in homes if pair.ask.price == dearest)
        price = dearest if rule == "ask" else (dearest + lowest) // 2
        bearing = [pair for pair in homes if nets[pair] >= price]
        if len(bearing) == len(homes):
            break
        homes = bearing
    grid = next((ask for ask in asks if ask.home == GRID), None)
    lifted: Counter[Order] = Counter()
    for pair in pairs:
        if pair not in homes and grid is not None and pair.bid.price >= grid.price:
            lifted[pair.bid] += pair.energy_wh
    rows = [fees.row(bid, ask, energy, price) for bid, ask, energy in homes]
    if grid is not None:
        rows += [fees.row(bid, grid, energy, grid.price) for bid, energy in lifted.items()]
    return rows, price, met_wh


def request_offer(
    request: Order, offers: Sequence[Order], fees: Fees
) -> tuple[list[list[int]], int, list[list[int]]]:
    """Of all ways to accept offers, the one that serves most, costs least, is earliest: in turn."""
    usable = sorted(
        (
            offer
            for offer in offers
            if suits(request, offer)
            and fees.total(request.home, offer.home, offer.price) <= request.price * WHOLE
        ),
        key=lambda o: o.number,
    )
    totals = [fees.total(request.home, offer.home, offer.price) for offer in usable]

    def rank(amounts: tuple[int, ...]) -> tuple[int, int, list[int]]:
        cost = sum(a * t for a, t in zip(amounts, totals, strict=True))
        return -sum(amounts), cost, [-amount for amount in amounts]

    ways = itertools.product(*(range(offer.energy_wh + 1) for offer in usable))
    best = min((way for way in ways if sum(way) <= request.energy_wh), key=rank)
    accepted = {offer.number: amount for offer, amount in zip(usable, best, strict=True)}
    order = sorted(zip(totals, usable, best, strict=True), key=lambda r: (r[0], r[1].number))
    rows = [fees.row(request, offer, amount, offer.price) for _, offer, amount in order if amount]
    feedback = [[offer.number, accepted.get(offer.number, 0)] for offer in offers]
    return rows, request.energy_wh - sum(best), feedback


def whole(parts: Sequence[Fraction], total: int, homes: Sequence[int]) -> list[int]:
    """Round down, then one watt-hour each to the largest remainders, to the lower home if equal."""
    rounded = [math.floor(part) for part in parts]
    ranking = sorted(range(len(parts)), key=lambda i: (rounded[i] - parts[i], homes[i]))
    for i in ranking[: total - sum(rounded)]:
        rounded[i] += 1
    return rounded


def shares(
    surplus: Sequence[Sequence[int]], demand: Sequence[Sequence[int]], key: str
) -> tuple[list[int], list[int]]:
    """What each gives and gets."""
    homes = [row[0] for row in demand]
    pool = sum(row[1] for row in surplus)
    weights = [row[1] if key == "by_consumption" else row[2] for row in demand]
    got = [Fraction(0)] * len(demand)
    left = Fraction(pool)
    open_ = [i for i, weight in enumerate(weights) if weight]
    while left and open_:
        total = sum(weights[i] for i in open_)
        portion = left
        for i in open_:
            part = portion * weights[i] / total
            if key != "static_once":
                part = min(part, demand[i][1] - got[i])
            got[i] += part
            left -= part
        open_ = [i for i in open_ if got[i] < demand[i][1]]
    taken = whole(got, math.floor(sum(got, Fraction(0))), homes)
    if key == "static_once":
        taken = [min(taken[i], row[1]) for i, row in enumerate(demand)]
    parts = [Fraction(sum(taken) * row[1], pool) if pool else Fraction(0) for row in surplus]
    return whole(parts, sum(taken), [row[0] for row in surplus]), taken


def share(
    surplus: Sequence[Sequence[int]],
    demand: Sequence[Sequence[int]],
    key: str,
    price: int,
    fees: Fees,
) -> list[list[int]]:
    """Both sides as rows of single watt-hours, laid side by side."""
    given, taken = shares(surplus, demand, key)
    sellers = [row[0] for row, energy in zip(surplus, given, strict=True) for _ in range(energy)]
    buyers = [row[0] for row, energy in zip(demand, taken, strict=True) for _ in range(energy)]
    pairs = Counter(zip(buyers, sellers, strict=True))
    return [
        fees.row(Order(0, buyer, 0, 0), Order(0, seller, 0, 0), energy, price)
        for (buyer, seller), energy in pairs.items()
    ]


class Feeder(NamedTuple):
    """`parents` and `ratings` by line (place 0 unused); `homes` by home's number."""

    parents: Sequence[int]
    ratings_wh: Sequence[int]
    homes: Sequence[int]

    def above(self, home: int) -> list[int]:
        """The lines from a home up to the substation."""
        line, found = self.homes[home], []
        while line:
            found.append(line)
            line = self.parents[line]
        return found


def secure(
    trades: Sequence[Sequence[int]], feeder: Feeder, flows: Sequence[int]
) -> tuple[list[int], dict[int, int], list[int]]:
    """Let through watt-hour by watt-hour what overloads no line; each time, from the homes' sums.

    Returns the energies kept, what each line cut, and the flows.
    """
    above = [feeder.above(home) for home in range(len(feeder.homes))]
    below = [
        [home for home, lines in enumerate(above) if line in lines]
        for line in range(len(feeder.parents))
    ]
    export = [0] * len(feeder.homes)

    def carried(line: int) -> int:
        return flows[line] + sum(export[home] for home in below[line])

    def try_one(trade: Sequence[int]) -> int:
        """Add one watt-hour; return 0, or take it back and return the line that was over."""
        buyer, seller = trade[0], trade[1]
        export[seller] += 1
        export[buyer] -= 1
        for line in [*above[seller], *above[buyer]]:
            if (line in above[seller]) != (line in above[buyer]) and abs(
                carried(line)
            ) > feeder.ratings_wh[line]:
                export[seller] -= 1
                export[buyer] += 1
                return line
        return 0

    kept = [0] * len(trades)
    cut: dict[int, int] = {}
    for attempt in (1, 2):
        for i, trade in enumerate(trades):
            while kept[i] < trade[4]:
                bound = try_one(trade)
                if bound:
                    if attempt == 2:
                        cut[bound] = cut.get(bound, 0) + trade[4] - kept[i]
                    break
                kept[i] += 1
    return kept, cut, [0, *(carried(line) for line in range(1, len(feeder.parents)))]
