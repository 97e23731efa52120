"""A home leaves by its own command: it trades no more, its readings end, its money comes out."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from market import client
from node.config import NetworkSection, settings_text
from node.genesis import write_genesis
from node.setup import GENESIS_NAME
from tests.node.grid import REGULATOR, Grid, key_of, make_genesis, running, until

pytestmark = pytest.mark.slow


async def invoke(*line: str) -> str:
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, list(line))
    assert done.exit_code == 0, done.output
    return done.output


async def test_a_home_leaves_and_takes_its_money(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(homes=5, time_lapse=360), households=True)
    async with running(grid, range(5)) as members:
        leaver = members[4]
        write_genesis(grid.genesis, leaver.directory / GENESIS_NAME)
        query = leaver.node.app.query
        await until(
            lambda: bool(client.settled_slots(query, 1)), "a slot of all five homes is settled"
        )
        # The hub's addresses are none that settings may have.
        mine = msgspec.structs.replace(leaver.config, network=NetworkSection())
        settings = leaver.directory / "cli.toml"
        settings.write_text(settings_text(mine))
        config = str(settings)
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
