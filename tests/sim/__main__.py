"""`python -m tests.sim`: run many seeds, print how fast, and each seed that breaks a property."""

# ruff: noqa: T201
import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice

from tests.sim.mutants import MUTANTS
from tests.sim.world import Result, run_seed

CHUNK = 16


def _run_chunk(jobs: list[tuple[int, int]], mutant: str | None, kind: str) -> list[Result]:
    mutation = MUTANTS[mutant].mutation if mutant else None
    return [run_seed(seed, n, mutation, kind) for seed, n in jobs]


def _chunks(jobs: Iterator[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    while chunk := list(islice(jobs, CHUNK)):
        yield chunk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="runs, spread over the sizes")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--nodes", default="4,7,10", help="numbers of authorities")
    parser.add_argument("--mutant", choices=MUTANTS, help="run this seeded bug instead")
    parser.add_argument("--faults", choices=("any", "chaos", "duel"), default="any")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    sizes = [int(size) for size in options.nodes.split(",")]
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = ((seed, sizes[seed % len(sizes)]) for seed in seeds)
    started = time.perf_counter()
    run = partial(_run_chunk, mutant=options.mutant, kind=options.faults)
    if options.jobs == 1:
        results = [result for chunk in _chunks(jobs) for result in run(chunk)]
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            results = [result for chunk in pool.map(run, _chunks(jobs)) for result in chunk]
    seconds = time.perf_counter() - started
    bad = [result for result in results if result.violation]
    for result in bad:
        again = f"--first-seed {result.seed} --seeds 1 --nodes {result.nodes}"
        again += f" --faults {options.faults}" if options.faults != "any" else ""
        again += f" --mutant '{options.mutant}'" if options.mutant else ""
        print(f"seed {result.seed} n={result.nodes}: {result.violation}\n    again: {again}")
    simulated = sum(result.simulated_ms for result in results) / 1000
    print(
        f"{len(results)} runs, {len(results) / seconds:.1f} runs/s, "
        f"simulated/real time {simulated / seconds:.0f}, "
        f"{sum(result.heights for result in results)} heights, "
        f"{sum(result.messages for result in results)} messages, "
        f"{sum(result.evidence for result in results)} convictions of twins, "
        f"{len(bad)} violations"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
