"""A node's store read without its daemon, and without changing a byte of it.

For who looks at a home from outside: `commonwatt doctor`, exports. A database is read as one moment
of it, also beside a daemon that goes on writing.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from consensus.messages import Block
from market import client
from market.app import Application
from market.errors import MarketError
from market.receipts import Receipt
from node.chain.blocks import stored_block
from node.chain.replica import UNREADABLE
from node.chain.store import SCHEMA_VERSION, StoredBlock
from node.errors import GenesisError, StoreError
from node.genesis import Genesis
from node.regions.certifier import natives
from wire.codec import decode
from wire.errors import DecodeError

_GET_BLOCK: Final = "SELECT height, hash, block, certificate, receipts FROM blocks WHERE height = ?"


class Found(NamedTuple):
    """The last block of a sound database: its height and time [ms]; -1 and 0 if there is none."""

    height: int
    time_ms: int


def examine(path: Path, genesis_hash: bytes) -> Found:
    """Check a database from its first page to its last.

    Raises
    ------
    GenesisError
        It belongs to another genesis.
    StoreError
        It cannot be read, is damaged, or is of another schema version.
    """
    with _reading(path) as db:
        (answer,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)
        stored = _last_block(db, path, genesis_hash)
    if stored is None:
        return Found(-1, 0)
    return Found(stored.height, _block_of(stored, path).header.time_ms)


def load_application(path: Path, genesis: Genesis) -> Application:
    """Return the market as of the last block in a database, proven by that block's state root.

    Raises
    ------
    GenesisError
        It belongs to another genesis, or this program cannot execute it.
    StoreError
        It cannot be read, is damaged, of another schema version, or has no block yet.
    """
    with _reading(path) as db:
        stored = _last_block(db, path, genesis.hash)
        items = db.execute("SELECT key, value FROM state ORDER BY key").fetchall()
    if stored is None:
        raise StoreError(f"{path}: there is no block in it yet; run the node first")
    app = Application(genesis.market, founding=genesis.founding(), natives=natives())
    try:
        app.load(items, stored.height)
    except MarketError as error:
        raise GenesisError(f"{path}: its state cannot be loaded: {error}") from None
    except UNREADABLE as error:
        raise StoreError(f"{path}: the state is damaged ({error})") from None
    if app.state_root != _block_of(stored, path).header.state_root:
        raise StoreError(f"{path}: the state is not the one that block {stored.height} proves")
    return app


def readings(path: Path, genesis: Genesis) -> Iterator[client.ReadingAccepted]:
    """Yield all readings that a database's blocks have taken, in their order.

    Raises
    ------
    GenesisError, StoreError
        As `load_application`.
    """
    with _reading(path) as db:
        last = _last_block(db, path, genesis.hash)
        for height, data in db.execute("SELECT height, receipts FROM blocks ORDER BY height"):
            try:
                receipts = decode(data, tuple[Receipt, ...], max(len(data), 1))
            except DecodeError as error:
                raise StoreError(f"{path}: the receipts at height {height} ({error})") from None
            for event in (event for receipt in receipts for event in receipt.events):
                known = client.decode_event(event) if event.name == "reading_accepted" else None
                if isinstance(known, client.ReadingAccepted):
                    yield known
    if last is None:
        raise StoreError(f"{path}: there is no block in it yet; run the node first")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading, in one transaction; its errors become `StoreError`."""
    how = "mode=ro"
    # Where one may not write SQLite cannot put its index of the log beside the database.
    if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        how = "immutable=1"
    if not path.is_file():
        raise StoreError(f"{path}: there is no database; this node has not run yet")
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)
        ) as db:
            db.execute("BEGIN")
            yield db
    except (sqlite3.Error, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise StoreError(f"{path}: the database cannot be read ({text})") from None


def _last_block(db: sqlite3.Connection, path: Path, genesis_hash: bytes) -> StoredBlock | None:
    meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
    if meta.get("schema") != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema {meta.get('schema')}, this version reads {SCHEMA_VERSION}"
        )
    if meta.get("genesis") != genesis_hash:
        raise GenesisError(f"{path}: it belongs to another genesis than the one in the settings")
    (height,) = db.execute("SELECT COALESCE(MAX(height), -1) FROM blocks").fetchone()
    row = db.execute(_GET_BLOCK, (height,)).fetchone()
    return None if row is None else StoredBlock(*row)


def _block_of(stored: StoredBlock, path: Path) -> Block:
    try:
        return stored_block(stored)
    except UNREADABLE as error:
        raise StoreError(f"{path}: the block at height {stored.height} ({error})") from None
