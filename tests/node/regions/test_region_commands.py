"""The commands of a region, from its founding to its end, against nodes that keep both chains."""

import json
import re
from pathlib import Path

import pytest

from market import client, governance
from node.setup import GENESIS_NAME
from tests.node.commands import invoke, key_file, settings_of
from tests.node.grid import key_of, until
from tests.node.tiers import ESCROW, SLOT_MS, SPONSOR_BALANCE, TierGrid, running

pytestmark = pytest.mark.slow


async def test_a_region_comes_in_and_is_anchored_by_its_commands(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path)
    async with running(grid):
        there = grid.regions[1]
        first, genesis = settings_of(there[0]), str(there[0].directory / GENESIS_NAME)
        config = ("--config", first)
        proofs = []
        for node in there:
            said = await invoke("region", "prove", "--config", settings_of(node))
            proofs += ["--proof", said.strip()]
        sponsor = key_file(grid.sponsors[1], tmp_path / "sponsor.key")
        create = ("region", "create", "--genesis", genesis, "--name", "harbour", *config)
        key = ("--key", sponsor, "--escrow", "20")
        few = await invoke(*create, *key, *proofs[:-2], fails=True)
        assert "has not proven that it holds its key" in few
        stranger = ("--key", key_file(key_of(7), tmp_path / "other.key"), "--escrow", "20")
        assert "stranger" in await invoke(*create, *stranger, *proofs, fails=True)
        said = await invoke(*create, *key, *proofs)
        assert "region 1 is proposed; authorities of the main chain approve" in said
        assert "duplicate_region" in await invoke(*create, *key, *proofs, fails=True)
        # Three of the four seats of the main chain; two say yes, and nothing comes of it yet.
        approve = ("region", "approve", "1", "--config")
        neutral = [settings_of(node) for node in grid.neutral]
        for one in neutral[:2]:
            assert "region 1 is still proposed" in await invoke(*approve, one)
        assert "already_voted" in await invoke(*approve, neutral[0], fails=True)
        assert "not_authority" in await invoke(*approve, settings_of(there[1]), fails=True)
        assert "region 1 is live" in await invoke(*approve, first)
        await until(lambda: grid.last(1)["number"] > 0, "a record is anchored")
        # The other nodes have that block a moment later.
        main = there[0].main.app
        await until(lambda: main.query("anchor", "last", {"region": 1})["number"] > 0, "here, too")
        listed = json.loads(await invoke("region", "list", *config, "--json"))
        found = [(row["number"], row["name"], row["status"]) for row in listed]
        assert found == [(1, "harbour", "live")]
        said = await invoke("region", "show", *config)
        assert "escrow 20.00" in said
        assert all(node.key.public.hex() in said for node in there)
        # A neutral authority knows the region as well; its own authority proves what is anchored.
        assert "harbour" in await invoke("region", "list", "--config", neutral[0])
        proven = json.loads(await invoke("verify", "1", *config, "--json"))
        assert (proven["region"], proven["number"], proven["finality"]) == (1, 1, "anchored")
        assert "anchored on main, as of block" in await invoke("verify", "1", *config)
        # Its delegate has a seat on the main chain, and votes there as the neutral ones do.
        said = await invoke("gov", "propose", "set", "heartbeat_ms", "2000", "--main", *config)
        assert "proposal 1 is open" in said
        vote = ("gov", "vote", "1", "--config")
        assert "still open" in await invoke(*vote, neutral[0])
        assert "proposal 1 is passed" in await invoke(*vote, neutral[1])
        await until(
            lambda: governance.proposals(main.query)[0].status != "open", "it is passed here, too"
        )
        assert "no proposals" in await invoke("gov", "list", *config)
        shown = json.loads(await invoke("gov", "list", "--main", "--json", *config))
        assert [(p["subject"], len(p["yes"])) for p in shown["proposals"]] == [("heartbeat_ms", 3)]
        assert "not closed yet" in await invoke("verify", "1000000", *config, fails=True)


async def test_a_region_leaves_and_its_sponsor_has_all_back(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, hold_ms=4_000)
    async with running(grid):
        await grid.admit(1)
        config = ("--config", settings_of(grid.regions[1][0]))
        sponsor = grid.sponsors[1]
        key = ("--key", key_file(sponsor, tmp_path / "sponsor.key"))
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
        # By the node that is asked, which may hear of it after the others.
        main = grid.regions[1][0].main.app
        await until(
            lambda: bool(main.query("footprint", "totals", {})), "a slot's record is anchored"
        )
        (row,) = main.query("footprint", "totals", {})
        assert row["emitted_mg"] == 700 * row["grid_wh"]
        said = await invoke("region", "carbon", *config)
        found = re.fullmatch(r"region 1: (\d+) slots, [\d.]+ kWh from the grid, [\d.]+ kg\n", said)
        assert found is not None, said
        assert int(found[1]) >= row["slots"] > 0
