"""A Swarm stack: every key reaches its own host only, and no authority can be moved."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from node.config import load_config
from node.genesis import read_genesis
from node.membership.joining import read_joining_address
from node.setup import CONFIG_NAME, GENESIS_NAME, KEY_NAME, read_key
from testnet import stack
from testnet.office import entrances, operator_files, set_up
from testnet.regions import create
from testnet.stack import JOIN_NAME, stack_file
from testnet.street import Street, StreetError, StreetPlan
from testnet.yamltext import yaml_documents, yaml_text

HOSTS = ["one", "two", "three"]


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    plan = StreetPlan(homes=8, regions=2, begins_in_s=600)
    return create(tmp_path_factory.mktemp("grid"), plan, containers=True)


@pytest.fixture
def services(street: Street, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    made: list[Any] = []
    monkeypatch.setattr(stack, "yaml_text", lambda tree: made.append(tree) or "")
    stack_file(street, HOSTS, joining=3, image="grid")
    return dict(made[0]["services"], tree=made[0])


def test_each_home_gets_its_own_key_and_no_other(services: dict[str, Any], street: Street) -> None:
    tree = services.pop("tree")
    for name in street.names:
        (secret,) = services[name]["secrets"]
        assert Path(tree["secrets"][secret["source"]]["file"]) == street.home(name) / KEY_NAME
        assert (secret["uid"], secret["mode"]) == ("10001", 0o400)
        files = [tree["configs"][one["source"]]["file"] for one in services[name]["configs"]]
        assert str(street.home(name) / CONFIG_NAME) in files
        assert not any(file.endswith(KEY_NAME) for file in files)
    (joining,) = services["home"]["secrets"]
    assert tree["secrets"][joining["source"]]["file"].endswith(JOIN_NAME)


def test_authorities_are_bound_and_never_twice(services: dict[str, Any], street: Street) -> None:
    services.pop("tree")
    bound = [services[name]["deploy"]["placement"]["constraints"] for name in street.names]
    assert bound[:4] == [[f"node.hostname == {host}"] for host in ("one", "two", "three", "one")]
    assert "placement" not in services["home"]["deploy"]
    for service in services.values():
        assert service["deploy"]["update_config"]["order"] == "stop-first"
        assert service["deploy"]["endpoint_mode"] == "dnsrr"
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_all_that_a_service_names_is_declared(services: dict[str, Any]) -> None:
    tree = services.pop("tree")
    for service in services.values():
        for kind in ("configs", "secrets"):
            assert {one["source"] for one in service.get(kind, ())} <= set(tree[kind])
        volumes = {one["source"] for one in service["volumes"] if one["type"] == "volume"}
        assert volumes <= set(tree["volumes"])
    for thing in (*tree["configs"].values(), *tree["secrets"].values()):
        assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", thing["name"])
        assert Path(thing["file"]).is_file()


def test_the_file_says_it_all(street: Street) -> None:
    asked = ["--dir", str(street.directory), "--host", "one", "--image", "grid:1"]
    made = CliRunner().invoke(cli.app, ["testnet", "stack", *asked])
    assert made.exit_code == 0
    assert 'image: "grid:1"' in made.output
    assert "\n  home:\n" not in made.output
    # A key may be named there, but never be in there.
    for name in street.names:
        assert read_key(street.home(name) / KEY_NAME).seed.hex() not in made.output


def test_the_operator_follows_with_what_it_is_given(street: Street, tmp_path: Path) -> None:
    given = tmp_path / "street"
    for file in operator_files(street):
        (given / file).parent.mkdir(parents=True, exist_ok=True)
        (given / file).write_bytes((street.directory / file).read_bytes())
        (given / file).chmod(0o400)
    own = Street(given, street.plan, street.names, [])
    made = set_up(own, tmp_path / "work")
    assert [one.name for one in made] == ["office-1", "office-2", "office-main"]
    for directory, address in zip(made, entrances(street), strict=False):
        assert read_joining_address(str(address)) == address
        config = load_config(directory / CONFIG_NAME, {})
        key = read_key(directory / KEY_NAME)
        assert address.address == f"{config.network.announce[0]}/p2p/{key.peer_id}"
        assert read_genesis(directory / GENESIS_NAME).hash == address.genesis_hash
        assert len(config.network.bootstrap) == 4
        assert config.home is None
    # Once more finds what is there, and makes whole what was interrupted.
    (made[0] / GENESIS_NAME).unlink()
    assert set_up(own, tmp_path / "work") == made
    assert (made[0] / GENESIS_NAME).exists()


def test_another_grids_office_is_refused(street: Street, tmp_path: Path) -> None:
    first, second, _ = set_up(street, tmp_path)
    (first / GENESIS_NAME).write_bytes((second / GENESIS_NAME).read_bytes())
    with pytest.raises(StreetError, match="office-1 follows another chain than region-1-"):
        set_up(street, tmp_path)


def test_what_cannot_be_is_refused(
    street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StreetError, match="0 hosts: 1 to 200"):
        stack_file(street, [], 0, "grid")
    with pytest.raises(StreetError, match=r"2 hosts: .* each named once"):
        stack_file(street, ["one", "one"], 0, "grid")
    with pytest.raises(StreetError, match="193 homes that join 8: 0 to 192"):
        stack_file(street, HOSTS, 193, "grid")
    local = Street(tmp_path, StreetPlan(homes=4), street.names[:4], [])
    local.home("home-01").mkdir()
    (local.home("home-01") / CONFIG_NAME).write_text("[node]\n")
    with pytest.raises(StreetError, match="testnet create --containers"):
        stack_file(local, HOSTS, 0, "grid")
    monkeypatch.setattr(stack, "ITEM_BYTES_MAX", 100)
    with pytest.raises(StreetError, match="a swarm carries 100"):
        stack_file(street, HOSTS, 0, "grid")


def test_a_street_that_begins_later(street: Street) -> None:
    genesis = read_genesis(street.home("home-01") / GENESIS_NAME)
    main = read_genesis(street.home("neutral-01") / GENESIS_NAME)
    made_s = (street.directory / "street.json").stat().st_mtime
    for one in (genesis, main):
        assert 500 < one.market.genesis_ms / 1_000 - made_s <= 600
    with pytest.raises(StreetError, match=r"0 .now. to 86400 .a day."):
        msgspec.structs.replace(street.plan, begins_in_s=86_401).check()


def test_yaml_is_what_json_says() -> None:
    tree = {
        "text": ["plain", "yes", "1", "a: b", "- x", "", " a", "#", 'é"', "two\nlines\n"],
        "true": [True, None, 7, [], {}, [1, {"a": []}]],
    }
    assert yaml_text(tree).splitlines() == [
        "text:",
        "  - plain",
        '  - "yes"',
        '  - "1"',
        '  - "a: b"',
        '  - "- x"',
        '  - ""',
        '  - " a"',
        '  - "#"',
        '  - "é\\""',
        "  - |",
        "    two",
        "    lines",
        '"true":',
        "  - true",
        "  - null",
        "  - 7",
        "  - []",
        "  - {}",
        "  - - 1",
        "    - a: []",
    ]
    assert yaml_documents([{"a": 1}, {"a": 2}]) == "a: 1\n---\na: 2\n"
    assert json.loads(yaml_text("tab\there").strip()) == "tab\there"
