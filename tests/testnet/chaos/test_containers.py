"""What the engine tells of containers is read as it was meant; what cannot be is refused."""

from pathlib import Path
from typing import Any

import pytest

from testnet.chaos.errors import TargetError
from testnet.chaos.journal import Journal
from testnet.chaos.plan import Plan, make_plan
from testnet.chaos.scenario import read_scenario
from testnet.chaos.targets import containers
from testnet.chaos.targets.containers import Containers, container_of


def told(service: str = "home-03", number: str = "1", **more: Any) -> dict[str, Any]:
    """What `docker inspect` tells, as far as it is read."""
    return {
        "Id": "0123456789abcdef",
        "Config": {
            "Labels": {
                "com.docker.compose.service": service,
                "com.docker.compose.container-number": number,
            },
            "Entrypoint": ["commonwatt"],
            "Cmd": ["run"],
        },
        "State": {"Running": True, "Pid": 77},
        "RestartCount": 2,
        "HostConfig": {"NanoCpus": 0, "CpuQuota": 0},
        "Mounts": [{"Destination": "/home-data", "Source": "/volumes/three/_data"}],
        "NetworkSettings": {
            "Networks": {
                "street": {"IPAddress": "172.19.0.4", "Aliases": ["home-03", "0123456789ab"]}
            }
        },
        **more,
    }


def of(**more: Any) -> containers.Container:
    found = container_of(told(**more))
    assert found is not None
    return found


def test_a_homes_container_is_read() -> None:
    one = of()
    assert (one.name, one.home, one.pid, one.restarts) == (
        "home-03",
        Path("/volumes/three/_data"),
        77,
        2,
    )
    assert (one.network, one.address, one.aliases) == ("street", "172.19.0.4", ("home-03",))
    assert not one.limited
    assert not one.driven


def test_others_are_no_homes() -> None:
    assert container_of(told(Mounts=[{"Destination": "/street", "Source": "/x"}])) is None


def test_homes_of_a_scaled_service_have_names_of_their_own() -> None:
    assert of(service="home", number="12").name == "home.12"
    assert of(service="home-12", number="1").name == "home-12"


def test_one_that_is_down_has_no_address() -> None:
    one = of(NetworkSettings={"Networks": {}}, State={"Running": False, "Pid": 0})
    assert (one.network, one.address, one.running) == ("", "", False)


def target(tmp_path: Path, *found: containers.Container) -> Containers:
    names = [one.name for one in found]
    return Containers(found, names[:4], 30.0, Journal(tmp_path / "journal.jsonl"))


def street(**first: Any) -> list[containers.Container]:
    return [of(service=f"home-{n:02d}", **(first if n == 1 else {})) for n in range(1, 5)]


def plan_of(grid: Containers, kind: str, **more: Any) -> Plan:
    fault = {"kind": kind, "nodes": ["home-01"], "at_s": 0, "for_s": 5, **more}
    tree = {"about": "a test", "grid": {"homes": 4}, "fault": [fault]}
    return make_plan(read_scenario(tree, "x"), grid.roster)


async def test_what_a_container_cannot_be_asked_is_said(tmp_path: Path) -> None:
    grid = target(tmp_path, *street())
    clock = await grid.lacking(plan_of(grid, "clock", skew_ms=5))
    assert "home-01 runs the production daemon" in clock[0]
    (burst,) = await grid.lacking(plan_of(grid, "burst", homes=9))
    assert "needs the regulator's key" in burst
    assert await grid.lacking(plan_of(grid, "kill")) == []
    assert await grid.lacking(plan_of(grid, "cpu", percent=5)) == []


async def test_a_limit_of_its_own_is_not_overwritten(tmp_path: Path) -> None:
    grid = target(tmp_path, *street(HostConfig={"NanoCpus": 10**9, "CpuQuota": 0}))
    (said,) = await grid.lacking(plan_of(grid, "cpu", percent=5))
    assert "home-01 has a CPU limit of its own" in said


async def test_the_test_build_may_be_driven(tmp_path: Path) -> None:
    config = told()["Config"] | {"Cmd": ["-m", "testnet.chaos.driver", "--drive", "x"]}
    labels = config["Labels"] | {"com.docker.compose.service": "home-01"}
    grid = target(tmp_path, *street(Config=config | {"Labels": labels}))
    assert await grid.lacking(plan_of(grid, "clock", skew_ms=5)) == []


async def test_only_root_may_look_into_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers.os, "geteuid", lambda: 1_000)
    with pytest.raises(TargetError, match="run it with sudo"):
        await Containers.find("commonwatt", "", Journal(tmp_path / "journal.jsonl"))


async def test_a_missing_engine_or_project_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers.os, "geteuid", lambda: 0)
    journal = Journal(tmp_path / "journal.jsonl")
    monkeypatch.setattr(containers.shutil, "which", lambda tool: None)
    with pytest.raises(TargetError, match="docker is missing"):
        await Containers.find("commonwatt", "", journal)

    async def nothing(*argv: str, **more: object) -> str:
        return ""

    monkeypatch.setattr(containers.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(containers, "command", nothing)
    with pytest.raises(TargetError, match="no homes of the Compose project 'commonwatt'"):
        await Containers.find("commonwatt", "", journal)


def test_a_lifted_limit_is_none() -> None:
    assert not of(HostConfig={"NanoCpus": 0, "CpuQuota": -1}).limited
    assert of(HostConfig={"NanoCpus": 0, "CpuQuota": 20_000}).limited


def test_nodes_of_other_chains_are_asked_where_they_are(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    mine, other = (
        of(service=name)._replace(home=tmp_path / name) for name in ("home-01", "home-05")
    )
    found = Containers([mine], ["home-01"], 1.0, journal, outside=[other])
    assert found.roster.outside == ("home-05",)
    for name in ("home-01", "home-05"):
        assert found.data(name) == tmp_path / name / "data"
    journal.close()
