"""What a benchmark brings: figures, printed in one way and kept as JSON.

A benchmark is a module of `bench` with two functions:

- `options(parser)` adds its settings;
- `figures(given)` measures, and yields each `Figure` as soon as it is there, and lines (`str`) of
  tables for reading. It raises `SystemExit` with a reason where what it measures went wrong.

`command` makes a command of them; `python -m bench` runs many.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.machine import commit, describe, signature_us

VERSION: Final = 1
FILE_BYTES_MAX: Final = 64 << 20
# Of these the processor's speed decides, unless a figure is of the wall's clock.
TIME_UNITS: Final = ("s", "ms", "us")

Better = Literal["lower", "higher", "neither"]


class Figure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured quantity.

    `values` are all its measurements, in `unit`; times are the processor's unless `wall`. `ratio`
    is the median over that of the `baseline`, measured in the same run. `better` says where it
    should go; what is a fact rather than an achievement is `neither`. `aim` is the bound promised
    for the median. Where `values` are only some of the measurements, `thinned_from` is how many
    there were.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    better: Better = "lower"
    wall: bool = False
    baseline: str = ""
    ratio: float | None = None
    aim: float | None = None
    thinned_from: int = 0

    @property
    def count(self) -> int:
        """How often it was measured."""
        return self.thinned_from or len(self.values)

    @property
    def median(self) -> float:
        """The middle of all measurements."""
        return statistics.median(self.values)

    @property
    def reached(self) -> bool:
        """Whether the aim, if there is one, is reached."""
        if self.aim is None:
            return True
        return self.median >= self.aim if self.better == "higher" else self.median <= self.aim


Said = Figure | str
Measure = Callable[[argparse.Namespace], Iterable[Said]]


class Result(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What one run of a benchmark brought.

    `signature_us` is one signature's verification, before and after it; `load` the processes that
    wanted a core just before; `commit` the code that ran, with `+` if its files had been changed.
    `error` says why there are no more figures.
    """

    name: str
    words: list[str] = []
    machine: str = ""
    commit: str = ""
    began: str = ""
    load: float = 0.0
    signature_us: tuple[float, ...] = ()
    took_s: float = 0.0
    figures: list[Figure] = []
    error: str = ""


class Results(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a run of many brought; the content of the JSON file."""

    version: int = VERSION
    quick: bool = False
    benchmarks: list[Result] = []


def figure(
    name: str,
    unit: str,
    values: Sequence[float] | float,
    *,
    over: tuple[str, Sequence[float] | float] | None = None,
    better: Better = "lower",
    wall: bool = False,
    aim: float | None = None,
) -> Figure:
    """Return a figure; `over` is its baseline's name and that one's measurements, in its unit."""
    own = tuple(map(float, values)) if isinstance(values, Sequence) else (float(values),)
    if not own:
        raise SystemExit(f"{name}: nothing was measured")
    baseline, ratio = "", None
    if over is not None:
        baseline, of = over
        base = statistics.median(of) if isinstance(of, Sequence) else of
        # Plain, as JSON knows no numbers of numpy.
        ratio = float(statistics.median(own) / base) if base else None
    return Figure(
        name=name, unit=unit, values=own, better=better, wall=wall, baseline=baseline,
        ratio=ratio, aim=aim,
    )  # fmt: skip


def number(value: float) -> str:
    """Return a number with about three digits that say something."""
    if value == int(value):
        return f"{value:,.0f}"
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if size >= 1:
        return f"{value:.2f}"
    return f"{value:.3g}"


def line(of: Figure) -> str:
    """Return a figure as it is printed."""
    unit = f" {of.unit}" if of.unit else ""
    text = f"{of.name}: {number(of.median)}{unit}"
    if len(of.values) > 1:
        low, high = number(min(of.values)), number(max(of.values))
        text += f" ({low} .. {high}, n={of.count})"
    if of.ratio is not None:
        text += f", {number(of.ratio)} x {of.baseline}"
    if of.aim is not None:
        sign = ">=" if of.better == "higher" else "<="
        text += f" [aim {sign} {number(of.aim)}{unit}{'' if of.reached else ': missed'}]"
    return text


def load() -> float:
    """Return how many processes have wanted a core over the last minute."""
    return os.getloadavg()[0]


def collect(name: str, words: Sequence[str], given: argparse.Namespace, measure: Measure) -> Result:
    """Measure; print every line as it comes. Two figures of one name raise `ValueError`."""
    result = Result(name=name, words=list(words), machine=describe(), commit=commit())
    result.load = round(load(), 2)
    result.began = datetime.now(UTC).isoformat(timespec="seconds")
    before = signature_us()
    print(result.machine)
    print(f"load {result.load:.1f}; one signature's verification {before:.1f} us", flush=True)
    begun, seen = time.monotonic(), set()
    for said in measure(given):
        if isinstance(said, str):
            print(said, flush=True)
            continue
        if said.name in seen:
            raise ValueError(f"{name}: two figures are called {said.name!r}")
        seen.add(said.name)
        result.figures.append(said)
        print(line(said), flush=True)
    result.took_s = round(time.monotonic() - begun, 1)
    result.signature_us = (round(before, 2), round(signature_us(), 2))
    return result


def parser_of(doc: str | None, options: Callable[[argparse.ArgumentParser], None]) -> Any:
    """Return the parser of a benchmark's command."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there, too")
    return parser


def command(
    doc: str | None, options: Callable[[argparse.ArgumentParser], None], measure: Measure
) -> None:
    """Run a benchmark from the command line."""
    words = sys.argv[1:]
    given = parser_of(doc, options).parse_args(words)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = (spec.name if spec else Path(sys.argv[0]).stem).removeprefix("bench.")
    kept = _without_json(words)
    result = collect(name, kept, given, measure)
    if given.json is not None:
        given.json.write_bytes(msgspec.json.encode(result))


def _without_json(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word.startswith("--json="):
            skip = False
        elif word == "--json":
            skip = True
        else:
            kept.append(word)
    return kept


def write(path: Path, results: Results) -> None:
    """Write a JSON file, whole or not at all; a line for each figure, so that one can be read."""
    benchmarks = [
        msgspec.json.encode({**msgspec.structs.asdict(of), "figures": _lines(of.figures)})
        for of in results.benchmarks
    ]
    whole = {**msgspec.structs.asdict(results), "benchmarks": _lines(map(msgspec.Raw, benchmarks))}
    part = path.with_name(path.name + ".part")
    part.write_bytes(msgspec.json.encode(whole) + b"\n")
    part.rename(path)


def _lines(items: Iterable[Any]) -> msgspec.Raw:
    return msgspec.Raw(b"[\n" + b",\n".join(map(msgspec.json.encode, items)) + b"\n]")


def read(path: Path) -> Results:
    """Read a file of `python -m bench`; raises `SystemExit` that says what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}; give a file of python -m bench") from None
    if len(data) > FILE_BYTES_MAX:
        raise SystemExit(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB: no file of figures")
    try:
        found = msgspec.json.decode(data, type=Results)
    except msgspec.DecodeError as error:
        raise SystemExit(f"{path} is no file of python -m bench: {error}") from None
    if found.version != VERSION:
        raise SystemExit(f"{path} is of version {found.version}; this program reads {VERSION}")
    if any(not one.values for of in found.benchmarks for one in of.figures):
        raise SystemExit(f"{path} has figures without measurements")
    return found
