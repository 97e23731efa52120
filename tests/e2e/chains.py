"""What homes leave on disk, compared: their chains, and what their authorities have signed."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from consensus.messages import BLOCK_BYTES_MAX, Block, header_hash
from consensus.wal import LockRecord, ProposalRecord, VoteRecord, scan
from node.setup import DATABASE_NAME, WAL_NAME
from wire.codec import decode, encode


class StoredChain(NamedTuple):
    """A home's chain: block hash and state root by height, and where each transaction is.

    `first` is where its run of blocks begins: above 0 if it came with a snapshot.
    """

    blocks: dict[int, tuple[bytes, bytes]]
    heights: dict[str, int]
    first: int = 0


def read_chain(data: Path) -> StoredChain:
    """Read the chain of a home that is stopped; every block must be what its hash says."""
    db = sqlite3.connect(f"file:{data / DATABASE_NAME}?mode=ro", uri=True)
    try:
        blocks = {}
        for height, hash_, raw in db.execute("SELECT height, hash, block FROM blocks"):
            header = decode(raw, Block, BLOCK_BYTES_MAX).header
            good = header_hash(header) == hash_ and header.height == height
            blocks[height] = (hash_ if good else b"damaged", header.state_root)
        rows = db.execute("SELECT tx_id, height FROM transactions")
        heights = {tx_id.hex(): height for tx_id, height in rows}
        first = db.execute("SELECT value FROM meta WHERE key = 'first'").fetchone()
        return StoredChain(blocks, heights, first[0] if first else 0)
    finally:
        db.close()


def root_problems(chains: Mapping[str, StoredChain]) -> Iterator[str]:
    """Compare blocks and states at every height that more than one home has."""
    seen: dict[int, tuple[str, tuple[bytes, bytes]]] = {}
    for name, chain in chains.items():
        missing = set(range(chain.first, max(chain.blocks) + 1)) - set(chain.blocks)
        if missing:
            yield f"{name} has a gap at height {min(missing)}"
        for height, mine in chain.blocks.items():
            other, theirs = seen.setdefault(height, (name, mine))
            if mine != theirs:
                yield f"{name} and {other} have different blocks or states at height {height}"


def order_problems(
    chains: Mapping[str, StoredChain], decided: Mapping[str, tuple[int, str]]
) -> Iterator[str]:
    """Look for every decided order, where it was reported, in every chain that goes back so far."""
    for tx_id, (height, block_hash) in decided.items():
        for name, chain in chains.items():
            if height < chain.first:
                continue
            if chain.heights.get(tx_id) != height:
                where = chain.heights.get(tx_id, "nowhere")
                yield f"order {tx_id[:12]} was decided at {height}; {name} has it at {where}"
            if chain.blocks.get(height, (b"",))[0].hex() != block_hash:
                yield f"order {tx_id[:12]} was decided in another block {height} than {name} has"


class Signed:
    """All that authorities have signed, over all their lives: one value per height, round, kind."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, int, int, int], bytes | None] = {}

    def __len__(self) -> int:
        return len(self._values)

    def heights(self, name: str) -> tuple[int, int]:
        """Return the first and the last height at which a home has signed."""
        found = [height for who, height, _, _ in self._values if who == name]
        return min(found), max(found)

    def read(self, name: str, data: Path) -> list[str]:
        """Take in a home's write-ahead log; return what is wrong with it."""
        try:
            found = scan((data / WAL_NAME).read_bytes())
        except FileNotFoundError:
            return []
        problems = [] if found.damage is None else [f"{name}: {found.damage}"]
        for record in found.records:
            match record:
                case VoteRecord(vote) | LockRecord(precommit=vote):
                    key, value = (name, vote.height, vote.round, vote.kind), vote.block_hash
                case ProposalRecord(proposal):
                    # The valid round is part of what is signed.
                    said = encode((proposal.valid_round, header_hash(proposal.block.header)))
                    key = (name, proposal.height, proposal.round, 0)
                    value = hashlib.sha256(said).digest()
                case _:
                    continue
            if self._values.setdefault(key, value) != value:
                problems.append(f"{name} has signed two values at {key[1:]}")
        return problems
