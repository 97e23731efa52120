"""Transactions of the second tier's contracts. `data` is canonical encoding in hexadecimal."""

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec

from market.client.calls import Call
from market.client.queries import Query, typed
from wire.codec import Plain

_KEY_BASE: Final = 1_000_000_000
# `contracts/anchor.star`: ROOTS_MAX.
ROOTS_KEPT: Final = 64
# Where a region's state says which record it has closed last.
CLOSED_KEY: Final = "export/closed"
_POSSESSION: Final = "commonwatt/possession/1"
# Of a proof in one transaction; `contracts/audit.star`: PART_CHARS.
PART_BYTES: Final = 3_500


def possession_text(chain_id: str, genesis_hash: str) -> str:
    """Return the text whose SHA-256 each of a region's authorities signs to be registered."""
    return f"{_POSSESSION}/{chain_id}/{genesis_hash}"


def register(
    region: int,
    name: str,
    chain_id: str,
    genesis_hash: str,
    keys: Sequence[bytes],
    proofs: Sequence[bytes],
    escrow_micro: int,
) -> Call:
    """Register a region, by its sponsor.

    Parameters
    ----------
    region : the number that the region's own genesis names.
    keys, proofs : of its epoch 0, in order; signatures over `possession_text`'s SHA-256.
    escrow_micro : what is put up for trade, beside the bond. [micro]
    """
    return Call(
        "regions",
        "register",
        {
            "region": region,
            "name": name,
            "chain_id": chain_id,
            "genesis_hash": genesis_hash,
            "keys": [key.hex() for key in keys],
            "proofs": [proof.hex() for proof in proofs],
            "escrow_micro": escrow_micro,
        },
    )


def approve(region: int) -> Call:
    """Let a proposed region in: one authority's yes."""
    return Call("regions", "approve", {"region": region})


def deposit(region: int, amount_micro: int) -> Call:
    """Put more into a region's escrow, by its sponsor."""
    return Call("regions", "deposit", {"region": region, "amount_micro": amount_micro})


def withdraw(region: int, amount_micro: int) -> Call:
    """Take something out of a region's escrow, by its sponsor."""
    return Call("regions", "withdraw", {"region": region, "amount_micro": amount_micro})


def leave(region: int) -> Call:
    """Take a region out, by its sponsor."""
    return Call("regions", "leave", {"region": region})


def reclaim(region: int) -> Call:
    """Take back bond and escrow of a region that has left."""
    return Call("regions", "reclaim", {"region": region})


def rotate(region: int, data: str) -> Call:
    """Show the certified last header of an epoch (`consensus.light.SignedHeader`)."""
    return Call("regions", "rotate", {"region": region, "data": data})


def report_conflict(region: int, epoch: int, data: str) -> Call:
    """Show two certified blocks at one height (`consensus.messages.ConflictingCertificates`)."""
    return Call("regions", "report_conflict", {"region": region, "epoch": epoch, "data": data})


def show_stop(region: int, data: str, value: bytes, proof: bytes) -> Call:
    """Show the last header that a halted region has certified.

    Parameters
    ----------
    data : the header (`consensus.light.SignedHeader`).
    value, proof : of `CLOSED_KEY` in the state after it, encoded.
    """
    args = {"region": region, "data": data, "value": value.hex(), "proof": proof.hex()}
    return Call("override", "show_stop", args)


def propose_successor(
    region: int,
    chain_id: str,
    genesis_hash: str,
    keys: Sequence[bytes],
    proofs: Sequence[bytes],
    height: int,
) -> Call:
    """Propose a chain that takes a halted region's place, by its sponsor or a main authority.

    Parameters
    ----------
    keys, proofs : as in `register`.
    height : of the stop that the successor's genesis names.
    """
    return Call(
        "override",
        "propose",
        {
            "region": region,
            "chain_id": chain_id,
            "genesis_hash": genesis_hash,
            "keys": [key.hex() for key in keys],
            "proofs": [proof.hex() for proof in proofs],
            "height": height,
        },
    )


def approve_successor(region: int, genesis_hash: str) -> Call:
    """Put the successor with this genesis in a region's place: one main authority's yes."""
    return Call("override", "approve", {"region": region, "genesis_hash": genesis_hash})


def follow(data: str) -> Call:
    """Show a region a certified header of the main chain (`consensus.light.SignedHeader`)."""
    return Call("export", "follow", {"data": data})


def confirm(height: int, value: str, proof: str) -> Call:
    """Show a region which of its records is anchored.

    Parameters
    ----------
    height : of a header of the main chain that the region follows.
    value, proof : of `anchored_key` in the state after it, encoded, in hexadecimal.
    """
    return Call("export", "confirm", {"height": height, "value": value, "proof": proof})


def anchored_key(region: int) -> str:
    """Return where the main chain's state holds a region's last anchored record."""
    return f"anchor/last/{_KEY_BASE + region}"


def root_key(region: int, number: int) -> str:
    """Return where the main chain's state holds what an anchored checkpoint was of.

    The value is [state root, header's time, height]; kept of the last `ROOTS_KEPT` of a region.
    """
    return f"anchor/root/{_KEY_BASE + region}/{_KEY_BASE + number}"


def checkpoint(region: int, epoch: int, data: str) -> Call:
    """Post a checkpoint (`consensus.checkpoint.Checkpoint`) whose header is of `epoch`."""
    return Call("anchor", "checkpoint", {"region": region, "epoch": epoch, "data": data})


def audit_ok(region: int, number: int) -> Call:
    """Say that a record and all before it follow from the region's blocks, by a drawn auditor."""
    return Call("audit", "audit_ok", {"region": region, "number": number})


def accuse(region: int, epoch: int, height: int, proof: bytes) -> Call:
    """Accuse a region of a block that does not follow; the proof's parts are `evidence`."""
    digest = hashlib.sha256(proof).hexdigest()
    shown = {"region": region, "epoch": epoch, "height": height, "digest": digest}
    return Call("audit", "accuse", shown | {"size": len(proof)})


def evidence(proof: bytes) -> list[Call]:
    """Return what shows an encoded proof (`node.regions.replay.FraudProof`), part by part."""
    parts = range(0, len(proof), PART_BYTES)
    return [
        Call("audit", "evidence", {"index": index, "data": proof[at : at + PART_BYTES].hex()})
        for index, at in enumerate(parts)
    ]


def judge() -> Call:
    """Have one's own case judged, once all of its proof is shown."""
    return Call("audit", "judge", {})


def offer(region: int, checkpoint: int, number: int, value: bytes, proof: bytes) -> Call:
    """Offer the exchange what a region's slot has left unmatched.

    Parameters
    ----------
    checkpoint : the number of an anchored one, whose state root proves the entry.
    number, value, proof : of the outbox entry at `outbox_key`, encoded.
    """
    return Call(
        "exchange",
        "offer",
        {
            "region": region,
            "checkpoint": checkpoint,
            "number": number,
            "value": value.hex(),
            "proof": proof.hex(),
        },
    )


def claim(height: int, slot: int, value: bytes, proof: bytes) -> Call:
    """Show a region what the exchange made of its offer for a slot.

    Parameters
    ----------
    height : of a header of the main chain that the region follows.
    value, proof : of `result_key` in the state after it, encoded.
    """
    shown = {"height": height, "slot": slot, "value": value.hex(), "proof": proof.hex()}
    return Call("export", "claim", shown)


def refund(height: int, slot: int, value: bytes, proof: bytes, absence: bytes) -> Call:
    """Show a region that nothing came, nor ever will, of its offer for a slot.

    Parameters
    ----------
    height : of a header of the main chain that the region follows.
    value, proof : of `WINDOW_KEY` in the state after it, encoded.
    absence : the proof that nothing stands at `result_key` in the same state, encoded.
    """
    return Call(
        "export",
        "refund",
        {
            "height": height,
            "slot": slot,
            "value": value.hex(),
            "proof": proof.hex(),
            "absence": absence.hex(),
        },
    )


class Footprint(msgspec.Struct, frozen=True):
    """A region's carbon, of the grid energy in its anchored records. [Wh, mg]

    `allotted_mg` is its quota in a period; sums since it came in have none.
    """

    region: int
    slots: int
    grid_wh: int
    fed_in_wh: int
    emitted_mg: int
    allotted_mg: int

    @property
    def excess_mg(self) -> int:
        """What was emitted beyond the quota."""
        return max(0, self.emitted_mg - self.allotted_mg)


def open_footprint_period(first_slot: int, end_slot: int) -> Call:
    """Open a period of slots from `first_slot` up to `end_slot`; the regulator's to do."""
    return Call("footprint", "open_period", {"first_slot": first_slot, "end_slot": end_slot})


def allot_footprint(period: int, quotas_mg: Sequence[tuple[int, int]]) -> Call:
    """Give quotas, pairs of a region's number and mg (at most 64); the regulator's to do."""
    rows: Plain = [list(row) for row in quotas_mg]
    return Call("footprint", "allot", {"period": period, "rows": rows})


def footprints(query: Query, period: int | None = None) -> list[Footprint]:
    """Return the carbon of all regions, in a period or since they came in."""
    if period is None:
        found = query("footprint", "totals", {})
    else:
        found = query("footprint", "reports", {"period": period})
    return typed(found, list[Footprint])


WINDOW_KEY: Final = "exchange/window"


def outbox_key(number: int) -> str:
    """Return where a region's state holds an entry of its outbox."""
    return f"export/out/{_KEY_BASE + number}"


def result_key(region: int, slot: int) -> str:
    """Return where the main chain's state holds what came of a region's offer for a slot."""
    return f"exchange/result/{_KEY_BASE + region}/{_KEY_BASE + slot}"


def pending_offer_key(region: int, slot: int) -> str:
    """Return where the main chain's state holds an offer that is not cleared yet."""
    return f"exchange/offer/{_KEY_BASE + slot}/{_KEY_BASE + region}"
