"""What trade costs the main chain: `uv run python -m bench.exchange_load [--regions N]`.

N simulated regions (1,000 unless given) with real certificates offer 16 steps each for one slot, in
random prices that cross; counted are an offer's transaction (signature, proof, contract and
commitment) and the block that clears the slot. Zones: one for all, and 16 with narrow lines between
them, so that the clearing goes through several rounds. Times are of the processor, one thread.
"""

import argparse
import random
import statistics
from collections.abc import Iterator

from bench.checkpoints import CHECKPOINTS_PER_BLOCK, admitted, anchor
from bench.figures import Said, command, figure
from market.tiers import ExchangeRules
from tests.regions.grid import SLOT, SLOT_MS
from wire.codec import Plain

REGIONS = 1_000
STEPS = 8
ZONES = 16


def steps(random_: random.Random) -> list[Plain]:
    """Return a ladder of asks and bids that do not cross each other."""
    middle = random_.randrange(100_000, 200_000)
    found: list[Plain] = []
    for step in range(STEPS):
        found.append([1, random_.randrange(500, 5_000), middle + 1 + 3_000 * step])
    for step in range(STEPS):
        found.append([0, random_.randrange(500, 5_000), middle - 3_000 * step])
    return found


def rules(zones: int, count: int) -> ExchangeRules:
    """Return how the zones are joined: far ones by narrow lines, at 5 to 35 micro a Wh."""
    return ExchangeRules(
        zones=tuple(number % zones for number in range(count)),
        fees=tuple(
            tuple(5_000 + 2_000 * abs(near - far) for far in range(zones)) for near in range(zones)
        ),
        capacities_w=tuple(
            tuple(100_000_000 if near == far else 40_000 for far in range(zones))
            for near in range(zones)
        ),
    )


def measure(count: int, zones: int) -> Iterator[Said]:
    """Offer and clear."""
    random_ = random.Random(zones)
    main, there = admitted(count, exchange=rules(zones, count))
    checkpoints, offers = [], []
    for region in there:
        entry: Plain = ["out", region.number, 1, SLOT, SLOT_MS, steps(random_), "00" * 32]
        found, offer = region.offering(entry, SLOT)
        checkpoints.append(main.call(*region.post(found)).raw)
        offers.append((region.seated[0], offer.call()))
    for first in range(0, count, CHECKPOINTS_PER_BLOCK):
        anchor(main, checkpoints[first : first + CHECKPOINTS_PER_BLOCK])
    raws = [main.call(sender, call).raw for sender, call in offers]
    costs = []
    for first in range(0, count, CHECKPOINTS_PER_BLOCK):
        some = raws[first : first + CHECKPOINTS_PER_BLOCK]
        costs.append(1e3 * anchor(main, some) / len(some))
    took = anchor(main, [], at_ms=SLOT * SLOT_MS)
    sums = main.query("exchange", "cleared", {"slot": SLOT})
    size = statistics.median(len(raw) for raw in raws)
    name = f"{zones} zones" if zones > 1 else "one zone"
    yield f"{name}: {len(sums['flows'])} flows of {sums['traded_wh'] / 1e6:.1f} MWh"
    yield figure(f"{name}, an offer", "ms", costs)
    yield figure(f"{name}, an offer posted", "bytes", size)
    yield figure(f"{name}, {count} offers cleared", "s", took, aim=1.0)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--regions", type=int, default=REGIONS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    for zones in (1, ZONES):
        yield from measure(given.regions, zones)


if __name__ == "__main__":
    command(__doc__, options, figures)
