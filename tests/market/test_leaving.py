"""A home leaves its region: what it is bound to is kept, and nothing of it is lost."""

import pytest

from market import client
from tests.market.street import (
    GATE_MS,
    HOME_KEYS,
    METER_KEYS,
    REGULATOR,
    SLOT,
    SLOT_MS,
    START_MS,
    Street,
    params,
)

START = 10_000_000


def leave(street: Street, number: int) -> client.HomeLeft:
    receipt = street.home(number, client.leave())
    assert receipt.code == "ok", receipt.message
    left = client.decode_event(receipt.events[-1])
    assert isinstance(left, client.HomeLeft)
    return left


def test_orders_go_back_and_what_is_past_its_gate_is_delivered() -> None:
    street = Street(params())
    street.home(1, client.post_order(SLOT, "sell", 600, 100_000))
    street.home(2, client.post_order(SLOT, "buy", 600, 150_000))
    street.to_gate()
    street.home(1, client.post_order(SLOT + 1, "sell", 500, 100_000))
    street.home(1, client.post_order(SLOT + 3, "sell", 500, 100_000))
    assert street.account(1).held_micro == 12_000 + 10_000 + 10_000
    left = leave(street, 1)
    assert left == client.HomeLeft(HOME_KEYS[0].address, 1, SLOT + 1)
    assert client.home(street.query, HOME_KEYS[0].address).until_slot == SLOT + 1
    assert street.account(1).held_micro == 12_000
    assert client.order_book(street.query, SLOT + 1) == []
    assert client.order_book(street.query, SLOT + 3) == []
    assert client.record(street.query, 1).open == 1
    street.to_end()
    for number, import_wh, export_wh in ((1, 0, 600), (2, 600, 0), (3, 50, 0), (4, 0, 0)):
        assert street.read(number, SLOT, import_wh, export_wh).code == "ok"
    street.block()
    bills = {bill.home: bill.total_micro for bill in client.bills_of_slot(street.query, SLOT)}
    assert bills == {1: -60_000, 2: 60_000, 3: 10_000, 4: 0}
    # From here on it takes three readings, not four, and the meter counts for nothing.
    street.to_end(SLOT + 1)
    assert street.read(1, SLOT + 1, 0, 900).reason == "has_left"
    for number in (2, 3, 4):
        assert street.read(number, SLOT + 1, 100, 0).code == "ok"
    street.block()
    summary = client.slot_summary(street.query, SLOT + 1)
    assert (summary.status, summary.readings, summary.homes) == ("settled", 3, 3)
    assert {b.home for b in client.bills_of_slot(street.query, SLOT + 1)} == {2, 3, 4}
    total = client.total(street.query, 1)
    assert total is not None
    assert total.slots == 1


def test_its_money_stays_its_own() -> None:
    street = Street(params())
    leave(street, 2)
    street.to_window_end()
    money = street.account(2)
    assert money == client.Account(HOME_KEYS[1].address, START, 0, 0)
    assert street.home(2, client.transfer(REGULATOR.address, START)).code == "ok"
    assert street.send(REGULATOR, client.redeem(START)).code == "ok"
    assert street.account(2).balance_micro == 0


def test_what_a_round_has_filled_binds_and_the_rest_goes_back() -> None:
    market_ms = START_MS + 60_000
    street = Street(params(auctions=((market_ms, SLOT + 2, 1),)))
    street.home(1, client.post_order(SLOT + 2, "sell", 600, 100_000))
    street.home(2, client.post_order(SLOT + 2, "buy", 200, 150_000))
    street.home(1, client.post_order(SLOT + 4, "sell", 600, 100_000))
    street.block(at_ms=60_000)
    assert [t.energy_wh for t in client.trades_of_slot(street.query, SLOT + 2)] == [200]
    assert leave(street, 1).until_slot == SLOT + 3
    (order,) = client.orders_of(street.query, SLOT + 2, 1)
    assert (order.energy_wh, order.residual_wh) == (200, 0)
    assert street.account(1).held_micro == 4_000
    assert client.order_book(street.query, SLOT + 4) == []
    street.to_gate(SLOT + 2)
    street.to_end(SLOT + 2)
    assert street.read(1, SLOT + 2, 0, 200).code == "ok"
    street.to_window_end(SLOT + 2)
    bill = client.bill(street.query, SLOT + 2, 1)
    assert bill is not None
    assert (bill.sold_wh, bill.shortfall_wh) == (200, 0)
    assert street.account(1).held_micro == 0


def test_who_has_left_does_nothing_more() -> None:
    street = Street(params())
    leave(street, 1)
    order = client.post_order(SLOT + 2, "buy", 100, 150_000)
    assert street.home(1, order).reason == "has_left"
    assert street.home(1, client.leave()).reason == "has_left"
    remove = client.remove_home(HOME_KEYS[0].address)
    assert street.send(REGULATOR, remove).reason == "has_left"
    again = client.register_home(
        HOME_KEYS[0].address, METER_KEYS[0].address, "again", "consumer", 5_000, 0
    )
    assert street.send(REGULATOR, again).reason == "duplicate_home"


def test_the_regulator_takes_out_who_does_not_say_so() -> None:
    street = Street(params())
    call = client.remove_home(HOME_KEYS[2].address)
    assert street.home(1, call).reason == "not_regulator"
    assert street.send(METER_KEYS[0], client.leave()).reason == "not_a_home"
    assert street.send(REGULATOR, call).code == "ok"
    assert client.home(street.query, HOME_KEYS[2].address).until_slot == SLOT
    # Whoever comes later gets a number of its own.
    late = client.register_home(
        HOME_KEYS[5].address, METER_KEYS[5].address, "late", "consumer", 5_000, 0
    )
    assert street.send(REGULATOR, late).code == "ok"
    assert client.home(street.query, HOME_KEYS[5].address).number == 5
    street.to_end()
    for key in (METER_KEYS[0], METER_KEYS[1], METER_KEYS[3], METER_KEYS[5]):
        assert street.send(key, client.post_reading(SLOT, 100, 0, 1)).code == "ok"
    street.block()
    assert [b.home for b in client.bills_of_slot(street.query, SLOT)] == [1, 2, 4, 5]


def test_an_unpaid_bill_after_somebody_has_left_is_its_own() -> None:
    """Bills of those who stay are not booked on the one before them in the list."""
    street = Street(params(balance_micro=10_000))
    leave(street, 1)
    street.to_end()
    for number, import_wh in ((2, 0), (3, 1_000), (4, 0)):
        assert street.read(number, SLOT, import_wh, 0).code == "ok"
    result = street.block()
    events = [client.decode_event(event) for event in result.events]
    (default,) = [event for event in events if isinstance(event, client.Defaulted)]
    assert (default.home, default.reason) == (3, "arrears")
    assert street.account(3).arrears_micro == 190_000


@pytest.mark.parametrize("number", [1, 2])
def test_requests_and_offers_bind_until_they_are_over(number: int) -> None:
    street = Street(params(mechanism="request_offer"))
    start_ms = (SLOT + 2) * SLOT_MS
    call = client.post_request(start_ms, start_ms + 2 * SLOT_MS, 400, True, 0)
    assert street.home(1, call).code == "ok"
    assert street.home(2, client.post_offer(1, 400, 100_000)).code == "ok"
    assert leave(street, number).until_slot == SLOT + 4
    assert leave(street, 3).until_slot <= SLOT + 1
    street.block(at_ms=start_ms - 1_000 - START_MS)
    street.to_window_end(SLOT + 3)
    for slot in (SLOT + 2, SLOT + 3):
        bills = {bill.home: bill for bill in client.bills_of_slot(street.query, slot)}
        assert (bills[1].bought_wh, bills[2].sold_wh) == (200, 200)
        assert 3 not in bills
    assert street.account(1).held_micro == street.account(2).held_micro == 0


def test_sharing_goes_on_among_those_who_stay() -> None:
    street = Street(params(mechanism="sharing"))
    leave(street, 2)
    street.to_end()
    for number, import_wh, export_wh in ((1, 0, 300), (3, 200, 0), (4, 100, 0)):
        assert street.read(number, SLOT, import_wh, export_wh).code == "ok"
    street.block()
    bills = {bill.home: bill for bill in client.bills_of_slot(street.query, SLOT)}
    assert {home: bill.grid_wh for home, bill in bills.items()} == {1: 0, 3: 0, 4: 0}


def test_the_gate_that_is_closed_binds() -> None:
    street = Street(params())
    street.block(at_ms=SLOT * SLOT_MS - GATE_MS - START_MS)
    assert leave(street, 1).until_slot == SLOT + 1
