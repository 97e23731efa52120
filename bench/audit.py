"""What an audit and a proof of fraud cost: `uv run python -m bench.audit [--homes 8,50]`.

A region of N homes trades and settles one slot, every home with an order and a reading. Of the
block that settles the slot, the heaviest there is: executing it as the region's authorities do (the
baseline), and so as an auditor does too; making the proof as an accuser would; the proof's bytes
and parts; and judging it as each node of the main chain would. An honest block is proven and
judged: what costs is the execution, whatever comes of it. Times are of the processor.
"""

import argparse
import time
from collections.abc import Callable, Iterator

from bench.figures import Figure, Said, command, figure
from consensus.authorities import AuthoritySet
from market import client
from market.client import regions
from node.regions.auditor import Follower
from node.regions.certifier import natives
from node.regions.replay import executed, judge, maker_of, prove
from tests.regions.grid import SLOT, SLOT_MS, Region
from wire.codec import encode

HOMES = "8,50,200"
REPEATS = 5
CHUNK = 100


def slot_of(homes: int) -> Region:
    """Return a region in which every home has traded, been metered and been settled."""
    region = Region(1, homes)
    orders = [
        (one, client.post_order(SLOT, ("buy", "sell")[place % 2], 100 + place, 100_000))
        for place, one in enumerate(region.home_keys)
    ]
    for first in range(0, homes, CHUNK):
        region.block(orders[first : first + CHUNK])
    region.block(at_ms=SLOT * SLOT_MS - SLOT_MS // 3)
    end_ms = (SLOT + 1) * SLOT_MS
    for first in range(0, homes, CHUNK):
        meters = region.meters[first : first + CHUNK]
        calls = [(one, client.post_reading(SLOT, 120, 40, SLOT)) for one in meters]
        region.block(calls, at_ms=end_ms + first)
    settled = region.block()
    if not any(event.name == "slot_settled" for event in settled.result.events):
        raise SystemExit("the slot was not settled")
    return region


def timed(work: Callable[[], object]) -> list[float]:
    """Return how long a thing takes, each time. [s of the processor]"""
    took = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return took


def said(name: str, took: list[float], base: list[float]) -> Figure:
    """Return a figure beside the block's execution."""
    scaled = [1e3 * one for one in took]
    return figure(name, "ms", scaled, over=("the block's execution", [1e3 * one for one in base]))


def measure(homes: int) -> Iterator[Said]:
    """Measure a region of so many homes."""
    region = slot_of(homes)
    follower = Follower(region.genesis)
    for block in region.blocks[:-1]:
        if follower.take(block.block, block.certificate) is not None:
            raise SystemExit(f"block {block.header.height} does not follow")
    last, parent, app = region.blocks[-1], follower.head, follower._app
    authorities = AuthoritySet(0, tuple(one.public for one in region.seated))
    maker = maker_of(region.genesis, app)
    execution = timed(lambda: executed(maker, last.block, parent))
    proof = prove(region.genesis, app, parent, last.block, last.certificate)
    data = encode(proof)
    chain_id, height = region.chain_id, last.header.height
    verdict = judge(data, authorities, chain_id, height, natives())
    if verdict.code != "follows":
        raise SystemExit(f"the honest block is judged otherwise: {verdict}")
    proving = timed(
        lambda: prove(region.genesis, app, parent, last.block, last.certificate),
    )
    judging = timed(lambda: judge(data, authorities, chain_id, height, natives()))
    parts = len(regions.evidence(data))
    name = f"{homes} homes"
    yield f"{name}, block {height} settles a slot; {len(app.state_items())} keys of state"
    yield f"  {len(proof.witness)} of the proof's bytes are the witness"
    yield figure(f"{name}, proof", "bytes", len(data))
    yield figure(f"{name}, parts of the proof", "", parts)
    yield figure(f"{name}, executed", "ms", [1e3 * one for one in execution])
    yield said(f"{name}, proven", proving, execution)
    yield said(f"{name}, judged", judging, execution)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", default=HOMES)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    for homes in given.homes.split(","):
        yield from measure(int(homes))


if __name__ == "__main__":
    command(__doc__, options, figures)
