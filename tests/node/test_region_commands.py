"""The sponsor's commands against nodes that keep both chains: escrow, leave, reclaim, carbon."""

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from market import client
from node.config import MainSection, NetworkSection, settings_text
from tests.node.grid import until
from tests.node.tiers import ESCROW, SLOT_MS, SPONSOR_BALANCE, TierGrid, TierNode, running

pytestmark = pytest.mark.slow


async def invoke(*line: str, fails: bool = False) -> str:
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, list(line))
    assert (done.exit_code != 0) == fails, (done.output, done.exception)
    return f"{done.output}{done.exception}" if fails else done.output


def settings_of(node: TierNode) -> str:
    """Write settings for the commands: the hub's addresses are none that settings may have."""
    main = MainSection() if node.with_main else None
    config = msgspec.structs.replace(node.config, network=NetworkSection(), main=main)
    file = node.directory / "commands.toml"
    file.write_text(settings_text(config))
    return str(file)


async def test_a_region_leaves_and_its_sponsor_has_all_back(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, hold_ms=4_000)
    async with running(grid):
        await grid.admit(1)
        config = ("--config", settings_of(grid.regions[1][0]))
        sponsor = grid.sponsors[1]
        file = tmp_path / "sponsor.key"
        await asyncio.to_thread(file.write_text, sponsor.seed.hex() + "\n")
        await asyncio.to_thread(file.chmod, 0o600)
        key = ("--key", str(file))
        main = grid.neutral[0].main.app
        await until(lambda: grid.last(1)["number"] > 0, "a record is anchored")
        assert "live" in await invoke("region", "list", *config)
        said = await invoke("region", "deposit", "1", "5", *key, *config)
        assert "the escrow of region 1 is more" in said
        said = await invoke("region", "withdraw", "1", "2", *key, *config)
        assert "the escrow of region 1 is less" in said
        await until(
            lambda: (
                main.query("regions", "funds", {"region": 1})["escrow_micro"] == ESCROW + 3_000_000
            ),
            "the escrow is what it was, and three more",
        )
        early = await invoke("region", "reclaim", "1", *key, *config, fails=True)
        assert "wrong_status" in early
        left = await invoke("region", "leave", "1", *key, *config)
        assert "region 1 has left; `region reclaim` once the hold is over" in left
        await until(lambda: grid.status(1) == "left", "it has left")
        assert "wrong_status" in await invoke("region", "leave", "1", *key, *config, fails=True)
        early = await invoke("region", "reclaim", "1", *key, *config, fails=True)
        assert "too_early: bond and escrow are held until" in early
        since_ms = main.query("regions", "show", {"region": 1})["since_ms"]
        await until(lambda: main.time_ms >= since_ms + 4_000, "the hold is over")
        said = await invoke("region", "reclaim", "1", *key, *config)
        assert "bond and escrow of region 1 are the sponsor's again" in said
        whole = client.Account(sponsor.address, SPONSOR_BALANCE, 0, 0)
        await until(lambda: client.account(main.query, sponsor.address) == whole, "all is back")
        # The region goes on by itself, and nothing of it is anchored any more.
        anchored, closed = grid.last(1)["number"], grid.regions[1][0].node.app.height
        await until(lambda: grid.regions[1][0].node.app.height > closed + 2, "it goes on")
        assert grid.last(1)["number"] == anchored


async def test_what_regions_emitted_is_told_by_the_main_chain(tmp_path: Path) -> None:
    intensities = ((0, ((0, 700),)),)
    grid = TierGrid(tmp_path, time_lapse=900, intensities=intensities)
    async with running(grid):
        await grid.admit(1)
        config = ("--config", settings_of(grid.regions[1][0]))
        main = grid.neutral[0].main.app
        slot = main.clock.market_ms(main.time_ms) // SLOT_MS + 3
        grid.regions[1][0].order(slot, "buy", 400, 300_000)
        grid.regions[1][1].order(slot, "sell", 400, 100_000)
        await until(
            lambda: bool(main.query("footprint", "totals", {})), "a slot's record is anchored"
        )
        (row,) = main.query("footprint", "totals", {})
        assert row["emitted_mg"] == 700 * row["grid_wh"]
        said = await invoke("region", "carbon", *config)
        found = re.fullmatch(r"region 1: (\d+) slots, [\d.]+ kWh from the grid, [\d.]+ kg\n", said)
        assert found is not None, said
        assert int(found[1]) >= row["slots"] > 0
