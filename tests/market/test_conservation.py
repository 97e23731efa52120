"""Conservation over random traffic: counted anew from the whole state, and from the bills."""

import pytest

from market import client
from market.invariants import count_money
from tests.market.reference import BUY, SELL, Row, match_by_the_watt_hour, settle_home
from tests.market.street import HOME_KEYS, REGULATOR, Street, params
from tests.market.traffic import HOMES, Traffic


def run(seed: int, blocks: int) -> Street:
    street = Street(params(homes=HOMES, balance_micro=1_000_000, keep_slots=500))
    traffic = Traffic(seed, terms=False)
    for _ in range(blocks):
        street.time_ms += traffic.next_step_ms()
        txs = [street.sign(*traffic.transaction(street.time_ms)) for _ in range(10)]
        result = street.block(txs)
        assert not [event for event in result.events if event.name == "hook_failed"]
        count_money(street.app._state)
    return street


def check_against_reference(
    street: Street,
    slot: int,
    bills: list[client.Bill],
    trades: list[client.Trade],
    tariff: int,
    feed_in: int,
) -> None:
    """Matching and settlement of the slot, as the reference does them from orders and readings."""
    rows = [
        Row(
            number=int(order.order_id.partition("-")[2]),
            home=order.home,
            side=BUY if order.side == "buy" else SELL,
            energy_wh=order.energy_wh,
            price=order.price_micro_per_kwh,
        )
        for order in client.order_book(street.query, slot)
    ]
    matches = match_by_the_watt_hour(rows, tariff, "ask")
    assert [(t.buyer, t.seller, t.energy_wh, t.cost_micro) for t in trades] == [
        (m.buyer, m.seller, m.energy_wh, m.cost) for m in matches
    ]
    readings = {r.home: (r.import_wh, r.export_wh) for r in client.readings(street.query, slot)}
    for bill in bills:
        due = settle_home(bill.home, matches, readings.get(bill.home), tariff, feed_in, 50_000)
        assert due == (
            bill.grid_wh,
            bill.fed_in_wh,
            bill.shortfall_wh,
            bill.penalty_micro,
            bill.total_micro,
        )


def check(street: Street) -> int:
    query = street.query
    settled = client.settled_slots(query, 1_000)
    sums = dict.fromkeys(range(1, HOMES + 1), 0)
    for slot in settled:
        bills = client.bills_of_slot(query, slot)
        summary = client.slot_summary(query, slot)
        trades = client.trades_of_slot(query, slot)
        tariff, feed_in = summary.tariff_micro_per_kwh, summary.feed_in_micro_per_kwh
        assert [bill.home for bill in bills] == list(sums)
        for bill in bills:
            mine = [t for t in trades if not t.backstop]
            bought = [t for t in mine if t.buyer == bill.home]
            sold = [t for t in mine if t.seller == bill.home]
            assert bill.bought_wh == sum(t.energy_wh for t in bought)
            assert bill.trades_cost_micro == sum(t.cost_micro for t in bought)
            assert bill.sold_wh == sum(t.energy_wh for t in sold)
            assert bill.trades_income_micro == sum(t.cost_micro for t in sold)
            assert bill.grid_cost_micro == bill.grid_wh * tariff // 1000
            assert bill.feed_in_income_micro == bill.fed_in_wh * feed_in // 1000
            sums[bill.home] += bill.total_micro
        check_against_reference(street, slot, bills, trades, tariff, feed_in)
        # Σ delivered = Σ consumed, with the grid legs.
        assert summary.import_wh - summary.export_wh == summary.grid_wh - summary.fed_in_wh
        assert summary.traded_wh == sum(bill.bought_wh for bill in bills)
        assert summary.grid_wh == sum(bill.grid_wh for bill in bills)
        assert sum(bill.read for bill in bills) == summary.readings
    for total in client.totals(query):
        assert total.total_micro == sums[total.home]
        assert total.slots == len(settled)
    accounts = [client.account(query, key.address) for key in (REGULATOR, *HOME_KEYS[:HOMES])]
    money = client.money(query)
    held = sum(account.balance_micro + account.held_micro for account in accounts)
    assert held == money.minted_micro - money.redeemed_micro
    # What is held is exactly the margins of the orders that are not settled.
    for number, account in enumerate(accounts[1:], start=1):
        now = street.time_ms // 900_000
        unsettled = {*client.open_slots(query), *range(now - 10, now + 10)}
        margins = sum(
            order.margin_micro
            for slot in unsettled - set(settled)
            for order in client.orders_of(query, slot, number)
        )
        assert account.held_micro == margins
    return len(settled)


@pytest.mark.parametrize("seed", [11, 12])
def test_nothing_is_created_or_lost(seed: int) -> None:
    assert check(run(seed, blocks=70)) > 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 26))
def test_nothing_is_created_or_lost_over_long_runs(seed: int) -> None:
    assert check(run(seed, blocks=600)) > 60
