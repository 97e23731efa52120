"""What authorities say to each other, and the bytes they sign.

All are `wire.codec.Message` structs. Nothing here trusts its input: sizes and ranges are part of
the types, so `decode_message` refuses what breaks them. What needs an authority set (signatures,
quorums) is checked in `authorities`, `evidence` and `core`.

Signatures never cover a general serialisation. They cover one of two fixed layouts (big-endian):

    vote        domain 23 | kind u8 | chain 32 | epoch u64 | height u64 | round u32
                | has value u8 | block hash 32
    proposal    the same, kind 0, then valid round + 1 u32

where `chain` is SHA-256 of the chain id and a nil vote has 0 and 32 zero bytes as its value.
"""

import hashlib
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from wire.codec import Message, decode, encode
from wire.transaction import TRANSACTION_BYTES_MAX

PROTOCOL_VERSION: Final = 1

PROPOSAL: Final = 0
PREVOTE: Final = 1
PRECOMMIT: Final = 2

NIL: Final = b""
NO_ROUND: Final = -1
HASH_BYTES: Final = 32
ZERO_HASH: Final = bytes(HASH_BYTES)

CHAIN_ID_CHARS_MAX: Final = 64
# A bitmap is one 63-bit integer.
AUTHORITIES_MAX: Final = 63
TRANSACTIONS_MAX: Final = 16_384
EVIDENCE_MAX: Final = 16
BLOCK_BYTES_MAX: Final = 2 * 1_048_576
CERTIFICATE_BYTES_MAX: Final = 8_192
VOTE_SETS_MAX: Final = 64
# A proposal is a block and a proof of lock; everything else is smaller.
MESSAGE_BYTES_MAX: Final = BLOCK_BYTES_MAX + 2 * CERTIFICATE_BYTES_MAX

Hash: TypeAlias = Annotated[bytes, Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
HashOrNil: TypeAlias = Annotated[bytes, Meta(max_length=HASH_BYTES)]
Signature: TypeAlias = Annotated[bytes, Meta(min_length=64, max_length=64)]
ChainId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=CHAIN_ID_CHARS_MAX)]
Unsigned: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Round: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]
RoundOrNone: TypeAlias = Annotated[int, Meta(ge=NO_ROUND, le=2**31 - 1)]
Index: TypeAlias = Annotated[int, Meta(ge=0, lt=AUTHORITIES_MAX)]
Bitmap: TypeAlias = Annotated[int, Meta(ge=0, le=2**AUTHORITIES_MAX - 1)]
VoteKind: TypeAlias = Annotated[int, Meta(ge=PREVOTE, le=PRECOMMIT)]
RawTransaction: TypeAlias = Annotated[bytes, Meta(max_length=TRANSACTION_BYTES_MAX)]


class Header(Message, frozen=True, tag="hdr"):
    """A block's header; its hash is the block's hash.

    `proposer` is the index of the authority that built the block, which stays when a later round's
    proposer proposes it again. `state_root` is the root after this block. `time_ms` is the
    builder's clock, strictly increasing along the chain.
    """

    version: Unsigned
    chain_id: ChainId
    epoch: Unsigned
    height: Unsigned
    time_ms: Unsigned
    parent_hash: Hash
    last_certificate_hash: Hash
    proposer: Index
    tx_root: Hash
    receipts_root: Hash
    state_root: Hash
    authorities_hash: Hash
    next_authorities_hash: Hash
    params_hash: Hash
    evidence_root: Hash
    inbox_root: Hash
    outbox_root: Hash
    anchor_height: Unsigned
    anchor_hash: Hash


class Certificate(Message, frozen=True, tag="crt"):
    """A quorum's signatures on one block hash in one round, in order of the authorities' index.

    Made of precommits it proves that the block is final; made of prevotes it is the proof of lock
    (POL) that a re-proposal carries. The signed bytes differ, so neither passes for the other.
    """

    chain_id: ChainId
    epoch: Unsigned
    height: Unsigned
    round: Round
    block_hash: Hash
    bitmap: Bitmap
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=AUTHORITIES_MAX)]


class Vote(Message, frozen=True, tag="vot"):
    """A prevote or precommit. `block_hash` is 32 bytes, or empty for nil."""

    kind: VoteKind
    epoch: Unsigned
    height: Unsigned
    round: Round
    block_hash: HashOrNil
    voter: Index
    signature: Signature

    def __post_init__(self) -> None:
        if len(self.block_hash) not in (0, HASH_BYTES):
            raise ValueError(f"a vote is for 32 bytes or for nil, not {len(self.block_hash)} bytes")


class ProposalClaim(Message, frozen=True, tag="pcl"):
    """What a proposer signed, without the block: enough to convict it."""

    epoch: Unsigned
    height: Unsigned
    round: Round
    block_hash: Hash
    valid_round: RoundOrNone
    proposer: Index
    signature: Signature


class DuplicateVote(Message, frozen=True, tag="dvt"):
    """Two votes of one authority for one height, round and kind, the smaller hash first."""

    first: Vote
    second: Vote


class DuplicateProposal(Message, frozen=True, tag="dpr"):
    """Two proposals of one authority for one height and round, ordered by (hash, valid round)."""

    first: ProposalClaim
    second: ProposalClaim


class ConflictingCertificates(Message, frozen=True, tag="dcr"):
    """Two final blocks at one height, the smaller hash first: the chain must stop."""

    first: Certificate
    second: Certificate


Evidence: TypeAlias = DuplicateVote | DuplicateProposal | ConflictingCertificates


class Block(Message, frozen=True, tag="blk"):
    """A header, its transactions, the parent's certificate and evidence against authorities."""

    header: Header
    txs: Annotated[tuple[RawTransaction, ...], Meta(max_length=TRANSACTIONS_MAX)]
    last_certificate: Certificate | None
    evidence: Annotated[tuple[Evidence, ...], Meta(max_length=EVIDENCE_MAX)] = ()


class Proposal(Message, frozen=True, tag="prp"):
    """A block for one round. A re-proposal names the round of its POL; a fresh one has -1, None."""

    epoch: Unsigned
    height: Unsigned
    round: Round
    block: Block
    valid_round: RoundOrNone
    pol: Certificate | None
    proposer: Index
    signature: Signature


class VoteSet(Message, frozen=True, tag="vst"):
    """Which authorities' votes of one kind, round and value a node holds."""

    kind: VoteKind
    round: Round
    block_hash: HashOrNil
    bitmap: Bitmap


class VoteSummary(Message, frozen=True, tag="sum"):
    """Where a node is and which votes it holds, unsigned; peers answer with what is missing.

    `round` is -1 before the first round. `sequence` counts the sender's summaries: it turns the
    duty to answer with large things (a proposal, a decided block) round among the peers.
    """

    epoch: Unsigned
    height: Unsigned
    round: RoundOrNone
    valid_round: RoundOrNone
    sequence: Unsigned
    has_proposal: bool
    sets: Annotated[tuple[VoteSet, ...], Meta(max_length=VOTE_SETS_MAX)]


class Decided(Message, frozen=True, tag="dec"):
    """A final block and its proof, for a peer that is behind."""

    block: Block
    certificate: Certificate


ConsensusMessage: TypeAlias = Proposal | Vote | VoteSummary | Decided


def decode_message(data: bytes) -> ConsensusMessage:
    """Decode untrusted bytes of a direct stream. Errors as `wire.codec.decode`."""
    return decode(data, ConsensusMessage, MESSAGE_BYTES_MAX)  # type: ignore[arg-type]


# -- signed bytes

_SIGNED_DOMAIN: Final = b"commonwatt/consensus/1\0"
_VOTE_LAYOUT: Final = struct.Struct(">23sB32sQQIB32s")
_PROPOSAL_LAYOUT: Final = struct.Struct(">23sB32sQQIB32sI")


@lru_cache(maxsize=64)
def _chain_hash(chain_id: str) -> bytes:
    return hashlib.sha256(chain_id.encode()).digest()


def vote_signed_bytes(
    kind: int, chain_id: str, epoch: int, height: int, round_: int, block_hash: bytes
) -> bytes:
    """Return the bytes that a vote's signature covers."""
    return _VOTE_LAYOUT.pack(
        _SIGNED_DOMAIN,
        kind,
        _chain_hash(chain_id),
        epoch,
        height,
        round_,
        1 if block_hash else 0,
        block_hash,
    )


def proposal_signed_bytes(
    chain_id: str, epoch: int, height: int, round_: int, block_hash: bytes, valid_round: int
) -> bytes:
    """Return the bytes that a proposal's signature covers."""
    return _PROPOSAL_LAYOUT.pack(
        _SIGNED_DOMAIN,
        PROPOSAL,
        _chain_hash(chain_id),
        epoch,
        height,
        round_,
        1,
        block_hash,
        valid_round + 1,
    )


def claim_of(proposal: Proposal, block_hash: bytes) -> ProposalClaim:
    """Return the signed part of a proposal of the block with this hash."""
    return ProposalClaim(
        proposal.epoch,
        proposal.height,
        proposal.round,
        block_hash,
        proposal.valid_round,
        proposal.proposer,
        proposal.signature,
    )


# -- hashes and roots

_HEADER_DOMAIN: Final = b"commonwatt/header/1\0"
_CERTIFICATE_DOMAIN: Final = b"commonwatt/certificate/1\0"
_LEAF: Final = b"\0"
_NODE: Final = b"\1"


def header_hash(header: Header) -> bytes:
    """Return the block's hash: SHA-256 of the header's canonical encoding under its domain."""
    return hashlib.sha256(_HEADER_DOMAIN + encode(header)).digest()


def certificate_hash(certificate: Certificate | None) -> bytes:
    """Return the hash a child's header carries; zeros for the first block, whose parent has none.

    It covers all signatures, so a header fixes which of the possible certificates it carries.
    """
    if certificate is None:
        return ZERO_HASH
    return hashlib.sha256(_CERTIFICATE_DOMAIN + encode(certificate)).digest()


def tx_root(txs: Sequence[bytes]) -> bytes:
    """Return the Merkle root (RFC 6962) of raw signed transactions in block order."""
    return merkle_root(txs)


def evidence_root(evidence: Sequence[Evidence]) -> bytes:
    """Return the Merkle root of a block's evidence."""
    return merkle_root([encode(item) for item in evidence])


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of RFC 6962: leaf and node hashes differ in their first byte."""
    if not leaves:
        return hashlib.sha256().digest()
    sha256 = hashlib.sha256
    level = [sha256(_LEAF + leaf).digest() for leaf in leaves]
    while len(level) > 1:
        # An odd last hash rises unchanged, which gives the RFC's left-full tree.
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [sha256(_NODE + left + right).digest() for left, right in pairs]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]
