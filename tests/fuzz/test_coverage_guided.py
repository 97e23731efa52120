"""Fuzzing that is led by coverage finds a bug, keeps it, and says how to see it again."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import coverage_guided

ROOT = Path(__file__).parents[2]


def guided(target: str, keep: Path, inputs: int) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "tests.fuzz.coverage_guided", target, "--keep", str(keep),
            "--inputs", str(inputs), "--targets", "tests.fuzz.buggy:BUGGY"]  # fmt: skip
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_finds_a_bug_and_none_where_there_is_none(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="extra fuzz: wheels for x86-64 only")
    found = guided("uncaught", tmp_path, 100_000)
    assert found.returncode == coverage_guided.FOUND, found.stderr
    assert "uncaught: uncaught: KeyError" in found.stdout
    (kept,) = tmp_path.glob("uncaught/*.bin")
    assert b"\xff" in kept.read_bytes()
    sound = guided("sound", tmp_path, 2_000)
    assert sound.returncode == 0, sound.stderr
    assert "Done 2000 runs" in sound.stderr
    assert not (tmp_path / "sound").exists()


def test_without_atheris_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coverage_guided, "find_spec", lambda _name: None)
    with pytest.raises(SystemExit) as ended:
        coverage_guided.main(["transaction"])
    assert ended.value.code == 2
    assert "atheris is missing" in capsys.readouterr().err
