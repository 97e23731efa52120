import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cli import app
from node.errors import ConfigError

STEPS = 24
DAYS = 60


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(4)
    shape = 0.2 + 0.5 * np.exp(-(((np.arange(STEPS) - 19) / 3) ** 2))
    lines = ["time,a,b,b_pv,short"]
    for step in range(DAYS * STEPS):
        a, b = shape[step % STEPS] * rng.lognormal(-0.1, 0.5, 2)
        pv = max(0.0, np.sin((step % STEPS - 6) / 12 * np.pi)) * rng.uniform(0.3, 1)
        short = "0.3" if step < 20 * STEPS else ""
        cell = "" if 300 < step < 310 else f"{a:.4f}"
        day = f"2024-{1 + step // STEPS // 30:02d}-{1 + step // STEPS % 30:02d}"
        if day == "2024-02-30":
            break
        lines.append(f"{day} {step % STEPS:02d}:00,{cell},{b:.4f},{pv:.4f},{short}")
    path = tmp_path_factory.mktemp("report") / "street.csv"
    path.write_text("\n".join([*lines, ""]))
    return path


def run(*arguments: str) -> str:
    once = () if "--jobs" in arguments else ("--jobs", "1")
    result = CliRunner().invoke(
        app, ["forecast", "report", *once, *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_report_is_printed_and_drawn(file: Path, tmp_path: Path) -> None:
    shown = run("--data", str(file), "--model", "blend", "--out", str(tmp_path / "out"))
    for words in ("median home", "28-day median", "PV of b", "left out: short"):
        assert words in shown
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "report.json",
        "skill.svg",
        "week.svg",
    }


def test_json_is_all_that_is_printed(file: Path) -> None:
    told = json.loads(run("--data", str(file), "--model", "ridge", "--json"))
    assert [home["name"] for home in told["homes"]] == ["a", "b"]
    for kind in ("mean", "median"):
        assert np.isfinite(told[kind]["skill_mae_vs_naive7d"])
    assert told["mean"]["worst_home"] == min(
        home["mean"]["skill_mae_vs_naive7d"] for home in told["homes"]
    )


def test_homes_are_judged_alike_one_by_one_and_at_once(file: Path) -> None:
    reports = [
        run("--data", str(file), "--model", "blend", "--json", "--jobs", jobs) for jobs in "12"
    ]
    assert reports[0] == reports[1]
    assert "short" in json.loads(reports[1])["left_out"][0]


def test_what_cannot_be_is_one_clear_error(file: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("time,a\n" + "".join(f"2024-01-01 {hour:02d}:00,1\n" for hour in range(24)))
    (tmp_path / "taken").write_text("a file")
    for arguments, says in (
        (("--data", str(tmp_path / "none.csv")), "cannot be read"),
        (("--data", str(short)), "no home can be judged: a: 1 days; 42 are needed"),
        (("--data", str(file), "--model", "oracle"), "'oracle' is not a forecast model"),
        (("--data", str(file), "--zone", "Mars/Base"), "is not a time zone"),
        (("--data", str(file), "--model", "blend", "--out", str(tmp_path / "taken")), "--out"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(*arguments)
