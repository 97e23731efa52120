"""Homes come in and leave by the commands: what they trade, their readings, their money."""

from pathlib import Path

import pytest

from market import client
from node.genesis import write_genesis
from node.membership.joining import PROTOCOL, ApplicationState, application_of
from node.network.memory import MemoryNetwork
from node.proofs.light import visit_community
from node.setup import GENESIS_NAME
from tests.node.commands import invoke, key_file, settings_of
from tests.node.grid import (
    BALANCE_MICRO,
    REGULATOR,
    Grid,
    address_of,
    home_config,
    key_of,
    make_genesis,
    running,
    until,
)
from wire.codec import decode, encode


@pytest.mark.slow
async def test_a_home_leaves_and_takes_its_money(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=5, time_lapse=360), households=True)
    async with running(grid, range(5)) as members:
        leaver = members[4]
        write_genesis(grid.genesis, leaver.directory / GENESIS_NAME)
        query = leaver.node.app.query
        await until(
            lambda: bool(client.settled_slots(query, 1)), "a slot of all five homes is settled"
        )
        config = settings_of(leaver)
        said = await invoke("community", "leave", "--config", config)
        # The command ends when the block is stored, its state is in force a moment later.
        await until(
            lambda: client.home(query, key_of(4).address).until_slot is not None, "it leaves"
        )
        until_slot = client.home(query, key_of(4).address).until_slot
        assert until_slot is not None
        assert f"home 5 leaves; slot {until_slot} is the first without it" in said
        await until(
            lambda: client.settled_slots(query, 1)[-1] > until_slot, "a slot without it is settled"
        )
        for slot in client.settled_slots(query, 10):
            homes = [bill.home for bill in client.bills_of_slot(query, slot)]
            assert homes == [1, 2, 3, 4] + [5] * (slot < until_slot)
        account = client.account(query, key_of(4).address)
        assert account.held_micro == 0
        before = client.account(query, REGULATOR.address).balance_micro
        said = await invoke("community", "pay-out", "--config", config)
        assert "are the regulator's to pay out" in said
        await until(
            lambda: client.account(query, key_of(4).address).balance_micro == 0, "it is paid out"
        )
        after = client.account(query, REGULATOR.address).balance_micro
        # What the grid has been paid for meanwhile is the regulator's, too.
        assert after - before >= account.balance_micro


async def test_the_regulator_takes_a_home_in_and_out(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=4))
    newcomer, regulator = key_of(80), key_file(REGULATOR, tmp_path / "regulator.key")
    async with running(grid, range(4)) as members:
        here, query = members[0], members[0].node.app.query
        config = ("--config", settings_of(here))
        assert "nobody asks" in await invoke("community", "applications", *config)
        asked = application_of("grid", "new", home_config(2), newcomer)
        network = MemoryNetwork(newcomer.peer_id, grid.hub)
        async with visit_community(grid.genesis.hash, address_of(0), network) as neighbour:
            answer = await neighbour.ask(PROTOCOL, encode(asked))
        assert decode(answer, ApplicationState, 64).state == "waiting"
        said = await invoke("community", "applications", *config)
        assert said.startswith(f"{newcomer.address}  new: prosumer")
        admit = ("community", "admit", "--key", regulator, "--balance", "7.5", *config)
        assert "does not ask" in await invoke(*admit, key_of(81).address, fails=True)
        said = await invoke(*admit, newcomer.address)
        assert f"new ({newcomer.address}) is a home, with 7.50" in said
        await until(lambda: len(client.homes(query)) == 5, "it is a home here")
        # One that was there from the start, by an address that is its own.
        leaver = key_of(3).address
        remove = ("community", "remove", leaver)
        other = ("--key", key_file(key_of(1), tmp_path / "other.key"))
        assert "not_regulator" in await invoke(*remove, *other, *config, fails=True)
        nobody = ("community", "remove", key_of(81).address, "--key", regulator)
        assert "not_a_home" in await invoke(*nobody, *config, fails=True)
        assert client.home(query, leaver).until_slot is None
        said = await invoke(*remove, "--key", regulator, *config)
        await until(lambda: client.home(query, leaver).until_slot is not None, "it leaves")
        until_slot = client.home(query, leaver).until_slot
        assert f"home 4 leaves; slot {until_slot} is the first without it" in said
        again = await invoke(*remove, "--key", regulator, *config, fails=True)
        assert "has_left" in again
        # Its money is its own still, and nobody else has left.
        assert client.account(query, leaver).balance_micro == BALANCE_MICRO
        left = [home.number for home in client.homes(query) if home.until_slot is not None]
        assert left == [4]
