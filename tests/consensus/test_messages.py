"""Layouts, roots, and decoders that take anything."""

import hashlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.messages import (
    MESSAGE_BYTES_MAX,
    NIL,
    PRECOMMIT,
    PREVOTE,
    ZERO_HASH,
    Proposal,
    Vote,
    VoteSet,
    VoteSummary,
    certificate_hash,
    decode_message,
    evidence_root,
    header_hash,
    merkle_root,
    proposal_signed_bytes,
    tx_root,
    vote_signed_bytes,
)
from tests.consensus.table import Table, hash_of
from wire.codec import decode, encode
from wire.errors import DecodeError, TooLargeError

TABLE = Table()
BLOCK = TABLE.block()
POL = TABLE.certificate(PREVOTE, hash_of(BLOCK), 0)
EXAMPLES = [
    TABLE.vote(PREVOTE, 1, NIL),
    TABLE.vote(PRECOMMIT, 3, hash_of(BLOCK), 9),
    TABLE.proposal(BLOCK),
    TABLE.proposal(BLOCK, 1, valid_round=0, pol=POL),
    TABLE.decided(BLOCK),
    VoteSummary(0, 1, 0, -1, 7, True, (VoteSet(PREVOTE, 0, NIL, 0b1011),)),
]


def test_the_layout_of_a_vote_is_the_specified_one():
    chain = hashlib.sha256(b"chain").digest()
    value = bytes(range(32))
    head = b"commonwatt/consensus/1\0" + b"\x02" + chain + (3).to_bytes(8, "big")
    head += (4).to_bytes(8, "big") + (5).to_bytes(4, "big")
    assert vote_signed_bytes(PRECOMMIT, "chain", 3, 4, 5, value) == head + b"\x01" + value
    assert vote_signed_bytes(PRECOMMIT, "chain", 3, 4, 5, NIL) == head + bytes(33)


def test_the_layout_of_a_proposal_is_the_specified_one():
    chain = hashlib.sha256(b"chain").digest()
    value = bytes(range(32))
    head = b"commonwatt/consensus/1\0" + b"\x00" + chain + (3).to_bytes(8, "big")
    head += (4).to_bytes(8, "big") + (5).to_bytes(4, "big") + b"\x01" + value
    assert proposal_signed_bytes("chain", 3, 4, 5, value, 2) == head + (3).to_bytes(4, "big")
    assert proposal_signed_bytes("chain", 3, 4, 5, value, -1) == head + bytes(4)


def test_every_field_is_signed():
    value = bytes([1] * 32)
    variants = {
        vote_signed_bytes(PREVOTE, "a", 1, 1, 1, value),
        vote_signed_bytes(PRECOMMIT, "a", 1, 1, 1, value),
        vote_signed_bytes(PREVOTE, "b", 1, 1, 1, value),
        vote_signed_bytes(PREVOTE, "a", 2, 1, 1, value),
        vote_signed_bytes(PREVOTE, "a", 1, 2, 1, value),
        vote_signed_bytes(PREVOTE, "a", 1, 1, 2, value),
        vote_signed_bytes(PREVOTE, "a", 1, 1, 1, bytes([2] * 32)),
        vote_signed_bytes(PREVOTE, "a", 1, 1, 1, NIL),
        vote_signed_bytes(PREVOTE, "a", 1, 1, 1, ZERO_HASH),
        proposal_signed_bytes("a", 1, 1, 1, value, 0),
        proposal_signed_bytes("a", 1, 1, 1, value, -1),
    }
    assert len(variants) == 11


@pytest.mark.parametrize("length", [1, 31, 33])
def test_a_vote_is_for_32_bytes_or_none(length):
    with pytest.raises(ValueError, match="for 32 bytes or for nil"):
        Vote(PREVOTE, 0, 1, 0, bytes(length), 0, bytes(64))


@pytest.mark.parametrize("message", EXAMPLES)
def test_messages_survive_the_wire(message):
    assert decode_message(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        replace(EXAMPLES[0], round=-1),
        replace(EXAMPLES[0], round=2**31),
        replace(EXAMPLES[0], height=-1),
        replace(EXAMPLES[0], kind=0),
        replace(EXAMPLES[0], kind=3),
        replace(EXAMPLES[0], voter=63),
        replace(EXAMPLES[0], signature=bytes(63)),
        replace(EXAMPLES[2], valid_round=-2),
        replace(EXAMPLES[3], pol=replace(POL, bitmap=2**63)),
        replace(EXAMPLES[3], pol=replace(POL, signatures=(bytes(64),) * 64)),
        replace(EXAMPLES[3], pol=replace(POL, chain_id="x" * 65)),
        replace(EXAMPLES[5], sets=EXAMPLES[5].sets * 65),
    ],
)
def test_what_breaks_a_bound_is_not_decoded(message):
    with pytest.raises(DecodeError):
        decode_message(encode(message))


def test_a_message_beyond_its_size_is_not_looked_at():
    with pytest.raises(TooLargeError):
        decode_message(bytes(MESSAGE_BYTES_MAX + 1))


def mutated(data: bytes, rng: Random) -> bytes:
    """A few bytes changed, removed, repeated or cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out)) if out else 0
        choice = rng.randrange(4)
        if choice == 0 and out:
            out[place] ^= 1 << rng.randrange(8)
        elif choice == 1:
            del out[place : place + rng.randrange(1, 9)]
        elif choice == 2:
            out[place:place] = out[place : place + rng.randrange(1, 33)]
        else:
            del out[place:]
    return bytes(out)


def test_a_core_takes_whatever_decodes():
    rng = Random(7)
    table = Table()
    encoded = [encode(message) for message in EXAMPLES]
    taken = 0
    for _ in range(20_000):
        try:
            message = decode_message(mutated(rng.choice(encoded), rng))
        except DecodeError:
            continue
        taken += 1
        table.hear(message, rng.randrange(1, 4))
    assert taken > 500
    assert table.core.height == 1
    assert not table.core.decided


def test_a_header_has_one_hash_and_every_field_counts():
    header = BLOCK.header
    hashes = {header_hash(header)}
    for field in header.__struct_fields__:
        value = getattr(header, field)
        if isinstance(value, bytes):
            other = bytes([value[0] ^ 1]) + value[1:]
        elif isinstance(value, str):
            other = value + "x"
        else:
            other = value + 1
        hashes.add(header_hash(replace(header, **{field: other})))
    assert len(hashes) == len(header.__struct_fields__) + 1


def test_certificate_hash_covers_the_signatures():
    other = replace(POL, signatures=(POL.signatures[0],) * 3)
    assert len({certificate_hash(None), certificate_hash(POL), certificate_hash(other)}) == 3
    assert certificate_hash(None) == ZERO_HASH


def reference_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = reference_root(leaves[:split]), reference_root(leaves[split:])
    return hashlib.sha256(b"\1" + left + right).digest()


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_merkle_root_is_that_of_rfc_6962(leaves):
    assert merkle_root(leaves) == reference_root(leaves)


def test_roots_of_nothing_are_those_of_nothing():
    empty = hashlib.sha256().digest()
    assert tx_root(()) == empty
    assert evidence_root(()) == empty


def test_proposals_are_messages_with_a_tag_of_their_own():
    data = encode(EXAMPLES[2])
    assert isinstance(decode(data, Proposal, MESSAGE_BYTES_MAX), Proposal)
    with pytest.raises(DecodeError):
        decode(data, Vote, MESSAGE_BYTES_MAX)
