"""Cells: kept whole, found again, and never mixed with other results."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from study.cells import MANIFEST, Progress, Results, run_cells
from study.errors import OutputError


class Number(msgspec.Struct, frozen=True):
    value: int


class Square(msgspec.Struct, frozen=True):
    value: int


ABOUT = {"study": "squares", "model": "1"}
NUMBERS = [Number(value) for value in range(5)]


def results(folder: Path) -> Results[Number, Square]:
    return Results(folder, ABOUT, Square)


def square(number: Number) -> Square:
    return Square(number.value**2)


def refuse(number: Number) -> Square:
    raise AssertionError(f"{number} is made again")


def test_an_interrupted_study_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    def until_three(number: Number) -> Square:
        if number.value == 3:
            raise KeyboardInterrupt
        return square(number)

    with pytest.raises(KeyboardInterrupt):
        run_cells(results(tmp_path), NUMBERS, until_three, jobs=1)
    told: list[Progress] = []
    made: list[int] = []

    def work(number: Number) -> Square:
        made.append(number.value)
        return square(number)

    found = run_cells(results(tmp_path), NUMBERS, work, 1, told.append)
    assert made == [3, 4]
    assert told[0] == Progress(before=3, done=0, cells=5)
    assert told[-1] == Progress(before=3, done=2, cells=5)
    assert [found[number].value for number in NUMBERS] == [0, 1, 4, 9, 16]
    assert run_cells(results(tmp_path), NUMBERS, refuse, 1) == found


def test_ctrl_c_waits_for_the_cell_that_runs(tmp_path: Path) -> None:
    def interrupted(number: Number) -> Square:
        if number.value == 2:
            signal.raise_signal(signal.SIGINT)
        return square(number)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_cells(results(tmp_path), NUMBERS, interrupted, jobs=1)
    assert signal.getsignal(signal.SIGINT) is before
    kept = results(tmp_path)
    assert [kept.find(number) is not None for number in NUMBERS] == [True, True, True, False, False]


def test_ctrl_c_twice_waits_for_nothing(tmp_path: Path) -> None:
    def interrupted(number: Number) -> Square:
        if number.value == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return square(number)

    with pytest.raises(KeyboardInterrupt):
        run_cells(results(tmp_path), NUMBERS, interrupted, jobs=1)
    kept = results(tmp_path)
    assert [number.value for number in NUMBERS if kept.find(number)] == [0, 1]


def test_an_engine_of_ones_own_runs_the_cells(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as engine:
        found = run_cells(results(tmp_path), NUMBERS, square, 2, executor=engine)
    assert [found[number].value for number in NUMBERS] == [0, 1, 4, 9, 16]


def test_a_directory_with_other_results_is_refused(tmp_path: Path) -> None:
    results(tmp_path)
    with pytest.raises(OutputError, match="their model is '1', this study's is '2'"):
        Results(tmp_path, {**ABOUT, "model": "2"}, Square)


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds other files"):
        results(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_a_manifest_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("[1]")
    with pytest.raises(OutputError, match="not a study's"):
        results(tmp_path)


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can be written"):
        results(tmp_path / "file" / "out")


@pytest.mark.parametrize("text", ["", "{", '{"result": {"value": "four"}}', '{"other": 1}'])
def test_a_broken_cell_is_named(tmp_path: Path, text: str) -> None:
    kept = results(tmp_path)
    kept.keep(NUMBERS[2], Square(4))
    (path,) = (tmp_path / "cells").iterdir()
    path.write_text(text)
    with pytest.raises(OutputError, match="remove it"):
        kept.find(NUMBERS[2])
