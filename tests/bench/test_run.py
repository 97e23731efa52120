"""`python -m bench`: which benchmarks it runs, and what it makes of those that fail."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import __main__ as runner
from bench.catalogue import CATALOGUE, NAMES, Entry
from bench.figures import Result, figure, read


def test_all_are_run_unless_some_are_chosen() -> None:
    assert runner.chosen([], [], []) == list(CATALOGUE)
    assert [one.name for one in runner.chosen(["vm", "core"], [], [])] == ["core", "vm"]
    assert {one.kind for one in runner.chosen([], ["data"], [])} == {"data"}
    assert "vm" not in [one.name for one in runner.chosen([], [], ["vm"])]


@pytest.mark.parametrize(
    ("names", "kinds", "without", "wrong"),
    [
        (["vn"], [], [], f"there is no benchmark vn; there are: {NAMES[0]}"),
        ([], [], ["vn"], "there is no benchmark vn"),
        ([], ["proces"], [], "there is no kind proces; there are: process"),
        (["vm"], ["data"], [], "nothing is left"),
    ],
)
def test_what_there_is_not_is_refused(
    names: list[str], kinds: list[str], without: list[str], wrong: str
) -> None:
    with pytest.raises(SystemExit, match=wrong):
        runner.chosen(names, kinds, without)


def test_one_that_fails_leaves_the_others_figures(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if "bench.vm" in command:
            return subprocess.CompletedProcess(command, 3)
        result = Result(name="order", figures=[figure("in all", "us", 9.0, aim=3)])
        Path(command[-1]).write_bytes(msgspec.json.encode(result))
        return subprocess.CompletedProcess(command, 0)

    out = tmp_path / "figures.json"
    monkeypatch.setattr(runner.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["bench", "vm", "order", "--quick", "--out", str(out)])
    assert runner.main() == 1
    said = capfd.readouterr().out
    assert "FAILED: vm: ended with 3" in said
    assert "aim missed: order: in all" in said
    quick = next(entry.quick for entry in CATALOGUE if entry.name == "order")
    assert quick in " ".join(asked[1])
    kept = read(out)
    assert kept.quick
    assert [(one.name, bool(one.error)) for one in kept.benchmarks] == [
        ("vm", True),
        ("order", False),
    ]


def test_a_benchmark_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    found = runner.run(Entry("vm", "process", "--rounds 1"), True, 0.001)
    assert found.error == "not done within 0.001 s; --limit-s gives it more"


def test_an_output_in_no_folder_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "none" / "figures.json"
    monkeypatch.setattr(sys, "argv", ["bench", "vm", "--out", str(out)])
    with pytest.raises(SystemExit, match="there is no such folder"):
        runner.main()
