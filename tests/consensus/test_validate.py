"""Blocks that may and may not follow their parent."""

import pytest
from msgspec.structs import replace

from consensus.authorities import AuthoritySet, build_certificate
from consensus.errors import BlockRefused, InvariantError
from consensus.evidence import duplicate_vote
from consensus.messages import (
    NIL,
    PRECOMMIT,
    PREVOTE,
    ZERO_HASH,
    Block,
    Vote,
    certificate_hash,
    evidence_root,
    header_hash,
    tx_root,
    vote_signed_bytes,
)
from consensus.validate import body_problem, check_block
from tests.consensus.table import CHAIN_ID, Table, hash_of
from tests.sim import keys

TABLE = Table()
FIRST = TABLE.block()
PARENT = TABLE.genesis.header
SET = TABLE.authorities


def second_block(**changes):
    """The block after FIRST, with its certificate."""
    certificate = changes.pop("last_certificate", TABLE.certificate(PRECOMMIT, hash_of(FIRST), 0))
    evidence = changes.pop("evidence", ())
    txs = changes.pop("txs", (b"a", b"b"))
    header = replace(
        FIRST.header,
        height=2,
        time_ms=FIRST.header.time_ms + 1,
        parent_hash=hash_of(FIRST),
        last_certificate_hash=certificate_hash(certificate),
        tx_root=tx_root(txs),
        evidence_root=evidence_root(evidence),
    )
    return Block(replace(header, **changes), txs, certificate, evidence)


def refused(block, parent=FIRST.header, authorities=SET, earlier=None):
    with pytest.raises(BlockRefused) as caught:
        check_block(block, parent, authorities, earlier, keys.verify)
    return caught.value.code


def test_good_blocks_pass():
    check_block(FIRST, PARENT, SET, verifier=keys.verify)
    check_block(second_block(), FIRST.header, SET, verifier=keys.verify)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"version": 2}, "version"),
        ({"chain_id": "other"}, "chain"),
        ({"height": 3}, "height"),
        ({"height": 1}, "height"),
        ({"parent_hash": ZERO_HASH}, "parent"),
        ({"time_ms": FIRST.header.time_ms}, "time"),
        ({"time_ms": 0}, "time"),
        ({"epoch": 1}, "authorities"),
        ({"authorities_hash": ZERO_HASH}, "authorities"),
        ({"proposer": 4}, "proposer"),
        ({"tx_root": ZERO_HASH}, "body"),
        ({"evidence_root": ZERO_HASH}, "body"),
        ({"last_certificate_hash": ZERO_HASH}, "body"),
    ],
)
def test_wrong_headers_are_refused(changes, code):
    assert refused(second_block(**changes)) == code


def test_the_parent_announces_the_set():
    other = AuthoritySet(0, SET.publics[::-1])
    block = second_block(authorities_hash=other.hash)
    assert refused(block, authorities=other) == "authorities"


def test_the_last_certificate_must_be_the_parents():
    few = TABLE.certificate(PRECOMMIT, hash_of(FIRST), 0, (1, 2))
    prevotes = TABLE.certificate(PREVOTE, hash_of(FIRST), 0)
    other = TABLE.certificate(PRECOMMIT, ZERO_HASH, 0)
    for certificate in (few, prevotes, other, None):
        assert refused(second_block(last_certificate=certificate)) == "certificate"
    with_one = replace(
        FIRST,
        header=replace(FIRST.header, last_certificate_hash=certificate_hash(few)),
        last_certificate=few,
    )
    assert refused(with_one, PARENT) == "certificate"


def test_the_parents_certificate_is_of_the_parents_epoch():
    turned = AuthoritySet(1, SET.publics[1:] + SET.publics[:1])
    announcing = replace(FIRST.header, next_authorities_hash=turned.hash)
    hash_ = header_hash(announcing)
    signed = vote_signed_bytes(PRECOMMIT, CHAIN_ID, 0, 1, 0, hash_)
    votes = {
        voter: Vote(PRECOMMIT, 0, 1, 0, hash_, voter, keys.signer_of(SET.publics[voter])(signed))
        for voter in (0, 1, 3)
    }
    certificate = build_certificate(CHAIN_ID, 0, 1, 0, hash_, votes)
    block = second_block(
        last_certificate=certificate, parent_hash=hash_, epoch=1, authorities_hash=turned.hash
    )
    check_block(block, announcing, turned, {0: SET}, keys.verify)
    with pytest.raises(InvariantError, match="epoch 0 is not given"):
        check_block(block, announcing, turned, verifier=keys.verify)


def test_r30_evidence_is_checked_and_taken_once():
    good = duplicate_vote(TABLE.vote(PREVOTE, 2, NIL), TABLE.vote(PREVOTE, 2, hash_of(FIRST)))
    check_block(second_block(evidence=(good,)), FIRST.header, SET, verifier=keys.verify)
    assert refused(second_block(evidence=(good, good))) == "evidence"
    forged = replace(good, first=replace(good.first, signature=bytes(64)))
    assert refused(second_block(evidence=(forged,))) == "evidence"
    future = Table(height=2)
    early = duplicate_vote(future.vote(PREVOTE, 2, NIL), future.vote(PREVOTE, 2, hash_of(FIRST)))
    assert refused(second_block(evidence=(early,))) == "evidence"
    foreign = replace(
        good, first=replace(good.first, epoch=5), second=replace(good.second, epoch=5)
    )
    assert refused(second_block(evidence=(foreign,))) == "evidence"


def test_a_block_has_a_size():
    txs = tuple(number.to_bytes(2, "big") * 4_096 for number in range(257))
    assert refused(second_block(txs=txs)) == "size"


def test_a_transaction_is_in_a_block_once():
    assert refused(second_block(txs=(b"a", b"b", b"a"))) == "transactions"


def test_body_problems_are_named():
    assert body_problem(FIRST) is None
    assert "tx_root" in (body_problem(replace(FIRST, txs=())) or "")
    certificate = TABLE.certificate(PRECOMMIT, hash_of(FIRST), 0)
    with_certificate = replace(FIRST, last_certificate=certificate)
    assert "last_certificate_hash" in (body_problem(with_certificate) or "")
    evidence = duplicate_vote(TABLE.vote(PREVOTE, 2, NIL), TABLE.vote(PREVOTE, 2, hash_of(FIRST)))
    assert "evidence_root" in (body_problem(replace(FIRST, evidence=(evidence,))) or "")


def test_only_signatures_that_are_not_known_are_verified():
    """The builder's quorum and the one that this node has are seldom the same three of four."""
    asked = []

    def counting(public, message, signature):
        asked.append(public)
        return keys.verify(public, message, signature)

    block = second_block()

    def verified(known):
        asked.clear()
        check_block(block, FIRST.header, SET, verifier=counting, known=known)
        return [SET.publics.index(public) for public in asked]

    hash_ = hash_of(FIRST)
    assert verified(None) == [1, 2, 3]
    assert verified(TABLE.certificate(PRECOMMIT, hash_)) == []
    assert verified(TABLE.certificate(PRECOMMIT, hash_, voters=(0, 2, 3))) == [1]
    # What was signed for another round, epoch, height or value says nothing of this.
    assert verified(TABLE.certificate(PRECOMMIT, hash_, 1)) == [1, 2, 3]
    assert verified(TABLE.certificate(PRECOMMIT, b"\1" * 32)) == [1, 2, 3]
    for other in ({"epoch": 1}, {"height": 2}, {"chain_id": "other"}):
        assert verified(replace(TABLE.certificate(PRECOMMIT, hash_), **other)) == [1, 2, 3]


def test_a_wrong_signature_is_refused_beside_a_known_certificate():
    good = TABLE.certificate(PRECOMMIT, hash_of(FIRST))
    for place in range(3):
        forged = list(good.signatures)
        forged[place] = bytes(64)
        block = second_block(last_certificate=replace(good, signatures=tuple(forged)))
        with pytest.raises(BlockRefused, match="signature"):
            check_block(block, FIRST.header, SET, verifier=keys.verify, known=good)
