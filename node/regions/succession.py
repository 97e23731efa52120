"""A region that goes on with other authorities, because its own are lost for good.

Where it stopped is the last block that its authorities have certified. Somebody who has it shows
it to the main chain (`stop_call`), and the genesis of a successor is made of it (`successor_of`): a
chain with a name and authorities of its own, which begins with the state after that block. Once the
main chain has put it in the region's place (`market/contracts/override.star`), each home takes
its own state over to it (`take_over`). docs/spec/regions.md, ADR 21.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from consensus.errors import SnapshotRefused
from consensus.light import SignedHeader
from consensus.snapshot import chunks_of, pairs_of
from consensus.sync_messages import CHUNK_BYTES
from market.app import Application
from market.client import Call, regions
from market.errors import MarketError
from market.tiers import Succession
from node.chain.store import Store
from node.chain.wal import Wal
from node.errors import ConfigError, GenesisError, StoreError
from node.genesis import Genesis
from node.regions.certifier import natives
from node.regions.registration import proven
from node.setup import DATABASE_NAME, EVIDENCE_NAME, WAL_NAME
from wire.codec import encode

# The state that a chain begins with, as the stream of a snapshot, beside its database.
INHERITED_NAME: Final = "inherited"
# What of a data directory belongs to one chain and to no other.
CHAIN_FILES: Final = (
    *(DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", WAL_NAME, EVIDENCE_NAME),
    *("snapshots", "spool", "checkpoints", INHERITED_NAME),
)


def stop_call(region: int, app: Application, last: SignedHeader) -> Call:
    """Return what shows the main chain where a region has stopped.

    Parameters
    ----------
    region : its number.
    app : the region's application, at the state after the header.
    last : the last header that its authorities have certified.

    Raises
    ------
    GenesisError
        The chain is no region, or has not closed a record yet.
    """
    value = app.value(regions.CLOSED_KEY)
    if value is None or app.state_root != last.header.state_root:
        raise GenesisError("only a region that has decided a block can have stopped")
    proof = encode(app.prove(regions.CLOSED_KEY))
    return regions.show_stop(region, encode(last).hex(), value, proof)


def successor_of(
    genesis: Genesis, chain_id: str, authorities: Sequence[bytes], stop: Mapping[str, Any]
) -> Genesis:
    """Return the genesis of the chain that goes on in a region's place.

    Parameters
    ----------
    genesis : of the region that has stopped.
    chain_id : how the successor is called.
    authorities : public keys of its first epoch, in their order.
    stop : as the main chain's contract `override` has it.

    Raises
    ------
    GenesisError
        The chain is no region, or the successor's genesis cannot be.
    """
    member = genesis.market.region
    if member is None:
        raise GenesisError(f"chain {genesis.chain_id} is no region: nothing can take its place")
    succeeds = Succession(
        chain_id=genesis.chain_id,
        genesis_hash=genesis.hash,
        height=stop["height"],
        block_hash=bytes.fromhex(stop["block_hash"]),
        state_root=bytes.fromhex(stop["state_root"]),
        time_ms=stop["time_ms"],
    )
    market = msgspec.structs.replace(
        genesis.market,
        chain_id=chain_id,
        region=msgspec.structs.replace(member, succeeds=succeeds),
    )
    found = msgspec.structs.replace(genesis, market=market, authorities=tuple(authorities))
    found.check()
    return found


def proposal(genesis: Genesis, proofs: Mapping[bytes, bytes]) -> Call:
    """Return what proposes a successor to the main chain.

    Parameters
    ----------
    genesis : the successor's.
    proofs : of each of its authorities, by public key
        (`node.regions.registration.prove_possession`).

    Raises
    ------
    GenesisError
        It is no successor, or one of its authorities has proven nothing.
    """
    member = genesis.market.region
    if member is None or member.succeeds is None:
        raise GenesisError(f"the genesis of chain {genesis.chain_id} names none that it succeeds")
    return regions.propose_successor(
        member.region,
        genesis.chain_id,
        genesis.hash.hex(),
        genesis.authorities,
        proven(genesis, proofs),
        member.succeeds.height,
    )


# ---- a home's own files ---------------------------------------------------------------------


def inherited_pairs(file: Path) -> Iterator[tuple[str, bytes]]:
    """Read the state that a chain begins with.

    Raises
    ------
    StoreError
        There is none, or it is damaged.
    """
    try:
        with file.open("rb") as stream:
            yield from pairs_of(iter(lambda: stream.read(CHUNK_BYTES), b""))
    except OSError as error:
        raise StoreError(
            f"{file}: {error.strerror}; this chain goes on with another one's state: copy the file "
            "from a home that has taken it over"
        ) from None
    except SnapshotRefused as refused:
        raise StoreError(f"{file}: damaged: {refused}; copy it from another home") from None


def inherited_chunk(file: Path, index: int) -> bytes:
    """Return a chunk of the state that a chain begins with; empty beyond its end."""
    with contextlib.suppress(OSError), file.open("rb") as stream:
        stream.seek(index * CHUNK_BYTES)
        return stream.read(CHUNK_BYTES)
    return b""


async def take_over(data: Path, before: Genesis, successor: Genesis, state: Path | None) -> Path:
    """Make a home's data directory that of the chain that goes on in its region's place.

    What was the old chain's is moved into a directory of its own, which is returned; the home's
    own memory stays. The daemon must not run (the caller holds the directory's lock).

    Parameters
    ----------
    data : of the home.
    before, successor : of the chain that it keeps, and of the one that it goes on with.
    state : the file `inherited` of a home that has done this; None: this home's own state.

    Raises
    ------
    ConfigError
        The two do not belong together, or the home's chain has stopped elsewhere.
    StoreError
        A state cannot be read, or is not the one that the successor's genesis names.
    """
    succeeds = successor.market.succeeds
    if succeeds is None or succeeds.genesis_hash != before.hash:
        raise ConfigError(
            f"the genesis of chain {successor.chain_id} does not go on with this home's chain "
            f"{before.chain_id}"
        )
    aside = data / f"before-{successor.hash.hex()[:8]}"
    if aside.exists():
        raise ConfigError(f"{aside} exists: this home has gone over to that chain already")
    pairs = dict(inherited_pairs(state)) if state else await _own_state(data, before, succeeds)
    app = Application(successor.market, founding=successor.founding(), natives=natives())
    try:
        await asyncio.to_thread(app.genesis, pairs.items())
    except MarketError as error:
        raise StoreError(str(error)) from None
    await asyncio.to_thread(_exchange_files, data, aside, pairs)
    return aside


async def _own_state(data: Path, before: Genesis, succeeds: Succession) -> dict[str, bytes]:
    store = await Store.open(data / DATABASE_NAME, before.hash)
    try:
        if store.height != succeeds.height:
            kind = "is behind" if store.height < succeeds.height else "has gone beyond"
            raise ConfigError(
                f"this home {kind}: its chain is at height {store.height}, the successor goes on "
                f"from {succeeds.height}; give the state of a home that is there by --state"
            )
        return {key: value async for key, value in store.state()}
    finally:
        await store.close()


def _exchange_files(data: Path, aside: Path, pairs: Mapping[str, bytes]) -> None:
    making = data / f"{INHERITED_NAME}.making"
    try:
        with making.open("wb") as stream:
            for chunk in chunks_of(sorted(pairs.items())):
                stream.write(chunk)
        aside.mkdir(mode=0o700)
        for name in CHAIN_FILES:
            if (data / name).exists():
                (data / name).rename(aside / name)
        making.rename(data / INHERITED_NAME)
        # Nothing was ever signed for the new chain.
        Wal.create(data / WAL_NAME)
    except OSError as error:
        raise ConfigError(f"{error.filename or data}: {error.strerror}") from None
