"""`commonwatt study`: what it writes, and what it refuses in one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app

runner = CliRunner()


def refused(*words: str) -> str:
    done = runner.invoke(app, ["study", *words])
    assert done.exit_code == 2, done.output
    assert done.output.startswith("commonwatt: ")
    assert done.output.count("\n") == 1
    return done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ce-sdt", "--share", "101"), "0 to 100 %"),
        (("ce-sdt", "--users", "1"), "2 to 2000"),
        (("ce-sdt", "--users", "3", "--share", "10", "--figure", "5"), "at least 17 %"),
        (("ce-sdt", "--figure", "4"), "figures 5 to 10"),
        (("ce-sdt", "--data", "none.csv"), "none.csv"),
        (("huang", "--figure", "1"), "figures 8 and 9"),
        (("huang", "--mode", "loud"), "literal, hill_climb"),
        (("huang", "--days", "0"), "1 to 31"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"
    assert said in refused(*words, "--out", str(out), "--no-plots")
    assert not out.exists()


def test_other_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"study": "huang"}')
    words = ("ce-sdt", "--figure", "5", "--out", str(tmp_path), "--no-plots")
    assert "holds other results" in refused(*words)
