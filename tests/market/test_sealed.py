"""Sealed orders: committed to before the gate, revealed after it, or paid for."""

import base64
import hashlib
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from market import client
from market.client import Call, sealed
from market.client.sealed import SealedOrder
from market.errors import ParamsError
from market.invariants import count_money
from market.tiers import ExportRules, Membership
from market.vm.gas import TRANSACTION_CAPS
from market.vm.journal import Journal
from tests.market.street import (
    GATE_MS,
    HOME_KEYS,
    HOUR_MS,
    METER_KEYS,
    REGULATOR,
    SLOT,
    SLOT_MS,
    START_MS,
    TARIFF,
    Street,
    params,
)
from tests.market.test_refusals import refusal
from wire.codec import encode

REVEAL_MS = GATE_MS * 2 // 3
SALT = bytes(range(16))
MARGIN = 100_000
BUY = [SealedOrder("buy", 500, 150_000)]
SELL = [SealedOrder("sell", 300, 100_000), SealedOrder("sell", 300, 120_000)]


def street(**changes: Any) -> Street:
    return Street(params(sealed=True, **changes))


def commit(number: int, orders: list[SealedOrder], margin: int = MARGIN, slot: int = SLOT) -> Call:
    digest = sealed.digest_of(slot, HOME_KEYS[number - 1].address, orders, SALT)
    return sealed.commit_order(slot, digest, margin)


def reveal(orders: list[SealedOrder], slot: int = SLOT, salt: bytes = SALT) -> Call:
    return sealed.reveal_order(slot, orders, salt)


def held(s: Street, number: int) -> int:
    return s.account(number).held_micro


def test_a_slot_is_cleared_in_the_block_of_the_last_reveal() -> None:
    s = street()
    for number, orders in ((1, BUY), (2, SELL)):
        assert s.home(number, commit(number, orders)).code == "ok"
    assert held(s, 1) == held(s, 2) == MARGIN
    assert s.to_gate().events == ()
    first = s.block([s.sign(HOME_KEYS[0], reveal(BUY))])
    assert first.receipts[0].code == "ok"
    assert held(s, 1) == sealed.margin_of(500, TARIFF, 10)
    assert client.slot_summary(s.query, SLOT).status == "open"
    last = s.block([s.sign(HOME_KEYS[1], reveal(SELL))])
    assert [event.name for event in last.events] == ["trades", "slot_cleared"]
    trades = client.trades_of_slot(s.query, SLOT)
    assert [(t.energy_wh, t.price_micro_per_kwh) for t in trades] == [
        (300, 100_000),
        (200, 120_000),
    ]
    assert sealed.commitments(s.query, SLOT) == []


def test_uniform_prices_clear_sealed_orders_too() -> None:
    s = street(mechanism="uniform")
    for number, orders in ((1, BUY), (2, SELL)):
        s.home(number, commit(number, orders))
    s.to_gate()
    s.block([s.sign(HOME_KEYS[0], reveal(BUY)), s.sign(HOME_KEYS[1], reveal(SELL))])
    assert client.slot_summary(s.query, SLOT).price_micro_per_kwh == 120_000


def test_what_is_not_revealed_is_the_communitys() -> None:
    s = street()
    for number, orders in ((1, BUY), (2, SELL), (3, [])):
        s.home(number, commit(number, orders, MARGIN * number))
    s.to_gate()
    assert s.home(1, reveal(BUY)).code == "ok"
    assert s.home(3, reveal([])).code == "ok"
    before = client.account(s.query, REGULATOR.address).balance_micro
    closes_ms = SLOT * SLOT_MS - GATE_MS + REVEAL_MS - START_MS
    assert s.block(at_ms=closes_ms - 1).events == ()
    assert s.app.next_deadline_ms(s.time_ms) == START_MS + closes_ms
    over = s.block(at_ms=closes_ms)
    assert [e.name for e in over.events] == ["slot_cleared", "commitment_forfeited"]
    lost = client.decode_event(over.events[-1])
    assert lost == client.CommitmentForfeited(SLOT, 2, 2 * MARGIN)
    assert client.account(s.query, REGULATOR.address).balance_micro == before + 2 * MARGIN
    assert (s.account(2).balance_micro, held(s, 2)) == (10_000_000 - 2 * MARGIN, 0)
    # Of the one that had nothing to say nothing is kept.
    assert s.account(3).balance_micro == 10_000_000
    assert client.trades_of_slot(s.query, SLOT) == []
    assert refusal(s, HOME_KEYS[1], reveal(SELL)).reason == "too_late"


def test_before_the_gate_it_is_taken_back_and_committed_anew() -> None:
    s = street()
    s.home(1, commit(1, BUY))
    assert s.home(1, sealed.withdraw_commitment(SLOT)).code == "ok"
    assert (s.account(1).balance_micro, held(s, 1)) == (10_000_000, 0)
    assert sealed.commitment(s.query, SLOT, 1) is None
    assert s.home(1, commit(1, SELL)).code == "ok"
    s.to_gate()
    assert s.home(1, reveal(SELL)).code == "ok"
    assert client.slot_summary(s.query, SLOT).status == "cleared"


def test_what_one_takes_back_the_others_do_not_wait_for() -> None:
    s = street()
    s.home(1, commit(1, BUY))
    s.home(2, commit(2, SELL))
    s.home(2, sealed.withdraw_commitment(SLOT))
    s.to_gate()
    assert s.home(1, reveal(BUY)).code == "ok"
    assert client.slot_summary(s.query, SLOT).status == "cleared"


def test_a_slot_of_which_all_is_taken_back_is_settled_like_any_other() -> None:
    s = street()
    s.home(1, commit(1, BUY))
    s.home(1, sealed.withdraw_commitment(SLOT))
    s.block(at_ms=SLOT * SLOT_MS - GATE_MS + REVEAL_MS - START_MS)
    assert client.slot_summary(s.query, SLOT).status == "cleared"
    s.to_end()
    for number in range(1, 5):
        s.read(number, SLOT, 100, 0)
    s.block()
    assert client.slot_summary(s.query, SLOT).status == "settled"


def test_terms_are_sealed_with_the_rest() -> None:
    orders = [SealedOrder("buy", 500, 150_000, {"green": True, "partner": 3})]
    s = street()
    s.home(1, commit(1, orders))
    s.to_gate()
    plain = [SealedOrder("buy", 500, 150_000, {"partner": 3})]
    assert refusal(s, HOME_KEYS[0], reveal(plain)).reason == "wrong_reveal"
    assert s.home(1, reveal(orders)).code == "ok"
    order = client.orders_of(s.query, SLOT, 1)[0]
    assert (order.green, order.partner) == (True, 3)


def test_who_leaves_takes_back_what_is_open_and_still_reveals_the_rest() -> None:
    s = street()
    s.home(1, commit(1, BUY))
    s.home(1, commit(1, SELL, slot=SLOT + 1))
    s.to_gate()
    assert s.home(1, client.leave()).code == "ok"
    assert held(s, 1) == MARGIN
    assert s.home(1, reveal(BUY)).code == "ok"
    assert held(s, 1) == sealed.margin_of(500, TARIFF, 10)


def test_arrears_do_not_keep_what_is_promised_from_being_revealed() -> None:
    """A default in another slot, between the two, is no reason to lose the margin."""
    s = street(balance_micro=MARGIN + 1)
    s.home(1, commit(1, BUY, MARGIN))
    s.to_gate(SLOT)
    key = f"ledger/account/{HOME_KEYS[0].address}"
    s.app._state.items[key] = encode([1, MARGIN, 77])
    assert s.home(1, reveal(BUY)).code == "ok"
    account = s.account(1)
    assert (account.arrears_micro, account.held_micro) == (77, sealed.margin_of(500, TARIFF, 10))


def open_gate(s: Street) -> None:
    s.home(1, commit(1, BUY))


def closed(s: Street) -> None:
    open_gate(s)
    s.home(2, commit(2, SELL))
    s.to_gate()


def revealed(s: Street) -> None:
    closed(s)
    s.home(1, reveal(BUY))


def over(s: Street) -> None:
    closed(s)
    s.block(at_ms=SLOT * SLOT_MS - GATE_MS + REVEAL_MS - START_MS)


def nothing(s: Street) -> None:
    del s


DIGEST = "0" * 43


def raw(entry: str, **args: Any) -> Call:
    return Call("sealed", entry, args)


BAD: dict[str, tuple[Callable[[Street], object], Call, str]] = {
    "an open order": (nothing, client.post_order(SLOT, "buy", 1, 1), "sealed_market"),
    "digest too short": (nothing, sealed.commit_order(SLOT, "0" * 42, 1), "bad_argument"),
    "digest of other letters": (nothing, sealed.commit_order(SLOT, "+" * 43, 1), "bad_argument"),
    "digest of a number": (
        nothing,
        raw("commit_order", slot=SLOT, digest=1, margin_micro=1),
        "bad_argument",
    ),
    "negative margin": (nothing, sealed.commit_order(SLOT, DIGEST, -1), "bad_argument"),
    "margin as text": (
        nothing,
        raw("commit_order", slot=SLOT, digest=DIGEST, margin_micro="1"),
        "bad_argument",
    ),
    "more than there is": (nothing, sealed.commit_order(SLOT, DIGEST, 10_000_001), "no_margin"),
    "slot as text": (
        nothing,
        raw("commit_order", slot="1", digest=DIGEST, margin_micro=1),
        "bad_argument",
    ),
    "past the gate": (closed, commit(1, BUY), "gate_closed"),
    "too far": (nothing, commit(1, BUY, slot=SLOT + 192), "slot_too_far"),
    "twice": (open_gate, commit(1, SELL), "already_committed"),
    "withdraw nothing": (nothing, sealed.withdraw_commitment(SLOT), "no_commitment"),
    "withdraw too late": (closed, sealed.withdraw_commitment(SLOT), "gate_closed"),
    "withdraw of no slot": (nothing, raw("withdraw_commitment", slot=None), "bad_argument"),
    "reveal too early": (open_gate, reveal(BUY), "too_early"),
    "reveal too late": (over, reveal(BUY), "too_late"),
    "reveal twice": (revealed, reveal(BUY), "no_commitment"),
    "reveal another slot": (closed, reveal(BUY, slot=SLOT - 1), "too_late"),
    "another price": (closed, reveal([SealedOrder("buy", 500, 150_001)]), "wrong_reveal"),
    "another amount": (closed, reveal([SealedOrder("buy", 501, 150_000)]), "wrong_reveal"),
    "another side": (closed, reveal([SealedOrder("sell", 500, 150_000)]), "wrong_reveal"),
    "one more": (closed, reveal(BUY * 2), "wrong_reveal"),
    "none of it": (closed, reveal([]), "wrong_reveal"),
    "another salt": (closed, reveal(BUY, salt=bytes(16)), "wrong_reveal"),
    "a neighbour's": (closed, reveal(SELL), "wrong_reveal"),
    "no salt": (closed, raw("reveal_order", slot=SLOT, orders=[], salt=""), "bad_argument"),
    "salt as number": (closed, raw("reveal_order", slot=SLOT, orders=[], salt=1), "bad_argument"),
    "no list": (
        closed,
        raw("reveal_order", slot=SLOT, orders={}, salt=sealed.base64url(SALT)),
        "bad_argument",
    ),
    "too many": (closed, reveal(BUY * 9), "bad_argument"),
    "a row too short": (
        closed,
        raw("reveal_order", slot=SLOT, orders=[["buy", 1, 1]], salt=sealed.base64url(SALT)),
        "bad_argument",
    ),
    "a row of text": (
        closed,
        raw("reveal_order", slot=SLOT, orders=[["buy", "1", 1, {}]], salt=sealed.base64url(SALT)),
        "bad_argument",
    ),
    "a partner of text": (
        closed,
        raw(
            "reveal_order",
            slot=SLOT,
            orders=[["buy", 1, 1, {"partner": "x"}]],
            salt=sealed.base64url(SALT),
        ),
        "bad_argument",
    ),
    "a side that says more": (
        closed,
        raw(
            "reveal_order",
            slot=SLOT,
            orders=[["buy 1 1 0 0 0/buy", 1, 1, {}]],
            salt=sealed.base64url(SALT),
        ),
        "bad_argument",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    prepare, call, code = BAD[name]
    s = street()
    prepare(s)
    receipt = refusal(s, HOME_KEYS[0], call)
    assert (receipt.code, receipt.reason) == ("revert", code), receipt.message


# What nobody can see is wrong before it is revealed: the margin is lost, the market is not harmed.
UNFIT: dict[str, tuple[list[SealedOrder], int, str]] = {
    "more than the margin": (BUY, sealed.margin_of(499, TARIFF, 10), "over_commitment"),
    "no energy": ([SealedOrder("buy", 0, 1)], MARGIN, "bad_argument"),
    "no price": ([SealedOrder("buy", 1, 0)], MARGIN, "bad_price"),
    "over the capability": ([SealedOrder("sell", 2_501, 1)], MARGIN, "over_capability"),
    "together over it": (SELL * 4 + [SealedOrder("sell", 101, 1)], MARGIN, "over_capability"),
    "both sides": (BUY + SELL, MARGIN, "other_side"),
    "a partner that is oneself": (
        [SealedOrder("buy", 1, 1, {"partner": 1})],
        MARGIN,
        "bad_argument",
    ),
    "an unknown term": ([SealedOrder("buy", 1, 1, {"red": True})], MARGIN, "bad_argument"),
    "expired": ([SealedOrder("buy", 1, 1, {"expires_ms": 1})], MARGIN, "bad_argument"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_orders_that_do_not_fit_are_refused_and_cost_the_margin(name: str) -> None:
    orders, margin, code = UNFIT[name]
    s = street(orders_per_home_max=9)
    assert s.home(1, commit(1, orders, margin)).code == "ok"
    s.to_gate()
    receipt = refusal(s, HOME_KEYS[0], reveal(orders))
    assert (receipt.code, receipt.reason) == ("revert", code), receipt.message
    s.block(at_ms=SLOT * SLOT_MS - GATE_MS + REVEAL_MS - START_MS)
    assert s.account(1).balance_micro == 10_000_000 - margin
    count_money(s.app._state)


def test_a_consumer_cannot_reveal_a_sale() -> None:
    entry = msgspec.structs.replace(params(homes=1).homes[0], role="consumer")
    s = street(homes=(entry,))
    s.home(1, commit(1, SELL))
    s.to_gate()
    assert refusal(s, HOME_KEYS[0], reveal(SELL)).reason == "wrong_role"


def test_strangers_and_meters_commit_to_nothing() -> None:
    s = street()
    for key in (METER_KEYS[0], HOME_KEYS[7]):
        receipt = s.send(key, commit(1, BUY))
        assert receipt.reason in ("not_a_home", "stranger")
    s.home(1, commit(1, BUY))
    s.to_gate()
    assert refusal(s, METER_KEYS[0], reveal(BUY)).reason == "not_a_home"


def test_who_has_too_much_unsettled_commits_to_nothing() -> None:
    s = street(unsettled_orders_max=1)
    s.home(1, commit(1, BUY))
    s.home(2, commit(2, SELL))
    s.to_gate()
    s.home(1, reveal(BUY))
    s.home(2, reveal(SELL))
    assert len(client.trades_of_slot(s.query, SLOT)) == 2
    refused = refusal(s, HOME_KEYS[0], commit(1, BUY, slot=SLOT + 1))
    assert refused.reason == "too_many_unfinished"


def test_only_contracts_reveal_and_take_leave() -> None:
    s = street()
    s.home(1, commit(1, BUY))
    home = client.home(s.query, HOME_KEYS[0].address).number
    for contract, entry, args in (
        ("market", "expect_orders", {"slot": SLOT, "home": home}),
        ("market", "post_revealed", {"slot": SLOT, "home": {"number": home}, "rows": []}),
        ("market", "clear_revealed", {"slot": SLOT}),
        ("sealed", "leave", {"home": home}),
    ):
        env = {"sender": HOME_KEYS[0].address, "market_ms": 0, "time_ms": 0, "slot": SLOT}
        outcome = s.app._executor.run(
            Journal(s.app._state), contract, entry, args, env, TRANSACTION_CAPS
        )
        assert outcome.error is not None, entry
        assert outcome.error.reason == "not_keeper"


def test_the_digest_is_that_of_the_page() -> None:
    """Worked out by hand, of each field: whoever writes another client can hold it against this."""
    address = HOME_KEYS[0].address
    orders = [
        SealedOrder("buy", 500, 150_000),
        SealedOrder("buy", 1, 2, {"expires_ms": START_MS + HOUR_MS, "green": True, "partner": 3}),
    ]
    text = (
        f"commonwatt sealed orders 1/{SLOT}/{address}/AAECAwQFBgcICQoLDA0ODw/buy 500 150000 0 0 0"
        f"/buy 1 2 {START_MS + HOUR_MS} 1 3"
    )
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()[:43]
    assert sealed.digest_of(SLOT, address, orders, SALT) == digest
    s = street()
    assert s.home(1, sealed.commit_order(SLOT, digest, MARGIN)).code == "ok"
    s.to_gate()
    assert s.home(1, reveal(orders)).code == "ok"


def test_a_slot_has_room_for_all_that_is_committed_to() -> None:
    s = street(orders_per_home_max=8, orders_per_slot_max=23)
    for number in (1, 2):
        assert s.home(number, commit(number, [SealedOrder("buy", 1, 1)] * 8)).code == "ok"
    assert refusal(s, HOME_KEYS[2], commit(3, BUY)).reason == "slot_full"
    s.to_gate()
    for number in (1, 2):
        assert s.home(number, reveal([SealedOrder("buy", 1, 1)] * 8)).code == "ok"


def test_sixteen_orders_are_revealed_within_the_gas_of_a_transaction() -> None:
    orders = [SealedOrder("buy", 1, 1, {"green": True, "partner": 2})] * 16
    s = street(orders_per_home_max=16)
    s.home(1, commit(1, orders))
    s.to_gate()
    receipt = s.home(1, reveal(orders))
    assert receipt.code == "ok", receipt.message
    assert receipt.gas < 100_000


def test_no_round_is_dated_before_the_gate() -> None:
    s = street()
    call = client.post_auctions([(START_MS + 60_000, SLOT, 1)])
    assert refusal(s, REGULATOR, call).reason == "sealed_market"


def test_a_table_is_not_put_under_a_commitment() -> None:
    """The margin was reckoned at the slot's tariff."""
    s = street()
    s.home(1, commit(1, BUY, slot=SLOT + 4))
    table = client.post_table("tariffs", (SLOT + 4) * SLOT_MS, [[0, TARIFF * 2]])
    assert refusal(s, REGULATOR, table).reason == "too_late"


def test_open_markets_have_no_sealed_orders() -> None:
    s = Street(params())
    receipt = s.home(1, commit(1, BUY))
    assert (receipt.code, receipt.reason) == ("rejected", "unknown_contract")


MEMBER = Membership(1, "main", tuple(bytes([n]) * 32 for n in range(4)), exports=ExportRules())
WRONG_PARAMS: dict[str, tuple[dict[str, Any], str]] = {
    "no truth": ({"sealed": 1}, "true or false"),
    "requests": ({"mechanism": "request_offer"}, "request_offer has none"),
    "sharing": ({"mechanism": "sharing"}, "high_low and uniform"),
    "auctions": ({"auctions": ((START_MS, SLOT, 1),)}, "auctions"),
    "intraday": ({"intraday_every_ms": 60_000}, "intraday_every_ms"),
    "exports": ({"region": MEMBER}, "region.exports"),
    "no window": ({"reveal_ms": 0}, "reveal_ms"),
    "beyond the slot's start": ({"reveal_ms": GATE_MS + 1}, "300000"),
    "no gate": ({"gate_lead_ms": 0}, "gate_lead_ms"),
    "too fast": ({"time_lapse": 101}, "real time"),
    "too many at once": ({"orders_per_home_max": 17}, "orders_per_home_max"),
}


@pytest.mark.parametrize("name", WRONG_PARAMS)
def test_parameters_that_cannot_be_meant(name: str) -> None:
    changes, words = WRONG_PARAMS[name]
    with pytest.raises(ParamsError, match=words):
        params(**{"sealed": True, **changes}).check()


def test_a_window_without_sealed_orders_is_a_mistake() -> None:
    with pytest.raises(ParamsError, match="leave it out"):
        params(reveal_ms=1_000).check()


def test_a_salt_of_another_length_is_refused_at_home() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        sealed.digest_of(SLOT, HOME_KEYS[0].address, [], b"short")


def _random_orders(random_: random.Random) -> list[SealedOrder]:
    side = random_.choice(["buy", "sell"])
    return [
        SealedOrder(side, random_.randint(1, 400), random_.randint(60_000, 240_000))
        for _ in range(random_.randint(0, 4))
    ]


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_created_or_lost(seed: int) -> None:
    """Random commitments, some withdrawn, some wrong, some never revealed, over five slots."""
    random_ = random.Random(seed)
    s = Street(params(sealed=True, balance_micro=1_000_000))
    names: set[str] = set()
    for slot in range(SLOT, SLOT + 15, 3):
        said = {number: _random_orders(random_) for number in range(1, 5)}
        for number, orders in said.items():
            s.home(number, commit(number, orders, random_.choice([4_000, 40_000]), slot))
            if random_.random() < 0.2:
                s.home(number, sealed.withdraw_commitment(slot))
        s.to_gate(slot)
        for number, orders in said.items():
            if random_.random() < 0.8:
                s.home(number, reveal(orders, slot))
        blocks = [s.block(at_ms=slot * SLOT_MS - GATE_MS + REVEAL_MS - START_MS)]
        assert s.app._state.keys_under("sealed/commitment/") == []
        blocks.append(s.to_end(slot))
        for number in said:
            s.read(number, slot, random_.randint(0, 500), random_.randint(0, 500))
        blocks.append(s.block())
        names |= {event.name for block in blocks for event in block.events}
        count_money(s.app._state)
    assert {"commitment_forfeited", "slot_cleared", "slot_settled"} <= names
    assert "hook_failed" not in names
    assert client.account(s.query, REGULATOR.address).balance_micro > 0
