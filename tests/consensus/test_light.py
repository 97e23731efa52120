"""The light client: certificates across set changes, and state proofs; everything else is refused.

S1: linked, later, certified. S2: from epoch to epoch by the set announced. S3: state by its root.
"""

import pytest
from msgspec.structs import replace

import market.genesis
from consensus.authorities import AuthoritySet
from consensus.errors import HeaderRefused, ProofRefused
from consensus.light import EPOCH_BLOCKS_MAX, LightClient, SignedHeader
from consensus.messages import header_hash
from market.vm import merkle
from tests.consensus.ready import CHAIN_ID, EPOCH_BLOCKS, certify, ready_chain, set_of
from tests.sim import keys

LAST = EPOCH_BLOCKS  # the last height of the first epoch


def client(height: int = 0) -> LightClient:
    return ready_chain().trusted(height)


def resigned(signed: SignedHeader, **changes: object) -> SignedHeader:
    """The header with changes, certified by its own set."""
    header = replace(signed.header, **changes)
    certificate = certify(header_hash(header), header.height, set_of(signed.header.height))
    return SignedHeader(header, certificate, signed.next_authorities)


def refused(light: LightClient, signed: SignedHeader) -> str:
    before = (light.head, light.authorities)
    with pytest.raises(HeaderRefused) as caught:
        light.accept(signed)
    assert (light.head, light.authorities) == before
    return str(caught.value)


def test_it_follows_every_header_across_set_changes() -> None:
    chain, light = ready_chain(), client()
    for signed in chain.signed[1:]:
        light.accept(signed)
    assert light.height == chain.height
    assert light.authorities == set_of(chain.height + 1)


def test_it_skips_within_an_epoch_and_follows_the_ends_of_epochs() -> None:
    chain, light = ready_chain(), client()
    for height in (7, LAST, 2 * LAST, 2 * LAST + 9):
        light.accept(chain.signed[height])
    assert light.head == chain.blocks[2 * LAST + 9].header


def test_it_starts_from_the_genesis_set_alone() -> None:
    light = LightClient(CHAIN_ID, set_of(1), verifier=keys.verify)
    light.accept(ready_chain().signed[5])
    assert light.height == 5


def test_a_set_change_cannot_be_skipped() -> None:
    text = refused(client(), ready_chain().signed[LAST + 1])
    assert "of epoch 1, the trusted set is that of epoch 0" in text


def test_an_old_set_decides_nothing_after_its_epoch() -> None:
    chain, light = ready_chain(), client()
    light.accept(chain.signed[LAST])
    old = set_of(1)
    header = replace(
        chain.blocks[LAST + 1].header,
        epoch=0,
        authorities_hash=old.hash,
        next_authorities_hash=old.hash,
    )
    forged = SignedHeader(header, certify(header_hash(header), header.height, old))
    assert "epoch 0" in refused(light, forged)
    # Nor does a header that claims the new epoch with the old one's signatures.
    header = chain.blocks[LAST + 1].header
    forged = SignedHeader(header, certify(header_hash(header), header.height, old))
    assert "epoch" in refused(light, forged)


def test_the_next_set_is_shown_and_is_the_announced_one() -> None:
    end = ready_chain().signed[LAST]
    assert "is not shown" in refused(client(), replace(end, next_authorities=None))
    mine = AuthoritySet(1, tuple(keys.public_of(90 + place) for place in range(4)))
    assert "not the one" in refused(client(), replace(end, next_authorities=mine))
    later = AuthoritySet(2, set_of(LAST + 1).publics)
    assert "not the one" in refused(client(), replace(end, next_authorities=later))
    plain = ready_chain().signed[5]
    assert "announces no other" in refused(client(), replace(plain, next_authorities=mine))
    # Even if the header did announce it: epochs follow one another.
    skipping = resigned(end, next_authorities_hash=later.hash)
    assert "not the one" in refused(client(), replace(skipping, next_authorities=later))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"parent_hash": bytes(32)}, "not linked"),
        ({"time_ms": 0}, "not later"),
        ({"chain_id": "other"}, "of chain 'other'"),
        ({"version": 9}, "version 9"),
        ({"epoch": 1}, "epoch 1"),
        ({"authorities_hash": bytes(32)}, "epoch"),
    ],
)
def test_a_header_that_cannot_follow(changes: dict[str, object], word: str) -> None:
    assert word in refused(client(3), resigned(ready_chain().signed[4], **changes))


def test_no_epoch_is_longer_than_any_genesis_allows() -> None:
    assert EPOCH_BLOCKS_MAX == market.genesis.EPOCH_BLOCKS_MAX
    last = EPOCH_BLOCKS_MAX
    for height, word in ((last + 1, "at most"), (2**40, "at most"), (last, None)):
        header = replace(ready_chain().signed[4].header, height=height)
        signed = SignedHeader(header, certify(header_hash(header), height, set_of(4)))
        if word is None:
            light = client(3)
            light.accept(signed)
            assert light.height == height
        else:
            assert word in refused(client(3), signed)


def test_never_back_nor_in_place() -> None:
    chain = ready_chain()
    assert "not after" in refused(client(9), chain.signed[9])
    assert "not after" in refused(client(9), chain.signed[4])


def test_certificates_that_prove_nothing() -> None:
    good = ready_chain().signed[4]
    other = ready_chain().signed[5].certificate
    hash_, authorities = header_hash(good.header), set_of(4)
    for certificate, word in (
        (other, "not that of header 4"),
        (certify(hash_, 4, authorities, voters=(0, 1)), "quorum"),
        (certify(hash_, 4, authorities, chain_id="other"), "chain"),
        (replace(good.certificate, signatures=good.certificate.signatures[::-1]), "wrong"),
        (replace(good.certificate, bitmap=0b11), "names 2 authorities and has 3"),
        (replace(good.certificate, bitmap=0b10011), "beyond"),
        (replace(good.certificate, round=1), "wrong"),
        (certify(bytes(32), 4, authorities), "not that of header 4"),
    ):
        assert word in refused(client(3), replace(good, certificate=certificate))


def test_state_is_proven_against_the_head() -> None:
    tree = merkle.update(None, {"a": b"1", "b": b"2", "c": b"3"})
    light = client(3)
    light.accept(resigned(ready_chain().signed[4], state_root=merkle.root_of(tree)))
    light.check_state("a", b"1", merkle.prove(tree, "a"), merkle.verify)
    light.check_state("x", None, merkle.prove(tree, "x"), merkle.verify)
    for key, value, shown in (
        ("a", b"2", "a"),
        ("a", None, "a"),
        ("x", b"1", "x"),
        ("b", b"2", "a"),
    ):
        with pytest.raises(ProofRefused):
            light.check_state(key, value, merkle.prove(tree, shown), merkle.verify)
    with pytest.raises(ProofRefused):
        LightClient(CHAIN_ID, set_of(1)).check_state("a", b"1", None, merkle.verify)
