"""What a region of 1,000 homes keeps: `uv run python -m bench.region [--homes N] [--slots N]`.

Every home posts an order for every slot and its meter a reading; slots are cleared, settled and,
once they are older than `keep_slots`, forgotten. Printed are the state's keys and bytes as slots go
by, what a slot costs, the state root for 500 updates at 100,000 keys, and how long a node takes to
load a state of 100,000 keys, and the last one, after a restart (every key read, the tree built
anew, the money counted). As many slots as are kept, and then a quarter more: from there on every
slot forgets as much as it adds, and the command fails if one does not. A month of quarter hours:
`--homes 100 --slots 2880`.
"""

import argparse
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Iterator

from bench.figures import Figure, Said, command, figure
from market import client
from market.app import Application, BlockEnv
from market.genesis import HomeEntry
from market.vm import merkle
from node.process import collect_seldom, rss_mib
from tests.market.street import SLOT, SLOT_MS, START_MS, params
from wire.codec import encode
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

BLOCK_TRANSACTIONS = 500
# Slots in the open while another is added: not yet settled, or settled and not yet forgotten.
SLOTS_UNDER_WAY = 4
LOADS = 3
ROOT_KEYS = 100_000
UPDATES = 500
# A slot's cost is told of the last so many.
TOLD = 10


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=1_000)
    parser.add_argument("--slots", type=int)
    parser.add_argument("--keep-slots", type=int, default=192)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    past = max(given.keep_slots // 4, 3 * SLOTS_UNDER_WAY)
    slots = given.slots or given.keep_slots + past
    yield rooting()
    region = Region(given.homes, given.keep_slots)
    # As a daemon does: what is there stays.
    collect_seldom()
    tried = False
    kept: list[int] = []
    for number in range(1, slots + 1):
        region.slot(SLOT + number - 1)
        keys = len(region.app._state.items)
        if not tried and keys >= ROOT_KEYS:
            yield loading(f"starting again with {keys:,} keys", region.restart, 3.0)
            tried = True
        if number >= given.keep_slots + SLOTS_UNDER_WAY:
            # How many chunks a slot's trades fill is up to its bids.
            kept.append(keys - len(region.app._state.keys_under("market/trades/")))
        if number % max(1, slots // 10) == 0:
            yield region.tell(number)
    yield loading("starting again at the end", region.restart)
    yield figure("a slot", "s", region.cpu_s[-TOLD:])
    keys, size = region.held()
    yield figure("keys of the state at the end", "", keys)
    yield figure("state at the end", "MiB", size / 1_048_576)
    yield figure("process at the end", "MiB", rss_mib())
    if kept and max(kept) != kept[0]:
        raise SystemExit(f"the state grows: {kept[0]:,} keys, and later {max(kept):,}")
    if kept:
        count = f"{kept[0]:,} keys beside trades"
        yield f"the plateau: {count} after each of the last {len(kept)} slots"


def loading(name: str, work: Callable[[], list[float]], aim: float | None = None) -> Figure:
    """Return what a restart takes, in a process of its own: this one's memory stays a node's."""
    context = multiprocessing.get_context("fork")
    near, far = context.Pipe(duplex=False)

    def there() -> None:
        far.send(work())

    child = context.Process(target=there)
    child.start()
    far.close()
    try:
        took = near.recv()
    except EOFError:
        child.join()
        raise SystemExit(f"{name}: it failed with code {child.exitcode}") from None
    child.join()
    return figure(name, "s", took, aim=aim)


class Region:
    """An application whose homes all trade and are all metered, slot after slot."""

    def __init__(self, homes: int, keep_slots: int) -> None:
        self.keys = [SigningKey(number.to_bytes(32, "big")) for number in range(1, homes + 1)]
        self.meters = [key.derive("meter") for key in self.keys]
        entries = tuple(
            HomeEntry(
                address=key.address,
                meter=meter.address,
                name=f"home {number}",
                role="prosumer",
                import_cap_w=10_000,
                export_cap_w=10_000,
                balance_micro=10**12,
                green=number % 2 == 0,
            )
            for number, (key, meter) in enumerate(zip(self.keys, self.meters, strict=True))
        )
        self.keep_slots = keep_slots
        self.params = params(entries, keep_slots=keep_slots)
        self.app = Application(self.params)
        self.app.commit(self.app.genesis())
        self.random = random.Random(1)
        self.nonce = 0
        self.cpu_s: list[float] = []

    def slot(self, slot: int) -> None:
        """Post, clear, read and settle one slot."""
        self._cpu_s = 0.0
        amounts = [self.random.randrange(50, 500) for _ in self.keys]
        orders = []
        for number, key in enumerate(self.keys):
            side = "sell" if number % 2 == 0 else "buy"
            price = self.random.randrange(90_000, 190_000)
            call = client.post_order(slot, side, amounts[number], price)
            orders.append(self._sign(key, call, slot))
        begin_ms = slot * SLOT_MS - START_MS
        self._blocks(orders, begin_ms - 8 * 60_000)
        self._blocks([], begin_ms - 5 * 60_000)
        readings = []
        for number, meter in enumerate(self.meters):
            sides = (0, amounts[number]) if number % 2 == 0 else (amounts[number], 0)
            readings.append(self._sign(meter, client.post_reading(slot, *sides, slot), slot))
        self._blocks(readings, begin_ms + SLOT_MS)
        self._blocks([], begin_ms + SLOT_MS + 60_000)
        self.cpu_s.append(self._cpu_s)

    def _sign(self, key: SigningKey, call: client.Call, slot: int) -> CheckedTransaction:
        self.nonce += 1
        return client.sign_call(call, key, "street", self.nonce, (slot + 8) * SLOT_MS)

    def _blocks(self, txs: list[CheckedTransaction], at_ms: int) -> None:
        for first in range(0, max(1, len(txs)), BLOCK_TRANSACTIONS):
            chunk = txs[first : first + BLOCK_TRANSACTIONS]
            env = BlockEnv(self.app.height + 1, START_MS + at_ms + first)
            begun = time.process_time()
            result = self.app.execute(env, chunk)
            self.app.commit(result)
            self._cpu_s += time.process_time() - begun
            bad = [receipt for receipt in result.receipts if receipt.code != "ok"]
            if bad:
                raise RuntimeError(f"{bad[0].reason}: {bad[0].message}")

    def held(self) -> tuple[int, int]:
        """Return how many keys the state has, and its bytes."""
        items = self.app.state_items()
        return len(items), sum(len(key) + len(value) for key, value in items)

    def tell(self, slots: int) -> str:
        """Return in words what the state holds now."""
        keys, size = self.held()
        return (
            f"after {slots:4} slots (keeping {self.keep_slots}): {keys:7,} keys, "
            f"{size / 1_048_576:6.1f} MiB, process {rss_mib():5.0f} MiB, "
            f"a slot {statistics.median(self.cpu_s[-TOLD:]):.2f} CPU s"
        )

    def restart(self) -> list[float]:
        """Load the state as a node does that starts again; return how long it takes. [s]"""
        items, height, root = self.app.state_items(), self.app.height, self.app.state_root
        took = []
        for _ in range(LOADS):
            again = Application(self.params)
            begun = time.process_time()
            again.load(items, height)
            took.append(time.process_time() - begun)
            if again.state_root != root:
                raise RuntimeError("another root after loading")
        return took


def rooting() -> Figure:
    """Return what 500 updates of a state of 100,000 keys cost."""
    tree = merkle.update(None, {f"a/{n}": encode(n) for n in range(ROOT_KEYS)})
    random_ = random.Random(2)
    took = []
    for turn in range(11):
        writes = {f"a/{random_.randrange(ROOT_KEYS)}": encode([turn, n]) for n in range(UPDATES)}
        begun = time.process_time()
        merkle.root_of(merkle.update(tree, writes))
        took.append((time.process_time() - begun) * 1000)
    return figure(f"state root, {UPDATES} updates at {ROOT_KEYS:,} keys", "ms", took, aim=12)


if __name__ == "__main__":
    command(__doc__, options, figures)
