"""The street in containers: `docker compose up`, one authority killed and started again."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.containers

ROOT = Path(__file__).parents[2]
PROJECT = "commonwatt-e2e"
HOMES = 12
LOGS = ROOT / ".ci" / "logs"
ENVIRONMENT = {"TIME_LAPSE": "180", "PATH": "/usr/local/bin:/usr/bin:/bin"}


def compose(*arguments: str, timeout_s: float) -> str:
    done = subprocess.run(
        ["docker", "compose", "--project-name", PROJECT, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def status(name: str) -> dict[str, Any]:
    answer = compose(
        "exec", "-T", name, "commonwatt", "status", "--config", "/home-data/node.toml", "--json",
        timeout_s=60,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(answer)
    return found


def reached(name: str, height: int, timeout_s: float) -> dict[str, Any]:
    until = time.monotonic() + timeout_s
    while True:
        seen = status(name)
        if seen["height"] >= height:
            return seen
        assert time.monotonic() < until, f"{name} is at {seen['height']}, not at {height}"
        time.sleep(1)


@pytest.fixture(scope="module")
def street() -> Iterator[None]:
    compose("down", "--volumes", "--remove-orphans", timeout_s=120)
    try:
        compose("build", "--quiet", timeout_s=600)
        compose("up", "--detach", "--wait", timeout_s=240)
        yield
    finally:
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / "compose.log").write_text(compose("logs", "--no-color", timeout_s=60))
        compose("down", "--volumes", timeout_s=120)


def test_the_street_trades_in_containers(street: None) -> None:
    until = time.monotonic() + 240
    while True:
        homes = [status(f"home-{number:02d}")["home"] for number in range(1, HOMES + 1)]
        if sum(home["bought_wh"] for home in homes) > 0:
            break
        assert time.monotonic() < until, f"nobody has traded: {homes}"
    assert sum(home["sold_wh"] for home in homes) > 0


def test_a_killed_authority_recovers(street: None) -> None:
    compose("kill", "home-02", timeout_s=60)
    before = status("home-01")["height"]
    after = reached("home-01", before + 3, timeout_s=60)["height"]
    compose("start", "home-02", timeout_s=60)
    until = time.monotonic() + 90
    while True:
        try:
            back = status("home-02")
        except AssertionError:
            back = {"height": -1}  # its control socket is not open yet
        if back["height"] > after:
            break
        assert time.monotonic() < until, f"home-02 is at {back['height']}, not beyond {after}"
        time.sleep(1)
    assert back["voting"]


def test_containers_run_with_little_power(street: None) -> None:
    listing = compose("ps", "--format", "{{.ID}}", "home-05", timeout_s=60).split()
    inspected = json.loads(
        subprocess.run(
            ["docker", "inspect", *listing], capture_output=True, text=True, check=True
        ).stdout
    )
    host = inspected[0]["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert inspected[0]["Config"]["User"] == "commonwatt"
