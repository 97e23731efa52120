"""A home's keys are replaced while the street trades: the old ones are refused, it goes on."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from market import client
from market.client import leave, transfer
from node.api import rotator
from node.api.control import ask
from node.api.governor import decide, decide_as
from node.backup import back_up, restore
from node.config import Config, settings_text
from node.errors import ControlError
from node.genesis import write_genesis
from node.keys.homekeys import HomeKeys, home_keys
from node.keys.keyfile import load
from node.setup import GENESIS_NAME, own_address, own_key
from tests.node import commands
from tests.node.commands import invoke
from tests.node.grid import (
    REGULATOR,
    Grid,
    Member,
    at_height,
    key_of,
    make_genesis,
    running,
)


def settings_of(member: Member) -> Config:
    return replace(member.config, directory=member.directory)


async def refusal(key: Any, call: Any, data: Path) -> str:
    with pytest.raises(ControlError) as caught:
        await decide_as(key, call, data)
    return str(caught.value).partition(":")[0]


async def test_a_home_goes_on_with_new_keys(tmp_path: Path) -> None:
    genesis = make_genesis(homes=5)
    grid = Grid(tmp_path, genesis)
    async with running(grid, range(5)) as members:
        await at_height(members, 1)
        home = members[4]
        config = settings_of(home)
        for purpose in ("account", "meter"):
            done = await rotator.rotate(config, purpose)  # type: ignore[arg-type]
            assert (done.address, done.file.name) == (home.key.address, f"{purpose}.key")
        keys = home_keys(config, own_key(config))
        assert keys.address == home.key.address
        assert len({keys.account.address, keys.meter.address, home.key.address}) == 3
        found = client.home(home.node.app.query, keys.address)
        assert (found.key, found.meter) == (keys.account.address, keys.meter.address)
        assert await refusal(home.key, leave(), home.data) == "key_retired"
        # What a person asks for is signed by the new key without more.
        paid = await decide(config, transfer(key_of(0).address, 1))
        assert paid["code"] == "ok"
        # Another one, over the first.
        again = await rotator.rotate(config, "account")
        assert again.key not in (keys.account.address, home.key.address)
        assert await refusal(keys.account, leave(), home.data) == "key_retired"
        write_genesis(genesis, home.directory / GENESIS_NAME)
        (home.directory / "node.toml").write_text(settings_text(Config()))
        kept = back_up(home.directory / "node.toml", tmp_path / "home.tar.gz")
        assert {"node.key", "account.key", "meter.key"} <= set(kept)
        restore(tmp_path / "home.tar.gz", tmp_path / "restored")
        assert load(tmp_path / "restored" / "account.key").address == again.key
        with pytest.raises(ControlError, match="seated: an authority's seat"):
            await rotator.rotate(settings_of(members[0]), "account")


async def test_an_interrupted_rotation_is_gone_on_with(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=5))
    async with running(grid, range(5)) as members:
        await at_height(members, 1)
        home = members[4]
        config = settings_of(home)
        new, file = rotator.prepare(config, "account")
        assert file.name == "account.next.key"
        offer = client.offer_key(home.key.address, "account", new.address)
        await decide_as(home.key, offer, home.data)
        await decide_as(new, client.take_key(), home.data)
        # It died before the file had its name.
        assert home_keys(config, own_key(config)).account.address == home.key.address
        done = await rotator.rotate(config, "account")
        assert (done.key, done.height, file.exists()) == (new.address, None, False)
        assert home_keys(config, own_key(config)).account.address == new.address


async def test_a_stolen_home_goes_on_with_a_new_node(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=5))
    async with running(grid, range(4)) as members:
        await at_height(members, 1)
        stolen = key_of(4)
        keeper = members[0]
        new_home = Member(grid, 7, household=True)
        settings = settings_of(new_home)
        new_home.config = replace(settings, node=replace(settings.node, account=stolen.address))
        assert own_address(new_home.config) == stolen.address
        here = ("--config", commands.settings_of(new_home))
        said = await invoke("key", "rotate", "--prepare", *here)
        assert said == f"{new_home.key.address}\n"
        offer = ("key", "offer", stolen.address, said.strip())
        there = ("--config", commands.settings_of(keeper))
        other = commands.key_file(key_of(3), tmp_path / "other.key")
        refused = await invoke(*offer, "--key", other, *there, fails=True)
        assert "not_holder" in refused
        regulator = commands.key_file(REGULATOR, tmp_path / "regulator.key")
        said = await invoke(*offer, "--key", regulator, *there)
        assert "the old key is refused from here on" in said
        assert await refusal(stolen, leave(), keeper.data) == "key_retired"
        await new_home.start()
        try:
            await at_height([new_home], keeper.height)
            said = await invoke("key", "rotate", *here)
            assert f"{new_home.key.address} signs for the account of {stolen.address} now" in said
            status = await ask(new_home.data, "status")
            assert status["address"] == stolen.address
            assert status["peer_id"] == new_home.key.peer_id
            assert (await decide(new_home.config, leave()))["code"] == "ok"
        finally:
            await new_home.stop()


def test_a_home_that_replaced_nothing_signs_as_ever() -> None:
    keys = HomeKeys.of(key_of(1))
    assert (keys.account, keys.meter.address) == (
        keys.account,
        key_of(1).derive("meter").address,
    )
    assert keys.address == keys.account.address
