"""How fast the contract machine is: `uv run python -m bench.vm [--profile]`.

- clearing 10,000 orders inside the machine, state in and out, beside the same algorithm in plain
  CPython over ready lists;
- one posted order, the whole path through the machine: admission, three contracts, journal;
- the state root for 500 updates at 10,000 keys.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable

from bench.machine import describe
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


def main() -> None:
    print(describe())
    clearing()
    posting()
    rooting()


def clearing() -> None:
    app, rows = _full_slot()
    env = app._env(BlockEnv(1, START_MS + 10 * 60_000))
    bids, asks = match_rows(rows)

    def run() -> None:
        journal = Journal(app._state)
        outcome = app._executor.run(journal, "market", "on_block", {}, env, HOOK_CAPS)
        if outcome.error or not journal.writes:
            raise RuntimeError(f"{outcome.error} {outcome.detail}")

    def plain() -> None:
        match_rows(rows)

    took = _report(f"clear {ORDERS:,} orders in the machine, state in and out", run, 15)
    base = _report("the same matching in plain CPython", plain, 15)
    print(f"    ratio {took / base:.1f}; crossing book of {len(bids)} bids and {len(asks)} asks")


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


def posting() -> None:
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

    took = _report("a posted order, whole path in the machine", run, 1_000)
    message, signature = txs[0].raw, HOME_KEYS[0].sign(txs[0].raw)
    base = _report(
        "its signature's verification",
        lambda: verify(HOME_KEYS[0].public, message, signature),
        1_000,
    )
    print(f"    ratio {took / base:.1f}")


def rooting() -> None:
    random_ = random.Random(2)
    items = {f"k/{i}": random_.randbytes(40) for i in range(10_000)}
    tree = merkle.update(None, items)
    changes = {f"k/{random_.randrange(10_000)}": random_.randbytes(40) for _ in range(500)}
    took = _report(
        "state root, 500 updates at 10,000 keys", lambda: merkle.update(tree, changes), 30
    )
    base = _report("the whole tree built anew", lambda: merkle.update(None, items), 10)
    print(f"    ratio {took / base:.3f}")


def _report(name: str, run: Callable[[], object], rounds: int) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    middle = statistics.median(times)
    print(
        f"{name}: {middle * 1e3:.3f} ms (min {min(times) * 1e3:.3f}, max {max(times) * 1e3:.3f}, "
        f"n={rounds})"
    )
    return middle


if __name__ == "__main__":
    if "--profile" in sys.argv:
        import cProfile

        cProfile.run("main()", sort="cumulative")
    else:
        main()
