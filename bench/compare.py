"""What has changed between two runs: `uv run python -m bench.compare OLD NEW [--limit 10]`.

OLD and NEW are files of `python -m bench --out FILE`. A figure that has become worse by more than
the limit (percent) is flagged, and the command ends with 1; one that has become better is said.

Two runs are seldom on an equally fast machine: one guest among others gets between half and all of
a core's speed. So a figure with a baseline is compared by its ratio to it, as both were measured
within the same seconds; a time of the processor without one, by what a signature's verification
took around it; only sizes, shares and times of the wall's clock as they are. A difference between
runs whose single measurements overlap may be chance, and is marked so.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.figures import TIME_UNITS, Figure, Result, Results, number, read

LIMIT_PERCENT: Final = 10.0


class Change(NamedTuple):
    """How a figure has moved: by what it was compared, and by how much more it is now."""

    benchmark: str
    name: str
    by: str
    old: float
    new: float
    better: str
    overlap: bool

    @property
    def percent(self) -> float:
        """How much more it is now. [%]"""
        return 100 * (self.new / self.old - 1)

    def worse(self, limit: float) -> bool:
        """Whether it has gone the wrong way by more than a limit. [%]"""
        wrong = {"lower": self.percent, "higher": 100 * (self.old / self.new - 1)}
        return wrong.get(self.better, 0.0) > limit

    def moved(self, limit: float) -> bool:
        """Whether it has gone either way by more than a limit. [%]"""
        return max(self.new / self.old, self.old / self.new) > 1 + limit / 100


def changes(old: Results, new: Results) -> Iterator[Change | str]:
    """Yield each figure of both, and a line for what cannot be compared."""
    before = {one.name: one for one in old.benchmarks}
    after = {one.name: one for one in new.benchmarks}
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None:
            yield f"{name}: only in {'NEW' if was is None else 'OLD'}"
        elif was.words != now.words:
            yield (
                f"{name}: not compared, run with other settings: "
                f"{' '.join(was.words) or 'none'}; {' '.join(now.words) or 'none'}"
            )
        else:
            yield from _of_one(was, now)


def _of_one(was: Result, now: Result) -> Iterator[Change | str]:
    for which, result in (("OLD", was), ("NEW", now)):
        if result.error:
            yield f"{was.name}: failed in {which}: {result.error}"
    new = {one.name: one for one in now.figures}
    for one in was.figures:
        if one.name not in new:
            yield f"{was.name}: {one.name}: only in OLD"
            continue
        other = new.pop(one.name)
        if one.unit != other.unit:
            yield f"{was.name}: {one.name}: in {one.unit} then, in {other.unit} now"
            continue
        by, (old_by, new_by) = _scale(one, other, was, now)
        a, b = one.median / old_by, other.median / new_by
        if a <= 0 or b <= 0:
            if a != b:
                text = f"{number(one.median)} then, {number(other.median)} now"
                yield f"{was.name}: {one.name}: {text}"
            continue
        lows, highs = _ends(one, old_by), _ends(other, new_by)
        overlap = lows[0] <= highs[1] and highs[0] <= lows[1]
        yield Change(was.name, one.name, by, a, b, other.better, overlap)
    for name in new:
        yield f"{was.name}: {name}: only in NEW"


def _scale(old: Figure, new: Figure, was: Result, now: Result) -> tuple[str, tuple[float, float]]:
    """Return by what two figures are compared, and what to divide each by."""
    if old.baseline and old.baseline == new.baseline and old.ratio and new.ratio:
        return f"x {old.baseline}", (old.median / old.ratio, new.median / new.ratio)
    if old.unit in TIME_UNITS and not old.wall and not new.wall:
        machine = [sum(of.signature_us) / max(1, len(of.signature_us)) for of in (was, now)]
        if all(machine):
            per_unit = {"s": 1e-6, "ms": 1e-3, "us": 1.0}[old.unit]
            return "signatures", (machine[0] * per_unit, machine[1] * per_unit)
    return old.unit or "as it is", (1.0, 1.0)


def _ends(of: Figure, by: float) -> tuple[float, float]:
    return min(of.values) / by, max(of.values) / by


def shown(change: Change, limit: float) -> str:
    """Return a change as a line."""
    word = "worse " if change.worse(limit) else "better" if change.better != "neither" else "other "
    chance = "; the measurements overlap" if change.overlap else ""
    return (
        f"{word} {change.percent:+7.1f} %  {change.benchmark}: {change.name}: "
        f"{number(change.old)} -> {number(change.new)} {change.by}{chance}"
    )


def main() -> int:
    """Print what has changed; return 1 if something has become worse."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("new", type=Path, metavar="NEW")
    parser.add_argument("--limit", type=float, default=LIMIT_PERCENT, help="percent")
    given = parser.parse_args()
    if given.limit <= 0:
        parser.error(f"--limit {given.limit:g}: a percentage above 0 is needed")
    found = list(changes(read(given.old), read(given.new)))
    compared = [one for one in found if isinstance(one, Change)]
    for one in found:
        if isinstance(one, str):
            print(one)
    moved = [one for one in compared if one.moved(given.limit)]
    for change in sorted(moved, key=lambda one: (not one.worse(given.limit), one)):
        print(shown(change, given.limit))
    worse = sum(one.worse(given.limit) for one in compared)
    print(
        f"{len(compared)} figures compared, {worse} worse and {len(moved) - worse} otherwise "
        f"changed by more than {given.limit:g} %"
    )
    if not compared:
        raise SystemExit("nothing could be compared: OLD and NEW have no figure in common")
    return int(worse > 0)


if __name__ == "__main__":
    raise SystemExit(main())
