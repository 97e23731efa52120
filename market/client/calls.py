"""Transactions of the market's contracts: a builder makes a `Call`, `sign_call` signs it."""

from typing import NamedTuple

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


def post_order(slot: int, side: str, energy_wh: int, price_micro_per_kwh: int) -> Call:
    """Offer to `"buy"` or `"sell"` energy in `slot`, at this price or better."""
    return Call(
        "market",
        "post_order",
        {
            "slot": slot,
            "side": side,
            "energy_wh": energy_wh,
            "price_micro_per_kwh": price_micro_per_kwh,
        },
    )


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


def post_table(kind: str, from_ms: int, value: Plain) -> Call:
    """Put a grid table in force from a time of the market on; the regulator's to do.

    Parameters
    ----------
    kind : "tariffs" or "feed_in" [micro per kWh], "intensities" [mg per Wh], "utc_offsets" [min]
    from_ms : later than every slot that has begun or has orders. [ms of market time]
    value : bands of the local day, `[[minute, value], ...]`; minutes for "utc_offsets".
    """
    return Call("tariff", "post_table", {"kind": kind, "from_ms": from_ms, "value": value})
