"""Figures: how they are summed up, printed and kept."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bench import figures
from bench.figures import Figure, Result, Results, Said, collect, figure, line


def test_a_figure_has_median_spread_ratio_and_aim() -> None:
    found = figure("a thing", "ms", [3.0, 1.0, 8.0], over=("another", [2.0, 1.0, 4.0]), aim=5)
    assert (found.median, found.ratio, found.baseline) == (3.0, 1.5, "another")
    assert found.reached
    text = "a thing: 3 ms (1 .. 8, n=3), 1.50 x another [aim <= 5 ms]"
    assert line(found) == text


@pytest.mark.parametrize(("value", "reached"), [(9.0, False), (10.0, True), (11.0, True)])
def test_an_aim_of_more_is_missed_by_less(value: float, reached: bool) -> None:
    found = figure("speed", "x", value, better="higher", aim=10)
    assert found.reached == reached
    assert line(found).endswith("[aim >= 10 x]" if reached else "[aim >= 10 x: missed]")


def test_a_baseline_of_nothing_gives_no_ratio() -> None:
    assert figure("a thing", "ms", 3.0, over=("nothing", [0.0, 0.0])).ratio is None


def test_numbers_of_numpy_are_kept_as_any_other() -> None:
    found = figure("a thing", "ms", [np.float64(3), np.float64(5)], over=("it", np.float64(2)))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Figure) == found


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(SystemExit, match="a thing: nothing was measured"):
        figure("a thing", "ms", [])


@pytest.mark.parametrize(
    ("value", "text"),
    [(12_345.6, "12,346"), (45.67, "45.7"), (4.567, "4.57"), (0.04567, "0.0457"), (6.0, "6")],
)
def test_numbers_have_about_three_digits(value: float, text: str) -> None:
    assert figures.number(value) == text


def measured(_given: argparse.Namespace) -> Iterator[Said]:
    yield "a table's line"
    yield figure("one", "us", [1.0, 2.0, 3.0])
    yield figure("two", "bytes", 4)


def test_a_command_prints_and_keeps_what_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--homes", type=int)

    file = tmp_path / "result.json"
    monkeypatch.setattr(sys, "argv", ["bench.that", "--homes", "3", "--json", str(file)])
    figures.command("A benchmark.", options, measured)
    said = capsys.readouterr().out
    assert "a table's line\none: 2 us (1 .. 3, n=3)\ntwo: 4 bytes\n" in said
    assert "one signature's verification" in said
    result = msgspec.json.decode(file.read_bytes(), type=Result)
    assert result.words == ["--homes", "3"]
    assert [one.name for one in result.figures] == ["one", "two"]
    assert len(result.signature_us) == 2
    assert min(result.signature_us) > 0


def test_two_figures_of_one_name_are_an_error() -> None:
    def twice(_given: argparse.Namespace) -> Iterator[Said]:
        yield figure("one", "us", 1.0)
        yield figure("one", "us", 2.0)

    with pytest.raises(ValueError, match="two figures are called 'one'"):
        collect("that", [], argparse.Namespace(), twice)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    results = Results(
        quick=True,
        benchmarks=[Result(name="vm", words=["--rounds", "1"], figures=[figure("one", "us", 1.0)])],
    )
    figures.write(tmp_path / "figures.json", results)
    assert figures.read(tmp_path / "figures.json") == results
    assert [file.name for file in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "No such file or directory; give a file of python -m bench"),
        (b"{", "is no file of python -m bench"),
        (b'{"benchmarks": 3}', "is no file of python -m bench"),
        (b'{"version": 2}', "is of version 2; this program reads 1"),
        (
            b'{"benchmarks": [{"name": "a", "figures": '
            b'[{"name": "b", "unit": "", "values": []}]}]}',
            "figures without measurements",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(
    tmp_path: Path, content: bytes | None, wrong: str
) -> None:
    file = tmp_path / "figures.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=wrong):
        figures.read(file)
