"""R3: sets, quorums, turns; certificates that prove and those that do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from consensus.authorities import (
    AuthoritySet,
    build_certificate,
    certificate_votes,
    verify_certificate,
    voters_of,
)
from consensus.errors import AuthoritySetError, CertificateRefused
from consensus.messages import AUTHORITIES_MAX, PRECOMMIT, PREVOTE, Vote, vote_signed_bytes
from tests.sim import keys
from wire.codec import decode, encode
from wire.errors import DecodeError
from wire.keys import SigningKey

VALUE = bytes([5] * 32)


def set_of(n, epoch=0):
    return AuthoritySet(epoch, tuple(keys.public_of(index) for index in range(n)))


def certificate_of(authorities, voters, kind=PRECOMMIT, round_=0, chain_id="c"):
    signed = vote_signed_bytes(kind, chain_id, authorities.epoch, 1, round_, VALUE)
    votes = {
        voter: Vote(
            kind, authorities.epoch, 1, round_, VALUE, voter,
            keys.signer_of(authorities.publics[voter])(signed),
        )
        for voter in voters
    }  # fmt: skip
    return build_certificate(chain_id, authorities.epoch, 1, round_, VALUE, votes)


def refused(certificate, authorities, match, **options):
    with pytest.raises(CertificateRefused, match=match):
        verify_certificate(certificate, authorities, "c", verifier=keys.verify, **options)


@pytest.mark.parametrize(
    ("n", "f", "quorum"),
    [(1, 0, 1), (2, 0, 2), (3, 0, 2), (4, 1, 3), (5, 1, 4), (7, 2, 5), (10, 3, 7), (13, 4, 9),
     (16, 5, 11)],
)  # fmt: skip
def test_r3_faults_and_quorums(n, f, quorum):
    authorities = set_of(n)
    assert (authorities.f, authorities.quorum) == (f, quorum)


@pytest.mark.parametrize("n", range(1, AUTHORITIES_MAX + 1))
def test_r3_quorums_share_an_honest_authority_and_the_honest_make_one(n):
    authorities = set_of(n)
    assert 2 * authorities.quorum - n >= authorities.f + 1
    assert authorities.quorum <= n - authorities.f


def test_r3_every_authority_has_its_turn():
    authorities = set_of(7)
    assert {authorities.proposer(9, number) for number in range(7)} == set(range(7))
    assert authorities.proposer(9, 3) == (9 + 3) % 7


@pytest.mark.parametrize("publics", [(), (bytes(31),), (bytes(32), bytes(32))])
def test_a_set_of_wrong_keys_is_none(publics):
    with pytest.raises(AuthoritySetError):
        AuthoritySet(0, publics)


def test_a_set_has_at_most_63():
    with pytest.raises(AuthoritySetError, match="1 to 63"):
        set_of(AUTHORITIES_MAX + 1)


def test_a_set_survives_the_wire_and_a_wrong_one_does_not():
    authorities = set_of(4, epoch=2)
    data = encode(authorities)
    assert decode(data, AuthoritySet, 4_096) == authorities
    twice = data.replace(authorities.publics[1], authorities.publics[0])
    with pytest.raises(DecodeError, match="twice"):
        decode(twice, AuthoritySet, 4_096)


def test_the_hash_binds_epoch_and_order():
    authorities = set_of(4)
    backwards = AuthoritySet(0, authorities.publics[::-1])
    assert len({authorities.hash, backwards.hash, set_of(4, 1).hash, set_of(5).hash}) == 4


def test_index_of_a_stranger_is_none():
    assert set_of(4).index_of(keys.public_of(3)) == 3
    assert set_of(4).index_of(keys.public_of(4)) is None


@given(st.sets(st.integers(0, 9), min_size=7))
def test_any_quorum_certifies(voters):
    authorities = set_of(10)
    certificate = certificate_of(authorities, voters)
    verify_certificate(certificate, authorities, "c", verifier=keys.verify)
    assert voters_of(certificate.bitmap) == sorted(voters)
    assert [vote.voter for vote in certificate_votes(certificate, PRECOMMIT)] == sorted(voters)


@given(st.sets(st.integers(0, 9), max_size=6))
def test_fewer_do_not(voters):
    authorities = set_of(10)
    refused(certificate_of(authorities, voters), authorities, "the quorum is 7")


def test_certificates_that_prove_nothing():
    authorities = set_of(4)
    good = certificate_of(authorities, (0, 1, 2))
    first, second, third = good.signatures
    refused(replace(good, chain_id="d"), authorities, "of chain 'd'")
    refused(replace(good, epoch=1), authorities, "of epoch 1")
    refused(replace(good, bitmap=0b10011), authorities, "beyond the 4")
    refused(replace(good, bitmap=0b1111), authorities, "names 4 authorities and has 3")
    refused(replace(good, bitmap=0b1110), authorities, "authority 1 is wrong")
    refused(replace(good, signatures=(first, first, third)), authorities, "authority 1 is wrong")
    refused(replace(good, signatures=(second, first, third)), authorities, "authority 0 is wrong")
    refused(replace(good, round=1), authorities, "is wrong")
    refused(replace(good, height=2), authorities, "is wrong")
    refused(replace(good, block_hash=bytes(32)), authorities, "is wrong")
    refused(good, set_of(7), "the quorum is 5")
    refused(good, authorities, "is wrong", kind=PREVOTE)
    refused(good, authorities, "not of kind 0", kind=0)
    refused(certificate_of(authorities, (0, 1, 2), PREVOTE), authorities, "is wrong")


def test_known_votes_save_only_equal_signatures():
    authorities = set_of(4)
    good = certificate_of(authorities, (0, 1, 2))
    known = {vote.voter: vote for vote in certificate_votes(good, PRECOMMIT)}
    calls = []

    def counting(public, message, signature):
        calls.append(public)
        return keys.verify(public, message, signature)

    verify_certificate(good, authorities, "c", verifier=counting, known=known)
    assert not calls
    forged = replace(good, signatures=(bytes(64), *good.signatures[1:]))
    refused(forged, authorities, "authority 0 is wrong", known=known)


def test_with_real_keys():
    signers = [SigningKey(bytes([index]) * 32) for index in range(4)]
    authorities = AuthoritySet(0, tuple(signer.public for signer in signers))
    signed = vote_signed_bytes(PRECOMMIT, "c", 0, 1, 0, VALUE)
    votes = {
        index: Vote(PRECOMMIT, 0, 1, 0, VALUE, index, signers[index].sign(signed))
        for index in (0, 2, 3)
    }
    certificate = build_certificate("c", 0, 1, 0, VALUE, votes)
    verify_certificate(certificate, authorities, "c")
    with pytest.raises(CertificateRefused, match="authority 2"):
        verify_certificate(
            replace(certificate, signatures=(votes[0].signature,) * 3), authorities, "c"
        )
