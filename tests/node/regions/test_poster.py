"""Nodes that keep two chains: what a region settles is anchored, and the region learns of it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from consensus.checkpoint import RECORD_BYTES_MAX, Record
from consensus.evidence import conflicting_certificates
from market.client.finality import finality_of_slot
from node.daemon import now_ms
from node.regions.shelf import number_of
from tests.node.grid import until
from tests.node.tiers import BOND, ESCROW, TierGrid, TierNode, running
from tests.regions.grid import certify
from wire.codec import decode

pytestmark = pytest.mark.slow


def known(node: TierNode) -> int:
    """Return the number of the last record that a region's node knows to be anchored."""
    number: int = node.node.app.query("export", "anchored", {})["number"]
    return number


def posted(nodes: list[TierNode]) -> int:
    return sum(node.poster.counts["posted"] for node in nodes)


async def test_what_a_region_closes_is_anchored_once_and_the_region_knows(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, epoch_blocks=8, checkpoint_ms=500)
    async with running(grid):
        nodes = grid.regions[1]
        await until(
            lambda: nodes[0].node.chain.height > 3, "the region goes on before it is let in"
        )
        await grid.admit(1)
        await until(lambda: known(nodes[1]) >= 4, "four records are known to be anchored")
        assert grid.last(1)["number"] >= 4
        # Each epoch's last header is shown; the main chain's epochs end meanwhile, too.
        main = grid.neutral[0].main.app
        await until(
            lambda: main.query("regions", "show", {"region": 1})["epoch"] >= 1,
            "the set of the region's next epoch is known",
        )
        await until(
            lambda: nodes[0].node.app.query("export", "main_head", {})["epoch"] >= 1,
            "the region follows the main chain over an epoch",
        )
        # The others stand in line; at most one posts at once, but for what is slow on this machine.
        accepted = grid.last(1)["number"]
        assert accepted <= posted(nodes)
        funds = main.query("regions", "funds", {"region": 1})
        assert funds == {"escrow_micro": ESCROW, "bond_micro": BOND, "due_micro": 0}
        checkpoint = await nodes[2].poster.shelf.get(2)
        assert checkpoint is not None
        record = decode(checkpoint.record, Record, RECORD_BYTES_MAX)
        assert (record.region, record.number) == (1, 2)


async def test_a_main_chain_that_comes_back_is_told_in_order(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, checkpoint_ms=500)
    async with running(grid):
        nodes = grid.regions[1]
        await grid.admit(1)
        await until(lambda: known(nodes[0]) >= 1, "a record is anchored")
        # Two of four authorities of the main chain are gone: it makes no blocks.
        for node in grid.neutral[1:]:
            await node.stop()
        await asyncio.sleep(0.5)
        stopped = grid.last(1)["number"]
        await until(
            lambda: max(nodes[0].poster.shelf.numbers) >= stopped + 10,
            "the region closes records that nobody takes",
        )
        assert grid.last(1)["number"] <= stopped + 1
        # A node of the region restarts meanwhile, and has what it had.
        before = nodes[1].poster.shelf.numbers
        await nodes[1].stop()
        await nodes[1].start()
        # But for what it closed as it stopped, and asks the others for.
        assert set(before[-8:-1]) <= set(nodes[1].poster.shelf.numbers)
        for node in grid.neutral[1:]:
            await node.start()
        await until(lambda: known(nodes[0]) >= stopped + 10, "what waited is anchored, in order")
        assert grid.status(1) == "live"


async def test_a_checkpoint_that_is_missing_is_asked_for(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, checkpoint_ms=500)
    async with running(grid):
        nodes = grid.regions[1]
        await until(lambda: 3 in nodes[0].poster.shelf, "records are closed")
        for node in nodes:
            keeps = node is nodes[3]
            for number in (1, 2):
                if not keeps:
                    await node.poster.shelf.drop(number)
        await grid.admit(1)
        await until(lambda: grid.last(1)["number"] >= 3, "they are anchored all the same")
        assert sum(node.poster.counts["fetched"] for node in nodes[:3]) > 0
        found = await nodes[3].poster.shelf.get(1)
        assert found is not None
        assert number_of(found) == 1


async def test_a_region_that_falls_silent_is_halted_by_block_time_and_comes_back(
    tmp_path: Path,
) -> None:
    grid = TierGrid(tmp_path, checkpoint_ms=500, halt_ms=2_500)
    async with running(grid):
        nodes = grid.regions[1]
        await grid.admit(1)
        await until(lambda: known(nodes[0]) >= 1, "a record is anchored")
        for node in nodes[2:]:
            await node.stop()
        await until(lambda: grid.status(1) == "halted", "the main chain marks it halted")
        number = grid.last(1)["number"]
        for node in nodes[2:]:
            await node.start()
        await until(lambda: grid.status(1) == "live", "it is live with its next checkpoint")
        assert grid.last(1)["number"] > number


async def test_a_region_with_two_blocks_at_one_height_is_frozen(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, checkpoint_ms=500)
    async with running(grid):
        nodes = grid.regions[1]
        await grid.admit(1)
        await until(lambda: nodes[0].node.chain.height > 2, "the region goes on")
        captured = [node.key for node in nodes[1:]]
        authorities = nodes[0].node.chain.authorities
        heads = [nodes[0].node.chain.head.header]
        heads.append(msgspec.structs.replace(heads[0], state_root=b"\x07" * 32))
        pair = (certify(head, captured, authorities) for head in heads)
        # Found by one who was not in it, and told to the others.
        nodes[0].node.evidence.report(conflicting_certificates(*pair))
        await until(lambda: grid.status(1) == "frozen", "the main chain is shown both")
        funds = grid.neutral[0].main.app.query("regions", "funds", {"region": 1})
        assert funds == {"escrow_micro": ESCROW, "bond_micro": 0, "due_micro": 0}


async def test_records_are_audited_by_another_region(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, count=2, checkpoint_ms=500)
    async with running(grid):
        for number in (1, 2):
            await grid.admit(number)
        main = grid.neutral[0].main.app

        def audited(number: int) -> int:
            found: int = main.query("audit", "status", {"region": number})["number"]
            return found

        await until(lambda: min(audited(1), audited(2)) >= 2, "records of both are audited")
        for number in (1, 2):
            # The first record may be anchored before there is another region.
            others = grid.regions[3 - number] + grid.neutral
            assert sum(node.auditor.counts["audited"] for node in others) >= 2
            assert sum(node.auditor.counts["accused"] for node in others) == 0


async def test_the_first_region_is_audited_by_the_main_chains_own(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, checkpoint_ms=500)
    async with running(grid):
        await grid.admit(1)
        main = grid.neutral[0].main.app
        await until(
            lambda: main.query("audit", "status", {"region": 1})["number"] >= 2,
            "a region that is alone is audited",
        )
        assert sum(node.auditor.counts["audited"] for node in grid.neutral) >= 2
        assert sum(node.auditor.counts["audited"] for node in grid.regions[1]) == 0


async def test_what_one_region_lacks_another_sells(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, count=2, checkpoint_ms=1_000, trading=True, time_lapse=180)
    async with running(grid):
        seller, buyer = grid.regions[1][0], grid.regions[2][0]
        for number in (1, 2):
            await grid.admit(number)
        slot = seller.node.app.clock.next_gate_slot(now_ms()) + 1
        seller.order(slot, "sell", 700, 90_000)
        buyer.order(slot, "buy", 500, 250_000)

        def traded(node: TierNode, name: str) -> int:
            energy_wh: int = node.node.app.query("export", "traded", {})[name]
            return energy_wh

        await until(lambda: traded(buyer, "imported_wh") == 500, "it is bought")
        await until(lambda: traded(seller, "exported_wh") == 500, "it is sold")
        await until(
            lambda: (
                finality_of_slot(buyer.node.app.query, buyer.main.app.query, 2, slot) != "regional"
            ),
            "the bills of it are anchored",
        )
        paid = buyer.node.app.query("export", "traded", {})
        got = seller.node.app.query("export", "traded", {})
        assert paid["paid_micro"] == got["got_micro"] > 0
        assert paid["covered_imported_wh"] == got["covered_exported_wh"] == 0
        funds = buyer.main.app.query("regions", "funds", {"region": 2})
        spent_micro = paid["paid_micro"] + paid["fees_micro"]
        assert funds["escrow_micro"] + funds["due_micro"] == ESCROW - spent_micro
