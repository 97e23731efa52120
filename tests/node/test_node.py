"""Whole nodes on the network's twin: agreement, restarts, late joiners, partitions."""

from pathlib import Path

from tests.node.grid import Grid, at_height, make_genesis, running


async def test_homes_agree_on_blocks_and_state(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis())
    async with running(grid, range(5)) as members:
        await at_height(members, 3)
        blocks = [await member.ask("block", height=3) for member in members]
        assert all(block == blocks[0] for block in blocks)
