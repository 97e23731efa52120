"""A crash while a snapshot replaces the state: the old chain or the new one, never a mix.

A killed process leaves the files as they are at that instant, so they are copied again and again
while the database works, and each copy is opened. What SQLite writes in one go, at the end, is cut
at every place.
"""

# ruff: noqa: ASYNC220 - nothing else runs meanwhile

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from node.chain.store import EpochEnd, Store
from tests.node.chain.test_store import GENESIS, state_of, stored, writes

OLD_HEIGHT = 40
NEW_HEIGHT = 700
PAGE = 4096
FRAME = 24 + PAGE
NEW_STATE = {f"new/{number:04d}": bytes([number % 256]) * 150 for number in range(400)}
ENDS = [EpochEnd(epoch, 100 * epoch, b"end %d" % epoch) for epoch in range(1, 7)]


async def old_chain(path: Path) -> dict[str, bytes]:
    """Make the chain from before, with a state that shares a key with the new one; return it."""
    store = await Store.open(path, GENESIS)
    for height in range(OLD_HEIGHT + 1):
        await store.commit(stored(height, 500), [b"tx%d" % height], writes(height))
    old = {f"old/{number:04d}": b"old" * 50 for number in range(400)} | {"new/0007": b"before"}
    await store.commit(stored(OLD_HEIGHT + 1), [], old)
    found = await state_of(store)
    await store.close()
    return found


async def replace(store: Store) -> None:
    await store.replace_state(stored(NEW_HEIGHT), NEW_STATE, ENDS)


async def is_new(path: Path, old_state: dict[str, bytes]) -> bool:
    """Open what a crash left; tell whether it is wholly the new chain. The old one otherwise."""
    store = await Store.open(path, GENESIS)
    try:
        new = store.height == NEW_HEIGHT
        assert store.height == (NEW_HEIGHT if new else OLD_HEIGHT + 1)
        assert store.first_height == (NEW_HEIGHT if new else 0)
        assert await state_of(store) == (NEW_STATE if new else old_state)
        assert await store.epoch_ends(0, 100) == (ENDS if new else [])
        assert await store.block(NEW_HEIGHT) == (stored(NEW_HEIGHT) if new else None)
        assert await store.block(OLD_HEIGHT) == stored(OLD_HEIGHT, 500)
        assert await store.height_of(b"tx7") == 7
    finally:
        await store.close()
    return new


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


class Images:
    """Copies of a database's files, each as a crash would leave them."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path = path
        self.directory = directory
        self.taken: list[Path] = []
        self.wal_sizes: list[int] = []

    def take(self) -> int:
        """Copy the files as they are now. Called by SQLite in the middle of a statement."""
        into = self.directory / str(len(self.taken))
        into.mkdir(parents=True)
        shutil.copy(self.path, into)
        shutil.copy(wal_of(self.path), into)
        self.taken.append(into / self.path.name)
        self.wal_sizes.append(wal_of(self.path).stat().st_size)
        return 0

    async def made_of(self, database: bytes, wal: bytes) -> Path:
        """Make one of given bytes."""
        into = self.directory / "made"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        path = into / self.path.name
        path.write_bytes(database)
        wal_of(path).write_bytes(wal)
        return path


async def set_pragma(store: Store, text: str) -> None:
    async with store._db.execute(f"PRAGMA {text}") as rows:
        await rows.fetchall()


async def test_a_crash_in_the_middle_of_any_statement_leaves_the_old_chain(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    old = await old_chain(path)
    images = Images(path, tmp_path / "images")
    store = await Store.open(path, GENESIS)
    # So few pages in memory that unfinished work is written out: there is something to be mixed.
    await set_pragma(store, "cache_size = 10")
    await store._db.set_progress_handler(images.take, 50)
    await replace(store)
    await store._db.set_progress_handler(images.take, 0)
    assert len(images.taken) > 50
    assert max(images.wal_sizes) > 10 * FRAME
    for image in images.taken:
        assert not await is_new(image, old)
    images.take()
    assert await is_new(images.taken[-1], old)
    await store.close()
    assert await is_new(path, old)


async def test_a_crash_in_the_middle_of_the_commit_leaves_one_of_both(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    old = await old_chain(path)
    images = Images(path, tmp_path / "images")
    store = await Store.open(path, GENESIS)
    before = path.read_bytes()
    await replace(store)
    wal = wal_of(path).read_bytes()
    assert path.read_bytes() == before
    places = {*range(0, len(wal) + 1, FRAME), *range(32, len(wal) + 1, FRAME), len(wal)}
    places |= {place - 1 for place in places if place} | {len(wal) // 2}
    outcomes = [
        await is_new(await images.made_of(before, wal[:place]), old) for place in sorted(places)
    ]
    # It is final with its very last byte.
    assert outcomes == [False] * (len(outcomes) - 1) + [True]
    await store.close()


async def test_a_crash_while_pages_are_copied_back_leaves_the_new_chain(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    old = await old_chain(path)
    images = Images(path, tmp_path / "images")
    store = await Store.open(path, GENESIS)
    before = path.read_bytes()
    await replace(store)
    wal = wal_of(path).read_bytes()
    await set_pragma(store, "wal_checkpoint(FULL)")
    after = path.read_bytes()
    await store.close()
    assert after != before
    draw = random.Random(3)
    for _ in range(20):
        end = (
            draw.randrange(len(before), len(after) + 1) if len(after) > len(before) else len(after)
        )
        mixed = bytearray(before.ljust(end, b"\0"))
        for start in range(0, end, PAGE):
            if draw.random() < 0.5:
                mixed[start : start + PAGE] = after[start : min(start + PAGE, end)]
        assert await is_new(await images.made_of(bytes(mixed), wal), old)


@pytest.mark.parametrize("statement", range(1, 8))
async def test_an_error_in_any_statement_leaves_the_old_chain(
    tmp_path: Path, statement: int
) -> None:
    path = tmp_path / "chain.db"
    old = await old_chain(path)
    store = await Store.open(path, GENESIS)
    execute, seen = store._db._execute, []

    async def failing(work: Callable[..., object], *args: object) -> object:
        if args and work.__name__ in ("execute", "executemany"):
            seen.append(args[0])
        elif work.__name__ == "commit":
            seen.append("COMMIT")
        if len(seen) == statement:
            seen.append("failed")
            raise OSError("no space left on the device")
        return await execute(work, *args)

    store._db._execute = failing  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="no space"):
        await replace(store)
    assert store.height == OLD_HEIGHT + 1
    await store.close()
    assert not await is_new(path, old)


WRITER = """
import asyncio, sys
from pathlib import Path
from node.chain.store import Store
from tests.node.chain.test_store import GENESIS, stored
async def main():
    store = await Store.open(Path(sys.argv[1]), GENESIS)
    for height in range(store.height + 1, 100_000):
        state = {f"{n:05d}": b"%d" % height * 20 for n in range(2_000 + height % 7)}
        await store.replace_state(stored(height), state)
        print(height, flush=True)
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_killed_process_leaves_one_whole_state(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    draw = random.Random(11)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(draw.randint(2, 5)):
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        told = int(rest[-1]) if rest else told
        store = await Store.open(path, GENESIS)
        height = store.height
        assert height in (told, told + 1)
        assert store.first_height == height
        assert await state_of(store) == {
            f"{n:05d}": b"%d" % height * 20 for n in range(2_000 + height % 7)
        }
        await store.close()
