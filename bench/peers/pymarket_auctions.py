"""PyMarket's auctions beside ours, on the same 10,000 orders.

    uv run python -m bench.peers.pymarket_auctions [--orders 10000] [--rounds 3]

PyMarket 0.7.6 in an environment of its own, made from the package index the first time. Its Huang
auction stands beside `high_low`, its MUDA beside `uniform`: both clear sealed bids and asks of one
slot. Ours is timed as the contract runs it, orders from the state and trades into it (see
`bench.matching`), theirs without reading the orders in.
"""

import argparse
from collections.abc import Iterator
from typing import Final

from bench.figures import Said, command, figure
from bench.matching import case, measure
from bench.peers.environment import ask, python_of

# Later versions of pandas lack what it calls.
PACKAGES: Final = ("pymarket==0.7.6", "pandas<2.2")
PYTHON: Final = "3.11"
OURS: Final = {"huang": "high_low", "muda": "uniform"}
ORDERS: Final = 10_000
ROUNDS: Final = 3


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--orders", type=int, default=ORDERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure both."""
    python = python_of(PACKAGES, PYTHON)
    _, rows, _ = case("high_low", given.orders)
    orders = [[wh, abs(price), home, 1 - side] for side, price, _, home, wh, _, _ in rows]
    took: dict[str, list[float]] = {}
    for _ in range(given.rounds):
        for auction, spent, transactions, bought in ask(python, "pymarket_auctions", orders):
            if auction not in took:
                yield f"{auction}: {transactions:,} transactions, {bought / 1000:,.0f} kWh bought"
            took.setdefault(auction, []).append(1_000 * spent)
    for auction, name in OURS.items():
        ours, trades = measure(name, given.orders)
        yield f"{name}: {trades:,} trades"
        yield ours
        title = f"PyMarket 0.7.6, {auction}, {given.orders:,} orders"
        yield figure(title, "ms", took[auction], over=(f"{name} in the VM", ours.values))


if __name__ == "__main__":
    command(__doc__, options, figures)
