"""How fast the mechanisms are: `uv run python -m bench.matching [ORDERS ...]`.

For each mechanism of the libraries and each number of orders (10,000 and 100,000 unless given):
orders taken from the state, matched inside the machine, trades written back; beside the same text
run by plain CPython over ready lists. Times are of the processor: one thread, which waits for
nothing.

`bench.peers.pymarket_auctions` has PyMarket's auctions clear the same orders.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from bench.figures import Figure, Said, command, figure
from market import contracts
from market.vm.executor import Executor
from market.vm.gas import HOOK_CAPS
from market.vm.journal import Journal, State
from market.vm.starlark import StarlarkEngine
from wire.codec import encode

SIZES = (10_000, 100_000)
ROUNDS = {10_000: 11}
ROUNDS_ELSE = 3
# For the median. [ms]
AIMS_MS = {10_000: 50.0, 100_000: 800.0}
ORDERS_PER_HOME = 20
OFFERS_PER_REQUEST = 19
LINES = 63
HOUR_MS = 3_600_000
TARIFF = 200_000

CONTRACT = """
EXPORTS = {"clear": "query"}
LIBRARIES = ["matching", "feeder", "sharing"]
ROWS_PER_CHUNK = 64

def clear(mechanism, terms):
    rows = [row for own in kv_scan("orders/") for row in own]
    found = match(mechanism, rows, terms)
    chunks = {}
    for first in range(0, len(found), ROWS_PER_CHUNK):
        rows = found[first:first + ROWS_PER_CHUNK]
        chunks["trades/" + str(100000 + first // ROWS_PER_CHUNK)] = rows
    kv_put_many(chunks)
    return len(found)
"""

# Both the contract's and plain CPython's: rows are [side, -price or price, number, home, wh, green,
# partner] of orders, [home, wh, coefficient] of a sharing with the surplus' coefficient -1.
MATCH = """
def match(mechanism, rows, terms):
    fees = terms["fees"]
    if mechanism == "share":
        surplus = [[home, wh] for home, wh, coefficient in rows if coefficient == -1]
        demand = [row for row in rows if row[2] != -1]
        return priced(share(surplus, demand, terms["rule"]), 90000, fees)
    bids = sorted([[p, n, h, wh, g, to] for side, p, n, h, wh, g, to in rows if side == 0])
    asks = [[p, n, h, wh, g, to] for side, p, n, h, wh, g, to in rows if side == 1]
    if mechanism == "request_offer":
        found = []
        each = terms["each"]
        for i, bid in enumerate(bids):
            answered = request_offer(bid, asks[i * each:(i + 1) * each], fees)
            for row in answered["trades"]:
                found.append(row)
        return found
    asks = sorted(asks + [[terms["tariff"], STANDING, 0, 0, 0, 0]])
    if mechanism == "uniform":
        return uniform(bids, asks, terms["rule"], fees)["trades"]
    found = high_low(bids, asks, terms["rule"], fees)["trades"]
    if mechanism == "secure":
        flows = [0 for _ in range(len(terms["feeder"]["lines"]) + 1)]
        kept_wh = secure(found, terms["feeder"], flows, 3600000)["kept_wh"]
        return resized(found, kept_wh, fees)
    return found
"""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("orders", nargs="*", metavar="ORDERS", type=_count, default=SIZES)


def _count(word: str) -> int:
    count = int(word.replace(",", ""))
    if count < 1:
        raise argparse.ArgumentTypeError(f"{word}: a number of orders, 1 or more, is needed")
    return count


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure each mechanism."""
    for count in given.orders:
        for name in _cases(count):
            found, trades = measure(name, count)
            yield found
            yield f"  {trades:,} trades"


def measure(name: str, count: int) -> tuple[Figure, int]:
    """Return the figure of one mechanism, and its number of trades."""
    mechanism, rows, terms = case(name, count)
    executor, state = _machine(rows)
    plain = _plain()

    def inside() -> int:
        journal = Journal(state)
        args = {"mechanism": mechanism, "terms": terms}
        outcome = executor.run(journal, "c", "clear", args, {}, HOOK_CAPS)
        if outcome.error or not journal.writes:
            raise RuntimeError(f"{name}: {outcome.error} {outcome.detail}")
        return int(outcome.result)  # type: ignore[call-overload, no-any-return]

    trades = inside()
    rounds = ROUNDS.get(count, ROUNDS_ELSE)
    took = _times(inside, rounds)
    base = _times(lambda: plain["match"](mechanism, rows, terms), rounds)
    aim, over = AIMS_MS.get(count), ("plain CPython", base)
    return figure(f"{name}, {count:,} orders", "ms", took, over=over, aim=aim), trades


def _cases(count: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """The mechanisms measured, by name: what `match` runs, and on which terms."""
    free = {"constant_micro_per_kwh": 0, "share_bp": 0, "matrix": [], "clusters": []}
    flat = {**free, "constant_micro_per_kwh": 4_000, "share_bp": 500}
    far = [[abs(a - b) * 2_000 for a in range(4)] for b in range(4)]
    clusters = [home // 2 % 4 for home in range(count // ORDERS_PER_HOME + 4)]
    near = {**flat, "matrix": far, "clusters": clusters}
    return {
        "high_low": ("high_low", {"rule": "ask", "fees": free}),
        "high_low with fees": ("high_low", {"rule": "mid", "fees": flat}),
        "high_low with 4 clusters and preferences": ("high_low", {"rule": "mid", "fees": near}),
        "uniform": ("uniform", {"rule": "ask", "fees": free}),
        "uniform with 4 clusters and preferences": ("uniform", {"rule": "ask", "fees": near}),
        "request_offer": ("request_offer", {"rule": "", "fees": flat}),
        "share, static": ("share", {"rule": "static", "fees": flat}),
        "share, by_consumption": ("share", {"rule": "by_consumption", "fees": flat}),
        "high_low and lines": ("secure", {"rule": "ask", "fees": free}),
    }


def case(name: str, count: int) -> tuple[str, list[list[int]], dict[str, Any]]:
    """Return what `match` runs, the orders and the terms of one mechanism."""
    mechanism, terms = _cases(count)[name]
    random_ = random.Random(1)
    if mechanism == "share":
        rows = [
            [home, random_.randrange(1, 3_000), -1 if home % 2 else random_.randrange(1, 1_000_000)]
            for home in range(1, count + 1)
        ]
        return mechanism, rows, terms
    picky = "preferences" in name
    each = OFFERS_PER_REQUEST + 1
    rows = []
    for number in range(1, count + 1):
        home = 1 + number // ORDERS_PER_HOME
        # One request, then its offers; else a home's orders are of one side.
        selling = number % each != 0 if mechanism == "request_offer" else home % 2
        price = random_.randrange(80_000, 210_000)
        green = int(picky and random_.randrange(4) == 0)
        # Homes with odd numbers sell.
        other = (2 * random_.randrange(1, home // 2 + 2) - 1) + int(selling)
        partner = other if picky and random_.randrange(20) == 0 else 0
        asking = mechanism == "request_offer" and not selling
        energy = random_.randrange(50, 2_500) * (8 if asking else 1)
        rows.append(
            [int(selling), price if selling else -price, number, home, energy, green, partner]
        )
    lines = [[line, line // 2, 40_000_000] for line in range(1, LINES + 1)]
    homes = [0, *(1 + home % LINES for home in range(count // ORDERS_PER_HOME + 1))]
    terms |= {"tariff": TARIFF, "each": OFFERS_PER_REQUEST}
    if mechanism == "secure":
        terms["feeder"] = {"lines": lines, "homes": homes}
    return mechanism, rows, terms


def _machine(rows: list[list[int]]) -> tuple[Executor, State]:
    executor, state = Executor(StarlarkEngine()), State()
    journal = Journal(state)
    for name in contracts.LIBRARIES:
        executor.deploy_library(journal, name, contracts.source(name))
    executor.deploy(journal, "c", CONTRACT + MATCH)
    for first in range(0, len(rows), ORDERS_PER_HOME):
        journal.put(f"c/orders/{first:07}", encode(rows[first : first + ORDERS_PER_HOME]))
    state.apply(journal.writes)
    return executor, state


def _plain() -> dict[str, Any]:
    """The libraries' own text, unguarded, as a module of CPython."""
    names: dict[str, Any] = {"reversed": lambda items: items[::-1]}
    text = "".join(contracts.source(name) for name in contracts.LIBRARIES)
    exec(compile(text + MATCH, "libraries", "exec"), names)
    return names


def _times(run: Callable[[], object], rounds: int) -> list[float]:
    """Return how long each round takes. [ms]"""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        run()
        times.append(1e3 * (time.thread_time() - start))
    return times


if __name__ == "__main__":
    command(__doc__, options, figures)
