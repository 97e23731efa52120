"""What a region's authorities can prove of a checkpoint (M1 to M5)."""

import random

import msgspec
import pytest

from consensus.authorities import AuthoritySet
from consensus.checkpoint import Checkpoint, StateProof, record_key, verify_checkpoint
from consensus.errors import CheckpointRefused
from node.regions.certifier import proves
from tests.regions.forge import Captured, slot_totals
from wire.codec import encode

FLIPS = 150


def test_what_a_quorum_certified_is_taken() -> None:
    region = Captured(1, seats=7)
    record = region.first(slot_totals(2_000))
    found = region.checkpoint(record)
    assert verify_checkpoint(encode(found), region.set, region.chain_id, proves) == (
        record,
        found.header,
    )
    assert len(found.certificate.signatures) == region.set.quorum == 5


def test_no_bit_of_it_may_change() -> None:
    """Every byte of a checkpoint counts: none can be altered by who passes it on."""
    region = Captured(1)
    data = encode(region.checkpoint(region.first(slot_totals(2_000))))
    random_ = random.Random(7)
    for _ in range(FLIPS):
        place, bit = random_.randrange(len(data)), 1 << random_.randrange(8)
        changed = bytearray(data)
        changed[place] ^= bit
        with pytest.raises(CheckpointRefused):
            verify_checkpoint(bytes(changed), region.set, region.chain_id, proves)
    for end in (0, 1, len(data) - 1):
        with pytest.raises(CheckpointRefused, match="malformed"):
            verify_checkpoint(data[:end], region.set, region.chain_id, proves)
    with pytest.raises(CheckpointRefused, match="malformed"):
        verify_checkpoint(data + b"\0", region.set, region.chain_id, proves)


def test_the_proof_is_of_the_records_own_key() -> None:
    region = Captured(1)
    record = region.first()
    asked: list[tuple[bytes, str, bytes]] = []

    def prover(root: bytes, name: str, value: bytes, proof: StateProof) -> bool:
        asked.append((root, name, value))
        return True

    found = region.checkpoint(record)
    verify_checkpoint(encode(found), region.set, region.chain_id, prover)
    assert asked == [(found.header.state_root, record_key(1), encode(record))]


def test_of_another_epoch_or_set() -> None:
    region = Captured(1, seats=5)
    found = region.checkpoint(region.first())
    for other in (
        AuthoritySet(1, region.set.publics),
        AuthoritySet(0, region.set.publics[:4]),
        AuthoritySet(0, tuple(reversed(region.set.publics))),
    ):
        with pytest.raises(CheckpointRefused, match="stale_set"):
            verify_checkpoint(encode(found), other, region.chain_id, proves)


def test_a_certificate_is_of_its_round() -> None:
    region = Captured(1)
    found = region.checkpoint(region.first())
    again = msgspec.structs.replace(found.certificate, round=1)
    shown = Checkpoint(found.record, found.header, again, found.proof)
    with pytest.raises(CheckpointRefused, match="bad_certificate"):
        verify_checkpoint(encode(shown), region.set, region.chain_id, proves)
