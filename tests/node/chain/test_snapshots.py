"""Whole nodes that catch up: by blocks, by a snapshot, past liars, over restarts and crashes."""

import asyncio
import shutil
from pathlib import Path

import pytest

from consensus import snapshot as stream
from consensus import sync_messages
from node.chain import snapshots
from node.chain.snapshots import SPOOL_NAME, Snapshots
from node.config import SyncSection
from node.errors import InvariantError
from node.genesis import ChainParams
from tests.node.grid import (
    QUICK,
    Grid,
    Member,
    address_of,
    at_height,
    busy,
    make_genesis,
    one_snapshot_loaded,
    running,
    same_snapshot,
    until,
)

OFTEN = SyncSection(snapshot_every=5, snapshot_behind=5)
NEVER = SyncSection(snapshot_every=0, snapshot_behind=0)
JOINER = 5


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """So that the small state of a test has many chunks."""
    size = 4_096
    for module in (stream, sync_messages, snapshots):
        monkeypatch.setattr(module, "CHUNK_BYTES", size)
    return size


def street(tmp_path: Path, sync: SyncSection = OFTEN) -> Grid:
    chain = ChainParams(block_interval_ms=30, heartbeat_ms=300, consensus=QUICK)
    return Grid(tmp_path, make_genesis(homes=6, chain=chain), sync=sync)


async def grow(members: list[Member], height: int) -> None:
    """Let the chain grow to this height, and one late snapshot be on offer everywhere."""
    async with busy(members[0]):
        await at_height(members, height)
    every = members[0].grid.sync.snapshot_every
    if every:
        await same_snapshot(members, height - height % every)


def offers(member: Member) -> Snapshots:
    return member.node.sync._snapshots


async def same_chain(joiner: Member, other: Member) -> None:
    """They hold the same state at the joiner's next block, which it executes itself."""
    height = joiner.height + 1
    await at_height([joiner, other], height)
    assert await joiner.ask("block", height=height) == await other.ask("block", height=height)
    chain = joiner.node.chain
    await until(lambda: chain.state_root == chain.head.header.state_root, "its state is its head's")


async def test_a_late_joiner_catches_up_by_blocks(tmp_path: Path) -> None:
    grid = street(tmp_path, NEVER)
    async with running(grid, range(4)) as members:
        await grow(members, 15)
        joiner = await grid.members[JOINER].start()
        await at_height([joiner], 15)
        assert await joiner.ask("block", height=1) == await members[0].ask("block", height=1)
        assert joiner.node.sync.counts["snapshots_loaded"] == 0
        await until(lambda: joiner.node.sync.behind == 0, "it is level with the others")
        await same_chain(joiner, members[1])


async def test_a_late_joiner_catches_up_by_a_snapshot(tmp_path: Path, small_chunks: int) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        await grow(members, 15)
        joiner = await grid.members[JOINER].start()
        await at_height([joiner], 15)
        await one_snapshot_loaded(joiner)
        assert await joiner.ask("block", height=1) is None
        await same_chain(joiner, members[1])
        # It goes on over a restart, with its early blocks missing ...
        await joiner.stop()
        await joiner.start()
        await same_chain(joiner, members[1])
        # ... and offers to others what it has fetched.
        assert offers(joiner).newest[0] >= 15
        assert not (joiner.data / SPOOL_NAME).exists()
        assert [m.network.penalties for m in grid.members if m.network is not None] == [[]] * 5


@pytest.mark.slow
async def test_an_authority_that_was_long_away_jumps_and_votes_again(
    tmp_path: Path, small_chunks: int
) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        away = members[3]
        await at_height(members, 2)
        await away.stop()
        left_at = len(away.votes)
        await grow(members[:3], 16)
        await away.start()
        await at_height([away], 16)
        await one_snapshot_loaded(away)
        assert (await away.ask("block", height=1))["height"] == 1
        async with busy(members[0]):
            await until(
                lambda: any(vote.height > 16 for vote in away.votes[left_at:]), "it votes again"
            )
        await same_chain(away, members[0])


async def test_a_forged_snapshot_is_refused_and_another_peer_serves(tmp_path: Path) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        await grow(members, 12)
        bad = members[0]
        forge(bad)
        joiner = grid.members[JOINER]
        # It knows the liar alone at first.
        grid.hub.partition([bad.peer_id, joiner.peer_id])
        await joiner.start([address_of(0)])
        await until(lambda: joiner.node.sync.counts["peers_dropped"] == 1, "the lie is found")
        assert joiner.height == 0
        assert not (joiner.data / SPOOL_NAME).exists()
        grid.hub.heal()
        for number in range(1, 4):
            joiner.node.network.want(address_of(number))
        await at_height([joiner], 12)
        assert joiner.network is not None
        assert {peer for peer, _ in joiner.network.penalties} == {bad.peer_id}
        await same_chain(joiner, members[1])


def forge(member: Member) -> None:
    """Let a home offer a snapshot in which somebody is richer."""
    ours = offers(member)
    state = member.node.app.state_copy()
    key = next(key for key in sorted(state) if key.startswith("ledger/"))
    state[key] = b"\x01"
    path = member.data / snapshots.SNAPSHOTS_NAME / "forged"
    manifest = snapshots._write_snapshot(path, member.node.chain.head.header, state)
    ours._offered.clear()
    ours._every = 0
    ours._offer(manifest, path)


async def test_a_wrong_chunk_costs_its_sender_only(
    tmp_path: Path, small_chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        await grow(members, 12)
        bad = members[2]
        honest = offers(bad).chunk

        async def wrong(id_: bytes, index: int) -> bytes | None:
            data = await honest(id_, index)
            return data and bytes([data[0] ^ 1]) + data[1:]

        monkeypatch.setattr(offers(bad), "chunk", wrong)
        joiner = await grid.members[JOINER].start()
        await at_height([joiner], 12)
        await one_snapshot_loaded(joiner)
        assert joiner.network is not None
        assert {peer for peer, _ in joiner.network.penalties} <= {bad.peer_id}


async def test_a_restart_in_the_middle_keeps_the_chunks_that_came(
    tmp_path: Path, small_chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = street(tmp_path, SyncSection(snapshot_every=10, snapshot_behind=5))
    # What was asked for in each life of the joiner.
    lives: list[list[int]] = [[]]
    gate = asyncio.Event()

    async def slow(self: Snapshots, id_: bytes, index: int) -> bytes | None:
        lives[-1].append(index)
        if index >= 3:
            await gate.wait()
        return await chunk(self, id_, index)

    chunk = Snapshots.chunk
    monkeypatch.setattr(Snapshots, "chunk", slow)
    async with running(grid, range(4)) as members:
        await grow(members, 12)
        joiner = await grid.members[JOINER].start()
        spool = joiner.data / SPOOL_NAME
        await until(lambda: whole(spool) == {0, 1, 2}, "three chunks have come")
        await joiner.stop()
        # One was torn by the crash.
        (spool / "0001").write_bytes(b"torn")
        lives.append([])
        gate.set()
        await joiner.start()
        await at_height([joiner], 12)
        await one_snapshot_loaded(joiner)
        assert {0, 1, 2} <= set(lives[0])
        assert 1 in lives[1]
        assert not {0, 2} & set(lives[1])
        await same_chain(joiner, members[0])


def whole(spool: Path) -> set[int]:
    """Return which chunks of the snapshot that is coming are here, whole."""
    manifest = snapshots.read_manifest(spool)
    if manifest is None:
        return set()
    indices = range(len(manifest.chunks))
    return {index for index in indices if snapshots.read_chunk(spool, manifest, index) is not None}


@pytest.mark.slow
@pytest.mark.parametrize("point", ["before the database", "after the database"])
async def test_a_crash_around_the_jump_leaves_a_whole_state(
    tmp_path: Path, small_chunks: int, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        await grow(members, 12)
        joiner = await grid.members[JOINER].start([])
        node, died = joiner.node, "the process dies here"

        def die(*_: object) -> None:
            raise InvariantError(died)

        if point == "before the database":
            monkeypatch.setattr(node.chain._replica._store, "replace_state", die)
        else:
            monkeypatch.setattr(node.app, "adopt", die)
        for number in range(4):
            node.network.want(address_of(number))
        error = await joiner.ended()
        assert died in str(error)
        await joiner.start([])
        if point == "before the database":
            assert joiner.height == 0
        else:
            assert joiner.height >= 10
            assert joiner.node.chain.state_root == joiner.node.chain.head.header.state_root
        for number in range(4):
            joiner.node.network.want(address_of(number))
        await at_height([joiner], members[0].height)
        await same_chain(joiner, members[0])


async def test_a_damaged_snapshot_is_not_offered(tmp_path: Path, small_chunks: int) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        await grow(members, 6)
        ours = offers(members[0])
        height, id_ = ours.newest
        assert (await ours.chunk(id_, 0)) is not None
        assert await ours.chunk(id_, 10**6) is None
        assert await ours.chunk(b"?" * 32, 0) is None
        manifest, path = ours._offered[id_]
        (path / "0000").write_bytes(b"rotten")
        assert await ours.chunk(id_, 0) is None
        assert ours.manifest(id_) is None
        assert manifest.height == height


@pytest.mark.slow
async def test_old_snapshots_go_and_half_made_ones_are_cleared(
    tmp_path: Path, small_chunks: int
) -> None:
    grid = street(tmp_path)
    async with running(grid, range(4)) as members:
        await grow(members, 22)
        directory = members[0].data / snapshots.SNAPSHOTS_NAME
        await until(lambda: offers(members[0]).newest[0] >= 20, "the newest is made")
        assert len(list(directory.iterdir())) <= snapshots.SNAPSHOTS_KEPT + 1
        newest = offers(members[0]).newest
        await members[0].stop()
        (directory / "making").mkdir()
        (directory / "99-half").mkdir()
        await members[0].start()
        assert offers(members[0]).newest == newest
        assert not (directory / "99-half").exists()
        shutil.rmtree(directory)
