"""The tables of docs/benchmarks.md and docs/figures.md, made of what was measured.

    uv run python -m bench.table FILE [FILE ...] [--into docs/benchmarks.md docs/figures.md]

FILE is one of `python -m bench --out FILE`; of several, a benchmark counts as the last one has it,
so that one can be measured again by itself. Two tables are made: the figures with an aim, and all
others, both by benchmark in the catalogue's order, with the machine and the commit above.

They are printed, or written into pages between their comments that say so. Then the measurements
are kept beside the first page, under its name with .json: what the pages say is what that file
says, and the next run is held against it (`python -m bench.compare docs/benchmarks.json NEW`). Of
many measurements some are kept, with the same median, least and most.

A benchmark of the catalogue that is in no FILE needs its reason: `--reason NAME,NAME=WHY`, where
the name `rest` is all that have none yet. For one that failed it may be given, too.
"""

import argparse
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from bench.catalogue import NAMES
from bench.figures import TIME_UNITS, Figure, Result, Results, number, read, write

KEPT_MAX: Final = 20
DIGITS: Final = 6
PAGE_COLUMNS: Final = 118
REST: Final = "rest"
# What each table holds, by the name that its comments on the page have.
TABLES: Final[dict[str, Callable[[Figure], bool]]] = {
    "figures with an aim": lambda one: one.aim is not None,
    "figures without an aim": lambda one: one.aim is None,
}
HEADS: Final = {
    "figures with an aim": "| figure | aim | measured | ratio | |\n|---|---|---|---|---|",
    "figures without an aim": "| figure | measured | ratio |\n|---|---|---|",
}


def together(files: Sequence[Results]) -> Results:
    """Return one run of many, in the catalogue's order.

    Raises `SystemExit` where one was run by `--quick`, or for a benchmark that there is not.
    """
    found: dict[str, Result] = {}
    for results in files:
        if results.quick:
            raise SystemExit(
                "a run with --quick says whether they work, not how fast; run it without"
            )
        found |= {one.name: one for one in results.benchmarks}
    for name in found:
        if name not in NAMES:
            raise SystemExit(f"there is no benchmark {name}; there are: {', '.join(NAMES)}")
    return Results(benchmarks=[found[name] for name in NAMES if name in found])


def reasons_of(told: Sequence[str]) -> dict[str, str]:
    """Return why benchmarks were not run. Raises `SystemExit` for what is no reason of one."""
    reasons: dict[str, str] = {}
    for text in told:
        names, _, why = text.partition("=")
        if not why.strip():
            raise SystemExit(f"--reason {text}: give NAME,NAME=WHY")
        for name in names.split(","):
            if name not in (*NAMES, REST):
                raise SystemExit(f"--reason {text}: there is no benchmark {name}")
            reasons[name] = why.strip()
    return reasons


def excused(results: Results, reasons: dict[str, str]) -> Results:
    """Return results with a line for each benchmark: its figures, or why there are none.

    Raises `SystemExit` that names those which have neither.
    """
    found = {one.name: one for one in results.benchmarks}
    every, bare = [], []
    for name in NAMES:
        one = found.get(name, Result(name=name))
        if not one.figures:
            one = replace(one, error=reasons.get(name) or one.error or reasons.get(REST, ""))
            if not one.error:
                bare.append(name)
        every.append(one)
    if bare:
        raise SystemExit(f"not measured: {', '.join(bare)}; give --reason NAME,NAME=WHY")
    return Results(benchmarks=every)


def kept(results: Results) -> Results:
    """Return results with so much of each figure's measurements as is kept beside the page."""
    return Results(
        benchmarks=[
            replace(one, figures=[_thinned(each) for each in one.figures])
            for one in results.benchmarks
        ]
    )


def _thinned(of: Figure) -> Figure:
    values = sorted(of.values)
    n, half = len(values), (len(values) + 1) // 2
    if n > KEPT_MAX:
        # As many below the middle as above it, so that it stays the middle.
        wanted = KEPT_MAX // 2
        lower = {round(i * (half - 1) / (wanted - 1)) for i in range(wanted)}
        places = sorted(lower | {n - 1 - place for place in lower})
    else:
        places, values = list(range(n)), list(of.values)
    few = tuple(float(f"{values[place]:.{DIGITS}g}") for place in places)
    return replace(of, values=few, thinned_from=of.count if of.count > len(few) else 0)


def unit_of(of: Figure) -> str:
    """Return a figure's unit as it is shown after a number."""
    unit = "µs" if of.unit == "us" else of.unit
    return f" {unit} wall" if of.wall and of.unit in TIME_UNITS else f" {unit}" if unit else ""


def row(of: Figure) -> str:
    """Return a figure's row."""
    measured = number(of.median) + unit_of(of)
    if len(of.values) > 1:
        measured += f" ({number(min(of.values))} .. {number(max(of.values))})"
    ratio = "" if of.ratio is None else f"{number(of.ratio)} × {of.baseline}"
    if of.aim is None:
        cells = [of.name, measured, ratio]
    else:
        sign = "≥" if of.better == "higher" else "≤"
        unit = "µs" if of.unit == "us" else of.unit
        aim = f"{sign} {number(of.aim)} {unit}".strip()
        cells = [of.name, aim, measured, ratio, "met" if of.reached else "**missed**"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def command_of(of: Result) -> str:
    """Return the command that makes a benchmark's figures again."""
    return " ".join(["python -m", f"bench.{of.name}", *of.words])


def table(results: Results, name: str) -> str:
    """Return one of the tables; each benchmark's command stands above its figures."""
    lines = [HEADS[name]]
    columns = HEADS[name].partition("\n")[0].count("|") - 1
    commits = {of.commit for of in _ran(results)}
    for of in results.benchmarks:
        rows = [row(one) for one in of.figures if TABLES[name](one)]
        if rows:
            about = f"**{of.name}**: `{command_of(of)}`; load {of.load:.1f}"
            if of.signature_us:
                told = " and ".join(f"{us:.0f}" for us in of.signature_us)
                about += f", a signature {told} µs"
            if len(commits) > 1:
                about += f", commit `{of.commit}`"
            lines += [f"| {about} " + "|" * columns, *rows]
    return "\n".join(lines)


def _ran(results: Results) -> list[Result]:
    return [one for one in results.benchmarks if one.figures]


def about(results: Results) -> Iterator[str]:
    """Yield the paragraphs above the first table: where, what and when, and what is missing."""
    ran = _ran(results)
    if not ran:
        raise SystemExit("there are no figures")
    if not all(one.commit for one in ran):
        raise SystemExit("the files do not say which commit was measured; give --commit")
    commits = _several(f"`{one.commit}`" for one in ran)
    machines = _several(one.machine for one in ran)
    began = sorted(one.began for one in ran)
    first, last = (one[:16].replace("T", " ") for one in (began[0], began[-1]))
    signatures = [us for one in ran for us in one.signature_us]
    loads = [one.load for one in ran]
    yield _wrapped(
        f"{machines}; commit {commits}; begun between {first} and {last} (UTC). One signature's "
        f"verification took {min(signatures):.0f} to {max(signatures):.0f} µs of the processor; "
        f"{min(loads):.1f} to {max(loads):.1f} processes wanted a core as a benchmark began."
    )
    figures = [one for of in ran for one in of.figures]
    aimed = [one for one in figures if one.aim is not None]
    missed = sum(not one.reached for one in aimed)
    yield _wrapped(
        f"{len(ran)} benchmarks, {len(figures)} figures; {len(aimed)} of them have an aim, "
        f"{len(aimed) - missed} meet it and {missed} miss it."
    )
    left = [f"- `{of.name}`: {of.error}" for of in results.benchmarks if not of.figures]
    if left:
        yield "Not measured:\n\n" + "\n".join(left)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, PAGE_COLUMNS, break_long_words=False, break_on_hyphens=False)


def _several(texts: Iterator[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def blocks(results: Results) -> dict[str, str]:
    """Return what stands between the pages' comments, by their names."""
    above = list(about(results))
    aims, others = TABLES
    return {
        aims: "\n\n".join([*above, table(results, aims)]),
        others: "\n\n".join([above[0], table(results, others)]),
    }


def borders(name: str) -> tuple[str, str]:
    """Return the comments that a block stands between."""
    return f"<!-- {name}: made by `python -m bench.table`, do not edit -->", f"<!-- end: {name} -->"


def filled(pages: Sequence[str], found: dict[str, str]) -> list[str]:
    """Return pages with their blocks written anew.

    Raises `SystemExit` where the place of one is missing, or there more than once.
    """
    new = list(pages)
    for name, block in found.items():
        begin, end = borders(name)
        places = [(i, page) for i, page in enumerate(new) if begin in page or end in page]
        marks = [(page.count(begin), page.count(end)) for _, page in places]
        if marks != [(1, 1)] or places[0][1].index(begin) > places[0][1].index(end):
            raise SystemExit(f"one page needs these two lines once, in this order:\n{begin}\n{end}")
        ((i, page),) = places
        before, rest = page.split(begin)
        new[i] = f"{before}{begin}\n\n{block}\n\n{end}{rest.split(end)[1]}"
    return new


def main() -> None:
    """Print the tables, or write them and what they were made of."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--into", nargs="+", type=Path, metavar="PAGE", help="see above")
    parser.add_argument("--commit", default="", help="what was measured, if FILE does not say")
    parser.add_argument("--reason", action="append", default=[], metavar="NAME,NAME=WHY")
    given = parser.parse_args()
    results = together([read(file) for file in given.files])
    results = excused(results, reasons_of(given.reason))
    results = kept(results)
    for one in _ran(results):
        one.commit = one.commit or given.commit
    found = blocks(results)
    if given.into is None:
        print("\n\n".join(found.values()))
        return
    try:
        pages = filled([page.read_text(encoding="utf-8") for page in given.into], found)
    except OSError as error:
        raise SystemExit(f"{error.filename}: {error.strerror}; give pages that are there") from None
    beside = given.into[0].with_suffix(".json")
    write(beside, results)
    for page, text in zip(given.into, pages, strict=True):
        page.write_text(text, encoding="utf-8")
    print(", ".join(map(str, [beside, *given.into])))


if __name__ == "__main__":
    main()
