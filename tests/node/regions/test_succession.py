"""A home goes over to its region's successor: its own files, and all of it by the commands."""

import asyncio
import shutil
from pathlib import Path

import pytest

from market.app import Application
from node.chain.store import Store, StoredBlock
from node.chain.wal import Wal
from node.errors import ConfigError, StoreError
from node.genesis import Genesis, read_genesis
from node.regions.certifier import natives
from node.regions.registration import keys_of, prove_possession
from node.regions.succession import (
    INHERITED_NAME,
    inherited_chunk,
    inherited_pairs,
    successor_of,
    take_over,
)
from node.setup import DATA_NAME, DATABASE_NAME, GENESIS_NAME
from tests.node.commands import invoke, settings_of
from tests.node.grid import until
from tests.node.tiers import TierGrid, TierNode, key, running
from tests.regions.grid import Region
from tests.regions.test_override import NEW_ID, NEW_SEATS, stop_after
from wire.codec import encode


@pytest.fixture(scope="module")
def lost() -> tuple[Region, Genesis]:
    """A region that has stopped, and the genesis of its successor."""
    region = Region(1, homes=1)
    region.block()
    publics = [one.public for one in NEW_SEATS]
    return region, successor_of(region.genesis, NEW_ID, publics, stop_after(region))


async def stored(data: Path, region: Region) -> Path:
    """Make a home's directory with the region's last block and state."""
    await asyncio.to_thread(data.mkdir)
    Wal.create(data / "wal")
    store = await Store.open(data / DATABASE_NAME, region.genesis.hash)
    assert region.head is not None
    block, certificate = region.head.block, region.head.certificate
    last = StoredBlock(
        region.height, certificate.block_hash, encode(block), encode(certificate), b"\x90"
    )
    await store.replace_state(last, dict(region.app.state_items()))
    await store.close()
    (data / "home.json").write_text("{}")
    return data


async def test_a_home_takes_its_state_over(tmp_path: Path, lost: tuple[Region, Genesis]) -> None:
    region, successor = lost
    data = await stored(tmp_path / "data", region)
    aside = await take_over(data, region.genesis, successor, None)
    # What was the chain's is put aside, the home's memory stays, the new log is empty.
    assert sorted(file.name for file in aside.iterdir()) == ["chain.db", "wal"]
    assert sorted(file.name for file in data.iterdir() if file.is_file()) == [
        "home.json", "inherited", "wal",
    ]  # fmt: skip
    assert list(Wal.open(data / "wal").records) == []
    assert list(inherited_pairs(data / INHERITED_NAME)) == region.app.state_items()
    assert inherited_chunk(data / INHERITED_NAME, 0) == (data / INHERITED_NAME).read_bytes()
    assert inherited_chunk(data / INHERITED_NAME, 1) == b""
    app = Application(successor.market, None, successor.founding(), natives())
    app.commit(app.genesis(inherited_pairs(data / INHERITED_NAME)))
    with pytest.raises(ConfigError, match="this home has gone over to that chain already"):
        await take_over(data, region.genesis, successor, None)
    # A home that was behind takes it over from one that was not.
    other = await stored(tmp_path / "other", region)
    await take_over(other, region.genesis, successor, data / INHERITED_NAME)
    assert (other / INHERITED_NAME).read_bytes() == (data / INHERITED_NAME).read_bytes()


async def test_what_does_not_fit_changes_nothing(
    tmp_path: Path, lost: tuple[Region, Genesis]
) -> None:
    region, successor = lost
    data = await stored(tmp_path / "data", region)
    before = sorted(file.name for file in data.iterdir())
    beyond = successor_of(
        region.genesis, NEW_ID, successor.authorities, stop_after(region) | {"height": 9}
    )
    with pytest.raises(ConfigError, match=r"at height 1, .* from 9; give the state .* by --state"):
        await take_over(data, region.genesis, beyond, None)
    for genesis in (region.genesis, Region(2, homes=1).genesis):
        with pytest.raises(ConfigError, match="does not go on with this home's chain"):
            await take_over(data, genesis, region.genesis, None)
    with pytest.raises(StoreError, match="copy the file from a home that has taken it over"):
        await take_over(data, region.genesis, successor, tmp_path / "nowhere")
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"\0\1")
    with pytest.raises(StoreError, match=r"damaged: .*; copy it from another home"):
        await take_over(data, region.genesis, successor, wrong)
    wrong.write_bytes(b"")
    with pytest.raises(StoreError, match="is not the state of chain region-1 after height 1"):
        await take_over(data, region.genesis, successor, wrong)
    assert sorted(file.name for file in data.iterdir()) == before
    for bad in ("ab", "no key", "ab" * 33):
        with pytest.raises(ConfigError, match="is no public key: it has 64 hexadecimal digits"):
            keys_of([bad])


# ---- by the commands ------------------------------------------------------------------------


def is_whole(grid: TierGrid) -> bool:
    """Tell whether the first region is halted with all that it has closed anchored and audited."""
    closed = grid.regions[1][0].node.app.query("export", "closed", {})["number"]
    audited = grid.neutral[0].main.app.query("audit", "status", {"region": 1})["number"]
    return grid.status(1) == "halted" and grid.last(1)["number"] == closed == audited


@pytest.mark.slow
async def test_a_region_that_has_lost_two_of_four_goes_on_with_two_others(tmp_path: Path) -> None:
    grid = TierGrid(tmp_path, halt_ms=4_000)
    there, neutral = grid.regions[1], grid.neutral
    async with running(grid):
        await grid.admit(1)
        await until(lambda: grid.last(1)["number"] > 1, "records are anchored")
        for node in there[2:]:
            await node.stop()
        await until(lambda: is_whole(grid), "the region is halted, and all of it audited")
        stopped = there[0].node.app.height
        survivor = settings_of(there[0])
        said = await invoke("region", "override", "show-stop", "--config", survivor)
        assert f"region 1 stopped at height {stopped}" in said
        assert f"stopped at height {stopped}" in await invoke(
            "region", "show", "--config", survivor
        )
        seats = [there[0].key, there[1].key, key("new-0"), key("new-1")]
        file = tmp_path / "successor.json"
        named = [part for one in seats for part in ("--authority", one.public.hex())]
        line = ("region", "override", "genesis", str(file), "--chain-id", "region-1-again")
        assert "goes on from height" in await invoke(*line, *named, "--config", survivor)
        successor = grid.genesis[1] = await asyncio.to_thread(read_genesis, file)
        grid.keys[successor.chain_id] = seats
        line = ("region", "prove", "--genesis", str(file), "--config", survivor)
        proofs = [(await invoke(*line)).strip()]
        for one in seats[1:]:
            proofs.append(f"{one.public.hex()}={prove_possession(successor, one).hex()}")
        shown = [part for proof in proofs for part in ("--proof", proof)]
        line = ("region", "override", "propose", "--genesis", str(file))
        await invoke(*line, *shown, "--config", survivor)
        line = ("region", "override", "approve", "--genesis", str(file))
        for config in (survivor, settings_of(neutral[0])):
            assert "still waits" in await invoke(*line, "--config", config)
        said = await invoke(*line, "--config", settings_of(neutral[1]))
        assert "region 1 is chain region-1-again from now on" in said
        before = grid.last(1)["number"]
        for node in there[:2]:
            await node.stop()
            config = settings_of(node)
            line = ("region", "override", "take-over", "--genesis", str(file))
            assert "is one of chain region-1-again" in await invoke(*line, "--config", config)
            assert read_genesis(node.directory / GENESIS_NAME) == successor
            node.genesis = successor
        grid.regions[1] = there[:2] + [
            TierNode(grid, name, successor, True) for name in ("new-0", "new-1")
        ]
        for node in grid.regions[1][2:]:
            data = node.directory / DATA_NAME
            shutil.copy(there[0].directory / DATA_NAME / INHERITED_NAME, data)
        for node in grid.regions[1]:
            await node.start()
        await until(lambda: grid.last(1)["number"] > before + 1, "its successor's are anchored")
        main = grid.neutral[0].main.app
        await until(
            lambda: main.query("audit", "status", {"region": 1})["number"] > before,
            "the successor is audited from its beginning on",
        )
        app = there[0].node.app
        assert app.params.chain_id == "region-1-again"
        asked = {"region": 1, "epoch": 0}
        assert main.query("regions", "authorities", asked) == [one.public.hex() for one in seats]
        # Who has nothing of the old chain and no copy is told what to do.
        late = TierNode(grid, "late", successor, False)
        with pytest.raises(StoreError, match="copy the file from a home that has taken it over"):
            await late.start()
