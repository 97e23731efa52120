"""The chain on disk: one SQLite file, one transaction per decided block.

Block, certificate, receipts, changed state and height become durable together or not at all, so a
crash at any instant leaves the database at one whole height. A state that was taken over as a
snapshot replaces the one before in one transaction too; then blocks are missing below
`first_height`, but for those that were here before. Everything in it can be fetched again from the
other homes; the write-ahead log (`node/chain/wal.py`), which guards what this node has signed, is
kept apart.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiosqlite

from node.errors import GenesisError, StoreError

SCHEMA_VERSION: Final = 2
_REMEDY: Final = (
    "move the database away and start again: this home then fetches the chain from its neighbours"
)

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    height INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    block BLOB NOT NULL,
    certificate BLOB NOT NULL,
    receipts BLOB NOT NULL
);
CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, height INTEGER NOT NULL, header BLOB NOT NULL);
CREATE TABLE transactions (tx_id BLOB PRIMARY KEY, height INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


# Columns by name: the text of the schema lies in the file too, and may be damaged.
_GET_BLOCK: Final = "SELECT height, hash, block, certificate, receipts FROM blocks WHERE height = ?"
_GET_BLOCKS: Final = (
    "SELECT height, hash, block, certificate, receipts FROM blocks "
    "WHERE height >= ? ORDER BY height LIMIT ?"
)


class StoredBlock(NamedTuple):
    """A decided block as it lies on disk: canonical bytes of block and certificate."""

    height: int
    block_hash: bytes
    block: bytes
    certificate: bytes
    receipts: bytes


class EpochEnd(NamedTuple):
    """The last header of an epoch with its certificate and the next set: a `SignedHeader`."""

    epoch: int
    height: int
    header: bytes


class Store:
    """The open database. Made by `Store.open`.

    `height` is that of the last block, `first_height` that of the first in the run up to it.
    """

    def __init__(
        self, path: Path, db: aiosqlite.Connection, height: int, first_height: int
    ) -> None:
        self._path = path
        self._db = db
        self.height = height
        self.first_height = first_height

    @classmethod
    async def open(cls, path: Path, genesis_hash: bytes) -> "Store":
        """Open or create the database of the chain with this genesis.

        Raises
        ------
        GenesisError
            The database belongs to another genesis.
        StoreError
            It is damaged, or of another schema version. Nothing is overwritten.
        """
        try:
            # A connection that aiosqlite cannot open leaves its thread with a last word for this
            # loop, which may be closed by then; so what cannot be opened is found out before.
            await asyncio.to_thread(lambda: sqlite3.connect(path).close())
            db = await aiosqlite.connect(path)
            try:
                async with db.execute("SELECT COUNT(*) FROM sqlite_master") as rows:
                    row = await rows.fetchone()
                if row is not None and row[0] == 0:
                    await _create(db, genesis_hash)
                height, first_height = await _examine(db, path, genesis_hash)
                await db.execute("PRAGMA journal_mode=WAL")
                await db.execute("PRAGMA synchronous=FULL")
            except BaseException:
                await db.close()
                raise
        except (sqlite3.Error, UnicodeDecodeError) as error:
            # SQLite's own sentences may quote what is damaged, and then are no text.
            raise _damaged(path, str(error)) from None
        return cls(path, db, height, first_height)

    def damaged(self, what: str) -> StoreError:
        """Return the error that says what is wrong with this database, and what to do."""
        return _damaged(self._path, what)

    async def close(self) -> None:
        """Close the file; idempotent."""
        await self._db.close()

    async def commit(
        self,
        stored: StoredBlock,
        tx_ids: Sequence[bytes],
        writes: Mapping[str, bytes | None],
        epoch_end: EpochEnd | None = None,
    ) -> None:
        """Make one decided block and the state after it durable, in one transaction."""
        puts = [(key, value) for key, value in writes.items() if value is not None]
        gone = [(key,) for key, value in writes.items() if value is None]
        db = self._db
        try:
            await db.execute("BEGIN IMMEDIATE")
            await db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", stored)
            await db.executemany(
                "INSERT OR IGNORE INTO transactions VALUES (?, ?)",
                [(tx_id, stored.height) for tx_id in tx_ids],
            )
            await db.executemany(
                "INSERT INTO state VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                puts,
            )
            await db.executemany("DELETE FROM state WHERE key = ?", gone)
            if epoch_end is not None:
                await db.execute(_PUT_EPOCH, epoch_end)
            await db.commit()
        except BaseException:
            await db.rollback()
            raise
        self.height = stored.height

    async def replace_state(
        self,
        stored: StoredBlock,
        state: Mapping[str, bytes],
        epoch_ends: Sequence[EpochEnd] = (),
    ) -> None:
        """Jump to a block with the whole state after it, in one transaction.

        Blocks from before stay, with a gap between; the run begins anew with this one.
        """
        db = self._db
        try:
            await db.execute("BEGIN IMMEDIATE")
            await db.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", stored)
            await db.execute("DELETE FROM state")
            await db.executemany("INSERT INTO state VALUES (?, ?)", state.items())
            await db.executemany(_PUT_EPOCH, epoch_ends)
            await db.execute(
                "INSERT INTO meta VALUES ('first', ?) ON CONFLICT DO UPDATE SET "
                "value = excluded.value",
                (stored.height,),
            )
            await db.commit()
        except BaseException:
            await db.rollback()
            raise
        self.height = self.first_height = stored.height

    async def block(self, height: int) -> StoredBlock | None:
        """Return the decided block at `height`, if it is here."""
        async with self._db.execute(_GET_BLOCK, (height,)) as rows:
            row = await rows.fetchone()
        return _stored(row) if row else None

    async def blocks(self, first: int, count_max: int, bytes_max: int) -> list[StoredBlock]:
        """Return blocks from `first` on, at most so many and (but for the first) so large.

        They are a run without a gap; empty if the block at `first` is not here.
        """
        found: list[StoredBlock] = []
        size = 0
        async with self._db.execute(_GET_BLOCKS, (first, count_max)) as rows:
            async for row in rows:
                stored = _stored(row)
                if stored.height != first + len(found):
                    break
                size += len(stored.block) + len(stored.certificate)
                if found and size > bytes_max:
                    break
                found.append(stored)
        return found

    async def epoch_ends(self, first_epoch: int, count_max: int) -> list[EpochEnd]:
        """Return the ends of epochs from `first_epoch` on, in order."""
        query = "SELECT epoch, height, header FROM epochs WHERE epoch >= ? ORDER BY epoch LIMIT ?"
        async with self._db.execute(query, (first_epoch, count_max)) as rows:
            return [
                EpochEnd(epoch, height if type(height) is int else -1, _blob(raw))
                async for epoch, height, raw in rows
            ]

    async def height_of(self, tx_id: bytes) -> int | None:
        """Return the height at which a transaction was decided."""
        query = "SELECT height FROM transactions WHERE tx_id = ?"
        async with self._db.execute(query, (tx_id,)) as rows:
            row = await rows.fetchone()
        return int(row[0]) if row else None

    async def state(self) -> AsyncIterator[tuple[str, bytes]]:
        """Yield all state in key order."""
        async with self._db.execute("SELECT key, value FROM state ORDER BY key") as rows:
            async for key, value in rows:
                yield key, value


def _stored(row: Iterable[Any]) -> StoredBlock:
    height, block_hash, block, certificate, receipts = row
    return StoredBlock(height, _blob(block_hash), _blob(block), _blob(certificate), _blob(receipts))


def _blob(value: object) -> bytes:
    """Return a column's bytes; a damaged page may give another type, which says nothing."""
    return value if type(value) is bytes else b""


_PUT_EPOCH: Final = "INSERT OR IGNORE INTO epochs VALUES (?, ?, ?)"


async def _create(db: aiosqlite.Connection, genesis_hash: bytes) -> None:
    # One transaction: a crash in between leaves an empty file, which is made again.
    await db.executescript(f"BEGIN; {_SCHEMA}")
    await db.execute(
        "INSERT INTO meta VALUES ('schema', ?), ('genesis', ?)", (SCHEMA_VERSION, genesis_hash)
    )
    await db.commit()


async def _examine(db: aiosqlite.Connection, path: Path, genesis_hash: bytes) -> tuple[int, int]:
    """Return height and first height of a sound database of this genesis."""
    async with db.execute("PRAGMA quick_check(1)") as rows:
        row = await rows.fetchone()
    if row is None or row[0] != "ok":
        raise sqlite3.DatabaseError(row[0] if row else "no answer to quick_check")
    async with db.execute("SELECT key, value FROM meta") as rows:
        meta = {key: value async for key, value in rows}
    if meta.get("schema") != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema {meta.get('schema')}, this version reads {SCHEMA_VERSION}"
        )
    if meta.get("genesis") != genesis_hash:
        raise GenesisError(
            f"{path} belongs to genesis {_short(meta.get('genesis'))}, the configured one is "
            f"{_short(genesis_hash)}; use the genesis file it was made with, or another directory"
        )
    async with db.execute("SELECT COALESCE(MAX(height), -1) FROM blocks") as rows:
        row = await rows.fetchone()
    first_height = meta.get("first", 0)
    if type(first_height) is not int:
        raise sqlite3.DatabaseError(f"the first height is {first_height!r:.40}")
    return int(row[0]) if row else -1, first_height


def _damaged(path: Path, what: str) -> StoreError:
    text = " ".join(what.split())
    return StoreError(f"{path}: the database is damaged ({text}); {_REMEDY}")


def _short(value: object) -> str:
    return value.hex()[:12] if isinstance(value, bytes) else "unknown"
