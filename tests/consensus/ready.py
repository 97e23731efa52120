"""A finished chain whose authorities change with the epoch, and honest peers that serve it."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

from msgspec.structs import replace

from consensus.authorities import AuthoritySet, build_certificate
from consensus.light import HEADERS_MAX, LightClient, SignedHeader
from consensus.messages import (
    PRECOMMIT,
    ZERO_HASH,
    Block,
    Certificate,
    Vote,
    certificate_hash,
    header_hash,
    tx_root,
    vote_signed_bytes,
)
from consensus.snapshot import chunks_of, manifest_of
from consensus.sync_messages import (
    Answer,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    Headers,
    Manifest,
    Nothing,
    Question,
    Status,
)
from tests.sim import keys
from tests.sim.app import genesis_block
from wire.codec import encode

CHAIN_ID = "ready"
EPOCH_BLOCKS = 40
SNAPSHOT_EVERY = 100


class Snapshot(NamedTuple):
    manifest: Manifest
    chunks: list[bytes]


class ReadyChain(NamedTuple):
    """Blocks by height with certificates; `signed[h]` and `states[h]` for snapshot heights."""

    blocks: list[Block]
    signed: list[SignedHeader]
    snapshots: dict[int, Snapshot]

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def trusted(self, height: int = 0) -> LightClient:
        """A light client at the block of this height."""
        head = self.blocks[height].header
        return LightClient(CHAIN_ID, set_of(height + 1), head, keys.verify)


def set_of(height: int) -> AuthoritySet:
    """One member is replaced in each epoch; the first lasts to height `EPOCH_BLOCKS`."""
    epoch = max(height - 1, 0) // EPOCH_BLOCKS
    return AuthoritySet(epoch, tuple(keys.public_of(epoch + place) for place in range(4)))


def certify(
    block_hash: bytes,
    height: int,
    authorities: AuthoritySet,
    voters: tuple[int, ...] = (0, 2, 3),
    chain_id: str = CHAIN_ID,
) -> Certificate:
    epoch = authorities.epoch
    signed = vote_signed_bytes(PRECOMMIT, chain_id, epoch, height, 0, block_hash)
    votes = {}
    for voter in voters:
        signature = keys.signer_of(authorities.publics[voter])(signed)
        votes[voter] = Vote(PRECOMMIT, epoch, height, 0, block_hash, voter, signature)
    return build_certificate(chain_id, epoch, height, 0, block_hash, votes)


def state_at(height: int) -> list[tuple[str, bytes]]:
    """Some pairs, larger than two chunks together."""
    return [(f"k/{n:04d}", bytes([n % 251, height % 251]) * 4_000) for n in range(80)]


def root_of(pairs: list[tuple[str, bytes]]) -> bytes:
    return hashlib.sha256(encode([[key, value.hex()] for key, value in pairs])).digest()


@lru_cache
def ready_chain(height: int = 300, salt: bytes = b"") -> ReadyChain:
    """Make the chain; another salt makes another one of the same authorities."""
    genesis = genesis_block(CHAIN_ID, set_of(0), ZERO_HASH)
    blocks, signed, snapshots = [genesis], [], {}
    certificate = None
    signed.append(SignedHeader(genesis.header, certify(bytes(32), 0, set_of(0))))
    for number in range(1, height + 1):
        authorities, following = set_of(number), set_of(number + 1)
        txs = (b"tx %d " % number + salt,)
        parent = blocks[-1].header
        has_snapshot = number % SNAPSHOT_EVERY == 0
        root = root_of(state_at(number)) if has_snapshot else hashlib.sha256(txs[0]).digest()
        header = replace(
            parent,
            epoch=authorities.epoch,
            height=number,
            time_ms=parent.time_ms + 1_000,
            parent_hash=header_hash(parent),
            last_certificate_hash=certificate_hash(certificate),
            tx_root=tx_root(txs),
            state_root=root,
            authorities_hash=authorities.hash,
            next_authorities_hash=following.hash,
        )
        blocks.append(Block(header, txs, certificate))
        certificate = certify(header_hash(header), number, authorities)
        announced = following if following != authorities else None
        signed.append(SignedHeader(header, certificate, announced))
        if has_snapshot:
            snapshots[number] = make_snapshot(header, state_at(number))
    return ReadyChain(blocks, signed, snapshots)


def make_snapshot(header, pairs) -> Snapshot:  # type: ignore[no-untyped-def]
    chunks = list(chunks_of(pairs))
    hashes = [hashlib.sha256(chunk).digest() for chunk in chunks]
    return Snapshot(manifest_of(header, hashes, sum(map(len, chunks))), chunks)


class HonestPeer:
    """Serves the chain up to `height`, from `first_height` on, with its newest snapshot."""

    honest = True

    def __init__(self, chain: ReadyChain, height: int, first_height: int = 0) -> None:
        self.chain = chain
        self.height = height
        self.first_height = first_height
        self.snapshot: Snapshot | None = None
        newest = height // SNAPSHOT_EVERY * SNAPSHOT_EVERY
        if newest >= max(first_height, 1):
            self.snapshot = chain.snapshots[newest]

    def status(self) -> Status:
        shot = self.snapshot
        return Status(
            self.height,
            header_hash(self.chain.blocks[self.height].header),
            self.first_height,
            shot.manifest.height if shot else 0,
            shot.manifest.id if shot else b"",
        )

    def answer(self, question: Question) -> Answer | None:
        """The answer; None: it never comes."""
        match question:
            case GetHeaders(first, count):
                return Headers(tuple(self.chain.signed[n] for n in self.run(first, count)))
            case GetBlocks(first, count):
                return Blocks(tuple(encode(self.chain.blocks[n]) for n in self.run(first, count)))
            case GetPath(epoch, height):
                if not self.run(height, 1):
                    return Headers(())
                ends = [
                    signed
                    for signed in self.chain.signed[1:height]
                    if signed.next_authorities is not None and signed.header.epoch >= epoch
                ]
                return Headers((*ends, self.chain.signed[height])[:HEADERS_MAX])
            case GetManifest(id_):
                return self.snapshot.manifest if self.offers(id_) else Nothing()  # type: ignore[union-attr]
            case GetChunk(id_, index):
                return Chunk(self.snapshot.chunks[index]) if self.offers(id_) else Nothing()  # type: ignore[union-attr]
            case _:
                return self.status()

    def offers(self, id_: bytes) -> bool:
        return self.snapshot is not None and self.snapshot.manifest.id == id_

    def run(self, first: int, count: int) -> range:
        if first < max(self.first_height, 1):
            return range(0)
        return range(first, min(first + count, self.height + 1))
