"""What has changed between two runs, on machines that are not equally fast."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import compare
from bench.compare import Change, changes
from bench.figures import Figure, Result, Results, figure, write


def run_of(*found: Figure, signature_us: float = 50.0, words: Sequence[str] = ()) -> Results:
    result = Result(
        name="that", words=list(words), signature_us=(signature_us,), figures=list(found)
    )
    return Results(benchmarks=[result])


def only(old: Results, new: Results) -> Change:
    (found,) = changes(old, new)
    assert isinstance(found, Change)
    return found


def test_a_figure_with_a_baseline_is_compared_by_its_ratio() -> None:
    old = run_of(figure("one", "ms", 10.0, over=("plain", 5.0)))
    # Twice as slow in all: the machine.
    slower = only(old, run_of(figure("one", "ms", 20.0, over=("plain", 10.0))))
    assert (slower.by, slower.percent) == ("x plain", 0.0)
    worse = only(old, run_of(figure("one", "ms", 12.0, over=("plain", 5.0))))
    assert worse.percent == pytest.approx(20)
    assert worse.worse(10)
    assert not worse.worse(25)


def test_another_baseline_is_no_baseline() -> None:
    old = run_of(figure("one", "ms", 10.0, over=("plain", 5.0)))
    new = run_of(figure("one", "ms", 10.0, over=("fancy", 1.0)))
    assert only(old, new).by == "signatures"


def test_a_time_without_a_baseline_is_compared_by_signatures() -> None:
    old = run_of(figure("one", "ms", 10.0), signature_us=50)
    slower = only(old, run_of(figure("one", "ms", 20.0), signature_us=100))
    assert (slower.by, slower.old, slower.percent) == ("signatures", 200.0, 0.0)
    assert only(old, run_of(figure("one", "ms", 20.0))).percent == pytest.approx(100)


@pytest.mark.parametrize(("unit", "wall"), [("bytes", False), ("ms", True)])
def test_sizes_and_the_walls_clock_are_compared_as_they_are(unit: str, wall: bool) -> None:
    old = run_of(figure("one", unit, 10.0, wall=wall), signature_us=50)
    new = run_of(figure("one", unit, 10.0, wall=wall), signature_us=100)
    assert (only(old, new).by, only(old, new).percent) == (unit, 0.0)


def test_more_of_what_should_be_more_is_not_worse() -> None:
    old = run_of(figure("speed", "x", 10.0, better="higher"))
    assert not only(old, run_of(figure("speed", "x", 20.0, better="higher"))).worse(10)
    assert only(old, run_of(figure("speed", "x", 5.0, better="higher"))).worse(10)
    fact = only(run_of(figure("n", "", 1.0)), run_of(figure("n", "", 9.0, better="neither")))
    assert not fact.worse(10)
    assert fact.moved(10)


def test_measurements_that_overlap_are_marked() -> None:
    old = run_of(figure("one", "B", [8.0, 10.0, 14.0]))
    assert only(old, run_of(figure("one", "B", [11.0, 12.0, 20.0]))).overlap
    apart = only(old, run_of(figure("one", "B", [15.0, 16.0, 17.0])))
    assert not apart.overlap
    assert "overlap" not in compare.shown(apart, 10)


def test_what_cannot_be_compared_is_said() -> None:
    one, two = figure("one", "ms", 1.0), figure("two", "ms", 1.0)
    assert list(changes(run_of(one), Results())) == ["that: only in OLD"]
    assert list(changes(run_of(one), run_of(two))) == [
        "that: one: only in OLD",
        "that: two: only in NEW",
    ]
    (other,) = changes(run_of(one, words=["--quick"]), run_of(one))
    assert other == "that: not compared, run with other settings: --quick; none"
    (unit,) = changes(run_of(one), run_of(figure("one", "us", 1.0)))
    assert unit == "that: one: in ms then, in us now"
    (nothing,) = changes(run_of(figure("one", "B", 0.0)), run_of(figure("one", "B", 3.0)))
    assert nothing == "that: one: 0 then, 3 now"
    failed = Results(benchmarks=[Result(name="that", error="ended with 1")])
    assert "that: failed in NEW: ended with 1" in list(changes(run_of(one), failed))


@pytest.mark.parametrize(
    ("new", "code", "said"),
    [
        (10.5, 0, "1 figures compared, 0 worse and 0 otherwise changed by more than 10 %"),
        (12.0, 1, "worse    +20.0 %  that: one: 10 -> 12 B"),
        (5.0, 0, "better   -50.0 %  that: one: 10 -> 5 B"),
    ],
)
def test_the_command_flags_what_is_worse(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    new: float,
    code: int,
    said: str,
) -> None:
    write(tmp_path / "old", run_of(figure("one", "B", 10.0)))
    write(tmp_path / "new", run_of(figure("one", "B", new)))
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "old"), str(tmp_path / "new")])
    assert compare.main() == code
    assert said in capsys.readouterr().out


def test_files_without_a_common_figure_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "old", run_of(figure("one", "B", 10.0)))
    write(tmp_path / "new", Results())
    monkeypatch.setattr(sys, "argv", ["compare", str(tmp_path / "old"), str(tmp_path / "new")])
    with pytest.raises(SystemExit, match="no figure in common"):
        compare.main()
