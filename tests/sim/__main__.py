"""`python -m tests.sim`: run many seeds, print how fast, and each seed that breaks a property."""

import argparse
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from tests.sim.faults import KINDS, NAMES, faults_of
from tests.sim.mutants import MUTANTS
from tests.sim.report import Report, TierReport
from tests.sim.tiers.faults import NAMES as TIER_NAMES
from tests.sim.tiers.faults import grid_faults_of
from tests.sim.tiers.grid import GridResult, run_grid
from tests.sim.tiers.mutants import MUTANTS as TIER_MUTANTS
from tests.sim.world import Result, run_seed

CHUNK = 16
TIERS_CHUNK = 2
# Chunks given to the processes ahead of what is read back: memory stays the same for any number.
CHUNKS_AHEAD_PER_JOB = 4
REGIONS_MAX = 16
SEATS_MIN = 4
SIZE_MAX = 63

Job = tuple[int, int]


def _run_chunk(
    jobs: list[Job], mutant: str | None, faults: str, regions: int = 0
) -> list[Result] | list[GridResult]:
    if regions:
        changed = TIER_MUTANTS[mutant].mutation if mutant else None
        return [run_grid(seed, n, regions, changed, faults) for seed, n in jobs]
    mutation = MUTANTS[mutant].mutation if mutant else None
    return [run_seed(seed, n, mutation, faults) for seed, n in jobs]


def _chunks(jobs: Iterator[Job], size: int) -> Iterator[list[Job]]:
    while chunk := list(islice(jobs, size)):
        yield chunk


def _results(
    jobs: Iterator[Job], run: Callable[[list[Job]], Sequence[Any]], processes: int, size: int
) -> Iterator[Any]:
    """Yield the results in order of the seeds."""
    if processes == 1:
        for chunk in _chunks(jobs, size):
            yield from run(chunk)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting: deque[Future[Sequence[Any]]] = deque()
        for chunk in _chunks(jobs, size):
            waiting.append(pool.submit(run, chunk))
            if len(waiting) >= processes * CHUNKS_AHEAD_PER_JOB:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(size) for size in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(1 <= size <= SIZE_MAX for size in sizes):
        raise argparse.ArgumentTypeError(
            f"{text!r}: numbers of authorities with commas, each from 1 to {SIZE_MAX}, as 4,7,10"
        )
    return sizes


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on")
    return int(text)


def _options(arguments: Iterable[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=_count, default=200, help="runs, spread over the sizes")
    parser.add_argument("--first-seed", type=_count, default=1)
    parser.add_argument(
        "--nodes", type=_sizes,
        help="numbers of authorities; one that stands twice gets twice the runs (default 4,7,10)",
    )  # fmt: skip
    parser.add_argument("--mutant", metavar="NAME", help="run this seeded bug")
    parser.add_argument(
        "--faults", default="any", metavar="LIST",
        help=f"{', '.join(KINDS)}; or only those named, with commas: {', '.join(NAMES)}; "
        f"with --tiers any, or those and {', '.join(TIER_NAMES)}",
    )  # fmt: skip
    parser.add_argument(
        "--tiers", action="store_true",
        help="regions and a main chain, each of so many authorities (default 4)",
    )  # fmt: skip
    parser.add_argument("--regions", type=_count, default=3, help="with --tiers (default 3)")
    parser.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args(None if arguments is None else list(arguments))
    _check(parser, options)
    return options


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with what is wrong with options that each are right by themselves."""
    known: Iterable[str] = TIER_MUTANTS if options.tiers else MUTANTS
    if options.mutant is not None and options.mutant not in known:
        parser.error(f"--mutant: {options.mutant!r} is none; they are: {', '.join(known)}")
    if options.regions > REGIONS_MAX:
        parser.error(f"--regions: {options.regions}, at most {REGIONS_MAX}")
    if options.nodes is None:
        options.nodes = [4] if options.tiers else [4, 7, 10]
    if options.tiers and min(options.nodes) < SEATS_MIN:
        parser.error(f"--nodes: a region has {SEATS_MIN} authorities or more")
    try:
        (grid_faults_of if options.tiers else faults_of)(options.faults, 1)
    except ValueError as error:
        parser.error(f"--faults: {error}")


def main(arguments: Iterable[str] | None = None) -> int:
    """Run; return 1 if a property broke."""
    options = _options(arguments)
    sizes = options.nodes
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = ((seed, sizes[seed % len(sizes)]) for seed in seeds)
    kind, fields = (TierReport, GridResult) if options.tiers else (Report, Result)
    report = kind(options, fields._fields[3:])
    regions = options.regions if options.tiers else 0
    run = partial(_run_chunk, mutant=options.mutant, faults=options.faults, regions=regions)
    size = TIERS_CHUNK if options.tiers else CHUNK
    for result in _results(jobs, run, options.jobs, size):
        report.take(result)
    report.show()
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
