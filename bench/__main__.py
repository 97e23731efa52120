"""All benchmarks, or some: `uv run python -m bench [NAME ...] [--quick] [--out FILE]`.

Each runs in a process of its own, one after the other, and prints its figures: the median with its
spread, the ratio to a baseline of the same run, the aim. All of them become one JSON file, written
anew after each benchmark, so that a run that is interrupted keeps what it has; two such files are
compared by `python -m bench.compare OLD NEW`. Where one fails the others still run, and the command
ends with 1. An aim that is missed is said, and is no failure.

`--quick` measures less of everything: whether it works, rather than how fast it is.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import msgspec

from bench.catalogue import CATALOGUE, NAMES, Entry, Kind
from bench.figures import Result, Results, load, write

KINDS: Final = get_args(Kind)
LIMIT_S: Final = 3_600


def run(entry: Entry, quick: bool, limit_s: float) -> Result:
    """Run one benchmark; what goes wrong stands in the result's `error`."""
    words = shlex.split(entry.quick) if quick else []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "result.json"
        command = [sys.executable, "-P", "-m", f"bench.{entry.name}", *words, "--json", str(file)]
        failed = Result(name=entry.name, words=words)
        try:
            done = subprocess.run(command, check=False, timeout=limit_s)
        except subprocess.TimeoutExpired:
            failed.error = f"not done within {limit_s:g} s; --limit-s gives it more"
            return failed
        if not file.exists():
            failed.error = f"ended with {done.returncode}"
            return failed
        return msgspec.json.decode(file.read_bytes(), type=Result)


def chosen(names: Sequence[str], kinds: Sequence[str], without: Sequence[str]) -> list[Entry]:
    """Return what is to be run. Raises `SystemExit` for names that there are not."""
    for name in (*names, *without):
        if name not in NAMES:
            raise SystemExit(f"there is no benchmark {name}; there are: {', '.join(NAMES)}")
    for kind in kinds:
        if kind not in KINDS:
            raise SystemExit(f"there is no kind {kind}; there are: {', '.join(KINDS)}")
    found = [
        entry
        for entry in CATALOGUE
        if (not names or entry.name in names)
        and (not kinds or entry.kind in kinds)
        and entry.name not in without
    ]
    if not found:
        raise SystemExit("nothing is left to be run")
    return found


def main() -> int:
    """Run them; return 1 if one has failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--kinds", default="", help=f"of {', '.join(KINDS)}; with commas")
    parser.add_argument("--without", default="", metavar="NAMES", help="with commas")
    parser.add_argument("--out", type=Path, default=Path("bench.json"), metavar="FILE")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="for each [s]")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    given = parser.parse_args()
    kinds, without = ([w for w in t.split(",") if w] for t in (given.kinds, given.without))
    entries = chosen(given.names, kinds, without)
    if given.list:
        for entry in entries:
            print(f"{entry.name:26} {entry.kind:8} --quick: {entry.quick or 'the same'}")
        return 0
    if not given.out.resolve().parent.is_dir():
        raise SystemExit(f"{given.out}: there is no such folder; give another --out")
    results = Results(quick=given.quick)
    for entry in entries:
        print(f"\n== {entry.name}", flush=True)
        result = run(entry, given.quick, given.limit_s)
        results.benchmarks.append(result)
        write(given.out, results)
        print(f"== {entry.name}: {result.error or f'{result.took_s:.0f} s'}", flush=True)
    return _told(results, given.out)


def _told(results: Results, out: Path) -> int:
    """Print what became of all."""
    figures = [one for result in results.benchmarks for one in result.figures]
    failed = [result for result in results.benchmarks if result.error]
    missed = [
        f"{result.name}: {one.name}"
        for result in results.benchmarks
        for one in result.figures
        if not one.reached
    ]
    count = f"{len(results.benchmarks)} benchmarks, {len(figures)} figures"
    print(f"\n{count}: {out}; load {load():.1f}")
    for text in missed:
        print(f"aim missed: {text}")
    for result in failed:
        print(f"FAILED: {result.name}: {result.error}; what it said is above")
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
