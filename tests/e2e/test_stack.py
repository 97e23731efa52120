"""A grid as a stack of a one-node swarm: it begins, trades, lets homes in, outlives a lost disk.

The engine may be in no swarm before; it is in none afterwards.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STACK = "commonwatt-swarm"
IMAGE = "commonwatt-stack-e2e"
BEGINS_IN_S = 40
JOINING = 2
# These bite on failure only.
STEP_S = 300.0
PATIENCE_S = 600.0


def docker(*arguments: str, check: bool = True, text: str | None = None) -> str:
    done = subprocess.run(
        ["docker", *arguments],
        input=text,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=STEP_S,
        check=False,
    )
    assert done.returncode == 0 or not check, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout + (done.stderr if "logs" in arguments else "")


def commonwatt(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=STEP_S,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
    return done.stdout


def container(service: str) -> str:
    found = docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={STACK}_{service}")
    return found.split()[0] if found.strip() else ""


def status(service: str, config: str = "/etc/commonwatt/node.toml") -> dict[str, Any]:
    """Return what a node says of itself; as of height -1 while it does not answer."""
    found: dict[str, Any] = {"height": -1, "home": None, "voting": False}
    if name := container(service):
        asked = ["commonwatt", "status", "--config", config, "--json"]
        answer = docker("exec", name, *asked, check=False)
        if answer.strip():
            found = json.loads(answer)
    return found


def until(what: str, service: str, holds: Any, config: str = "/etc/commonwatt/node.toml") -> Any:
    end = time.monotonic() + PATIENCE_S
    while not holds(seen := status(service, config)):
        assert time.monotonic() < end, f"{service}: {what}: {seen}\n{logs()}"
        time.sleep(1)
    return seen


def logs() -> str:
    told = [docker("service", "ps", "--no-trunc", f"{STACK}_home-01", check=False)]
    told += [
        docker("service", "logs", "--tail", "15", f"{STACK}_{service}", check=False)
        for service in ("home-01", "operator", "home")
    ]
    return "\n".join(told)


def remove() -> None:
    docker("stack", "rm", STACK, check=False)
    end = time.monotonic() + PATIENCE_S
    while docker("ps", "-q", "-f", f"label=com.docker.stack.namespace={STACK}").strip():
        assert time.monotonic() < end
        time.sleep(1)
    docker("swarm", "leave", "--force", check=False)
    left = docker("volume", "ls", "-q", "-f", f"name={STACK}_").split()
    left += docker("volume", "ls", "-q", "-f", "name=commonwatt_joined-").split()
    if left:
        docker("volume", "rm", *left, check=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if "inactive" not in docker("info", "--format", "{{.Swarm.LocalNodeState}}"):
        pytest.skip("the engine is in a swarm already")
    grid = tmp_path_factory.mktemp("swarm") / "grid"
    docker("build", "--quiet", "--tag", IMAGE, ".")
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        host = docker("node", "ls", "--format", "{{.Hostname}}").strip()
        making = ["--homes", "4", "--containers", "--begins-in", str(BEGINS_IN_S)]
        commonwatt("testnet", "create", "--dir", str(grid), *making)
        asked = ["--dir", str(grid), "--host", host, "--joining", str(JOINING), "--image", IMAGE]
        text = commonwatt("testnet", "stack", *asked)
        deploy = ["deploy", "--resolve-image", "never", "--detach=true", "--compose-file", "-"]
        docker("stack", *deploy, STACK, text=text)
        yield
    finally:
        remove()


@pytest.mark.long
def test_a_stack_trades_and_outlives_a_lost_disk(stack: None) -> None:
    until("makes blocks", "home-01", lambda seen: seen["height"] >= 2)
    until("is a home", "home", lambda seen: seen["home"], "/home-data/node.toml")

    def traded(seen: dict[str, Any]) -> bool:
        return bool(seen["home"]) and seen["home"]["bought_wh"] + seen["home"]["sold_wh"] > 0

    until("trades", "home-01", traded)
    # The disk is gone, the key comes back with the engine: it syncs, and votes only after others.
    docker("service", "scale", "--detach=true", f"{STACK}_home-02=0")
    end = time.monotonic() + PATIENCE_S
    while docker("ps", "-aq", "-f", f"label=com.docker.swarm.service.name={STACK}_home-02").strip():
        assert time.monotonic() < end
        for gone in docker(
            "ps",
            "-aq",
            "-f",
            "status=exited",
            "-f",
            f"label=com.docker.swarm.service.name={STACK}_home-02",
        ).split():
            docker("rm", gone, check=False)
        time.sleep(1)
    docker("volume", "rm", f"{STACK}_home-02")
    before = until("goes on", "home-01", lambda seen: seen["height"] >= 2)["height"]
    docker("service", "scale", "--detach=true", f"{STACK}_home-02=1")
    until("votes again", "home-02", lambda seen: seen["height"] > before + 2 and seen["voting"])
    said = docker("service", "logs", "--raw", f"{STACK}_home-02")
    assert "does not vote until two heights" in said
