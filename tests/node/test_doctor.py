"""What the doctor says of homes that are well, and of homes that lack something."""

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from node import doctor
from node.config import Config, NetworkSection, settings_text
from node.doctor import Finding, Instruments, Verdict, _extras, examine_home, to_plain
from node.doctor_network import Met, PortUse, look_at_port, meet
from node.genesis import ChainParams, Genesis, write_genesis
from node.keys.keyfile import Cost, text_of
from node.network.memory import MemoryNetwork
from node.setup import CONFIG_NAME, GENESIS_NAME, create_home
from tests.node.grid import (
    PATIENCE_S,
    Grid,
    address_of,
    at_height,
    key_of,
    make_genesis,
    now_ms,
    running,
    until,
)

NEIGHBOUR = f"/ip4/127.0.0.1/tcp/4600/p2p/{key_of(1).peer_id}"


def home(tmp_path: Path, genesis: Genesis, *bootstrap: str) -> Path:
    """Make a home that has never run; return its settings file."""
    directory = tmp_path / "home"
    network = NetworkSection(listen="/ip4/127.0.0.1/tcp/4600", bootstrap=bootstrap)
    create_home(directory, settings_text(Config(network=network)), key_of(0))
    write_genesis(genesis, directory / GENESIS_NAME)
    return directory / CONFIG_NAME


def eyes(**changes: Any) -> Instruments:
    """Return instruments that see a good machine, but for what is changed."""

    async def nobody(genesis: Genesis, addresses: Sequence[str]) -> list[Met]:
        return []

    usual: dict[str, Any] = {
        "meet": nobody,
        "look_at_port": lambda host, port: PortUse(),
        "is_clock_kept": lambda: True,
        "free_bytes": lambda path: 10**11,
    }
    return Instruments(**{**usual, **changes})


async def found(file: Path, through: Instruments, **environment: str) -> dict[str, Finding]:
    return {one.check: one async for one in examine_home(file, environment, through)}


def verdicts(findings: dict[str, Finding], verdict: Verdict) -> set[str]:
    return {check for check, one in findings.items() if one.verdict is verdict}


async def test_a_new_home_is_well(tmp_path: Path) -> None:
    genesis = make_genesis()

    async def one(_: Genesis, addresses: Sequence[str]) -> list[Met]:
        return [Met(addresses[0], 7, now_ms() - 1_000)]

    findings = await found(home(tmp_path, genesis, NEIGHBOUR), eyes(meet=one))
    assert verdicts(findings, Verdict.OK) == set(findings) - {"key"}
    assert verdicts(findings, Verdict.WARN) == {"key"}
    assert "not encrypted" in findings["key"].says
    assert "commonwatt key encrypt" in findings["key"].remedy
    assert list(findings)[:2] == ["version", "settings"]
    assert list(findings)[-1] == "clock"
    assert findings["peers"].says == "1 of 1 known answer, newest height 7"
    assert findings["network port"].says == "127.0.0.1:4600 is free"
    assert to_plain(list(findings.values()))["well"] is True


@pytest.mark.parametrize(
    ("late_ms", "verdict", "says"),
    [
        (0, Verdict.OK, "is 0 s old"),
        (-4_000, Verdict.OK, "is 0 s old"),
        (-6_000, Verdict.FAIL, "6 s or more behind the newest block"),
        (60_000, Verdict.OK, "is 60 s old"),
        (66_000, Verdict.WARN, "66 s old: the chain stands, or it is fast"),
    ],
)
async def test_the_clock_is_held_against_the_newest_block(
    tmp_path: Path, late_ms: int, verdict: Verdict, says: str
) -> None:
    async def one(_: Genesis, addresses: Sequence[str]) -> list[Met]:
        return [Met(addresses[0], 7, 10**12)]

    through = eyes(meet=one, now_ms=lambda: 10**12 + late_ms)
    genesis = make_genesis(chain=ChainParams(heartbeat_ms=30_000))
    clock = (await found(home(tmp_path, genesis, NEIGHBOUR), through))["clock"]
    assert (clock.verdict, says in clock.says) == (verdict, True), clock
    assert bool(clock.remedy) == (verdict is not Verdict.OK)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("", ""),
        ('host = "::1"', ""),
        ('host = "localhost"', ""),
        ('host = "192.0.2.7"', "who reaches it speaks as the meter"),
        ('host = "broker.lan"\ntls = true', "who reaches it speaks as the meter"),
        ('host = "broker.lan"\nusername = "a"\npassword_file = "p"', "in the clear"),
        ('host = "broker.lan"\nusername = "a"\npassword_file = "p"\ntls = true', ""),
    ],
)
async def test_a_broker_that_is_open_to_others_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, says: str
) -> None:
    file = home(tmp_path, make_genesis(), NEIGHBOUR)
    meter = '[mqtt.load]\ntopic = "p"\n[home.source]\nkind = "live"\n'
    file.write_text(f"{file.read_text()}\n[mqtt]\n{settings}\n{meter}")
    monkeypatch.setattr(doctor, "_is_here", lambda package: True)
    looked_at = await found(file, eyes())
    assert ("broker" in looked_at) == bool(says)
    if says:
        assert looked_at["broker"].verdict is Verdict.WARN
        assert says in looked_at["broker"].says
        assert "broker" in looked_at["broker"].remedy


@pytest.mark.parametrize(
    ("settings", "check", "says", "remedy"),
    [
        (
            '[mqtt.load]\ntopic = "p"\n[home.source]\nkind = "live"\n',
            "extras",
            "[mqtt] needs the extra `mqtt`",
            "pip install 'commonwatt[mqtt]'",
        ),
        (
            '[home.source]\nkind = "live"\n',
            "meters",
            "is live: say in [mqtt.load] what its meter speaks on",
            "put it right in the settings",
        ),
        (
            '[mqtt.load]\ntopic = "p"\n[home.source]\nkind = "live"\n',
            "meters",
            "meters need a market in real time",
            "put it right in the settings",
        ),
        (
            '[mqtt]\npassword_file = "mqtt.password"\n',
            "meters",
            "mqtt.password: the password cannot be read",
            "put it right in the settings",
        ),
        (
            '[home.source]\nkind = "synthetic"\nhome = 1\n'
            "[home.forecast.location]\nlatitude = -33.9\nlongitude = 151.2\n",
            "extras",
            "[home.forecast] location needs the extra `solar`",
            "pip install 'commonwatt[solar]'",
        ),
    ],
)
async def test_what_the_settings_need_and_nobody_installed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    check: str,
    says: str,
    remedy: str,
) -> None:
    file = home(tmp_path, make_genesis(), NEIGHBOUR)
    file.write_text(file.read_text() + settings)
    monkeypatch.setattr(doctor, "_is_here", lambda package: False)
    lacks = (await found(file, eyes()))[check]
    assert lacks.verdict is Verdict.FAIL
    assert says in lacks.says
    assert remedy in lacks.remedy
    monkeypatch.setattr(doctor, "_is_here", lambda package: True)
    assert "extras" not in await found(file, eyes())


async def test_each_fault_is_named_with_its_remedy(tmp_path: Path) -> None:
    file = home(tmp_path, make_genesis(), NEIGHBOUR)
    (file.parent / "node.key").chmod(0o644)
    (file.parent / "data" / "wal").unlink()
    (file.parent / "data" / "chain.db").write_bytes(b"no database" * 100)
    through = eyes(
        look_at_port=lambda host, port: PortUse("it is taken", True, 77, "nginx"),
        is_clock_kept=lambda: False,
        free_bytes=lambda path: 10**7,
    )
    findings = await found(file, through)
    assert verdicts(findings, Verdict.FAIL) == {
        "key",
        "disk",
        "database",
        "network port",
        "peers",
    }
    assert verdicts(findings, Verdict.WARN) == {"log", "clock"}
    assert findings["network port"].says == "127.0.0.1:4600 is taken by nginx (pid 77)"
    assert findings["key"].remedy.startswith("chmod 600 ")
    assert "9 MiB free" in findings["disk"].says
    assert all(one.remedy for one in findings.values() if one.verdict is not Verdict.OK)


async def test_bad_settings_end_it(tmp_path: Path) -> None:
    file = home(tmp_path, make_genesis())
    findings = await found(file, eyes(), COMMONWATT_NODE_LOG_LEVEL="loud")
    assert list(findings) == ["version", "settings"]
    assert "node.log_level is one of" in findings["settings"].says


async def test_a_running_home_its_peers_and_another_genesis(tmp_path: Path) -> None:
    grid = Grid(tmp_path / "grid", make_genesis())
    async with running(grid, range(4)) as members:
        await at_height(members, 1)
        await until(lambda: len(members[0].node.network.peers()) == 3, "all are connected")
        file = members[0].directory / "outside.toml"
        file.write_text(settings_text(Config()))
        write_genesis(grid.genesis, members[0].directory / GENESIS_NAME)
        findings = await found(file, eyes())
        assert findings["daemon"].says.startswith("it runs, height ")
        assert findings["database"].verdict is Verdict.OK
        assert findings["peers"].says == "connected to 3"
        # As a home that does not run asks them: as a stranger.
        visitor = MemoryNetwork(key_of(9).peer_id, grid.hub)
        met = await meet(grid.genesis, [address_of(0), address_of(2)], visitor, PATIENCE_S)
        assert {one.address for one in met} == {address_of(0), address_of(2)}
        assert all(one.height >= 1 and one.time_ms is not None for one in met)
        visitor = MemoryNetwork(key_of(9).peer_id, grid.hub)
        assert await meet(grid.genesis, [address_of(4)], visitor, 0.05) == []
    write_genesis(make_genesis(homes=6), members[0].directory / GENESIS_NAME)
    database = (await found(file, eyes()))["database"]
    assert (database.verdict, "another genesis" in database.says) == (Verdict.FAIL, True)


def test_a_taken_port_names_its_holder() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        use = look_at_port("127.0.0.1", port)
    assert (use.taken, use.pid) == (True, os.getpid())
    assert look_at_port("192.0.2.1", 4600).problem != ""


def test_extras_are_told_apart() -> None:
    have, without = _extras(
        [
            "msgspec>=0.20",
            "no-such-package>=1; extra == 'solar'",
            'msgspec>=0.20 ; extra == "parquet"',
            "pytest; extra == 'test'",
        ]
    )
    assert (have, without) == (["parquet"], ["solar"])


def test_the_command_prints_json_and_fails_for_what_fails(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli.app, ["doctor", "--json", "--config", str(tmp_path / "node.toml")]
    )
    told = json.loads(result.output)
    assert (result.exit_code, told["well"]) == (1, False)
    assert [one["verdict"] for one in told["findings"]] == ["ok", "fail"]


@pytest.mark.parametrize(
    ("passphrase", "verdict", "words"),
    [
        (None, Verdict.OK, "no passphrase was given"),
        ("twelve letters", Verdict.OK, "the passphrase opens it"),
        ("other letters", Verdict.FAIL, "this passphrase does not open it"),
    ],
)
async def test_an_encrypted_key_is_tried_with_the_passphrase_there_is(
    tmp_path: Path, passphrase: str | None, verdict: Verdict, words: str
) -> None:
    file = home(tmp_path, make_genesis())
    (file.parent / "node.key").write_text(text_of(key_of(0), "twelve letters", Cost(2**14, 1)))
    given = {} if passphrase is None else {"COMMONWATT_PASSPHRASE": passphrase}
    key = (await found(file, eyes(), **given))["key"]
    assert (key.verdict, words in key.says) == (verdict, True), key
