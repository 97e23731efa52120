"""`python -m tests.fuzz`: put mutated and random inputs to every decoder; a table of what it did.

Each decoder runs in a process of its own, whose memory is limited and measured. What goes wrong is
kept under `regressions/`, put to the decoder first ever after, and the exit code is not zero.
"""

# ruff: noqa: T201
import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Final, NamedTuple

from bench.machine import describe
from tests.fuzz.judge import (
    CPU_S_MAX,
    REGRESSIONS,
    RESOLUTION_S,
    Failure,
    Report,
    Target,
    keep,
    kept_inputs,
    run,
)

# Nothing is heard for so long only of a decoder that hangs where no timer reaches it.
SILENCE_S: Final = 600.0
PROGRESS_S: Final = 30.0

Builders = dict[str, Callable[[], Target]]


class _Running(NamedTuple):
    name: str
    process: multiprocessing.process.BaseProcess
    begun: float


def judge_all(
    builders: Builders, seed: int, inputs: int, jobs: int, folder: Path = REGRESSIONS
) -> Iterator[Report]:
    """Judge every decoder, up to `jobs` at a time; yield the reports as they come."""
    context = multiprocessing.get_context("fork")
    waiting = list(builders.items())
    running: dict[Connection, _Running] = {}
    heard: dict[str, float] = {}
    said = time.monotonic()
    while waiting or running:
        while waiting and len(running) < jobs:
            name, build = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(
                target=_judge_one, args=(build, seed, inputs, folder, theirs), daemon=True
            )
            process.start()
            theirs.close()
            running[ours] = _Running(name, process, time.monotonic())
            heard[name] = time.monotonic()
        for ready in wait(list(running), timeout=1.0):
            assert isinstance(ready, Connection)
            one = running[ready]
            heard[one.name] = time.monotonic()
            try:
                news = ready.recv()
            except EOFError:
                one.process.join()
                news = _dead(one.name, f"its process ended with code {one.process.exitcode}")
            if isinstance(news, Report):
                del running[ready]
                one.process.join()
                yield news
            elif time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                print(f"... {one.name}: {news:,} inputs", file=sys.stderr, flush=True)
        for ready, one in list(running.items()):
            if time.monotonic() - heard[one.name] > SILENCE_S:
                one.process.kill()
                one.process.join()
                del running[ready]
                yield _dead(one.name, f"not a word for {SILENCE_S:g} s")


def _dead(name: str, what: str) -> Report:
    return Report(name, failures=[Failure("died", what, b"")])


def _judge_one(
    build: Callable[[], Target], seed: int, inputs: int, folder: Path, pipe: Connection
) -> None:
    target = build()
    kept = kept_inputs(target.name, folder)
    pipe.send(run(target, seed, inputs, kept, progress=pipe.send))
    pipe.close()


# -- printing

HEADINGS: Final = ("decoder", "inputs", "accepted", "refused by", "slowest", "inputs/s", "grown")


def row_of(report: Report) -> tuple[str, ...]:
    """Return a report as the cells of `HEADINGS`."""
    refused = ", ".join(f"{name} {count:,}" for name, count in report.refused.most_common())
    return (
        report.target,
        f"{report.inputs:,}",
        f"{report.accepted:,}",
        refused or "-",
        f"{1e3 * report.slowest_s:.2f} ms" if report.slowest_s > RESOLUTION_S else "< 0.05 ms",
        f"{report.inputs / report.seconds:,.0f}" if report.seconds else "-",
        f"{report.grown_bytes / 2**20:.1f} MiB",
    )


def table_of(reports: Iterable[Report]) -> str:
    """Return reports as a table in Markdown."""
    lines = [HEADINGS, ("---", "---:", "---:", "---", "---:", "---:", "---:")]
    lines += [row_of(report) for report in sorted(reports, key=lambda report: report.target)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def tell(report: Report, folder: Path = REGRESSIONS) -> None:
    """Print what went wrong with a decoder, and how to see it again."""
    for failure, file in zip(report.failures, keep(report, folder), strict=True):
        print(f"{report.target}: {failure.kind}: {failure.what}")
        print(f"    {len(failure.data)} bytes: {failure.data[:48].hex()}  kept as {file}")
        print(
            f"    again: uv run python -m tests.fuzz --target {report.target} --inputs 0",
            flush=True,
        )


def main(builders: Builders | None = None, arguments: list[str] | None = None) -> int:
    """Run; return the exit code."""
    if builders is None:
        from tests.fuzz.targets import BUILDERS

        builders = BUILDERS
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="for each decoder")
    parser.add_argument("--target", nargs="+", choices=builders, metavar="NAME", help="only these")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same inputs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--list", action="store_true", help="name the decoders and end")
    parser.add_argument("--keep", type=Path, default=REGRESSIONS, help="where failures are kept")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(builders))
        return 0
    chosen = {name: builders[name] for name in options.target or builders}
    begun = time.monotonic()
    reports = []
    for report in judge_all(chosen, options.seed, options.inputs, options.jobs, options.keep):
        reports.append(report)
        # A run that is ended before its time has said what it found until then.
        print(f"... done: | {' | '.join(row_of(report))} |", file=sys.stderr, flush=True)
        tell(report, options.keep)
        sys.stdout.flush()
    print(table_of(reports))
    print(
        f"\n{sum(report.inputs for report in reports):,} inputs, seed {options.seed}, "
        f"at most {1e3 * CPU_S_MAX:g} ms each (settings, database: 50), "
        f"in {time.monotonic() - begun:.0f} s; {describe()}"
    )
    return 1 if any(report.failures for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
