"""A program that executes contracts otherwise than the genesis says refuses to start: one line."""

from pathlib import Path

import msgspec
import pytest

from market.app import machine
from node.errors import GenesisError
from node.genesis import read_genesis, write_genesis
from tests.node.grid import Grid, at_height, make_genesis, running


def test_the_file_says_with_what_contracts_are_executed(tmp_path: Path) -> None:
    genesis = msgspec.structs.replace(make_genesis(4, 4), machine=machine())
    write_genesis(genesis, tmp_path / "genesis.json")
    again = read_genesis(tmp_path / "genesis.json")
    assert again == genesis
    assert set(again.machine) == {"vm", "engine", "gate", "gas", "contracts"}
    assert msgspec.structs.replace(genesis, machine={}).hash != genesis.hash


async def test_the_right_machine_starts(tmp_path: Path) -> None:
    genesis = msgspec.structs.replace(make_genesis(4, 4), machine=machine())
    async with running(Grid(tmp_path, genesis), range(4)) as members:
        await at_height(members, 2)


@pytest.mark.parametrize("part", ["vm", "engine", "gate", "gas", "contracts"])
async def test_another_machine_is_refused_by_name(tmp_path: Path, part: str) -> None:
    other = machine() | {part: "another"}
    genesis = msgspec.structs.replace(make_genesis(4, 4), machine=other)
    grid = Grid(tmp_path, genesis)
    with pytest.raises(GenesisError, match=rf"{part} another, this program .*{machine()[part]}"):
        async with running(grid, range(1)):
            pass


async def test_a_later_program_may_bring_other_contracts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a chain begins with is the state's once it has begun."""
    genesis = msgspec.structs.replace(make_genesis(4, 4), machine=machine())
    grid = Grid(tmp_path, genesis)
    async with running(grid, range(4)) as members:
        await at_height(members, 2)
    monkeypatch.setattr("market.contracts.fingerprint", lambda: "later")
    async with running(grid, range(4)) as members:
        await at_height(members, 4)
