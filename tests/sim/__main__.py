"""`python -m tests.sim`: run many seeds, print how fast, and each seed that breaks a property."""

# ruff: noqa: T201
import argparse
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import islice

from tests.sim.faults import KINDS, NAMES, faults_of
from tests.sim.mutants import MUTANTS
from tests.sim.world import Result, run_seed

CHUNK = 16
# Chunks given to the processes ahead of what is read back: memory stays the same for any number.
CHUNKS_AHEAD_PER_JOB = 4
VIOLATIONS_SHOWN_MAX = 50
PROGRESS_S = 0.5
PROGRESS_LINE_S = 30.0
SIZE_MAX = 63

Job = tuple[int, int]


def _run_chunk(jobs: list[Job], mutant: str | None, faults: str) -> list[Result]:
    mutation = MUTANTS[mutant].mutation if mutant else None
    return [run_seed(seed, n, mutation, faults) for seed, n in jobs]


def _chunks(jobs: Iterator[Job]) -> Iterator[list[Job]]:
    while chunk := list(islice(jobs, CHUNK)):
        yield chunk


def _results(
    jobs: Iterator[Job], mutant: str | None, faults: str, processes: int
) -> Iterator[Result]:
    """Yield the results in order of the seeds."""
    run = partial(_run_chunk, mutant=mutant, faults=faults)
    if processes == 1:
        for chunk in _chunks(jobs):
            yield from run(chunk)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting: deque[Future[list[Result]]] = deque()
        for chunk in _chunks(jobs):
            waiting.append(pool.submit(run, chunk))
            if len(waiting) >= processes * CHUNKS_AHEAD_PER_JOB:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


class Report:
    """Counts results as they come, shows progress, and says at the end what happened."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._started = self._shown = time.perf_counter()
        self._is_tty = sys.stderr.isatty()
        self._totals = dict.fromkeys(Result._fields[3:], 0)
        self._runs = self.violations = 0

    def take(self, result: Result) -> None:
        """Count a run."""
        self._runs += 1
        for name in self._totals:
            self._totals[name] += getattr(result, name)
        if result.violation is not None:
            self.violations += 1
            if self.violations <= VIOLATIONS_SHOWN_MAX:
                self._show_violation(result)
        now = time.perf_counter()
        if now - self._shown >= (PROGRESS_S if self._is_tty else PROGRESS_LINE_S):
            self._shown = now
            self._show_progress()

    def _show_violation(self, result: Result) -> None:
        options = self._options
        again = f"--first-seed {result.seed} --seeds 1 --nodes {result.nodes}"
        again += f" --faults {options.faults}" if options.faults != "any" else ""
        again += f" --mutant '{options.mutant}'" if options.mutant else ""
        self._clear()
        print(f"seed {result.seed} n={result.nodes}: {result.violation}")
        print(f"    again: uv run python -m tests.sim {again}", flush=True)

    def _show_progress(self) -> None:
        rate = self._runs / (time.perf_counter() - self._started)
        left_s = (self._options.seeds - self._runs) / rate
        line = (
            f"{self._runs} of {self._options.seeds} runs, {rate:.0f} runs/s, "
            f"{self.violations} violations, {left_s:.0f} s left"
        )
        self._clear()
        print(line, end="" if self._is_tty else "\n", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._is_tty:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def show(self) -> None:
        """Print the summary."""
        self._clear()
        seconds = time.perf_counter() - self._started
        totals = self._totals
        simulated_s = totals["simulated_ms"] / 1000
        print(
            f"{self._runs} runs in {seconds:.0f} s, {self._runs / seconds:.1f} runs/s, "
            f"simulated/real time {simulated_s / seconds:.0f}\n"
            f"{totals['heights']} heights, {totals['messages']} messages, "
            f"{totals['committed']} transfers, {totals['questions']} questions of sync, "
            f"{totals['jumps']} snapshots taken over, {totals['liars_dropped']} liars dropped,\n"
            f"{totals['evidence']} double signatures found, {totals['convictions']} convictions\n"
            f"{self.violations} violations"
        )


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


def _faults(text: str) -> str:
    try:
        faults_of(text, 1)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on")
    return int(text)


def _options(arguments: Iterable[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=_count, default=200, help="runs, spread over the sizes")
    parser.add_argument("--first-seed", type=_count, default=1)
    parser.add_argument(
        "--nodes", type=_sizes, default=[4, 7, 10],
        help="numbers of authorities; one that stands twice gets twice the runs (default 4,7,10)",
    )  # fmt: skip
    parser.add_argument("--mutant", choices=MUTANTS, metavar="NAME", help="run this seeded bug")
    parser.add_argument(
        "--faults", type=_faults, default="any", metavar="LIST",
        help=f"{', '.join(KINDS)}; or only those named, with commas: {', '.join(NAMES)}",
    )  # fmt: skip
    parser.add_argument("--jobs", type=_count, default=os.cpu_count() or 1, help="processes")
    return parser.parse_args(None if arguments is None else list(arguments))


def main(arguments: Iterable[str] | None = None) -> int:
    """Run; return 1 if a property broke."""
    options = _options(arguments)
    sizes = options.nodes
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs = ((seed, sizes[seed % len(sizes)]) for seed in seeds)
    report = Report(options)
    for result in _results(jobs, options.mutant, options.faults, options.jobs):
        report.take(result)
    report.show()
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
