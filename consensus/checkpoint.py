"""What a region tells the main chain, and what of it can be proven without executing anything.

A region's `export` contract closes a record by rule of the region: which heights it is about, what
was settled in them, what is offered to other regions and what was taken from the main chain. The
record is part of the region's state. A `Checkpoint` is that record, the header of the block that
wrote it, the quorum's certificate of the header and the proof that the state root holds the record:
whoever posts it, nothing in it rests on the poster's word. Rules M1 to M5 of docs/spec/regions.md
are checked here, M6 to M12 by the contract `anchor` of the main chain.
"""

import hashlib
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from consensus.authorities import AuthoritySet, Verifier, verify_certificate
from consensus.errors import CertificateRefused, CheckpointRefused
from consensus.messages import PROTOCOL_VERSION, Certificate, Header, Unsigned, header_hash
from wire.codec import Message, decode, encode
from wire.errors import DecodeError
from wire.keys import verify

# As hexadecimal text it has to fit into a transaction.
CHECKPOINT_BYTES_MAX: Final = 3_900
RECORD_BYTES_MAX: Final = 1_536
# What settlement closes in one block.
SLOTS_PER_CHECKPOINT_MAX: Final = 4
REGIONS_MAX: Final = 1_000
_PATH_MAX: Final = 256

HexDigest: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Region: TypeAlias = Annotated[int, Meta(ge=1, le=REGIONS_MAX)]
Signed: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Hash32: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
LeafHash: TypeAlias = Annotated[bytes, Meta(max_length=32)]


class SlotTotals(Message, frozen=True):
    """A settled slot of a region, over all its homes; its fields are in the contract's order.

    `imported_wh` and `exported_wh` were traded with other regions, for `paid_micro` and
    `got_micro`, fees apart. `net_micro` is what the homes paid, less what they got;
    `settlement_root` the root of their bills, by the keys under which the region's state holds
    them.
    """

    slot: Unsigned
    homes: Unsigned
    import_wh: Unsigned
    export_wh: Unsigned
    grid_wh: Unsigned
    fed_in_wh: Unsigned
    grid_micro: Unsigned
    feed_in_micro: Unsigned
    penalty_micro: Unsigned
    fees_micro: Unsigned
    imported_wh: Unsigned
    exported_wh: Unsigned
    paid_micro: Unsigned
    got_micro: Unsigned
    net_micro: Signed
    settlement_root: HexDigest


class Record(Message, frozen=True, tag="ckp"):
    """What a region's state holds of a checkpoint. `contracts/export.star` writes it as a list.

    Heads are hash chains over all entries since genesis: equal counts and heads mean equal entries.
    `minted_micro` and `redeemed_micro` are all money that came into the region's ledger and left.
    """

    region: Region
    number: Unsigned
    from_height: Unsigned
    to_height: Unsigned
    previous: HexDigest
    slots: Annotated[tuple[SlotTotals, ...], Meta(max_length=SLOTS_PER_CHECKPOINT_MAX)]
    outbox_count: Unsigned
    outbox_head: HexDigest
    inbox_count: Unsigned
    inbox_head: HexDigest
    minted_micro: Unsigned
    redeemed_micro: Unsigned

    @property
    def hash(self) -> str:
        """What the next record carries as `previous`: SHA-256 in hexadecimal."""
        return hashlib.sha256(encode(self)).hexdigest()


class StateProof(Message, frozen=True, tag="proof"):
    """As `market.vm.merkle.Proof` is encoded; with the sizes that anything of it can have."""

    siblings: Annotated[tuple[Hash32, ...], Meta(max_length=_PATH_MAX)]
    leaf_key_hash: LeafHash
    leaf_value_hash: LeafHash


class Checkpoint(Message, frozen=True, tag="chk"):
    """A record with what proves it. `record` is the value as the region's state holds it."""

    record: Annotated[bytes, Meta(max_length=RECORD_BYTES_MAX)]
    header: Header
    certificate: Certificate
    proof: StateProof


# `prover(root, key, value, proof) -> bool`: whether a state root holds a value at a key.
Prover: TypeAlias = Callable[[bytes, str, bytes, StateProof], bool]


def record_key(number: int) -> str:
    """Return where a region's state holds the record of this number."""
    return f"export/checkpoint/{1_000_000_000 + number}"


def verify_checkpoint(
    data: bytes,
    authorities: AuthoritySet,
    chain_id: str,
    prover: Prover,
    verifier: Verifier = verify,
) -> tuple[Record, Header]:
    """Check all of an encoded checkpoint that the region's set can prove (M1 to M5).

    Parameters
    ----------
    data : bytes
    authorities : AuthoritySet
        The region's set of the epoch that the checkpoint is said to be of.
    chain_id : str
        The region's chain.
    prover : callable
        Such as `market.vm.merkle.verify`.

    Raises
    ------
    CheckpointRefused
        With a stable code: `malformed`, `wrong_chain`, `stale_set`, `bad_certificate` or
        `not_proven`, and a sentence.
    """
    checkpoint = _decoded(data)
    header, certificate = checkpoint.header, checkpoint.certificate
    if (header.version, header.chain_id) != (PROTOCOL_VERSION, chain_id):
        raise CheckpointRefused(
            "wrong_chain",
            f"the header is of version {header.version} of chain {header.chain_id!r}, registered "
            f"is {PROTOCOL_VERSION} of {chain_id!r}",
        )
    if (header.epoch, header.authorities_hash) != (authorities.epoch, authorities.hash):
        raise CheckpointRefused(
            "stale_set",
            f"header {header.height} was not decided by the set registered for epoch "
            f"{authorities.epoch}",
        )
    if certificate.height != header.height or certificate.block_hash != header_hash(header):
        raise CheckpointRefused(
            "bad_certificate", f"the certificate is not that of header {header.height}"
        )
    try:
        verify_certificate(certificate, authorities, chain_id, verifier=verifier)
    except CertificateRefused as refused:
        raise CheckpointRefused("bad_certificate", f"the certificate: {refused}") from None
    record = _record(checkpoint.record)
    if record.to_height != header.height:
        raise CheckpointRefused(
            "not_proven",
            f"the record is up to height {record.to_height}, the header is {header.height}",
        )
    key = record_key(record.number)
    if not prover(header.state_root, key, checkpoint.record, checkpoint.proof):
        raise CheckpointRefused(
            "not_proven", f"header {header.height} does not prove record {record.number}"
        )
    return record, header


def _decoded(data: bytes) -> Checkpoint:
    try:
        return decode(data, Checkpoint, CHECKPOINT_BYTES_MAX)
    except DecodeError as error:
        raise CheckpointRefused("malformed", f"no checkpoint: {error}") from None


def _record(data: bytes) -> Record:
    try:
        return decode(data, Record, RECORD_BYTES_MAX)
    except DecodeError as error:
        raise CheckpointRefused("malformed", f"no record of a checkpoint: {error}") from None
