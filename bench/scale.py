"""How it grows: homes in a region, regions under a main chain, and a country on paper.

    uv run python -m bench.scale [--homes 10,30,...] [--regions 1,3,...] [--slots 3] [--profile]
        [--pictures FOLDER]

*Homes*: a region of 10 to 2,000 homes, each size in a process of its own. In each slot every home
posts an order and its meter a reading; all are checked, executed, cleared and settled, blocks are
certified. Counted is one node's work, as in `bench.per_home`: CPU, the blocks' and certificates'
bytes, what the process holds beyond its start, and the *path*: what a block with an order of every
home takes who proposes it and then whoever votes on it, one after the other, which is what finality
has beside waiting for the block and the votes' way.

*Regions*: 1 to 100 regions of 50 homes under their main chain, as `bench.per_home` has them.

An exponent is b of cost = a * size**b. The country is `bench.country` on these costs. With
`--profile` the largest region's slot is profiled.
"""

import argparse
import cProfile
import io
import pstats
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final, NamedTuple

from bench import per_home
from bench.country import HOMES, RegionCost, exponent, plan, regions_max
from bench.figures import Said, command, figure
from bench.per_home import FullRegion, lived
from hems.forecast.plots import bars_svg
from market import client
from node.process import collect_seldom, rss_mib
from tests.regions.grid import SLOT, SLOT_MS

SIZES: Final = "10,30,100,300,1000,2000"
REGIONS: Final = "1,3,10,30,100"
SLOTS: Final = 3
WARM_UP: Final = 2
BALANCE_MICRO: Final = 10**12
# One order of every home, in one block.
PATH_HOMES_MAX: Final = 4_096
BLOCK_CALLS: Final = 500
PROFILED: Final = 14


class Size(NamedTuple):
    """A region of so many homes, a value per slot. [s, bytes, s, MiB]"""

    homes: int
    cpu_s: list[float]
    size: list[float]
    path_s: list[float]
    memory_mib: float
    state_mib: float
    profile: str


def of_size(homes: int, slots: int, profiled: bool) -> Size:
    """Let a region of so many homes live through some slots."""
    before_mib = rss_mib()
    region = FullRegion(1, homes, balance_micro=BALANCE_MICRO)
    collect_seldom()
    cpu_s: list[float] = []
    sizes: list[float] = []
    path_s: list[float] = []
    for turn in range(WARM_UP + slots):
        region.read()
        path = live(region, SLOT + 2 * turn)
        cost = region.read()
        if turn >= WARM_UP:
            cpu_s.append(cost.cpu_s)
            sizes.append(cost.size)
            path_s.append(path)
    held = sum(len(key) + len(value) for key, value in region.app.state_items()) / 2**20
    memory_mib = rss_mib() - before_mib
    text = ""
    if profiled:
        profile = cProfile.Profile()
        profile.enable()
        live(region, SLOT + 2 * (WARM_UP + slots))
        profile.disable()
        out = io.StringIO()
        pstats.Stats(profile, stream=out).sort_stats("tottime").print_stats(PROFILED)
        text = out.getvalue()
    return Size(homes, cpu_s, sizes, path_s, memory_mib, held, text)


def live(region: FullRegion, slot: int) -> float:
    """Trade, deliver and settle a slot; return what its orders' block took to be final. [s]"""
    homes = len(region.home_keys)
    calls = [
        (key, client.post_order(slot, ("sell", "buy")[place % 2], 100 + place % 300, price))
        for place, key in enumerate(region.home_keys)
        for price in (100_000 + 1_000 * (place % 80) if place % 2 == 0 else 190_000,)
    ]
    before_s = region.cpu_s
    region.block(calls)
    # Who proposes executes it, and then whoever votes.
    path_s = 2 * (region.cpu_s - before_s)
    region.block(at_ms=slot * SLOT_MS - SLOT_MS // 3)
    readings = [
        (meter, client.post_reading(slot, *((0, wh) if place % 2 == 0 else (wh, 0)), slot))
        for place, meter in enumerate(region.meters)
        for wh in (100 + place % 300,)
    ]
    at_ms = (slot + 1) * SLOT_MS
    for first in range(0, homes, BLOCK_CALLS):
        region.block(readings[first : first + BLOCK_CALLS], at_ms=at_ms if first == 0 else None)
    region.block()
    if client.slot_summary(region.query, slot).status != "settled":
        raise SystemExit(f"{homes} homes: slot {slot} is not settled")
    return path_s


def numbers(text: str, most: int) -> list[int]:
    """Return sizes in rising order. Raises `argparse.ArgumentTypeError`."""
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: numbers with commas are needed") from None
    if found[0] < 1 or found[-1] > most:
        raise argparse.ArgumentTypeError(f"{text}: from 1 to {most:,}")
    return found


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=lambda t: numbers(t, PATH_HOMES_MAX), default=SIZES)
    parser.add_argument("--regions", type=lambda t: numbers(t, 1_000), default=REGIONS)
    parser.add_argument("--slots", type=int, default=SLOTS)
    parser.add_argument("--profile", action="store_true", help="the largest region's slot")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="draw them there: SVG")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    found: list[Size] = []
    largest = given.homes[-1]
    # A process for each size: what one has held is not in the next one's memory.
    context = get_context("spawn")
    for homes in given.homes:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            profiled = given.profile and homes == largest
            one = pool.submit(of_size, homes, given.slots, profiled).result()
        found.append(one)
        yield from told(one)
    yield from fitted("homes", [one.homes for one in found], columns(found))
    by_regions: list[tuple[int, float, float]] = []
    for grid, counted in lived(given.regions, given.slots):
        own = [own.cpu_s + main.cpu_s for own, main in counted]
        size = [own.size + main.size for own, main in counted]
        name = f"{grid.count} regions" if grid.count > 1 else "one region"
        yield figure(f"{name}, CPU a home and slot", "ms", [1e3 * value for value in own])
        yield figure(f"{name}, stored a home and slot", "bytes", size)
        main_s = statistics.median(main.cpu_s for _, main in counted) * per_home.HOMES
        main_bytes = statistics.median(main.size for _, main in counted) * per_home.HOMES
        yield figure(f"{name}, the main chain for one region and slot", "ms", 1e3 * main_s)
        yield figure(f"{name}, its bytes on the main chain", "bytes", main_bytes)
        by_regions.append((grid.count, main_s, main_bytes))
    totals = {
        "CPU of the main chain": [count * main_s for count, main_s, _ in by_regions],
        "bytes of the main chain": [count * size for count, _, size in by_regions],
    }
    yield from fitted("regions", [count for count, _, _ in by_regions], totals)
    _, main_s, main_bytes = by_regions[-1]
    yield from on_paper([cost_of(one, main_s, main_bytes) for one in found])
    if given.pictures:
        draw(given.pictures, found)
    if found[-1].profile:
        yield found[-1].profile


def told(one: Size) -> Iterator[Said]:
    """Yield the figures of one size."""
    name = f"{one.homes} homes"
    yield figure(f"{name}, CPU a home and slot", "ms", [1e3 * s / one.homes for s in one.cpu_s])
    yield figure(f"{name}, stored a home and slot", "bytes", [s / one.homes for s in one.size])
    yield figure(f"{name}, path of a block", "ms", [1e3 * s for s in one.path_s])
    yield figure(f"{name}, path a home", "ms", [1e3 * s / one.homes for s in one.path_s])
    yield figure(f"{name}, memory beyond the start", "MiB", one.memory_mib)
    yield figure(f"{name}, state", "MiB", one.state_mib)


def columns(found: list[Size]) -> dict[str, list[float]]:
    """Return what grows with a region's homes."""
    return {
        "CPU of a slot": [statistics.median(one.cpu_s) for one in found],
        "bytes of a slot": [statistics.median(one.size) for one in found],
        "path of a block": [statistics.median(one.path_s) for one in found],
        "state": [one.state_mib for one in found],
        "memory": [max(one.memory_mib, 0.1) for one in found],
    }


def fitted(of: str, sizes: list[int], costs: dict[str, list[float]]) -> Iterator[Said]:
    """Yield the exponents by which costs grow."""
    if len(sizes) < 2:
        return
    # Small ones are mostly what each has at least; the larger half tells how it goes on.
    later = len(sizes) // 2 if len(sizes) > 3 else 0
    for name, values in costs.items():
        for first in sorted({0, later}):
            b = exponent([float(size) for size in sizes[first:]], values[first:])
            title = f"{name} grows with {of} to the power of"
            title += f", from {sizes[first]:,} on" if first else ""
            yield figure(title, "", round(b, 3), better="neither")


def cost_of(one: Size, main_s: float, main_bytes: float) -> RegionCost:
    """Return what a region costs, with the main chain's part as it was measured."""
    return RegionCost(
        one.homes,
        statistics.median(one.cpu_s),
        statistics.median(one.size),
        one.memory_mib,
        main_s,
        main_bytes,
    )


def on_paper(costs: list[RegionCost]) -> Iterator[str]:
    """Yield a country's table."""
    yield f"\n{HOMES:,} homes, slots of a quarter of an hour; shares of one core, of each node:"
    yield (
        "| homes a region | regions | a region's node | its blocks a year | its memory"
        " | a main chain's node | MB/s | its blocks a year |\n|---|---|---|---|---|---|---|---|"
    )
    for cost in costs:
        one = plan(cost)
        yield (
            f"| {one.homes_per_region:,} | {one.regions:,} | {100 * one.region_share:.3f} %"
            f" | {one.region_gib_a_year:.1f} GiB | {one.memory_mib:.0f} MiB"
            f" | {100 * one.main_share:.1f} % | {one.main_mb_s:.3f}"
            f" | {one.main_tib_a_year:.2f} TiB |"
        )
    yield f"one main chain carries {regions_max(costs[-1]):,} regions at half a core of each node"


def draw(folder: Path, found: list[Size]) -> None:
    """Draw what a home costs by the size of its region."""
    names = [f"{one.homes:,}" for one in found]
    folder.mkdir(parents=True, exist_ok=True)
    each = {
        "a slot": [1e3 * statistics.median(one.cpu_s) / one.homes for one in found],
        "path of a block": [1e3 * statistics.median(one.path_s) / one.homes for one in found],
    }
    title = "CPU of a node for one home, by the homes of its region [ms]"
    (folder / "scale-cpu.svg").write_text(bars_svg(title, names, each, lambda v: f"{v:.1f}"))
    stored = {"bytes": [statistics.median(one.size) / one.homes for one in found]}
    title = "Stored for one home and slot, by the homes of its region [bytes]"
    (folder / "scale-bytes.svg").write_text(bars_svg(title, names, stored, lambda v: f"{v:.0f}"))


if __name__ == "__main__":
    command(__doc__, options, figures)
