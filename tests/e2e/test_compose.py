"""The grid in containers: 24 homes in three regions, one more that joins, an authority killed."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = "commonwatt-e2e"
AUTHORITIES = [f"home-{number:02d}" for number in range(1, 13)]
JOINING = 12
# These bite on failure only: a build server may be slow.
STEP_S = 300.0
BUILD_S = 1_800.0
PATIENCE_S = 900.0
LOGS = ROOT / ".ci" / "logs"
# The engine chooses the API's port: another grid may have the usual one.
ENVIRONMENT = {"TIME_LAPSE": "60", "API_PORT": "0", "PATH": "/usr/local/bin:/usr/bin:/bin"}


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


def status(name: str, replica: int = 1) -> dict[str, Any]:
    """Return what a home says of itself; as of height -1 while it does not answer."""
    where = ["exec", "-T", "--index", str(replica), name]
    command = ["commonwatt", "status", "--config", "/home-data/node.toml", "--json"]
    try:
        answer = compose(*where, *command, timeout_s=STEP_S)
    except AssertionError as error:
        # Its container may be up before its control socket is.
        return {"height": -1, "home": None, "why": str(error)}
    found: dict[str, Any] = json.loads(answer)
    return found


def reached(name: str, height: int) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE_S
    while True:
        seen = status(name)
        if seen["height"] >= height:
            return seen
        assert time.monotonic() < until, f"{name} is not at {height}: {seen}"
        time.sleep(1)


@pytest.fixture(scope="module")
def grid() -> Iterator[None]:
    compose("down", "--volumes", "--remove-orphans", timeout_s=STEP_S)
    try:
        compose("build", "--quiet", timeout_s=BUILD_S)
        compose("up", "--detach", "--wait", timeout_s=PATIENCE_S)
        yield
    finally:
        LOGS.mkdir(parents=True, exist_ok=True)
        (LOGS / "compose.log").write_text(compose("logs", "--no-color", timeout_s=STEP_S))
        compose("down", "--volumes", timeout_s=STEP_S)


def until_traded(names: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """Wait until somebody of these has bought or sold; return what all of them say then.

    Roofs are not spread evenly over regions.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        # One home may be asked before a slot is settled and another after it.
        told = [status(*name) for name in names]
        homes = [home for one in told if (home := one["home"]) is not None]
        if any(home[side] > 0 for home in homes for side in ("bought_wh", "sold_wh")):
            return told
        assert time.monotonic() < until, f"nobody has traded: {homes}"


@pytest.mark.containers
def test_every_region_trades(grid: None) -> None:
    for first in (0, 4, 8):
        until_traded([(name, 1) for name in AUTHORITIES[first : first + 4]])


@pytest.mark.containers
def test_homes_that_came_by_themselves_trade(grid: None) -> None:
    told = until_traded([("home", replica) for replica in range(1, JOINING + 1)])
    # They take turns at the regions.
    assert len({one["chain_id"] for one in told if one["height"] >= 0}) == 3


@pytest.mark.containers
def test_the_first_home_s_api_is_on_this_machine(grid: None) -> None:
    address = compose("port", "home-01", "4680", timeout_s=STEP_S).strip()
    assert address.startswith("127.0.0.1:")
    with urllib.request.urlopen(f"http://{address}/v1/status", timeout=STEP_S) as answer:
        assert json.load(answer)["name"] == "home-01"


@pytest.mark.containers
def test_one_more_home_comes_in(grid: None) -> None:
    compose(
        "up", "--detach", "--no-recreate", "--scale", f"home={JOINING + 1}", timeout_s=PATIENCE_S
    )
    until = time.monotonic() + PATIENCE_S
    while (seen := status("home", JOINING + 1))["home"] is None:
        assert time.monotonic() < until, f"it is no home of its region: {seen}"
        time.sleep(1)


@pytest.mark.containers
def test_regions_are_anchored(grid: None) -> None:
    until = time.monotonic() + PATIENCE_S
    asked = ["commonwatt", "region", "list", "--config", "/home-data/node.toml", "--json"]
    while True:
        regions = json.loads(compose("exec", "-T", "neutral-01", *asked, timeout_s=STEP_S))
        if len(regions) == 3 and all(
            one["status"] == "live" and one["anchored"] for one in regions
        ):
            return
        assert time.monotonic() < until, f"not all are anchored: {regions}"
        time.sleep(1)


@pytest.mark.containers
def test_a_killed_authority_recovers(grid: None) -> None:
    compose("kill", "home-02", timeout_s=STEP_S)
    before = reached("home-01", 0)["height"]
    after = reached("home-01", before + 3)["height"]
    compose("start", "home-02", timeout_s=STEP_S)
    assert reached("home-02", after + 1)["voting"]


@pytest.mark.containers
def test_containers_run_with_little_power(grid: None) -> None:
    listing = compose("ps", "--format", "{{.ID}}", "home-05", timeout_s=STEP_S).split()
    inspected = json.loads(
        subprocess.run(
            ["docker", "inspect", *listing], capture_output=True, text=True, check=True
        ).stdout
    )
    host = inspected[0]["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert inspected[0]["Config"]["User"] == "commonwatt"


SCENARIOS = {
    "one-lost": 'kind = "kill"\nnodes = ["f"]\nfor_s = 4',
    "region-cut": 'kind = "partition"\nsides = [["all"], ["outside"]]\nfor_s = 8',
    "slow-links": 'kind = "link"\nnodes = ["all"]\ndelay_ms = 50\nloss_percent = 1\nfor_s = 6',
}


@pytest.mark.containers
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_short_scenario_is_survived(grid: None, tmp_path: Path, name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("the containers' volumes and namespaces are root's")
    file = tmp_path / f"{name}.toml"
    file.write_text(
        f'about = "{name}"\n[grid]\nhomes = 12\nregions = 3\n'
        "[run]\nwarm_up_s = 2\ncool_down_s = 1\n"
        # These bite on failure only.
        "[demands]\ngap_s = 300\nrecovery_s = 300\nanchored_s = 300\n"
        f"[[fault]]\nat_s = 0\n{SCENARIOS[name]}\n"
    )
    out = LOGS / f"chaos-{name}"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "cli", "chaos", "run", str(file), "--out", str(out), "--json"]
    done = subprocess.run(
        [*command, "--target", "containers", "--project", PROJECT, "--chain", "region-1"],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout)
    assert report["passed"]
    assert report["blocks"] > 0
    assert "main recovery" in {check["name"] for check in report["checks"]}
    assert not list(tmp_path.rglob("*.jsonl"))
