"""Transactions of the market's contracts: a builder makes a `Call`, `sign_call` signs it."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from wire.codec import Plain
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction, Transaction, sign


class Call(NamedTuple):
    """What a transaction asks for."""

    contract: str
    entry: str
    args: dict[str, Plain]


def sign_call(
    call: Call, key: SigningKey, chain_id: str, nonce: int, valid_until_ms: int
) -> CheckedTransaction:
    """Make `call` a transaction of `key`'s account. Raises as `wire.transaction.sign`."""
    tx = Transaction(
        chain_id=chain_id,
        sender=key.public,
        nonce=nonce,
        valid_until_ms=valid_until_ms,
        contract=call.contract,
        entry=call.entry,
        args=call.args,
    )
    return sign(tx, key)


def post_order(
    slot: int,
    side: str,
    energy_wh: int,
    price_micro_per_kwh: int,
    *,
    expires_ms: int | None = None,
    green: bool = False,
    partner: int | None = None,
) -> Call:
    """Offer to `"buy"` or `"sell"` energy in `slot`, at this price or better.

    Parameters
    ----------
    expires_ms : block time from which the order takes part in no round any more; never if None.
    green : buy energy only that the registry certifies as green.
    partner : number of the only home to trade with.
    """
    terms: dict[str, Plain] = {}
    if expires_ms is not None:
        terms["expires_ms"] = expires_ms
    if green:
        terms["green"] = True
    if partner is not None:
        terms["partner"] = partner
    return Call(
        "market",
        "post_order",
        {
            "slot": slot,
            "side": side,
            "energy_wh": energy_wh,
            "price_micro_per_kwh": price_micro_per_kwh,
            "terms": terms,
        },
    )


def post_request(
    start_ms: int, end_ms: int, energy_wh: int, bidding: bool = True, limit_micro_per_kwh: int = 0
) -> Call:
    """Ask for energy in an interval of one's own (CE figure 2), in markets by `request_offer`.

    Parameters
    ----------
    start_ms, end_ms : the interval, after the request's gate. [ms of market time]
    bidding : whether others may offer; else the grid serves it.
    limit_micro_per_kwh : the most to pay, fees included; 0 is what the grid takes.
    """
    args: dict[str, Plain] = {
        "start_ms": start_ms,
        "end_ms": end_ms,
        "energy_wh": energy_wh,
        "bidding": bidding,
        "limit_micro_per_kwh": limit_micro_per_kwh,
    }
    return Call("requests", "post_request", args)


def post_offer(request: int, energy_wh: int, price_micro_per_kwh: int) -> Call:
    """Offer energy to a request, at this price."""
    args: dict[str, Plain] = {
        "request": request,
        "energy_wh": energy_wh,
        "price_micro_per_kwh": price_micro_per_kwh,
    }
    return Call("requests", "post_offer", args)


def withdraw_offer(request: int, offer: int) -> Call:
    """Take back an offer before the request's gate closes; its margin returns."""
    return Call("requests", "withdraw_offer", {"request": request, "offer": offer})


def withdraw_order(order_id: str) -> Call:
    """Take back an order before its gate closes; its margin returns.

    Raises
    ------
    ValueError
        `order_id` is no order's id, such as `"1988889-3"`.
    """
    slot, _, number = order_id.partition("-")
    if not (slot.isdecimal() and number.isdecimal()):
        raise ValueError(f"{order_id!r} is no order id; one looks like 1988889-3")
    return Call("market", "withdraw_order", {"slot": int(slot), "order_id": order_id})


def post_reading(slot: int, import_wh: int, export_wh: int, sequence: int) -> Call:
    """Report what a home took and gave in `slot`; signed by its meter's key."""
    return Call(
        "settlement",
        "post_reading",
        {"slot": slot, "import_wh": import_wh, "export_wh": export_wh, "sequence": sequence},
    )


def transfer(address: str, amount_micro: int) -> Call:
    """Give money to another account."""
    return Call("ledger", "transfer", {"address": address, "amount_micro": amount_micro})


def mint(address: str, amount_micro: int) -> Call:
    """Bring money in to an account; the regulator's to do."""
    return Call("ledger", "mint", {"address": address, "amount_micro": amount_micro})


def redeem(amount_micro: int) -> Call:
    """Take money out of the regulator's own account; the regulator's to do."""
    return Call("ledger", "redeem", {"amount_micro": amount_micro})


def pay_arrears(amount_micro: int) -> Call:
    """Pay back what the regulator covered."""
    return Call("ledger", "pay_arrears", {"amount_micro": amount_micro})


def register_home(
    address: str,
    meter: str,
    name: str,
    role: str,
    import_cap_w: int,
    export_cap_w: int,
    battery_wh: int = 0,
    pv_w: int = 0,
    line: int = 0,
    cluster: int = 0,
    green: bool = False,
) -> Call:
    """Take a home in from the next slot on; the regulator's to do.

    `line` of the feeder it hangs on, `cluster` its grid fees go by; `green` certifies all it gives.
    """
    args: dict[str, Plain] = {
        "address": address,
        "meter": meter,
        "name": name,
        "role": role,
        "import_cap_w": import_cap_w,
        "export_cap_w": export_cap_w,
        "battery_wh": battery_wh,
        "pv_w": pv_w,
        "place": [line, cluster, green],
    }
    return Call("registry", "register", args)


def leave() -> Call:
    """Take the sender's home out of the region, once what it has traded is delivered.

    Its orders go back at once; the account stays, and what is in it.
    """
    return Call("registry", "leave", {})


def remove_home(address: str) -> Call:
    """Do the same for a home that does not say so itself; the regulator's to do."""
    return Call("registry", "remove_home", {"address": address})


def offer_key(address: str, purpose: Literal["account", "meter"], key: str) -> Call:
    """Offer a home's account, or its meter, to a new key, which then has to `take_key`.

    By the key that has the place (a meter's by the meter's), or by the regulator, after which the
    old one is refused at once.
    """
    return Call("registry", "offer_key", {"address": address, "purpose": purpose, "key": key})


def take_key() -> Call:
    """Take the place that was offered to the sender; the old key is refused from then on."""
    return Call("registry", "take_key", {})


def invite(address: str, until_ms: int) -> Call:
    """Let the holder of a key bring in one home, until a block time; the regulator's to do. [ms]"""
    return Call("registry", "invite", {"address": address, "until_ms": until_ms})


def revoke_invite(address: str) -> Call:
    """Take an invitation back; the regulator's to do."""
    return Call("registry", "revoke_invite", {"address": address})


def accept_invite(address: str) -> Call:
    """Let a newcomer's address in; sent by the invitation's key, which is used up by it."""
    return Call("registry", "accept_invite", {"address": address})


def post_table(kind: str, from_ms: int, value: Plain) -> Call:
    """Put a grid table in force from a time of the market on; the regulator's to do.

    Parameters
    ----------
    kind : "tariffs" or "feed_in" [micro per kWh], "intensities" [mg per Wh], "utc_offsets" [min],
        "fees", "coefficients"
    from_ms : later than every slot that has begun or has orders. [ms of market time]
    value : bands of the local day, `[[minute, value], ...]`; minutes for "utc_offsets";
        `[micro per kWh, basis points, matrix]` for "fees"; `[[home, ppm], ...]` for "coefficients".
    """
    return Call("tariff", "post_table", {"kind": kind, "from_ms": from_ms, "value": value})


def post_auctions(rows: Sequence[tuple[int, int, int]]) -> Call:
    """Date rounds before the gate; the regulator's to do.

    `rows` are (market time [ms], first slot, number of slots).
    """
    return Call("market", "post_auctions", {"rows": [list(row) for row in rows]})


def place_home(address: str, line: int, cluster: int, green: bool) -> Call:
    """Put a home on another line or into another cluster, or certify it; the regulator's to do."""
    return Call("registry", "place_home", {"address": address, "place": [line, cluster, green]})
