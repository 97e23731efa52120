"""The chain on disk: one height or the next, never between; damage is one line."""

# ruff: noqa: ASYNC220, ASYNC240 - nothing else runs meanwhile

import contextlib
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node.chain.store import Store, StoredBlock
from node.errors import GenesisError, StartError, StoreError

GENESIS = bytes(range(32))


def stored(height: int, size: int = 10) -> StoredBlock:
    mark = bytes([height % 256])
    return StoredBlock(height, mark * 32, mark * size, mark * 5, b"r" + mark)


def writes(height: int) -> dict[str, bytes | None]:
    return {"counter": str(height).encode(), f"key/{height}": b"v", f"key/{height - 2}": None}


async def fill(path: Path, heights: int) -> None:
    store = await Store.open(path, GENESIS)
    for height in range(store.height + 1, heights):
        await store.commit(stored(height), [b"tx%d" % height], writes(height))
    await store.close()


async def state_of(store: Store) -> dict[str, bytes]:
    return {key: value async for key, value in store.state()}


class _Sound(Exception):
    """The database was opened."""


async def must_not_open(path: Path) -> None:
    store = await Store.open(path, GENESIS)
    await store.close()
    raise _Sound


async def refused(path: Path, kind: type[StartError] = StoreError) -> str:
    """Return the one line with which a database is refused; the file stays as it is."""
    before = path.read_bytes()
    with pytest.raises(kind) as caught:
        await must_not_open(path)
    assert path.read_bytes() == before
    line = str(caught.value)
    assert "\n" not in line
    assert str(path) in line
    return line


async def test_what_is_committed_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 6)
    store = await Store.open(path, GENESIS)
    assert store.height == 5
    assert await store.block(3) == stored(3)
    assert await store.block(6) is None
    assert await store.height_of(b"tx4") == 4
    assert await store.height_of(b"tx9") is None
    assert await state_of(store) == {"counter": b"5", "key/5": b"v", "key/4": b"v"}
    assert [item async for item in store.state()] == sorted((await state_of(store)).items())
    await store.close()
    await store.close()


async def test_runs_of_blocks_are_bounded_in_number_and_bytes(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "chain.db", GENESIS)
    for height in range(10):
        await store.commit(stored(height, 95), [], {})

    async def heights(first: int, count: int, size: int) -> list[int]:
        return [item.height for item in await store.blocks(first, count, size)]

    assert await heights(2, 3, 10_000) == [2, 3, 4]
    assert await heights(8, 64, 10_000) == [8, 9]
    assert await heights(2, 64, 300) == [2, 3, 4]
    assert await heights(2, 64, 299) == [2, 3]
    assert await heights(2, 64, 1) == [2]
    assert await heights(10, 64, 10_000) == []
    await store.close()


async def test_a_commit_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 3)
    store = await Store.open(path, GENESIS)
    bad: Any = {"counter": b"9", "key/9": object()}
    with pytest.raises(sqlite3.Error):
        await store.commit(stored(3), [b"tx3"], bad)
    with pytest.raises(sqlite3.IntegrityError):
        await store.commit(stored(2), [b"txx"], {"counter": b"9"})
    assert store.height == 2
    assert await store.block(3) is None
    assert await store.height_of(b"tx3") is await store.height_of(b"txx") is None
    assert (await state_of(store))["counter"] == b"2"
    await store.commit(stored(3), [b"tx3"], writes(3))
    assert store.height == 3
    await store.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from node.chain.store import Store
from tests.node.chain.test_store import GENESIS, stored, writes
async def main():
    store = await Store.open(Path(sys.argv[1]), GENESIS)
    for height in range(store.height + 1, 10_000):
        await store.commit(stored(height, 20_000), [b"tx%d" % height], writes(height))
        print(height, flush=True)
asyncio.run(main())
"""


async def test_a_killed_process_leaves_one_whole_height(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    told = -1
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(random.Random(told).randint(3, 8)):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        told = int(rest[-1]) if rest else told
        store = await Store.open(path, GENESIS)
        assert store.height in (told, told + 1)
        height = store.height
        assert await store.block(height) == stored(height, 20_000)
        assert await store.block(height + 1) is None
        assert await store.height_of(b"tx%d" % height) == height
        assert await state_of(store) == {
            "counter": str(height).encode(),
            f"key/{height}": b"v",
            f"key/{height - 1}": b"v",
        }
        await store.close()


async def test_another_genesis_is_refused_by_both_names(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 2)
    with pytest.raises(GenesisError) as caught:
        await Store.open(path, b"\xaa" * 32)
    assert GENESIS.hex()[:12] in str(caught.value)
    assert "aaaaaaaaaaaa" in str(caught.value)
    await fill(path, 3)


async def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 2)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = 7 WHERE key = 'schema'")
    db.close()
    assert "schema 7, this version reads 2" in await refused(path)


async def test_another_programs_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    db.close()
    assert "no such table: meta" in await refused(path)


async def test_random_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    path.write_bytes(random.Random(1).randbytes(20_000))
    line = await refused(path)
    assert "the database is damaged" in line
    assert "move the database away" in line


async def test_a_first_height_that_is_no_number_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 1)
    with sqlite3.connect(path) as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('first', 'abc')")
    db.close()
    assert "the first height is 'abc'" in await refused(path)


async def test_a_truncated_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 40)
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "the database is damaged" in await refused(path)


async def test_flipped_bytes_are_refused_or_harm_only_contents(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    await fill(path, 40)
    whole = path.read_bytes()
    draw = random.Random(5)
    found = 0
    for _ in range(30):
        rotten = bytearray(whole)
        for _ in range(200):
            rotten[draw.randrange(len(rotten))] ^= draw.randrange(1, 256)
        path.write_bytes(rotten)
        with contextlib.suppress(_Sound):
            await refused(path, StartError)
            found += 1
    assert found > 20


async def test_a_crash_while_it_is_made_leaves_a_database_to_be_made(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    path.write_bytes(b"")
    await fill(path, 2)
    store = await Store.open(path, GENESIS)
    assert store.height == 1
    await store.close()


async def test_a_place_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open database file"):
        await Store.open(tmp_path, GENESIS)
