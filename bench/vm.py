"""How fast the contract machine is: `uv run python -m bench.vm`.

- clearing 10,000 orders inside the machine, state in and out, beside the same algorithm in plain
  CPython over ready lists;
- one posted order, the whole path through the machine: admission, three contracts, journal;
- the state root for 500 updates at 10,000 keys.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator

from bench.figures import Figure, Said, command, figure
from market import client
from market.app import Application, BlockEnv
from market.vm import merkle
from market.vm.gas import HOOK_CAPS
from market.vm.journal import Journal
from tests.market.reference import match_rows
from tests.market.street import HOME_KEYS, SLOT, START_MS, Street, params
from wire.codec import encode
from wire.keys import verify

ORDERS = 10_000
ORDERS_PER_HOME = 2
ROUNDS = 15


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    yield clearing(given.rounds)
    yield posting(67 * given.rounds)
    yield rooting(2 * given.rounds)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of clearing; of others more")


def clearing(rounds: int) -> Figure:
    """Clear a slot, in the machine and out of it."""
    app, rows = _full_slot()
    env = app._env(BlockEnv(1, START_MS + 10 * 60_000))

    def run() -> None:
        journal = Journal(app._state)
        outcome = app._executor.run(journal, "market", "on_block", {}, env, HOOK_CAPS)
        if outcome.error or not journal.writes:
            raise RuntimeError(f"{outcome.error} {outcome.detail}")

    def plain() -> None:
        match_rows(rows)

    over = "plain CPython", _times(plain, rounds)
    return figure(f"clearing {ORDERS:,} orders", "ms", _times(run, rounds), over=over, aim=60)


def _full_slot() -> tuple[Application, list[list[int]]]:
    """An application whose next slot holds `ORDERS` orders of many homes."""
    street = Street(params(homes=1))
    street.home(1, client.post_order(SLOT, "buy", 1, 1))
    random_ = random.Random(1)
    state = street.app._state
    writes: dict[str, bytes | None] = {}
    rows: list[list[int]] = []
    number = 0
    demand = 0
    for home in range(1, ORDERS // ORDERS_PER_HOME + 1):
        side = home % 2
        own = []
        for _ in range(ORDERS_PER_HOME):
            number += 1
            energy, price = random_.randrange(50, 2_500), random_.randrange(80_000, 210_000)
            own.append([number, home, side, energy, price, START_MS + number, energy * 20])
            demand += 0 if side else energy
        rows += own
        writes[f"market/orders/{SLOT}/{home}"] = encode(own)
    round_now = street.query("market", "round", {"slot": SLOT})
    round_now.update(posted=number, bids=ORDERS // 2, asks=ORDERS // 2, bid_wh=demand)
    writes[f"market/slot/{SLOT}"] = encode(round_now)
    state.apply(writes)
    return street.app, rows


def posting(rounds: int) -> Figure:
    """Post one order, the whole path through the machine."""
    street = Street(params(homes=8, balance_micro=10**12))
    street.home(2, client.post_order(SLOT, "buy", 10, 150_000))
    app = street.app
    txs = [
        street.sign(HOME_KEYS[0], client.post_order(SLOT, "buy", 100, 150_000), nonce=5)
        for _ in range(1)
    ]
    env = BlockEnv(street.height + 1, street.time_ms + 1_000)

    shown = app._env(env)

    def run() -> None:
        receipt = app._run_transaction(Journal(app._state), env, txs[0], shown)
        if receipt.code != "ok":
            raise RuntimeError(receipt.message)

    message, signature = txs[0].raw, HOME_KEYS[0].sign(txs[0].raw)
    public = HOME_KEYS[0].public
    base = [1e3 * one for one in _times(lambda: verify(public, message, signature), rounds)]
    took = [1e3 * one for one in _times(run, rounds)]
    over = "its signature's verification", base
    return figure("a posted order, whole path", "us", took, over=over, aim=250)


def rooting(rounds: int) -> Figure:
    """Renew the state's root."""
    random_ = random.Random(2)
    items = {f"k/{i}": random_.randbytes(40) for i in range(10_000)}
    tree = merkle.update(None, items)
    changes = {f"k/{random_.randrange(10_000)}": random_.randbytes(40) for _ in range(500)}
    over = "building it anew", _times(lambda: merkle.update(None, items), max(3, rounds // 3))
    took = _times(lambda: merkle.update(tree, changes), rounds)
    return figure("state root, 500 updates at 10,000 keys", "ms", took, over=over)


def _times(run: Callable[[], object], rounds: int) -> list[float]:
    """Return how long each round takes. [ms of the processor]"""
    run()
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        run()
        times.append(1e3 * (time.thread_time() - start))
    return times


if __name__ == "__main__":
    command(__doc__, options, figures)
