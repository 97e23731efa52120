"""How fast a home catches up: by blocks, and by a snapshot at height 10,000.

    uv run python -m bench.sync [--height 10000] [--state-mib 8] [--repeats 3]

Real nodes on the network's twin, all in this process: four authorities that hold the chain, and a
home that joins. The chain is made at once beforehand. The baseline of the catch-up rate is the
block rate of one per second; that of the snapshot is the promise of 60 s.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figures import Said, command, figure
from bench.ready import aged, heavier_genesis, make_chain
from node.config import SyncSection
from node.daemon import now_ms
from node.genesis import ChainParams, Genesis
from node.setup import DATABASE_NAME
from tests.node.grid import Grid, Member, at_height, make_genesis, until

AUTHORITIES = 4
JOINER = 5
CATCH_UP_BLOCKS = 1_000
BLOCK_TRANSFERS = 10
VALUE_BYTES = 2_000
CATCH_UP_TARGET = 20
SNAPSHOT_TARGET_S = 60


def ballast_of(mib: int) -> dict[str, bytes]:
    """Return incompressible pairs of together so many MiB."""
    count = mib * 1_048_576 // VALUE_BYTES
    return {f"ballast/{number:08d}": os.urandom(VALUE_BYTES) for number in range(count)}


def genesis_of(height: int) -> Genesis:
    """Return the genesis of a street whose chain has reached `height` now."""
    chain = ChainParams(block_interval_ms=1_000, heartbeat_ms=1_000)
    return aged(make_genesis(homes=6, chain=chain), height, now_ms())


async def join_s(grid: Grid, members: list[Member], goal: int) -> float:
    """Return how long a new home takes to reach `goal`. [s]"""
    begun = time.monotonic()
    joiner = await grid.members[JOINER].start()
    node = joiner.node
    await until(
        lambda: joiner.height >= goal and not node.sync.fetching_snapshot, f"height {goal}", 600
    )
    taken_s = time.monotonic() - begun
    loaded = node.sync.counts["snapshots_loaded"]
    if loaded != bool(grid.sync.snapshot_behind):
        raise SystemExit(f"{loaded} snapshots were loaded, which is not what is measured here")
    await joiner.stop()
    for entry in joiner.data.iterdir():
        if entry.name != "wal":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return taken_s


async def measure(height: int, transfers: int, sync: SyncSection, repeats: int) -> list[float]:
    """Make a chain, let four authorities hold it, and let a home join again and again."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        genesis = genesis_of(height)
        database = directory / "ready.db"
        made_s = await make_chain(database, genesis, height - 1, transfers)
        size_mib = database.stat().st_size / 1_048_576
        print(f"  {height - 1} blocks made in {made_s:.0f} s, {size_mib:.0f} MiB", flush=True)
        grid = Grid(directory, genesis, sync=sync)
        for member in grid.members[:AUTHORITIES]:
            shutil.copyfile(database, member.data / DATABASE_NAME)
        try:
            members = await grid.start(range(AUTHORITIES))
            await at_height(members, height)
            if sync.snapshot_every:
                offers = [member.node.sync._snapshots for member in members]
                await until(lambda: all(o.newest[0] >= height for o in offers), "offers", 120)
            return [await join_s(grid, members, height) for _ in range(repeats)]
        finally:
            await grid.stop()


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--blocks", type=int, default=CATCH_UP_BLOCKS, help="to catch up by")
    parser.add_argument("--height", type=int, default=10_000)
    parser.add_argument("--state-mib", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    yield f"catching up by {given.blocks} blocks of {BLOCK_TRANSFERS} transactions"
    blocks = SyncSection(snapshot_every=0, snapshot_behind=0)
    taken = asyncio.run(measure(given.blocks, BLOCK_TRANSFERS, blocks, given.repeats))
    rates = [given.blocks / seconds for seconds in taken]
    yield figure(
        f"catching up, blocks of {BLOCK_TRANSFERS} transactions", "blocks/s", rates,
        over=("the block rate of 1/s", 1.0), better="higher", wall=True, aim=CATCH_UP_TARGET,
    )  # fmt: skip
    often = SyncSection(snapshot_every=given.height, snapshot_behind=given.height // 2)
    with heavier_genesis(ballast_of(given.state_mib)):
        taken = asyncio.run(measure(given.height, 1, often, given.repeats))
    name = f"joining at height {given.height} by a snapshot of {given.state_mib} MiB"
    yield figure(name, "s", taken, wall=True, aim=SNAPSHOT_TARGET_S)


if __name__ == "__main__":
    command(__doc__, options, figures)
