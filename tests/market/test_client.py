"""Typed transactions, queries and events over a real run."""

import msgspec
import pytest

from market import client
from market.client import Trade
from market.errors import QueryError
from market.receipts import Event
from tests.market.street import (
    FEED_IN,
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


def events(items: tuple[Event, ...]) -> list[client.MarketEvent | None]:
    return [client.decode_event(event) for event in items]


def test_a_slot_from_order_to_bill() -> None:
    street = Street(params())
    query = street.query
    posted = street.home(1, client.post_order(SLOT, "sell", 300, 120_000))
    assert events(posted.events) == [
        client.OrderPosted(f"{SLOT}-1", SLOT, 1, "sell", 300, 120_000, 6_000)
    ]
    street.home(2, client.post_order(SLOT, "buy", 100, 130_000))
    street.home(2, client.post_order(SLOT, "buy", 50, 250_000))
    street.home(3, client.post_order(SLOT, "buy", 10, 110_000))
    withdrawn = street.home(3, client.withdraw_order(f"{SLOT}-4"))
    assert events(withdrawn.events) == [client.OrderWithdrawn(f"{SLOT}-4", SLOT, 3, 10, 200)]
    assert client.open_slots(query) == [SLOT]
    before = client.slot_summary(query, SLOT)
    assert (before.status, before.bids, before.bid_wh, before.asks) == ("open", 2, 150, 1)
    cleared = street.to_gate()
    first = Trade(SLOT, 2, 1, f"{SLOT}-3", f"{SLOT}-1", 50, 120_000, 6_000)
    second = Trade(SLOT, 2, 1, f"{SLOT}-2", f"{SLOT}-1", 100, 120_000, 12_000)
    assert events(cleared.events)[0] == client.Trades(SLOT, (first, second))
    summary = events(cleared.events)[1]
    assert isinstance(summary, client.SlotCleared)
    assert (summary.traded_wh, summary.traded_micro, summary.low_micro_per_kwh) == (
        150,
        18_000,
        120_000,
    )
    assert client.trades_of_slot(query, SLOT) == [first, second]
    assert client.trades_of_home(query, SLOT, 1) == [first, second]
    assert client.trades_of_home(query, SLOT, 3) == []
    book = client.order_book(query, SLOT)
    assert [(o.side, o.home, o.residual_wh) for o in book] == [
        ("buy", 2, 0),
        ("buy", 2, 0),
        ("sell", 1, 150),
    ]
    assert [o.order_id for o in client.orders_of(query, SLOT, 2)] == [f"{SLOT}-2", f"{SLOT}-3"]
    street.to_end()
    read = street.read(1, SLOT, 0, 300)
    assert events(read.events) == [client.ReadingAccepted(SLOT, 1, 0, 300)]
    for number in (2, 3, 4):
        street.read(number, SLOT, 150, 0)
    reading = client.readings(query, SLOT)[0]
    assert (reading.home, reading.import_wh, reading.export_wh) == (1, 0, 300)
    settled = events(street.block().events)
    assert settled == [client.SlotSettled(client.slot_summary(query, SLOT))]
    bill = client.bill(query, SLOT, 1)
    assert bill is not None
    assert bill.total_micro == -18_000 - 150 * FEED_IN // 1000
    assert bill.saved_micro == bill.grid_only_micro - bill.total_micro == 6_000
    total = client.total(query, 1)
    assert (total.total_micro, total.saved_micro) == (bill.total_micro, 6_000)
    assert client.settled_slots(query, 5) == [SLOT]


def test_before_anything_happened() -> None:
    street = Street(params())
    query = street.query
    assert client.bill(query, SLOT, 1) is None
    assert client.bills_of_slot(query, SLOT) == []
    assert client.total(query, 1) == client.Total(1, *[0] * 18)
    assert client.totals(query) == []
    assert client.order_book(query, SLOT) == []
    assert client.settled_slots(query, 1) == []
    summary = client.slot_summary(query, SLOT)
    assert (summary.status, summary.bids, summary.readings) == ("open", 0, 0)
    assert client.slot_summary(query, SLOT - 1).status == "cleared"


def test_homes_accounts_and_money() -> None:
    street = Street(params())
    homes = client.homes(street.query)
    assert [home.number for home in homes] == [1, 2, 3, 4]
    assert homes[1] == client.home(street.query, HOME_KEYS[1].address)
    assert homes[1].meter == METER_KEYS[1].address
    with pytest.raises(QueryError, match="not_a_home"):
        client.home(street.query, REGULATOR.address)
    sent = street.home(1, client.transfer(REGULATOR.address, 500))
    assert events(sent.events) == [client.Transferred(HOME_KEYS[0].address, REGULATOR.address, 500)]
    redeemed = street.send(REGULATOR, client.redeem(200))
    assert events(redeemed.events) == [client.Redeemed(REGULATOR.address, 200)]
    minted = street.send(REGULATOR, client.mint(HOME_KEYS[1].address, 7))
    assert events(minted.events) == [client.Minted(HOME_KEYS[1].address, 7)]
    assert client.account(street.query, REGULATOR.address).balance_micro == 300
    assert client.money(street.query) == client.Money(40_000_007, 200)


def test_arrears_can_be_paid() -> None:
    street = Street(params(balance_micro=0))
    street.to_end()
    street.read(1, SLOT, 100, 0)
    street.to_window_end()
    assert street.account(1).arrears_micro == 20_000
    street.send(REGULATOR, client.mint(HOME_KEYS[0].address, 15_000))
    refused = street.home(1, client.transfer(REGULATOR.address, 1))
    assert refused.reason == "open_default"
    paid = street.home(1, client.pay_arrears(15_000))
    assert events(paid.events) == [client.ArrearsPaid(HOME_KEYS[0].address, 15_000, 5_000)]
    assert street.account(1) == client.Account(HOME_KEYS[0].address, 0, 0, 5_000)


def test_events_of_other_kinds() -> None:
    assert client.decode_event(Event("market", "something_new", {})) is None
    street = Street(params(homes=1))
    call = client.register_home(
        HOME_KEYS[1].address, METER_KEYS[1].address, "two", "speculator", 5_000, 5_000, 10_000
    )
    registered = street.send(REGULATOR, call)
    assert events(registered.events) == [client.HomeRegistered(HOME_KEYS[1].address, "two", SLOT)]
    assert client.homes(street.query)[1].battery_wh == 10_000


@pytest.mark.parametrize("text", ["", "5", "a-1", "1-b", "-1", "1-"])
def test_an_order_id_is_checked(text: str) -> None:
    with pytest.raises(ValueError, match="order id"):
        client.withdraw_order(text)


DAY_MS = 86_400_000
# CE table 2, in micro-dollars per kWh.
CE_BANDS = ((0, 177_000), (420, 277_100), (840, 541_100), (1_200, 277_100), (1_320, 177_000))


def test_tariffs_follow_local_time_and_its_changes() -> None:
    """Sydney: UTC+11 in summer, UTC+10 from 4 April 2027, 3 am local (16:00 UTC the day before)."""
    change_ms = 1_806_768_000_000
    market = params(
        market_start_ms=change_ms - DAY_MS,
        utc_offsets=((0, 660), (change_ms, 600)),
        tariffs=((0, CE_BANDS), (change_ms + DAY_MS, ((0, 300_000),))),
        feed_in=((0, 100_000), (change_ms + DAY_MS, 50_000)),
    )
    query = Street(market).query

    def price_at(local_ms_utc: int) -> int:
        return client.grid_price(query, local_ms_utc // SLOT_MS).tariff_micro_per_kwh

    midnight_summer = change_ms - 16 * 3_600_000 - 11 * 3_600_000
    midnight_summer -= (midnight_summer + 11 * 3_600_000) % DAY_MS
    expected = [(0, 177_000), (6.75, 177_000), (7, 277_100), (13.75, 277_100), (14, 541_100)]
    expected += [(19.75, 541_100), (20, 277_100), (21.75, 277_100), (22, 177_000), (23.75, 177_000)]
    for hour, price in expected:
        assert price_at(midnight_summer + int(hour * 3_600_000)) == price
    # After the change 7 o'clock local is 21:00 UTC, no longer 20:00.
    assert price_at(change_ms + 4 * 3_600_000 + 45 * 60_000) == 177_000
    assert price_at(change_ms + 5 * 3_600_000) == 277_100
    assert price_at(change_ms + DAY_MS) == 300_000
    after = client.grid_price(query, (change_ms + DAY_MS) // SLOT_MS)
    assert (after.tariff_micro_per_kwh, after.feed_in_micro_per_kwh) == (300_000, 50_000)


def test_time_lapse_and_half_hours() -> None:
    market = params(time_lapse=60, slot_minutes=30)
    street = Street(market)
    slot = START_MS // 1_800_000 + 1
    assert street.home(1, client.post_order(slot, "buy", 10, TARIFF)).code == "ok"
    # The gate is ten market minutes before half past: 20 real seconds after genesis.
    assert street.app.next_deadline_ms(street.time_ms) == START_MS + 20_000
    street.block(at_ms=19_999)
    assert client.slot_summary(street.query, slot).status == "open"
    street.block(at_ms=20_000)
    assert client.slot_summary(street.query, slot).status == "cleared"
    assert msgspec.structs.replace(market, slot_minutes=60).check().slot_ms == 3_600_000
