"""What cannot be run is refused before anything is touched, in one line."""

import os
from pathlib import Path

import pytest

from testnet.chaos import wiring
from testnet.chaos.errors import ChaosError, PrivilegeError
from testnet.chaos.journal import Journal, unfinished
from testnet.chaos.run import prepare
from testnet.chaos.scenario import Grid, find_scenario, load_scenario
from testnet.chaos.session import JSON_NAME, Options, session
from testnet.chaos.targets.netns import Namespaces
from testnet.chaos.targets.processes import Processes
from testnet.regions import create
from testnet.street import StreetError, home_names


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


async def test_processes_have_no_network_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(PrivilegeError, match=r"nothing was touched: .*use --target netns"):
        await session(Options("split-brain", "processes"))
    assert unfinished() == []
    assert not [name for name in os.listdir(tmp_path) if name.startswith("commonwatt-chaos-")]


async def test_network_faults_need_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring.os, "geteuid", lambda: 1_000)
    with pytest.raises(PrivilegeError, match="need root"):
        await session(Options("split-brain", "netns"))


@pytest.mark.parametrize("target", ["netns", "containers"])
async def test_only_processes_show_their_run_by_a_dashboard_of_its_own(target: str) -> None:
    with pytest.raises(ChaosError, match=r"--dashboard: .* --target processes"):
        await session(Options("f-lost", target, dashboard=True))
    assert unfinished() == []


async def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring.os, "geteuid", lambda: 0)
    monkeypatch.setattr(wiring.shutil, "which", lambda tool: None)
    assert await wiring.missing() == [
        "the command nsenter is missing: install iptables and util-linux"
    ]


async def test_an_old_report_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / JSON_NAME).write_text("{}")
    with pytest.raises(ChaosError, match="holds a report already"):
        await session(Options("f-lost", "processes", tmp_path))


async def test_homes_that_need_it_get_the_test_build(tmp_path: Path) -> None:
    journal = Journal.begin()
    scenario = load_scenario(find_scenario("clock-jump"))
    target = Processes(tmp_path, scenario.grid, journal)
    await prepare(scenario, target)
    home = target.make("home-01", tmp_path)
    assert home.command()[2:4] == ["-m", "node"]
    home.driven = True
    assert home.command()[2:4] == ["-m", "testnet.chaos.driver"]
    assert target.driven == {"home-02", "home-03"}
    journal.close()


async def test_namespaces_are_named_apart(tmp_path: Path) -> None:
    journal = Journal.begin()
    grid = Grid(homes=200)
    one = Namespaces(tmp_path / "commonwatt-chaos-abcdefgh", grid, journal)
    two = Namespaces(tmp_path / "commonwatt-chaos-ijklmnop", grid, journal)
    names = {t.make(name, tmp_path).command()[1] for t in (one, two) for name in t.roster.names}
    assert len(names) == 400
    assert len(set(one.addresses.values())) == 200
    journal.close()


async def test_regions_have_others_beside_them(tmp_path: Path) -> None:
    journal = Journal.begin()
    target = Namespaces(tmp_path, Grid(homes=9, regions=2), journal)
    assert target.roster.names == tuple(home_names(5))
    assert target.roster.authorities == tuple(home_names(4))
    assert target.roster.outside == (*home_names(9)[5:], "neutral-01", "neutral-02")
    assert target.keepers() is None
    assert len(set(target.addresses.values())) == 11
    with pytest.raises(StreetError, match="3 homes of a region"):
        Processes(tmp_path, Grid(homes=6, regions=2), journal)
    journal.close()


async def test_who_keeps_the_main_chain_is_known(tmp_path: Path) -> None:
    journal = Journal.begin()
    target = Processes(tmp_path, Grid(homes=8, regions=2), journal)
    create(tmp_path / "street", target.plan)
    keepers = target.keepers()
    assert keepers is not None
    assert keepers.region == 1
    assert set(keepers.directories) == {*home_names(8), "neutral-01", "neutral-02"}
    assert keepers.directories["home-03"] == tmp_path / "street/home-03/data/main"
    assert keepers.directories["neutral-01"] == tmp_path / "street/neutral-01/data"
    journal.close()
