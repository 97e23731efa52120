"""Every refusal a person can meet: its code, and that nothing but the nonce changes."""

from collections.abc import Callable

import pytest

from market import client
from market.app import PARAMS_KEY
from market.client import Call
from market.receipts import Receipt
from tests.market.street import (
    GATE_MS,
    HOME_KEYS,
    METER_KEYS,
    REGULATOR,
    SLOT,
    SLOT_MS,
    START_MS,
    TARIFF,
    Street,
    params,
)
from wire.keys import SigningKey

order = client.post_order


def raw(contract: str, entry: str, **args: object) -> Call:
    return Call(contract, entry, dict(args))


def refusal(street: Street, key: SigningKey, call: Call) -> Receipt:
    """Send a call that must be refused; check that it left nothing but a used nonce."""
    before = dict(street.app.state_items())
    receipt = street.send(key, call)
    after = dict(street.app.state_items())
    changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    # A hook of the block may have said until when it rests.
    changed = {key for key in changed if not key.endswith("/idle_until")}
    assert changed <= {"chain/block", f"chain/nonce/{key.address}"}
    assert receipt.events == ()
    assert receipt.message
    return receipt


H1, H2, M1 = HOME_KEYS[0], HOME_KEYS[1], METER_KEYS[0]

ORDERS: dict[str, tuple[Call, str]] = {
    "no energy": (order(SLOT, "buy", 0, 1), "bad_argument"),
    "negative energy": (order(SLOT, "sell", -5, 1), "bad_argument"),
    "huge energy": (order(SLOT, "buy", 2**62, 1), "bad_argument"),
    "energy as text": (raw("market", "post_order", slot=SLOT, terms={}, side="buy", energy_wh="1",
                           price_micro_per_kwh=1), "bad_argument"),
    "energy as bool": (raw("market", "post_order", slot=SLOT, terms={}, side="buy", energy_wh=True,
                           price_micro_per_kwh=1), "bad_argument"),
    "side": (order(SLOT, "both", 1, 1), "bad_argument"),
    "side as list": (raw("market", "post_order", slot=SLOT, terms={}, side=["buy"], energy_wh=1,
                         price_micro_per_kwh=1), "bad_argument"),
    "no price": (order(SLOT, "buy", 1, 0), "bad_price"),
    "price over the band": (order(SLOT, "buy", 1, 10_000_001), "bad_price"),
    "price as text": (raw("market", "post_order", slot=SLOT, terms={}, side="buy", energy_wh=1,
                          price_micro_per_kwh="1"), "bad_price"),
    "past slot": (order(SLOT - 1, "buy", 1, 1), "gate_closed"),
    "far slot": (order(SLOT + 192, "buy", 1, 1), "slot_too_far"),
    "negative slot": (order(-1, "buy", 1, 1), "bad_argument"),
    "slot as text": (raw("market", "post_order", slot="1", terms={}, side="buy", energy_wh=1,
                         price_micro_per_kwh=1), "bad_argument"),
    "over the capability": (order(SLOT, "sell", 2_501, 1), "over_capability"),
    "withdraw nothing": (client.withdraw_order(f"{SLOT}-1"), "unknown_order"),
    "withdraw from a closed gate": (client.withdraw_order(f"{SLOT - 1}-1"), "gate_closed"),
    "to nobody": (client.transfer("cw" + "0" * 40, 1), "unknown_account"),
    "no address": (client.transfer("bob", 1), "bad_argument"),
    "to oneself": (client.transfer(H1.address, 1), "bad_argument"),
    "more than one has": (client.transfer(H2.address, 10**9), "no_money"),
    "nothing": (client.transfer(H2.address, 0), "bad_argument"),
    "minting": (client.mint(H1.address, 1), "not_regulator"),
    "redeeming": (client.redeem(1), "not_regulator"),
    "arrears one has not": (client.pay_arrears(1), "bad_argument"),
    "registering": (client.register_home(H1.address, M1.address, "x", "consumer", 1, 1),
                    "not_regulator"),
    "reading by the home": (client.post_reading(SLOT, 1, 1, 1), "not_a_meter"),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_refused_to_a_home(name: str) -> None:
    call, code = ORDERS[name]
    receipt = refusal(Street(params()), H1, call)
    assert (receipt.code, receipt.reason) == ("revert", code), receipt.message


def test_consumers_only_buy() -> None:
    entry = params(homes=1).homes[0]
    import msgspec

    street = Street(params(homes=(msgspec.structs.replace(entry, role="consumer"),)))
    assert refusal(street, H1, order(SLOT, "sell", 1, 1)).reason == "wrong_role"
    assert street.home(1, order(SLOT, "buy", 1, 1)).code == "ok"


def test_margin() -> None:
    street = Street(params(balance_micro=1_999))
    receipt = refusal(street, H1, order(SLOT, "buy", 100, 1))
    assert receipt.reason == "no_margin"
    assert "2000" in receipt.message
    assert "1999" in receipt.message
    assert street.home(1, order(SLOT, "buy", 99, 1)).code == "ok"


def test_orders_add_up_to_the_capability() -> None:
    street = Street(params())
    assert street.home(1, order(SLOT, "sell", 2_000, 1)).code == "ok"
    assert refusal(street, H1, order(SLOT, "sell", 501, 1)).reason == "over_capability"
    assert refusal(street, H1, order(SLOT, "buy", 1, 1)).reason == "other_side"
    assert street.home(1, order(SLOT, "sell", 500, 1)).code == "ok"
    assert street.home(1, client.withdraw_order(f"{SLOT}-1")).code == "ok"
    assert street.home(1, order(SLOT, "sell", 2_000, 1)).code == "ok"


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"orders_per_home_max": 2}, "too_many_orders"),
        ({"unsettled_orders_max": 2}, "too_many_unfinished"),
        ({"orders_per_slot_max": 2}, "slot_full"),
    ],
)
def test_limits_on_orders(limit: dict[str, int], code: str) -> None:
    street = Street(params(**limit))
    for _ in range(2):
        assert street.home(1, order(SLOT, "buy", 1, 1)).code == "ok"
    assert refusal(street, H1, order(SLOT, "buy", 1, 1)).reason == code


def test_another_homes_order_cannot_be_withdrawn() -> None:
    street = Street(params())
    street.home(1, order(SLOT, "buy", 1, 1))
    assert refusal(street, H2, client.withdraw_order(f"{SLOT}-1")).reason == "unknown_order"


def contracted(street: Street, slot: int, given_wh: int) -> None:
    """Home 1 sells 100 Wh to home 2 in a slot and gives so much; all is read."""
    street.block(at_ms=(slot - 1) * SLOT_MS - START_MS)
    assert street.home(1, order(slot, "sell", 100, 1)).code == "ok"
    assert street.home(2, order(slot, "buy", 100, 1)).code == "ok"
    street.to_gate(slot)
    street.to_end(slot)
    for number in range(1, 5):
        street.read(number, slot, 0, given_wh if number == 1 else 0)
    street.block()


def test_default_rate_closes_the_market_until_the_window_has_passed() -> None:
    street = Street(params(history_min=2, history_slots=8, default_rate_max_percent=50))
    for slot in (SLOT, SLOT + 2):
        contracted(street, slot, 0)
    assert refusal(street, H1, order(SLOT + 5, "sell", 1, 1)).reason == "default_rate"
    assert street.home(2, order(SLOT + 5, "buy", 1, 1)).code == "ok"
    street.block(at_ms=(SLOT + 9) * SLOT_MS - START_MS)
    assert street.home(1, order(SLOT + 12, "sell", 1, 1)).code == "ok"


def test_which_slots_count_in_the_default_rate_and_when_it_is_too_much() -> None:
    """More than half of the slots of the last eight, of at least one (Yu, step 2)."""
    street = Street(params(history_min=1, history_slots=8, default_rate_max_percent=50))
    contracted(street, SLOT, 100)
    contracted(street, SLOT + 2, 0)
    for now, refused in ((SLOT + 7, ""), (SLOT + 8, "default_rate"), (SLOT + 10, "")):
        street.block(at_ms=now * SLOT_MS - START_MS)
        # One of two is half; then what was kept is too old, and at last what was not.
        assert street.home(1, order(now + 3, "sell", 1, 1)).reason == refused


def late(street: Street) -> None:
    street.block(at_ms=(SLOT + 3) * SLOT_MS - START_MS)


def read_once(street: Street) -> None:
    street.to_end()
    street.read(1, SLOT, 1, 1)


def settled(street: Street) -> None:
    street.to_end()
    for number in range(1, 5):
        street.read(number, SLOT, 1, 1)
    street.block()


READINGS: dict[str, tuple[Callable[[Street], object], Call, str]] = {
    "too early": (lambda s: s.to_gate(), client.post_reading(SLOT, 1, 1, 1), "too_early"),
    "too late": (late, client.post_reading(SLOT, 1, 1, 1), "too_late"),
    "twice": (read_once, client.post_reading(SLOT, 1, 1, SLOT + 1), "already_read"),
    "out of order": (read_once, client.post_reading(SLOT, 1, 1, SLOT), "out_of_order"),
    "settled": (settled, client.post_reading(SLOT, 1, 1, SLOT + 1), "already_settled"),
    "implausible import": (
        Street.to_end,
        client.post_reading(SLOT, 2_751, 0, 1),
        "implausible",
    ),
    "implausible export": (
        Street.to_end,
        client.post_reading(SLOT, 0, 2_751, 1),
        "implausible",
    ),
    "negative": (Street.to_end, client.post_reading(SLOT, -1, 0, 1), "bad_argument"),
    "huge": (Street.to_end, client.post_reading(SLOT, 2**60, 0, 1), "bad_argument"),
    "sequence": (Street.to_end, client.post_reading(SLOT, 1, 0, 0), "bad_argument"),
    "an order by a meter": (Street.to_end, order(SLOT + 5, "buy", 1, 1), "not_a_home"),
}


@pytest.mark.parametrize("name", READINGS)
def test_refused_to_a_meter(name: str) -> None:
    prepare, call, code = READINGS[name]
    street = Street(params())
    prepare(street)
    receipt = refusal(street, M1, call)
    assert (receipt.code, receipt.reason) == ("revert", code), receipt.message


REGULATORS: dict[str, tuple[Call, str]] = {
    "redeem what it has not": (client.redeem(1), "no_money"),
    "mint nothing": (client.mint(H1.address, 0), "bad_argument"),
    "mint to nonsense": (client.mint("x", 1), "bad_argument"),
    "known home": (
        client.register_home(H1.address, HOME_KEYS[7].address, "x", "consumer", 1, 1),
        "duplicate_home",
    ),
    "known meter": (
        client.register_home(HOME_KEYS[7].address, M1.address, "x", "consumer", 1, 1),
        "duplicate_home",
    ),
    "one key for both": (
        client.register_home(HOME_KEYS[7].address, HOME_KEYS[7].address, "x", "consumer", 1, 1),
        "bad_argument",
    ),
    "role": (
        client.register_home(HOME_KEYS[7].address, METER_KEYS[7].address, "x", "king", 1, 1),
        "bad_argument",
    ),
    "power": (
        client.register_home(HOME_KEYS[7].address, METER_KEYS[7].address, "x", "consumer", -1, 1),
        "bad_argument",
    ),
}


@pytest.mark.parametrize("name", REGULATORS)
def test_refused_to_the_regulator(name: str) -> None:
    call, code = REGULATORS[name]
    assert refusal(Street(params()), REGULATOR, call).reason == code


def test_internal_entries_are_nobodys_to_call() -> None:
    street = Street(params())
    for call in (
        raw("ledger", "lock", address=H1.address, amount_micro=1),
        raw("ledger", "settle", rows=[], minted=10**9, redeemed=0),
        raw("market", "close", slot=SLOT, rows=[]),
        raw("market", "on_block"),
        raw("market", "instantiate", args={}),
        raw("ledger", "balance", address=H1.address),
    ):
        receipt = street.home(1, call)
        assert (receipt.code, receipt.reason) == ("rejected", "unknown_entry")
    assert street.app.nonce(H1.address) == 0


def test_the_ledger_serves_its_keepers_only() -> None:
    street = Street(params())
    from market.vm.gas import TRANSACTION_CAPS
    from market.vm.journal import Journal

    executor, state = street.app._executor, street.app._state
    for entry, args in (
        ("lock", {"address": H1.address, "amount_micro": 1}),
        ("unlock", {"address": H1.address, "amount_micro": 1}),
        ("settle", {"rows": [], "minted": 0, "redeemed": 0}),
    ):
        journal = Journal(state)
        env = {"sender": H1.address}
        outcome = executor.run(journal, "ledger", entry, args, env, TRANSACTION_CAPS)
        assert outcome.error is not None
        assert outcome.error.reason == "not_keeper"
    for entry, args in (
        ("positions", {"slot": SLOT}),
        ("close", {"slot": SLOT, "rows": []}),
        ("learn", {"limits": [[1, 1]]}),
    ):
        outcome = executor.run(Journal(state), "market", entry, args, {}, TRANSACTION_CAPS)
        assert outcome.error is not None
        assert outcome.error.reason == "not_keeper"


def test_the_gate_closes_to_the_millisecond() -> None:
    street = Street(params())
    gate = SLOT * SLOT_MS - GATE_MS - START_MS
    street.block(at_ms=gate - 1_001)
    assert street.home(1, order(SLOT, "buy", 1, TARIFF)).code == "ok"
    receipt = street.home(1, order(SLOT, "buy", 1, TARIFF))
    assert receipt.code == "ok" if street.time_ms < START_MS + gate else receipt.reason
    assert refusal(street, H1, order(SLOT, "buy", 1, TARIFF)).reason == "gate_closed"
    assert PARAMS_KEY in dict(street.app.state_items())
