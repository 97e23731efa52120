"""The tables that the page of benchmarks is made of."""

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import table
from bench.catalogue import NAMES
from bench.compare import Change, changes
from bench.figures import Figure, Result, Results, figure, read, write

MET = figure("clearing", "ms", [3.0, 1.0, 8.0], over=("plain", 2.0), aim=5)
MISSED = figure("speed", "x", 9.0, better="higher", wall=True, aim=10)
FACT = figure("one | other", "us", [2.0, 4.0], wall=True)


def run_of(name: str, *found: Figure, error: str = "", words: Sequence[str] = ()) -> Results:
    result = Result(
        name=name, figures=list(found), error=error, words=list(words), machine="a machine",
        commit="abc", began="2026-11-22T11:14:01+00:00", load=1.25, signature_us=(44.1, 45.2),
    )  # fmt: skip
    return Results(benchmarks=[result])


def whole(*found: Results) -> Results:
    return table.excused(table.together(found), {table.REST: "no time"})


def test_each_figure_has_its_row_under_its_benchmarks_command() -> None:
    results = whole(run_of("order", FACT), run_of("vm", MET, MISSED, words=["--rounds", "1"]))
    aims, others = table.blocks(results).values()
    assert aims.splitlines()[-4:] == [
        "|---|---|---|---|---|",
        "| **vm**: `python -m bench.vm --rounds 1`; load 1.2, a signature 44 and 45 µs |||||",
        "| clearing | ≤ 5 ms | 3 ms (1 .. 8) | 1.50 × plain | met |",
        "| speed | ≥ 10 x | 9 x |  | **missed** |",
    ]
    assert others.splitlines()[-2:] == [
        "| **order**: `python -m bench.order`; load 1.2, a signature 44 and 45 µs |||",
        "| one \\| other | 3 µs wall (2 .. 4) |  |",
    ]


def test_above_it_stand_the_machine_the_commit_and_what_was_not_measured() -> None:
    results = whole(run_of("vm", MET, MISSED), run_of("day", error="ended with 1"))
    (first, _) = table.blocks(results).values()
    machine, count, title, left, _ = first.split("\n\n")
    assert machine.startswith("a machine; commit `abc`; begun between 2026-11-22 11:14 and")
    assert count == "1 benchmarks, 2 figures; 2 of them have an aim, 1 meet it and 1 miss it."
    assert title == "Not measured:"
    assert "- `day`: ended with 1" in left
    assert len(left.splitlines()) == len(NAMES) - 1


def test_a_benchmark_counts_as_the_last_file_has_it() -> None:
    old, new = run_of("vm", MET), run_of("vm", MISSED)
    assert table.together([old, run_of("core", FACT), new]).benchmarks == [
        *run_of("core", FACT).benchmarks,
        *new.benchmarks,
    ]


def test_of_several_commits_each_benchmark_has_its_own() -> None:
    later = run_of("vm", FACT)
    later.benchmarks[0].commit = "def"
    first, second = table.blocks(whole(run_of("core", MET), later)).values()
    assert "commit `abc`, `def`;" in first
    assert "a signature 44 and 45 µs, commit `abc` |||||" in first
    assert "a signature 44 and 45 µs, commit `def` |||" in second


def test_a_reason_that_was_given_once_is_kept() -> None:
    results = whole(run_of("vm", MET), run_of("day", error="ended with 1"))
    told = table.excused(results, table.reasons_of(["day,audit=too long = too long"]))
    errors = {one.name: one.error for one in told.benchmarks}
    assert (errors["day"], errors["audit"], errors["vm"]) == (*["too long = too long"] * 2, "")
    assert errors["grid"] == "no time"


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        (["dai=no time"], "--reason dai=no time: there is no benchmark dai"),
        (["day"], "--reason day: give NAME,NAME=WHY"),
        (["day= "], "give NAME,NAME=WHY"),
    ],
)
def test_a_reason_of_nothing_is_refused(told: list[str], wrong: str) -> None:
    with pytest.raises(SystemExit, match=wrong):
        table.reasons_of(told)


def test_what_has_neither_figures_nor_reason_is_named() -> None:
    with pytest.raises(SystemExit, match=r"not measured: core, .*, tiers, .*; give --reason"):
        table.excused(run_of("vm", MET), {})


def test_what_cannot_be_on_the_page_is_refused() -> None:
    with pytest.raises(SystemExit, match="--quick says whether they work"):
        table.together([Results(quick=True)])
    with pytest.raises(SystemExit, match="there is no benchmark vn; there are: core, vm"):
        table.together([run_of("vn", MET)])
    with pytest.raises(SystemExit, match="there are no figures"):
        table.blocks(whole())
    results = whole(run_of("vm", MET))
    for one in results.benchmarks:
        one.commit = ""
    with pytest.raises(SystemExit, match="which commit was measured; give --commit"):
        table.blocks(results)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200))
def test_few_measurements_have_the_middle_and_the_ends_of_all(values: list[float]) -> None:
    results = table.kept(run_of("vm", figure("one", "ms", values, aim=3)))
    (found,) = results.benchmarks[0].figures
    assert len(found.values) <= table.KEPT_MAX
    assert found.count == len(values)
    close = pytest.approx(
        (min(values), statistics.median(values), max(values)), rel=10.0 ** (1 - table.DIGITS)
    )
    assert (min(found.values), found.median, max(found.values)) == close
    assert table.kept(results) == results


def page_of(*names: str) -> str:
    """Return a page with places for some tables."""
    places = ["\n".join([table.borders(name)[0], "old", table.borders(name)[1]]) for name in names]
    return "\n\nbetween\n\n".join(places) + "\n\nafter\n"


def test_a_page_is_filled_and_its_measurements_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, page = tmp_path / "new.json", tmp_path / "page.md"
    page.write_text(page_of(*table.TABLES))
    many = figure("many", "ms", [float(value) for value in range(1, 500)], aim=300)
    results = run_of("vm", MET, FACT, many)
    results.benchmarks[0].commit = ""
    write(file, results)
    words = ["table", str(file), "--into", str(page), "--commit", "def", "--reason", "rest=no time"]
    monkeypatch.setattr(sys, "argv", words)
    table.main()
    beside = read(tmp_path / "page.json")
    text = page.read_text()
    assert [text] == table.filled([text], table.blocks(beside))
    assert "commit `def`" in text
    assert "old" not in text
    assert text.endswith("\n\nafter\n")
    moved = [one for one in changes(beside, results) if isinstance(one, Change)]
    assert [round(one.percent, 3) for one in moved] == [0, 0, 0]
    # What was kept makes the same page again, by itself.
    monkeypatch.setattr(sys, "argv", ["table", str(tmp_path / "page.json"), "--into", str(page)])
    table.main()
    assert (page.read_text(), read(tmp_path / "page.json")) == (text, beside)


def test_tables_may_stand_on_two_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, pages = tmp_path / "new.json", [tmp_path / "one.md", tmp_path / "two.md"]
    for page, name in zip(pages, table.TABLES, strict=True):
        page.write_text(page_of(name))
    write(file, whole(run_of("vm", MET, FACT)))
    monkeypatch.setattr(sys, "argv", ["table", str(file), "--into", *map(str, pages)])
    table.main()
    first, second = (page.read_text() for page in pages)
    assert "| clearing | ≤ 5 ms |" in first
    assert "clearing" not in second
    assert "commit `abc`" in second
    assert "| one \\| other |" in second
    assert read(tmp_path / "one.json").benchmarks[1].figures == [MET, FACT]
    monkeypatch.setattr(sys, "argv", ["table", str(file), "--into", str(pages[0]), str(pages[0])])
    with pytest.raises(SystemExit, match="one page needs these two lines once"):
        table.main()


@pytest.mark.parametrize("names", [[], list(table.TABLES)[:1], [*table.TABLES, *table.TABLES]])
def test_a_page_without_a_place_for_each_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    file, page = tmp_path / "new.json", tmp_path / "page.md"
    page.write_text(page_of(*names))
    write(file, whole(run_of("vm", MET)))
    monkeypatch.setattr(sys, "argv", ["table", str(file), "--into", str(page)])
    with pytest.raises(SystemExit, match="one page needs these two lines once"):
        table.main()
    assert page.read_text() == page_of(*names)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new.json", "page.md"]


def test_a_page_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "new.json"
    write(file, whole(run_of("vm", MET)))
    monkeypatch.setattr(sys, "argv", ["table", str(file), "--into", str(tmp_path / "none.md")])
    with pytest.raises(SystemExit, match="No such file or directory; give pages that are there"):
        table.main()


def test_without_a_page_the_tables_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.json"
    write(file, whole(run_of("vm", MET)))
    monkeypatch.setattr(sys, "argv", ["table", str(file)])
    table.main()
    assert "| clearing | ≤ 5 ms |" in capsys.readouterr().out


def test_a_file_has_a_line_for_each_figure(tmp_path: Path) -> None:
    write(tmp_path / "new.json", run_of("vm", MET, MISSED))
    lines = (tmp_path / "new.json").read_bytes().splitlines()
    found = [msgspec.json.decode(line.rstrip(b","), type=Figure) for line in lines[2:4]]
    assert found == [MET, MISSED]
