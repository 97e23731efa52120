"""A region in the hands of its own authorities, who sign whatever they like."""

import hashlib
from collections.abc import Sequence

import msgspec

from consensus.authorities import AuthoritySet
from consensus.checkpoint import Checkpoint, Record, SlotTotals, StateProof, record_key
from consensus.light import SignedHeader
from consensus.messages import (
    PROTOCOL_VERSION,
    ZERO_HASH,
    ConflictingCertificates,
    Header,
    header_hash,
)
from market.client import Call, regions
from market.vm import merkle
from node.regions.checkpoints import posted
from node.regions.exchange import Offer
from tests.regions.grid import START_MS, certify, key, registration
from wire.codec import Plain, encode
from wire.keys import SigningKey

NO_HASH = "0" * 64


def slot_totals(slot: int, **changes: int) -> SlotTotals:
    """A slot in which 300 Wh came from the grid and 100 Wh went there."""
    base = SlotTotals(
        slot=slot,
        homes=4,
        import_wh=900,
        export_wh=700,
        grid_wh=300,
        fed_in_wh=100,
        grid_micro=60_000,
        feed_in_micro=8_000,
        penalty_micro=500,
        fees_micro=200,
        imported_wh=0,
        exported_wh=0,
        paid_micro=0,
        got_micro=0,
        net_micro=52_700,
        settlement_root="ab" * 32,
    )
    return msgspec.structs.replace(base, **changes)


class Captured:
    """A region of which only what it signs is seen."""

    def __init__(self, number: int, seats: int = 4) -> None:
        self.number = number
        self.chain_id = f"captured-{number}"
        self.sponsor = key(f"captured {number}/sponsor")
        self.seated = [key(f"captured {number}/authority {seat}") for seat in range(seats)]
        self.registration: Call = registration(number, self.chain_id, self.seated)
        self.others: dict[str, bytes | None] = {"other": b"\x01"}
        self.set = AuthoritySet(0, tuple(one.public for one in self.seated))

    def first(self, *slots: SlotTotals, **changes: object) -> Record:
        base = Record(
            region=self.number,
            number=1,
            from_height=1,
            to_height=10,
            previous=NO_HASH,
            slots=slots,
            outbox_count=0,
            outbox_head=NO_HASH,
            inbox_count=0,
            inbox_head=NO_HASH,
            minted_micro=5_000_000,
            redeemed_micro=1_000_000,
        )
        return msgspec.structs.replace(base, **changes)

    def after(self, before: Record, *slots: SlotTotals, **changes: object) -> Record:
        """The honest successor, ten heights on, but for `changes`."""
        base = msgspec.structs.replace(
            before,
            number=before.number + 1,
            from_height=before.to_height + 1,
            to_height=before.to_height + 10,
            previous=before.hash,
            slots=slots,
        )
        return msgspec.structs.replace(base, **changes)

    def header(
        self,
        height: int,
        state_root: bytes = ZERO_HASH,
        authorities: AuthoritySet | None = None,
        following: AuthoritySet | None = None,
        **changes: object,
    ) -> Header:
        current = authorities or self.set
        base = Header(
            version=PROTOCOL_VERSION,
            chain_id=self.chain_id,
            epoch=current.epoch,
            height=height,
            time_ms=START_MS + 1_000 * height,
            parent_hash=ZERO_HASH,
            last_certificate_hash=ZERO_HASH,
            proposer=0,
            tx_root=ZERO_HASH,
            receipts_root=ZERO_HASH,
            state_root=state_root,
            authorities_hash=current.hash,
            next_authorities_hash=(following or current).hash,
            params_hash=ZERO_HASH,
            evidence_root=ZERO_HASH,
            inbox_root=ZERO_HASH,
            outbox_root=ZERO_HASH,
            anchor_height=0,
            anchor_hash=ZERO_HASH,
        )
        return msgspec.structs.replace(base, **changes)

    def checkpoint(
        self,
        record: Record,
        signers: Sequence[SigningKey] | None = None,
        authorities: AuthoritySet | None = None,
        following: AuthoritySet | None = None,
        **header: object,
    ) -> Checkpoint:
        """Have a quorum (or `signers`) certify a header whose state holds `record`."""
        current = authorities or self.set
        name = record_key(record.number)
        tree = self.state(record)
        found = merkle.prove(tree, name)
        head = self.header(record.to_height, merkle.root_of(tree), current, following, **header)
        certificate = certify(head, signers or self.quorum(current), current)
        proof = StateProof(found.siblings, found.leaf_key_hash, found.leaf_value_hash)
        return Checkpoint(encode(record), head, certificate, proof)

    def state(self, record: Record) -> merkle.Tree:
        """The state that holds `record`, and what this region likes."""
        return merkle.update(None, {record_key(record.number): encode(record), **self.others})

    def offering(self, entry: Plain, slot: int, number: int = 1) -> tuple[Checkpoint, Offer]:
        """Certify `entry` as one of the outbox, in the region's first record."""
        name = regions.outbox_key(number)
        value = self.others[name] = encode(entry)
        record = self.first(outbox_count=number, outbox_head="ab" * 32)
        proof = encode(merkle.prove(self.state(record), name))
        offer = Offer(self.number, record.number, number, slot, value, proof)
        return self.checkpoint(record), offer

    def quorum(self, authorities: AuthoritySet) -> list[SigningKey]:
        by_public = {one.public: one for one in self.seated}
        return [by_public[public] for public in authorities.publics[: authorities.quorum]]

    def post(self, checkpoint: Checkpoint, epoch: int | None = None) -> tuple[SigningKey, Call]:
        shown = checkpoint.header.epoch if epoch is None else epoch
        return self.seated[0], regions.checkpoint(self.number, shown, posted(checkpoint))

    def rotation(self, height: int, following: AuthoritySet, current: AuthoritySet) -> str:
        head = self.header(height, b"\x07" * 32, current, following)
        signed = SignedHeader(head, certify(head, self.quorum(current), current), following)
        return encode(signed).hex()

    def conflict(self, height: int, signers: Sequence[SigningKey] | None = None) -> str:
        heads = [self.header(height, bytes([root]) * 32) for root in (1, 2)]
        heads.sort(key=header_hash)
        chosen = signers or self.quorum(self.set)
        first, second = (certify(head, chosen, self.set) for head in heads)
        return encode(ConflictingCertificates(first, second)).hex()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
