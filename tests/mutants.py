"""`python -m tests.mutants`: seed every bug, and show what finds it and how soon.

The simulator hunts those of the core, the log, the database and the rules of blocks, and with
regions and a main chain those of what one tier believes of the other; the tests of catching up and
of the light client hunt those of `consensus/sync.py` and `consensus/light.py`, and wrong
checkpoints each rule of `anchor.star`.
"""

# ruff: noqa: T201
import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from tests.consensus import test_sync_mutants
from tests.regions import test_mutants as test_anchor_mutants
from tests.sim import mutants
from tests.sim.tiers import mutants as tier_mutants


class Finding(NamedTuple):
    """What became of a mutant. `killed_by` is None if it lives."""

    mutant: str
    killed_by: str | None
    after: str
    seconds: float


def _in_simulator(name: str) -> Finding:
    started = time.perf_counter()
    found = mutants.hunt(name)
    seconds = time.perf_counter() - started
    plan = mutants.MUTANTS[name]
    if found is None or found.violation is None:
        return Finding(name, None, f"{plan.seeds} seeds of {plan.kind}", seconds)
    killer = found.violation.split(":")[0]
    return Finding(name, f"simulator: {killer}", f"{found.seed} seeds of {plan.kind}", seconds)


def _in_tiers(name: str) -> Finding:
    started = time.perf_counter()
    found = tier_mutants.hunt(name)
    seconds = time.perf_counter() - started
    plan = tier_mutants.MUTANTS[name]
    if found is None or found.violation is None:
        return Finding(name, None, f"{plan.seeds} seeds of {plan.kind}", seconds)
    killer = found.violation.split(":")[0]
    return Finding(name, f"both tiers: {killer}", f"{found.seed} seeds of {plan.kind}", seconds)


def _by_checkpoints(name: str) -> Finding:
    started = time.perf_counter()
    rule = name.removeprefix(ANCHOR_PREFIX)
    passed = test_anchor_mutants.accepted_without(rule)
    seconds = time.perf_counter() - started
    wrong = test_anchor_mutants.MUTANTS[rule][2]
    if passed != wrong:
        return Finding(name, None, f"accepts {len(passed)} of {len(wrong)}", seconds)
    return Finding(
        name, f"wrong checkpoints: {sorted(passed)[0]}", f"{len(passed)} accepted", seconds
    )


def _in_tests(name: str) -> Finding:
    started = time.perf_counter()
    found = test_sync_mutants.hunt(name)
    seconds = time.perf_counter() - started
    if found is None:
        return Finding(name, None, "all tests", seconds)
    return Finding(name, f"tests: {found[1]}", f"{found[0]} tests", seconds)


def _hunt(place: tuple[str, str]) -> Finding:
    kind, name = place
    return HUNTERS[kind](name)


ANCHOR_PREFIX = "anchor.star: "
HUNTERS = {
    "simulator": _in_simulator,
    "tests": _in_tests,
    "tiers": _in_tiers,
    "checkpoints": _by_checkpoints,
}


def _show(finding: Finding, widths: tuple[int, int, int]) -> str:
    killer = finding.killed_by or "SURVIVES"
    cells = (finding.mutant, killer, finding.after)
    padded = " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {padded} | {finding.seconds:7.1f} |"


def main(arguments: list[str] | None = None) -> int:
    """Hunt; return 1 if a mutant lives."""
    places = [("simulator", name) for name in mutants.MUTANTS]
    places += [("tests", name) for name in test_sync_mutants.MUTANTS]
    places += [("tiers", name) for name in tier_mutants.MUTANTS]
    places += [("checkpoints", ANCHOR_PREFIX + name) for name in test_anchor_mutants.MUTANTS]
    known = [name for _, name in places]
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in known:
            parser.error(f"{name!r} is no mutant; they are: {', '.join(known)}")
    chosen = [place for place in places if not options.names or place[1] in options.names]
    widths = (max(map(len, known)), 66, 46)
    print(f"| {'mutant'.ljust(widths[0])} | {'killed by'.ljust(widths[1])} "
          f"| {'after'.ljust(widths[2])} | seconds |")  # fmt: skip
    print(f"|{'-' * (widths[0] + 2)}|{'-' * (widths[1] + 2)}|{'-' * (widths[2] + 2)}|--------:|")
    alive = 0
    with ProcessPoolExecutor(max(options.jobs, 1)) as pool:
        for finding in pool.map(_hunt, chosen):
            alive += finding.killed_by is None
            print(_show(finding, widths), flush=True)
    print(f"\n{len(chosen)} mutants, {alive} alive")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
