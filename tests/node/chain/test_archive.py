"""Blocks that rotted on the disk are not shown to others, and one line in the log says so."""

import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from consensus.light import SignedHeader
from consensus.messages import BLOCK_BYTES_MAX, CERTIFICATE_BYTES_MAX, Block, Certificate
from market.genesis import GovernanceParams
from node.chain.archive import SIGNED_HEADER_BYTES_MAX, Archive
from node.setup import DATABASE_NAME
from tests.node.grid import Grid, Member, at_height, make_genesis, running, until
from wire.codec import decode, encode

EPOCH = 4
TOP = EPOCH + 3

_recorded: list[tuple[Grid, bytes]] = []


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Member]:
    """A home that has `TOP` blocks or more, and stands still."""
    if not _recorded:
        rules = GovernanceParams(epoch_blocks=EPOCH)
        genesis = make_genesis(5, time_lapse=900, slot_minutes=5)
        grid = Grid(tmp_path / "recorded", msgspec.structs.replace(genesis, governance=rules))
        async with running(grid, range(4)) as members:
            await at_height(members, TOP)
        _recorded.append((grid, (members[0].data / DATABASE_NAME).read_bytes()))
    recorded, database = _recorded[0]
    grid = Grid(tmp_path, recorded.genesis)
    member = grid.members[4]
    (member.data / DATABASE_NAME).write_bytes(database)
    await member.start(())
    yield member
    await grid.stop()


def archive_of(home: Member) -> Archive:
    return home.node.sync._archive


def change(home: Member, query: str, *values: object) -> None:
    with sqlite3.connect(home.data / DATABASE_NAME) as db:
        assert db.execute(query, values).rowcount == 1


def row(home: Member, query: str, *values: object) -> bytes:
    with sqlite3.connect(home.data / DATABASE_NAME) as db:
        found: bytes = db.execute(query, values).fetchone()[0]
    return found


def flipped(raw: bytes, place: int) -> bytes:
    return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]


def spoil_block(home: Member, height: int, place: int = -1) -> None:
    raw = row(home, "SELECT block FROM blocks WHERE height = ?", height)
    place = len(raw) // 2 if place < 0 else place
    change(home, "UPDATE blocks SET block = ? WHERE height = ?", flipped(raw, place), height)


def damage_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [item.getMessage() for item in caplog.records if item.levelno >= logging.ERROR]


async def test_what_is_sound_is_shown_whole(home: Member, caplog: pytest.LogCaptureFixture) -> None:
    archive = archive_of(home)
    assert len(await archive.blocks(1, TOP)) == TOP
    headers = await archive.headers(1, TOP)
    assert [signed.header.height for signed in headers] == list(range(1, TOP + 1))
    assert headers[EPOCH - 1].next_authorities is not None
    way = await archive.path(0, TOP)
    assert [signed.header.height for signed in way] == [EPOCH, TOP]
    assert await archive.blocks(0, 2) == []
    assert damage_lines(caplog) == []


@pytest.mark.parametrize("place", [0, 10, 100, 200, 300])
async def test_a_damaged_block_ends_the_run_before_it_and_is_logged_once(
    home: Member, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    spoil_block(home, 3, place)
    archive = archive_of(home)
    for _ in range(3):
        assert len(await archive.blocks(1, TOP)) == 2
        assert len(await archive.headers(1, TOP)) == 2
        assert await archive.blocks(3, 1) == []
        assert await archive.path(0, 3) == ()
    assert len(await archive.blocks(4, 2)) == 2
    (line,) = damage_lines(caplog)
    assert "the block at height 3" in line
    assert "not shown to others" in line
    assert str(home.data / DATABASE_NAME) in line


async def test_a_block_in_anothers_place_is_not_shown(home: Member) -> None:
    other = row(home, "SELECT block FROM blocks WHERE height = 2")
    change(home, "UPDATE blocks SET block = ? WHERE height = 3", other)
    assert len(await archive_of(home).blocks(1, TOP)) == 2


@pytest.mark.parametrize("value", ["text", 7, 0.5])
@pytest.mark.parametrize("column", ["block", "hash"])
async def test_a_column_of_another_type_is_damage(
    home: Member, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    change(home, f"UPDATE blocks SET {column} = ? WHERE height = 3", value)
    assert len(await archive_of(home).headers(1, TOP)) == 2
    assert len(damage_lines(caplog)) == 1


async def test_another_body_is_not_shown(home: Member) -> None:
    raw = row(home, "SELECT block FROM blocks WHERE height = 3")
    block = decode(raw, Block, BLOCK_BYTES_MAX)
    other = encode(msgspec.structs.replace(block, txs=(*block.txs, b"more")))
    change(home, "UPDATE blocks SET block = ? WHERE height = 3", other)
    assert len(await archive_of(home).blocks(1, TOP)) == 2


async def test_a_damaged_certificate_costs_the_header_and_not_the_body(
    home: Member, caplog: pytest.LogCaptureFixture
) -> None:
    raw = row(home, "SELECT certificate FROM blocks WHERE height = 3")
    certificate = decode(raw, Certificate, CERTIFICATE_BYTES_MAX)
    forged = (bytes(64), *certificate.signatures[1:])
    bad = encode(msgspec.structs.replace(certificate, signatures=forged))
    change(home, "UPDATE blocks SET certificate = ? WHERE height = 3", bad)
    archive = archive_of(home)
    assert len(await archive.headers(1, TOP)) == 2
    assert len(await archive.blocks(1, TOP)) == TOP
    assert len(damage_lines(caplog)) == 1


@pytest.mark.parametrize("part", ["bytes", "set", "certificate"])
async def test_a_damaged_end_of_an_epoch_is_not_shown(home: Member, part: str) -> None:
    raw = row(home, "SELECT header FROM epochs WHERE epoch = 0")
    signed = decode(raw, SignedHeader, SIGNED_HEADER_BYTES_MAX)
    following = signed.next_authorities
    assert following is not None
    bad = {
        "bytes": flipped(raw, len(raw) // 2),
        "set": encode(
            msgspec.structs.replace(
                signed,
                next_authorities=msgspec.structs.replace(
                    following, publics=following.publics[::-1]
                ),
            )
        ),
        "certificate": encode(
            msgspec.structs.replace(
                signed, certificate=msgspec.structs.replace(signed.certificate, height=2)
            )
        ),
    }[part]
    change(home, "UPDATE epochs SET header = ? WHERE epoch = 0", bad)
    await the_epochs_end_is_not_shown(home)


@pytest.mark.parametrize("value", ["text", b"4", 0.5])
async def test_an_end_of_an_epoch_at_no_height_is_not_shown(home: Member, value: object) -> None:
    change(home, "UPDATE epochs SET height = ? WHERE epoch = 0", value)
    await the_epochs_end_is_not_shown(home)


async def the_epochs_end_is_not_shown(home: Member) -> None:
    archive = archive_of(home)
    assert len(await archive.headers(1, TOP)) == EPOCH - 1
    assert await archive.path(0, TOP) == ()


async def test_who_asks_a_home_with_a_damaged_block_gets_it_elsewhere_and_blames_nobody(
    home: Member, tmp_path: Path
) -> None:
    spoil_block(home, 3)
    grid = home.grid
    sound, asking = grid.members[3], grid.members[2]
    (sound.data / DATABASE_NAME).write_bytes(_recorded[0][1])
    await sound.start(())
    await asking.start([f"/memory/1/p2p/{home.peer_id}"])
    await until(lambda: asking.height == 2, "what is sound has come")
    assert asking.network is not None
    asking.network.want(f"/memory/1/p2p/{sound.peer_id}")
    await at_height([asking], TOP)
    assert asking.network.penalties == []
