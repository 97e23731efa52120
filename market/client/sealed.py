"""Sealed orders (`contracts/sealed.star`): what is committed to, its digest, what reveals it."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence

import msgspec

from market.client.calls import Call
from market.client.queries import Query, typed
from wire.codec import Plain

DOMAIN = "commonwatt sealed orders 1"
SALT_BYTES = 16


class SealedOrder(msgspec.Struct, frozen=True, array_like=True):
    """An order as its home keeps it until the gate has closed; `terms` as of `post_order`."""

    side: str
    energy_wh: int
    price_micro_per_kwh: int
    terms: dict[str, int | bool] = {}


class Commitment(msgspec.Struct, frozen=True):
    """What a home has committed to in a slot and not revealed: all that anybody can know."""

    slot: int
    home: int
    digest: str
    margin_micro: int
    time_ms: int


def digest_of(slot: int, address: str, orders: Sequence[SealedOrder], salt: bytes) -> str:
    """Return the digest of a home's orders in a slot, in base64url without padding.

    Parameters
    ----------
    address : the account of the home that commits and reveals.
    salt : `SALT_BYTES` random bytes, used once: whoever guesses orders must guess them, too.

    Raises
    ------
    ValueError
        The salt has another length.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, not {len(salt)}")
    parts = [DOMAIN, str(slot), address, base64url(salt)]
    for order in orders:
        terms = order.terms
        limits = f"{terms.get('expires_ms', 0)} {terms.get('green', 0):d} {terms.get('partner', 0)}"
        parts.append(f"{order.side} {order.energy_wh} {order.price_micro_per_kwh} {limits}")
    return base64url(hashlib.sha256("/".join(parts).encode()).digest())


def base64url(data: bytes) -> str:
    """Return bytes as the contract has them: RFC 4648, section 5, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def margin_of(energy_wh: int, tariff_micro_per_kwh: int, margin_percent: int) -> int:
    """Return the most that orders of so much energy together need put aside. [micro]"""
    return energy_wh * tariff_micro_per_kwh * margin_percent // 100_000


def commit_order(slot: int, digest: str, margin_micro: int) -> Call:
    """Commit to orders for `slot` before its gate; the margin is what the largest may need."""
    args: dict[str, Plain] = {"slot": slot, "digest": digest, "margin_micro": margin_micro}
    return Call("sealed", "commit_order", args)


def reveal_order(slot: int, orders: Sequence[SealedOrder], salt: bytes) -> Call:
    """Reveal what was committed to, once a block is past the gate of `slot`."""
    rows: list[Plain] = [
        [order.side, order.energy_wh, order.price_micro_per_kwh, dict(order.terms)]
        for order in orders
    ]
    return Call("sealed", "reveal_order", {"slot": slot, "orders": rows, "salt": base64url(salt)})


def withdraw_commitment(slot: int) -> Call:
    """Take back a commitment before the gate of `slot` closes; its margin returns."""
    return Call("sealed", "withdraw_commitment", {"slot": slot})


def commitment(query: Query, slot: int, home: int) -> Commitment | None:
    """Return what a home has committed to in a slot and not revealed; None if nothing."""
    found = query("sealed", "commitment", {"slot": slot, "home": home})
    return None if found is None else typed(found, Commitment)


def to_reveal(query: Query, home: int) -> list[int]:
    """Return the slots that a home can reveal in the next block: a block is past their gate."""
    return typed(query("sealed", "to_reveal", {"home": home}), list[int])


def commitments(query: Query, slot: int) -> list[Commitment]:
    """Return all that is committed to in a slot and not revealed, by home."""
    return typed(query("sealed", "commitments", {"slot": slot}), list[Commitment])
