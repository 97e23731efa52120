"""Streets under faults that really happen: processes, and namespaces where there is root."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from testnet.chaos import wiring

# These bite on failure only: the machine may be busy with other tests.
PATIENCE_S = 600.0
DEMANDS = "[demands]\ngap_s = 120\nrecovery_s = 120\nwiped_s = 120\n"


def scenario(directory: Path, faults: str, seconds: float = 3.0) -> Path:
    file = directory / "test.toml"
    file.write_text(
        'about = "a test"\n[grid]\nhomes = 4\ntime_lapse = 180\n'
        f"[run]\nwarm_up_s = {seconds}\ncool_down_s = {seconds}\n{DEMANDS}{faults}"
    )
    return file


def start(directory: Path, file: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cli", "chaos", "run", str(file), "--json", *more]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_STATE_HOME": str(directory / "state"), "TMPDIR": str(directory)},
        # Whoever runs tests in the background may have told them to ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(directory: Path, file: Path, *more: str) -> dict[str, Any]:
    process = start(directory, file, "--out", str(directory / "out"), *more)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, f"{out}\n{err}"
    assert not list((directory / "state").rglob("*.jsonl"))
    report: dict[str, Any] = json.loads(out)
    return report


def can_wire() -> bool:
    return not asyncio.run(wiring.missing()) and not asyncio.run(wiring.missing_queues())


@pytest.mark.long
def test_processes_are_killed_stopped_and_wiped(tmp_path: Path) -> None:
    faults = "".join(
        f'[[fault]]\nkind = "{kind}"\nnodes = ["{name}"]\nat_s = {at_s}\nfor_s = 3\n'
        for kind, name, at_s in (("kill", "home-02", 0), ("stop", "home-03", 0))
    )
    report = run(tmp_path, scenario(tmp_path, faults))
    assert [check["name"] for check in report["checks"] if not check["passed"]] == []
    assert {strike["kind"] for strike in report["strikes"]} == {"kill", "stop"}
    assert report["blocks"] > 3
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "out" / "logs" / "home-02.log").exists()


@pytest.mark.long
def test_a_split_street_heals(tmp_path: Path) -> None:
    if not can_wire():
        pytest.skip("needs root, network namespaces and netfilter queues")
    faults = (
        '[[fault]]\nkind = "link"\nnodes = ["all"]\ndelay_ms = 20\nloss_percent = 1\n'
        "at_s = 0\nfor_s = 20\n"
        '[[fault]]\nkind = "partition"\nsides = [["authorities:2"], ["rest"]]\n'
        "at_s = 2\nfor_s = 8\n"
    )
    report = run(tmp_path, scenario(tmp_path, faults), "--target", "netns")
    assert report["passed"]
    # Namespaces are named by the end of the run's directory; the run has said that all are undone.
    assert not list((tmp_path / "state").rglob("*.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_tool_a_stopped_home_goes_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    faults = '[[fault]]\nkind = "stop"\nnodes = ["home-02"]\nat_s = 0\nfor_s = 600\n'
    process = start(tmp_path, scenario(tmp_path, faults, 1.0))
    try:
        homes = until(lambda: stopped(tmp_path))
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    if number == signal.SIGKILL:
        undone = subprocess.run(
            [sys.executable, "-m", "cli", "chaos", "undo"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        )
        assert "undone: home-02 stands still" in undone.stdout
    else:
        assert process.returncode == 130, f"{out}\n{err}"
    # A home that goes on finds that nobody holds it any more, and ends.
    until(lambda: not [pid for pid in homes if Path(f"/proc/{pid}").exists()] or None)
    assert not list((tmp_path / "state").rglob("*.jsonl"))


def stopped(directory: Path) -> list[int] | None:
    """Return the homes of a street in a directory that stand still, None if there are none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(directory) in line and "home-02" in line and state == "T":
            found.append(int(process.name))
    return found or None


def until(find: Any) -> Any:
    end = time.monotonic() + PATIENCE_S
    while (found := find()) is None:
        assert time.monotonic() < end
        time.sleep(0.1)
    return found
