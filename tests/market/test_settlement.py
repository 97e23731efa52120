"""Settlement worked by hand, and the life of a slot."""

import pytest

from market import client
from market.client import Bill
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


def traded() -> Street:
    """Home 1 sells 600 Wh at 100,000; home 2 buys 500, home 3 buys 300 and bids the tariff.

    Home 3 goes first: 300 Wh from home 1. Home 2: 300 Wh from home 1; 200 Wh stay unmatched.
    Each pays 300 * 100,000 / 1000 = 30,000 micro.
    """
    street = Street(params())
    assert street.home(1, client.post_order(SLOT, "sell", 600, 100_000)).code == "ok"
    assert street.home(2, client.post_order(SLOT, "buy", 500, 150_000)).code == "ok"
    assert street.home(3, client.post_order(SLOT, "buy", 300, 200_000)).code == "ok"
    street.to_gate()
    street.to_end()
    return street


def bills(street: Street) -> dict[int, Bill]:
    return {bill.home: bill for bill in client.bills_of_slot(street.query, SLOT)}


def test_margins_are_locked_and_return() -> None:
    street = Street(params())
    street.home(1, client.post_order(SLOT, "sell", 600, 100_000))
    # A tenth of 600 Wh at the tariff of 200,000 per kWh.
    assert street.account(1) == client.Account(HOME_KEYS[0].address, START - 12_000, 12_000, 0)
    street.to_gate()
    street.to_window_end()
    assert street.account(1).held_micro == 0


def test_delivered_as_sold() -> None:
    street = traded()
    for number, import_wh, export_wh in ((1, 0, 600), (2, 300, 0), (3, 300, 0), (4, 0, 0)):
        assert street.read(number, SLOT, import_wh, export_wh).code == "ok"
    assert client.slot_summary(street.query, SLOT).status == "cleared"
    assert street.app.next_deadline_ms(street.time_ms) == street.time_ms + 1
    street.block()
    summary = client.slot_summary(street.query, SLOT)
    assert (summary.status, summary.readings, summary.homes) == ("settled", 4, 4)
    assert (summary.traded_wh, summary.grid_wh, summary.fed_in_wh) == (600, 0, 0)
    found = bills(street)
    assert found[1].total_micro == -60_000
    assert found[2].total_micro == found[3].total_micro == 30_000
    assert found[4].total_micro == 0
    # Without the market home 1 would have been paid 48,000, the others would have paid 60,000.
    assert found[1].grid_only_micro == -48_000
    assert found[2].saved_micro == 30_000
    assert street.account(1).balance_micro == START + 60_000
    assert street.account(2).balance_micro == START - 30_000


def test_shortfall_surplus_and_imbalance() -> None:
    street = traded()
    street.read(1, SLOT, 0, 500)  # 100 Wh short
    street.read(2, SLOT, 350, 0)  # 50 Wh more than bought
    street.read(3, SLOT, 100, 0)  # took 200 Wh less
    street.read(4, SLOT, 0, 40)  # surplus, sold to nobody
    street.block()
    found = bills(street)
    # Seller: 60,000 income; 100 Wh of grid energy 20,000; penalty of 50,000 per kWh: 5,000.
    assert (found[1].grid_wh, found[1].shortfall_wh, found[1].penalty_micro) == (100, 100, 5_000)
    assert found[1].total_micro == -60_000 + 20_000 + 5_000
    # Buyer: 30,000 for the contract, 50 Wh of grid energy: 10,000; no penalty.
    assert (found[2].grid_wh, found[2].penalty_micro, found[2].total_micro) == (50, 0, 40_000)
    # Buyer that took less pays its contract; 200 Wh go back at the feed-in price: 16,000.
    assert (found[3].fed_in_wh, found[3].total_micro) == (200, 30_000 - 16_000)
    assert (found[4].fed_in_wh, found[4].total_micro) == (40, -3_200)
    # A sixth short is within the tolerance of a quarter.
    assert client.slot_summary(street.query, SLOT).defaults == 0
    money = client.money(street.query)
    assert money.minted_micro == 4 * START + 16_000 + 3_200
    assert money.redeemed_micro == 20_000 + 5_000 + 10_000


def test_a_seller_that_only_consumed_is_short_by_all_it_sold() -> None:
    street = traded()
    street.read(1, SLOT, 70, 0)
    for number in (2, 3, 4):
        street.read(number, SLOT, 0, 0)
    street.block()
    bill = bills(street)[1]
    assert (bill.grid_wh, bill.shortfall_wh) == (670, 600)
    assert bill.penalty_micro == 30_000
    assert client.slot_summary(street.query, SLOT).defaults == 1


def test_missing_readings_at_the_windows_end() -> None:
    street = traded()
    street.read(4, SLOT, 10, 0)
    street.block(at_ms=(SLOT + 3) * SLOT_MS - START_MS - 1)
    assert client.slot_summary(street.query, SLOT).status == "cleared"
    street.to_window_end()
    found = bills(street)
    # The silent seller delivered nothing, the silent buyers took all they had contracted.
    assert (found[1].read, found[1].grid_wh, found[1].shortfall_wh) == (False, 600, 600)
    assert found[1].total_micro == -60_000 + 120_000 + 30_000
    assert (found[2].read, found[2].import_wh, found[2].grid_wh) == (False, 300, 0)
    assert found[3].total_micro == 30_000
    assert (found[4].read, found[4].total_micro) == (True, 2_000)
    summary = client.slot_summary(street.query, SLOT)
    assert (summary.readings, summary.defaults) == (1, 1)


def test_backstop_energy_is_grid_energy_as_metered() -> None:
    street = Street(params())
    street.home(1, client.post_order(SLOT, "buy", 500, 250_000))
    street.home(2, client.post_order(SLOT, "buy", 400, 250_000))
    street.to_gate()
    assert client.slot_summary(street.query, SLOT).backstop_wh == 900
    trades = client.trades_of_slot(street.query, SLOT)
    assert [trade.backstop for trade in trades] == [True, True]
    assert {trade.price_micro_per_kwh for trade in trades} == {200_000}
    street.to_end()
    street.read(1, SLOT, 200, 0)
    street.to_window_end()
    found = bills(street)
    assert (found[1].grid_wh, found[1].total_micro) == (200, 40_000)
    # Silent: it took all it had asked for.
    assert (found[2].import_wh, found[2].grid_wh, found[2].total_micro) == (400, 400, 80_000)


def test_what_traded_nothing_is_no_record() -> None:
    """Else a home could wash its defaults away by orders that nobody takes (Yu, step 2)."""
    street = traded()
    street.read(1, SLOT, 0, 0)
    street.to_window_end()
    assert street.query("market", "history", {"home": 1}) == {"open": 0, "history": [[SLOT, False]]}
    slot = SLOT + 6
    street.home(1, client.post_order(slot, "sell", 600, 190_000))
    street.home(4, client.post_order(slot, "buy", 600, 200_000 + 1))
    street.home(3, client.post_order(slot, "buy", 600, 100_000))
    street.home(2, client.post_order(slot, "sell", 600, 100_001))
    street.to_gate(slot)
    street.to_window_end(slot)
    # Home 4 took home 2's; home 1 asked too much, home 3 too little.
    histories = [street.query("market", "history", {"home": n})["history"] for n in (1, 2, 3, 4)]
    assert histories[0] == [[SLOT, False]]
    assert histories[1][-1] == [slot, False]
    assert [row[0] for row in histories[2]] == [SLOT]
    assert histories[3] == [[slot, True]]


def test_of_the_default_record_only_so_much_is_kept() -> None:
    street = Street(params(history_max=2))
    for step in range(3):
        slot = SLOT + 4 * step
        street.block(at_ms=slot * SLOT_MS - START_MS - GATE_MS - 60_000)
        street.home(1, client.post_order(slot, "sell", 100, 100_000))
        street.home(2, client.post_order(slot, "buy", 100, 150_000))
        street.to_gate(slot)
        street.to_window_end(slot)
    for home in (1, 2):
        kept = street.query("market", "history", {"home": home})["history"]
        assert [row[0] for row in kept] == [SLOT + 4, SLOT + 8]


def test_no_feed_in() -> None:
    street = Street(params(feed_in_enabled=False))
    street.to_end()
    for number in range(1, 5):
        street.read(number, SLOT, 0, 100)
    street.block()
    assert all(b.total_micro == 0 and b.fed_in_wh == 100 for b in bills(street).values())


def test_a_home_that_cannot_pay_is_covered_and_owes() -> None:
    street = Street(params(balance_micro=13_000))
    street.home(1, client.post_order(SLOT, "sell", 600, 100_000))  # margin 12,000
    street.home(2, client.post_order(SLOT, "buy", 600, 150_000))
    street.to_gate()
    street.to_end()
    street.read(1, SLOT, 0, 0)
    street.read(2, SLOT, 600, 0)
    street.read(3, SLOT, 0, 100)
    street.read(4, SLOT, 0, 0)
    result = street.block()
    # Home 1 owes 120,000 + 30,000 - 60,000 = 90,000 and has 13,000; home 2 owes 60,000.
    assert street.account(1) == client.Account(HOME_KEYS[0].address, 0, 0, 77_000)
    assert street.account(2) == client.Account(HOME_KEYS[1].address, 0, 0, 47_000)
    events = [client.decode_event(event) for event in result.events]
    assert client.Defaulted(SLOT, 1, "arrears", 77_000) in events
    assert client.Defaulted(SLOT, 1, "shortfall", 0) in events
    refused = street.home(1, client.post_order(SLOT + 3, "buy", 1, 1))
    assert (refused.code, refused.reason) == ("revert", "open_default")
    # Its next income pays the arrears first.
    street.block(at_ms=(SLOT + 2) * SLOT_MS - START_MS)
    street.read(1, SLOT + 1, 0, 1_000)
    for number in (2, 3, 4):
        street.read(number, SLOT + 1, 0, 0)
    street.block()
    assert street.account(1) == client.Account(HOME_KEYS[0].address, 3_000, 0, 0)


def test_totals_are_the_sums_of_bills_and_outlive_them() -> None:
    street = Street(params(keep_slots=6))
    sums = dict.fromkeys(range(1, 5), 0)
    for step in range(8):
        slot = SLOT + 2 * step
        street.block(at_ms=slot * SLOT_MS - START_MS - GATE_MS - 60_000)
        assert street.home(1, client.post_order(slot, "sell", 100 + step, 90_000)).code == "ok"
        assert street.home(2, client.post_order(slot, "buy", 150, 150_000)).code == "ok"
        street.to_gate(slot)
        street.to_end(slot)
        for number in range(1, 5):
            street.read(number, slot, 50 * (number - 1), 120 if number == 1 else 0)
        street.block()
        for number in sums:
            bill = client.bill(street.query, slot, number)
            assert bill is not None
            sums[number] += bill.total_micro
    assert {t.home: t.total_micro for t in client.totals(street.query)} == sums
    assert client.total(street.query, 1).slots == 8
    assert client.settled_slots(street.query, 100) == [SLOT + 8, SLOT + 10, SLOT + 12, SLOT + 14]
    assert client.bill(street.query, SLOT + 6, 1) is None
    kept = [key for key, _ in street.app.state_items() if f"/{SLOT + 6}" in key]
    assert kept == []
    assert len(client.order_book(street.query, SLOT + 8)) == 2


def test_a_slot_without_orders_is_settled_from_readings() -> None:
    street = Street(params())
    street.to_end()
    for number in range(1, 5):
        street.read(number, SLOT, 100, 0)
    street.block()
    assert {bill.total_micro for bill in bills(street).values()} == {20_000}
    assert client.slot_summary(street.query, SLOT).status == "settled"


def test_a_home_registered_later_is_metered_from_the_next_slot() -> None:
    street = Street(params(homes=2))
    call = client.register_home(
        HOME_KEYS[2].address, METER_KEYS[2].address, "late", "consumer", 5_000, 0
    )
    assert street.send(REGULATOR, call).code == "ok"
    assert client.home(street.query, HOME_KEYS[2].address).since_slot == SLOT
    street.block(at_ms=SLOT * SLOT_MS - START_MS)
    assert street.read(1, SLOT - 2, 1, 0).reason == "too_late"
    assert street.read(3, SLOT - 1, 1, 0).reason == "too_late"
    for number in (1, 2):
        assert street.read(number, SLOT - 1, 10, 0).code == "ok"
    street.block()
    assert len(client.bills_of_slot(street.query, SLOT - 1)) == 2
    street.to_end()
    for number in (1, 2, 3):
        assert street.read(number, SLOT, 10, 0).code == "ok"
    street.block()
    assert len(bills(street)) == 3


def test_deadlines_after_a_long_stop_are_worked_off_block_by_block() -> None:
    street = Street(params())
    for step in range(12):
        street.home(1, client.post_order(SLOT + step, "buy", 10, 250_000))
    street.block(at_ms=40 * SLOT_MS)
    assert client.open_slots(street.query) == [SLOT + step for step in range(8, 12)]
    blocks = 0
    while street.app.next_deadline_ms(street.time_ms) == street.time_ms + 1:
        street.block()
        blocks += 1
    assert blocks == 2
    assert client.open_slots(street.query) == []
    assert street.app.next_deadline_ms(street.time_ms) > street.time_ms + 1
    assert len(client.settled_slots(street.query, 100)) == 12
    assert street.account(1).held_micro == 0


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_bill_is_settled_once(number: int) -> None:
    street = traded()
    street.to_window_end()
    before = client.bill(street.query, SLOT, number)
    street.block()
    street.block(at_ms=20 * SLOT_MS)
    assert client.bill(street.query, SLOT, number) == before
    assert street.read(number, SLOT, 1, 1).reason == "too_late"
