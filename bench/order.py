"""What an order costs a node, part by part, in one process: `uv run python -m bench.order`.

Blocks of as many orders as homes go the way that every node takes them: decoded and verified,
admitted, executed, their roots made, and block, receipts and state stored and committed. Given is
the CPU time of the whole process, by parts; a part's figure is the median over the blocks. The
ratio is to one signature verification in the same run.

    uv run python -m bench.order [--orders 500] [--blocks 12] [--profile]
"""

import argparse
import asyncio
import collections
import cProfile
import pstats
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Said, command, figure
from bench.load import ENERGY_WH, ORDERS_PER_SLOT, PRICE_MICRO_PER_KWH, key_of
from bench.machine import signature_us
from bench.throughput import FIRST_SLOT, HOMES, bench_genesis
from consensus.messages import tx_root
from market import client
from market.app import Application, BlockEnv
from node.chain.store import Store, StoredBlock
from node.process import collect_seldom
from wire.codec import encode
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction, check

VALID_MS = 3_600_000
AIM_SIGNATURES = 3
PROFILED = 40


class Clock:
    """CPU time by part."""

    def __init__(self) -> None:
        self.blocks: list[collections.Counter[str]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge what runs inside to a part of the present block."""
        begun = time.process_time()
        yield
        self.blocks[-1][name] += time.process_time() - begun


def signed_block(
    app: Application, chain_id: str, number: int, orders: int, now_ms: int
) -> list[bytes]:
    """Return the orders of a block, each home posting in turn as in `bench.load`."""
    first_slot = app.params.market_start_ms // app.params.slot_ms + FIRST_SLOT
    raws = []
    for place in range(number * orders, (number + 1) * orders):
        home, nonce = place % HOMES, 1 + place // HOMES
        side = "sell" if home % 2 else "buy"
        slot = first_slot + nonce // ORDERS_PER_SLOT
        call = client.post_order(slot, side, ENERGY_WH, PRICE_MICRO_PER_KWH + home % 1_000)
        raws.append(client.sign_call(call, key_of(home), chain_id, nonce, now_ms + VALID_MS).raw)
    return raws


async def measure(options: argparse.Namespace) -> Clock:
    """Take blocks through and return what their parts used."""
    genesis = bench_genesis([SigningKey.generate()])
    chain_id = genesis.chain_id
    app = Application(genesis.market)
    app.commit(app.genesis())
    clock = Clock()
    profile = cProfile.Profile() if options.profile else None
    with tempfile.TemporaryDirectory() as directory:
        store = await Store.open(Path(directory) / "chain.db", bytes(32))
        for number in range(options.blocks):
            now_ms = genesis.market.genesis_ms + 1_000 * (number + 1)
            raws = signed_block(app, chain_id, number, options.orders, now_ms)
            clock.blocks.append(collections.Counter())
            if profile:
                profile.enable()
            await _one_block(app, store, clock, raws, BlockEnv(number + 1, now_ms))
            if profile:
                profile.disable()
        await store.close()
    if profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(PROFILED)
    return clock


async def _one_block(
    app: Application, store: Store, clock: Clock, raws: list[bytes], env: BlockEnv
) -> None:
    with clock.part("decode, verify"):
        checked = check(raws, app.params.chain_id, env.time_ms)
    txs = [found for found in checked if isinstance(found, CheckedTransaction)]
    with clock.part("admit"):
        for tx in txs:
            app.check(tx)
    with clock.part("execute, roots, laws"):
        result = app.execute(env, txs)
    good = sum(receipt.code == "ok" for receipt in result.receipts)
    if good != len(raws):
        raise SystemExit(f"{good} of {len(raws)} orders were accepted")
    with clock.part("transactions' root"):
        root = tx_root(tuple(raws))
    with clock.part("store, commit"):
        stored = StoredBlock(env.height, root, encode(raws), b"", encode(result.receipts))
        await store.commit(stored, [tx.tx_id for tx in txs], result.writes)
        app.commit(result)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--orders", type=int, default=500, help="in a block")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--profile", action="store_true", help="where the CPU goes, by function")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    collect_seldom()
    before = signature_us()
    clock = asyncio.run(measure(given))
    each = [before, signature_us()]
    base = "a signature's verification", each
    # The first block finds no cache filled.
    blocks = clock.blocks[1:] or clock.blocks
    for name in blocks[0]:
        yield figure(name, "us", [1e6 * one[name] / given.orders for one in blocks], over=base)
    whole = [1e6 * one.total() / given.orders for one in blocks]
    yield figure("in all", "us", whole, over=base, aim=AIM_SIGNATURES * sum(each) / len(each))


if __name__ == "__main__":
    command(__doc__, options, figures)
