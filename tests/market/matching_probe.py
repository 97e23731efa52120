"""The libraries of matching, behind entries of their own, on either engine; random books."""

import random
from collections.abc import Sequence
from typing import Any

from market import contracts
from market.vm.engine import Engine
from market.vm.gas import HOOK_CAPS
from market.vm.starlark import StarlarkEngine
from tests.market.matching_reference import GRID, STANDING, Feeder, Fees, Order
from tests.market.vm.machine import Machine

PROBE = """
EXPORTS = {"high": "query", "one_price": "query", "request": "query", "sharing": "query",
           "security": "query", "fault": "query", "fee_fault": "query"}
LIBRARIES = ["matching", "feeder", "sharing"]

def high(bids, asks, rule, fees):
    return high_low(bids, asks, rule, fees)
def one_price(bids, asks, rule, fees):
    return uniform(bids, asks, rule, fees)
def request(bid, offers, fees):
    return request_offer(bid, offers, fees)
def sharing(surplus, demand, key, price, fees):
    return priced(share(surplus, demand, key), price, fees)
def security(trades, feeder, flows, slot_ms, fees):
    found = secure(trades, feeder, flows, slot_ms)
    found["trades"] = resized(trades, found.pop("kept_wh"), fees)
    return found
def fault(feeder):
    return feeder_fault(feeder)
def fee_fault(fees, homes):
    return fees_fault(fees, homes)
"""

HOUR_MS = 3_600_000


class Matching(Machine):
    """The libraries, called by Python."""

    def __init__(self, engine: Engine | None = None) -> None:
        super().__init__(engine or StarlarkEngine())
        for name in contracts.LIBRARIES:
            self.executor.deploy_library(self.journal, name, contracts.source(name))
        self.executor.deploy(self.journal, "probe", PROBE)

    def call(self, entry: str, **args: Any) -> Any:
        outcome = self.run("probe", entry, HOOK_CAPS, **args)
        assert outcome.error is None, (outcome.error, outcome.detail)
        return outcome.result

    def high_low(
        self, bids: Sequence[Order], asks: Sequence[Order], rule: str, fees: Fees
    ) -> dict[str, Any]:
        return self.call(
            "high", bids=bid_rows(bids), asks=ask_rows(asks), rule=rule, fees=fee_map(fees)
        )

    def uniform(
        self, bids: Sequence[Order], asks: Sequence[Order], rule: str, fees: Fees
    ) -> dict[str, Any]:
        return self.call(
            "one_price", bids=bid_rows(bids), asks=ask_rows(asks), rule=rule, fees=fee_map(fees)
        )

    def request_offer(self, request: Order, offers: Sequence[Order], fees: Fees) -> dict[str, Any]:
        rows = [[o.price, o.number, o.home, o.energy_wh, o.green, o.partner] for o in offers]
        return self.call("request", bid=bid_rows([request])[0], offers=rows, fees=fee_map(fees))

    def share(self, surplus: Any, demand: Any, key: str, price: int, fees: Fees) -> list[list[int]]:
        rows: list[list[int]] = self.call(
            "sharing", surplus=surplus, demand=demand, key=key, price=price, fees=fee_map(fees)
        )
        return rows

    def secure(
        self, trades: Any, feeder: Feeder, flows: Sequence[int], fees: Fees
    ) -> dict[str, Any]:
        """Over slots of an hour, so that watts are watt-hours."""
        return self.call(
            "security",
            trades=trades,
            feeder=feeder_map(feeder),
            flows=list(flows),
            slot_ms=HOUR_MS,
            fees=fee_map(fees),
        )


def bid_rows(bids: Sequence[Order]) -> list[list[int]]:
    return sorted([-o.price, o.number, o.home, o.energy_wh, o.green, o.partner] for o in bids)


def ask_rows(asks: Sequence[Order]) -> list[list[int]]:
    return sorted([o.price, o.number, o.home, o.energy_wh, o.green, o.partner] for o in asks)


def fee_map(fees: Fees) -> dict[str, Any]:
    return {
        "constant_micro_per_kwh": fees.constant,
        "share_bp": fees.share_bp,
        "matrix": [list(row) for row in fees.matrix],
        "clusters": list(fees.clusters),
    }


def feeder_map(feeder: Feeder) -> dict[str, Any]:
    lines = [
        [line, feeder.parents[line], feeder.ratings_wh[line]]
        for line in range(1, len(feeder.parents))
    ]
    return {"lines": lines, "homes": list(feeder.homes)}


# -- random books
BUYERS = (2, 4, 6, 8)
SELLERS = (1, 3, 5, 7)
HOMES = 9


def random_fees(random_: random.Random) -> Fees:
    """No fees, each kind alone, or all of them."""
    kind = random_.randrange(6)
    constant = random_.choice([1, 1_000, 7_777]) if kind in (1, 4, 5) else 0
    share_bp = random_.choice([1, 333, 1_000, 10_000]) if kind in (2, 4, 5) else 0
    if kind not in (3, 5):
        return Fees(constant, share_bp)
    count = random_.randrange(1, 4)
    matrix = [[random_.choice([0, 500, 3_000, 20_001]) for _ in range(count)] for _ in range(count)]
    clusters = [random_.randrange(count) for _ in range(HOMES)]
    return Fees(constant, share_bp, matrix, clusters)


def random_book(
    random_: random.Random, tariff: int, orders_max: int = 20
) -> tuple[list[Order], list[Order]]:
    """A book with ties, equal prices, residuals of nothing, preferences, and mostly the grid."""
    levels = random_.choice([2, 5, 40_000])
    step = random_.choice([1, 1_000])
    picky = random_.choice([0, 0, 3])
    bids, asks = [], []
    for number in range(1, random_.choice([2, 4, 10, orders_max]) + random_.randrange(2)):
        price = random_.choice([tariff, tariff - 1, 90_000 + random_.randrange(levels) * step])
        energy = random_.choice([0, 1, 2, 3, 5, 8])
        selling = random_.randrange(2)
        others = BUYERS if selling else SELLERS
        partner = random_.choice(others) if picky and random_.randrange(4) < 1 else 0
        green = int(bool(picky) and random_.randrange(3) < 1)
        home = random_.choice(SELLERS if selling else BUYERS)
        (asks if selling else bids).append(Order(number, home, price, energy, green, partner))
    if random_.randrange(5):
        asks.append(Order(STANDING, GRID, tariff, 0))
    return bids, asks
