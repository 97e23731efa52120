"""Decoders of what nodes say to each other about the chain, and of what they keep of it."""

import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import (
    CertificateRefused,
    EvidenceRefused,
    HeaderRefused,
    SnapshotRefused,
)
from consensus.evidence import (
    check_evidence,
    conflicting_certificates,
    duplicate_proposal,
    duplicate_vote,
)
from consensus.light import LightClient, SignedHeader
from consensus.messages import (
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    NIL,
    PRECOMMIT,
    PREVOTE,
    ZERO_HASH,
    Block,
    Certificate,
    Evidence,
    VoteSet,
    VoteSummary,
    claim_of,
    decode_message,
    header_hash,
)
from consensus.snapshot import chunks_of, pairs_of
from consensus.sync_messages import (
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    GetStatus,
    Headers,
    Manifest,
    Nothing,
    Status,
    decode_answer,
    decode_question,
)
from consensus.sync_snapshot import block_of
from consensus.wal import (
    MAGIC,
    AbstainRecord,
    DecisionRecord,
    Framer,
    LockRecord,
    ProposalRecord,
    RoundRecord,
    Scan,
    VoteRecord,
    WalRecord,
    scan,
)
from market.receipts import Event, Receipt
from market.vm import merkle
from market.vm.merkle import Proof
from node.chain.announcer import _open as open_notice
from node.chain.archive import SIGNED_HEADER_BYTES_MAX
from node.chain.blocks import stored_block, stored_certificate
from node.chain.evidence import (
    EVIDENCE_BYTES_MAX,
    FILE_BYTES_MAX,
    EvidenceFile,
    EvidenceNotice,
)
from node.chain.messages import DecidedNotice
from node.chain.replica import UNREADABLE
from node.chain.snapshots import MANIFEST_BYTES_MAX
from node.chain.store import StoredBlock
from node.chain.store import _stored as stored_columns
from node.errors import BadBlock
from node.network.base import GOSSIP_BYTES_MAX
from tests.consensus import ready
from tests.consensus.table import CHAIN_ID, NOW_MS, Table, hash_of
from tests.fuzz.judge import Target, Told
from tests.sim import keys
from wire.codec import decode, encode
from wire.errors import DecodeError

TABLE: Final = Table()
BLOCK: Final = TABLE.block()
OTHER: Final = TABLE.block(time_ms=NOW_MS + 1, txs=(b"one", b"two"))
POL: Final = TABLE.certificate(PREVOTE, hash_of(BLOCK), 0)
FINAL: Final = TABLE.certificate(PRECOMMIT, hash_of(BLOCK), 0)
LATER_FINAL: Final = TABLE.certificate(PRECOMMIT, hash_of(BLOCK), 5, (0, 1, 2, 3))


@lru_cache
def chain() -> ready.ReadyChain:
    """A finished chain of three epochs, with a snapshot of each."""
    return ready.ready_chain(130)


def pieces() -> list[Evidence]:
    """Evidence of each kind."""
    claims = [claim_of(TABLE.proposal(block), hash_of(block)) for block in (BLOCK, OTHER)]
    return [
        duplicate_vote(TABLE.vote(PREVOTE, 2, hash_of(BLOCK)), TABLE.vote(PREVOTE, 2, NIL)),
        duplicate_proposal(*claims),
        conflicting_certificates(
            TABLE.certificate(PRECOMMIT, hash_of(BLOCK), 0, (0, 1, 2)),
            TABLE.certificate(PRECOMMIT, hash_of(OTHER), 0, (1, 2, 3)),
        ),
    ]


def convicting_block() -> Block:
    """A block with everything a block can have."""
    return Block(BLOCK.header, (b"tx" * 40, b"y"), FINAL, tuple(pieces()))


def encoded(values: Iterable[object]) -> tuple[bytes, ...]:
    return tuple(encode(value) for value in values)


def known(names: Iterable[object], name_of: Callable[[Any], object]) -> Callable[..., str | None]:
    """Return a check that what was proven is one of what was signed."""
    true = frozenset(names)

    def check(value: Any, data: bytes) -> str | None:
        del data
        return None if name_of(value) in true else f"proves {name_of(value)!r}, which nobody signed"

    return check


# -- between authorities, and catching up


def consensus_message() -> Target:
    messages = (
        TABLE.vote(PREVOTE, 1, NIL),
        TABLE.vote(PRECOMMIT, 3, hash_of(BLOCK), 9),
        TABLE.proposal(BLOCK),
        TABLE.proposal(BLOCK, 1, valid_round=0, pol=POL),
        TABLE.proposal(convicting_block()),
        TABLE.decided(BLOCK),
        VoteSummary(0, 1, 0, -1, 7, True, (VoteSet(PREVOTE, 0, NIL, 0b1011),) * 3),
        VoteSummary(0, 1, -1, -1, 2**63 - 1, False, ()),
    )
    return Target(
        "consensus-message", decode_message, (DecodeError,), encoded(messages), encode=encode
    )


def sync_question() -> Target:
    questions = (
        GetStatus(),
        GetHeaders(1, 128),
        GetPath(3, 2**40),
        GetBlocks(5, 64),
        GetManifest(bytes(32)),
        GetChunk(bytes(32), 4_095),
    )
    return Target(
        "sync-question", decode_question, (DecodeError,), encoded(questions), encode=encode
    )


def sync_answer() -> Target:
    answers = (
        Status(9, ZERO_HASH, 3, 5, bytes(32)),
        Headers(tuple(chain().signed[39:41])),
        Headers(()),
        Blocks((encode(chain().blocks[3]), b"")),
        chain().snapshots[100].manifest,
        Chunk(b"data"),
        Nothing(),
    )
    return Target("sync-answer", decode_answer, (DecodeError,), encoded(answers), encode=encode)


def fetched_block() -> Target:
    blocks = [chain().blocks[number] for number in (1, 40, 41, 100)]

    def open_block(data: bytes) -> Block:
        # Whoever asked knows the hash of the block that it asked for.
        found = block_of(data, header_hash(blocks[0].header))
        for block in blocks[1:]:
            if isinstance(found, str) and found.startswith("it is not the block"):
                found = block_of(data, header_hash(block.header))
        if isinstance(found, str):
            raise Told(found.partition(":")[0].partition(" ")[0])
        return found

    check = known(encoded(blocks), encode)
    return Target("fetched-block", open_block, (Told,), encoded(blocks), encode=encode, check=check)


def certificate() -> Target:
    examples = (FINAL, LATER_FINAL, TABLE.certificate(PRECOMMIT, hash_of(OTHER), 2, (0, 2, 3)))

    def verified(data: bytes) -> Certificate:
        found = decode(data, Certificate, CERTIFICATE_BYTES_MAX)
        verify_certificate(found, TABLE.authorities, CHAIN_ID, verifier=keys.verify)
        return found

    def name(found: Certificate) -> object:
        return found.height, found.round, found.block_hash

    return Target(
        "certificate", verified, (DecodeError, CertificateRefused), encoded(examples),
        encode=encode, check=known(map(name, examples), name),
    )  # fmt: skip


def light_header() -> Target:
    signed = [chain().signed[number] for number in (1, 7, 39, 40)]

    def accepted(data: bytes) -> SignedHeader:
        found = decode(data, SignedHeader, SIGNED_HEADER_BYTES_MAX)
        client = LightClient(ready.CHAIN_ID, ready.set_of(1), verifier=keys.verify)
        client.accept(found)
        return found

    def name(found: SignedHeader) -> object:
        return header_hash(found.header), found.next_authorities

    return Target(
        "light-header", accepted, (DecodeError, HeaderRefused), encoded(signed),
        encode=encode, check=known(map(name, signed), name),
    )  # fmt: skip


def decided_notice() -> Target:
    bare = TABLE.block()
    notices = (
        DecidedNotice(1, encode(FINAL), encode(bare)),
        DecidedNotice(1, encode(LATER_FINAL), b""),
        DecidedNotice(1, encode(TABLE.certificate(PRECOMMIT, hash_of(OTHER))), encode(OTHER)),
    )

    def back(found: tuple[Certificate, Block | None]) -> bytes:
        signed, block = found
        body = encode(block) if block is not None else b""
        return encode(DecidedNotice(signed.height, encode(signed), body))

    return Target(
        "decided-notice", open_notice, (DecodeError, BadBlock), encoded(notices), encode=back
    )


# -- evidence


def evidence_notice() -> Target:
    examples = [EvidenceNotice(number, piece) for number, piece in enumerate(pieces())]

    def convicted(data: bytes) -> EvidenceNotice:
        found = decode(data, EvidenceNotice, EVIDENCE_BYTES_MAX + 64)
        check_evidence(found.evidence, TABLE.authorities, CHAIN_ID, keys.verify)
        return found

    def offenders(found: EvidenceNotice) -> object:
        return check_evidence(found.evidence, TABLE.authorities, CHAIN_ID, keys.verify).offenders

    # Of two certificates, fewer of both sets may be shown; no other authority is ever convicted.
    guilty = {key for example in examples for key in offenders(example)}  # type: ignore[attr-defined]

    def check(found: EvidenceNotice, data: bytes) -> str | None:
        del data
        innocent = set(offenders(found)) - guilty  # type: ignore[call-overload]
        return "it convicts who signed one thing only" if innocent else None

    return Target(
        "evidence-notice", convicted, (DecodeError, EvidenceRefused), encoded(examples),
        encode=encode, check=check,
    )  # fmt: skip


def evidence_file() -> Target:
    examples = (EvidenceFile(tuple(pieces())), EvidenceFile(()))

    def opened(data: bytes) -> EvidenceFile:
        return decode(data, EvidenceFile, FILE_BYTES_MAX)

    return Target("evidence-file", opened, (DecodeError,), encoded(examples), encode=encode)


# -- write-ahead log


def wal() -> Target:
    block = encode(BLOCK)
    vote = TABLE.vote(PREVOTE, 0, hash_of(BLOCK))
    precommit = TABLE.vote(PRECOMMIT, 0, hash_of(BLOCK))
    votes = tuple(TABLE.vote(PRECOMMIT, voter, NIL) for voter in range(3))
    whole: list[WalRecord] = [
        ProposalRecord(TABLE.proposal(decode(block, Block, BLOCK_BYTES_MAX), proposer=0)),
        VoteRecord(vote),
        LockRecord(1, 0, None, POL, precommit),
        RoundRecord(1, 1, votes),
        DecisionRecord(1, hash_of(BLOCK), FINAL, BLOCK),
    ]
    files = [_wal_of(whole), _wal_of([AbstainRecord(2)]), _wal_of(whole[1:4]), MAGIC]

    def read(data: bytes) -> Scan:
        found = scan(data)
        if found.damage is not None:
            raise Told("damage")
        return found

    def check(found: Scan, data: bytes) -> str | None:
        if _wal_of(found.records) != data[: found.good_length] and found.good_length:
            return "its records frame to other bytes"
        return None

    return Target("wal", read, (Told,), tuple(files), kind="msgpack", check=check, mend=_mend_wal)


def _wal_of(records: Iterable[WalRecord]) -> bytes:
    framer = Framer()
    return MAGIC + b"".join(framer.frame(record) for record in records)


def _mend_wal(data: bytes) -> bytes:
    """Give every frame its right length's check sums: what is inside is for the decoder then."""
    import struct
    import zlib

    out, offset, crc = bytearray(data), len(MAGIC), 0
    while offset + 13 <= len(out):
        length = int.from_bytes(out[offset : offset + 4], "big")
        payload = bytes(out[offset + 13 : offset + 13 + length])
        if len(payload) < length:
            # The last frame: let it end where the file does.
            out[offset : offset + 4] = struct.pack(">I", len(payload))
            length = len(payload)
        head = zlib.crc32(bytes(out[offset : offset + 5]), crc)
        crc = zlib.crc32(payload, head)
        out[offset + 5 : offset + 13] = struct.pack(">II", head, crc)
        offset += 13 + length
    return bytes(out)


# -- snapshots, state and its proofs


def snapshot_stream() -> Target:
    states = (
        [(f"k/{number:03d}", bytes([number]) * number) for number in range(40)],
        [("ledger/account/ä", b"\x93\x01\x02\x03"), ("z", b"")],
        [("a" * 1_024, b"x" * 700)],
    )
    streams = tuple(b"".join(chunks_of(pairs)) for pairs in states)

    def read(data: bytes) -> list[tuple[str, bytes]]:
        cut = len(data) // 3
        return list(pairs_of([data[:cut], data[cut:]]))

    def back(pairs: list[tuple[str, bytes]]) -> bytes:
        return b"".join(chunks_of(pairs))

    return Target("snapshot-stream", read, (SnapshotRefused,), streams, kind="bytes", encode=back)


def snapshot_manifest() -> Target:
    examples = [shot.manifest for shot in chain().snapshots.values()]

    def read(data: bytes) -> Manifest:
        return decode(data, Manifest, MANIFEST_BYTES_MAX)

    return Target("snapshot-manifest", read, (DecodeError,), encoded(examples), encode=encode)


def state_proof() -> Target:
    state = {f"registry/home/{number}": encode([number, "x"]) for number in range(60)}
    tree = merkle.update(None, state)
    root = merkle.root_of(tree)
    here, absent = "registry/home/7", "registry/home/600"
    examples = [merkle.prove(tree, here), merkle.prove(tree, absent)]

    def verified(data: bytes) -> Proof:
        found = decode(data, Proof, GOSSIP_BYTES_MAX)
        if merkle.verify(root, here, encode([8, "x"]), found) or merkle.verify(
            root, here, None, found
        ):
            return replace(found, siblings=())
        if merkle.verify(root, here, state[here], found):
            return found
        if merkle.verify(root, absent, None, found):
            return found
        raise Told("proves nothing")

    # A proof of something false comes back changed, and so with another encoding.
    return Target("state-proof", verified, (DecodeError, Told), encoded(examples), encode=encode)


def receipts() -> Target:
    events = (Event("market", "order_posted", {"slot": 7, "order_id": "7-1", "deep": [[1], {}]}),)
    examples = (
        (Receipt(bytes(32), "ok", "", "", 1_200, events),),
        (),
        (
            Receipt(hashlib.sha256(b"a").digest(), "revert", "no_money", "not enough", 3, ()),
            Receipt(hashlib.sha256(b"b").digest(), "ok", "", "", 2**40, events * 3),
        ),
    )

    def read(data: bytes) -> tuple[Receipt, ...]:
        return decode(data, tuple[Receipt, ...], len(data))

    return Target("receipts", read, (DecodeError,), encoded(examples), encode=encode)


def stored_row() -> Target:
    """A row of the database: its columns are of whatever type a damaged page makes them."""
    rows = []
    for number in (1, 40, 41):
        block, signed = chain().blocks[number], chain().signed[number]
        columns = (encode(block), encode(signed.certificate), b"\x90")
        rows.append(encode([number, header_hash(block.header), *columns]))
    sets = {number: ready.set_of(number) for number in range(1, 130)}
    verify = _certify(sets)

    def read(data: bytes) -> Block:
        try:
            row = msgspec.msgpack.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise Told("no row") from None
        if type(row) is not list or len(row) != 5:
            raise Told("no row")
        stored = stored_columns(row)
        block = stored_block(stored)
        verify(stored)
        return block

    return Target(
        "stored-row", read, (Told, *UNREADABLE), tuple(rows),
        check=known(encoded(chain().blocks), encode),
    )  # fmt: skip


def _certify(sets: dict[int, AuthoritySet]) -> Callable[[StoredBlock], None]:
    def verify(stored: StoredBlock) -> None:
        # The simulated keys' signatures are for another verifier than the product's.
        try:
            stored_certificate(stored, sets.get(stored.height), ready.CHAIN_ID)
        except CertificateRefused as refused:
            if "signature of authority" not in str(refused):
                raise

    return verify


TARGETS: Final = (
    consensus_message,
    sync_question,
    sync_answer,
    fetched_block,
    certificate,
    light_header,
    decided_notice,
    evidence_notice,
    evidence_file,
    wal,
    snapshot_stream,
    snapshot_manifest,
    state_proof,
    receipts,
    stored_row,
)
