"""Rounds of a slot, terms of orders, fees, lines: the market contract around `matching.star`."""

from collections.abc import Sequence

import pytest

from market import client
from market.client import Call
from market.genesis import HomeEntry
from market.receipts import Receipt
from tests.market.street import (
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


def ok(receipt: Receipt) -> Receipt:
    assert receipt.code == "ok", receipt.message
    return receipt


def reason(receipt: Receipt) -> str:
    assert receipt.code == "revert"
    return receipt.reason


def buy(energy_wh: int, price: int, **terms: object) -> Call:
    return client.post_order(SLOT + 8, "buy", energy_wh, price, **terms)  # type: ignore[arg-type]


def sell(energy_wh: int, price: int, **terms: object) -> Call:
    return client.post_order(SLOT + 8, "sell", energy_wh, price, **terms)  # type: ignore[arg-type]


def places(rows: Sequence[tuple[int, int, bool]]) -> tuple[HomeEntry, ...]:
    """Homes in these places: (line, cluster, green)."""
    return tuple(
        HomeEntry(
            address=key.address,
            meter=meter.address,
            name=f"home {number}",
            role="prosumer",
            import_cap_w=10_000,
            export_cap_w=10_000,
            balance_micro=10_000_000,
            line=line,
            cluster=cluster,
            green=green,
        )
        for number, (key, meter, (line, cluster, green)) in enumerate(
            zip(HOME_KEYS, METER_KEYS, rows, strict=False), start=1
        )
    )


def trades(street: Street) -> list[tuple[int, int, int, int]]:
    """(buyer, seller, energy, price) of the slot's trades, the grid's with seller 0."""
    return [
        (t.buyer, t.seller, t.energy_wh, t.price_micro_per_kwh)
        for t in client.trades_of_slot(street.query, SLOT + 8)
    ]


def at(minutes: int) -> int:
    """Milliseconds since genesis."""
    return minutes * 60_000


DAY_AHEAD_MS = START_MS + at(30)


def test_day_ahead_then_intraday_then_the_gate() -> None:
    auctions = ((DAY_AHEAD_MS, SLOT, 96),)
    street = Street(params(auctions=auctions, intraday_every_ms=at(60)))
    ok(street.home(1, sell(500, 100_000)))
    ok(street.home(2, buy(200, TARIFF)))
    street.block(at_ms=at(30) - 1)
    assert trades(street) == []
    assert street.app.next_deadline_ms(street.time_ms) == DAY_AHEAD_MS
    street.block(at_ms=at(30))
    assert trades(street) == [(2, 1, 200, 100_000)]
    summary = client.slot_summary(street.query, SLOT + 8)
    assert (summary.status, summary.rounds, summary.traded_wh) == ("open", 1, 200)
    # What is left stays in the book; the grid has had no part yet.
    book = client.order_book(street.query, SLOT + 8)
    assert [(order.home, order.residual_wh) for order in book] == [(2, 0), (1, 300)]
    ok(street.home(3, buy(100, 250_000)))
    # The tick on the hour clears only what is fresh.
    street.block(at_ms=at(60))
    assert trades(street)[1:] == [(3, 1, 100, 100_000)]
    street.block(at_ms=at(61))
    ok(street.home(4, buy(400, 250_000)))
    street.to_gate(SLOT + 8)
    # At the gate the rest goes, and the grid lifts what is bid at the tariff or above.
    assert trades(street)[2:] == [(4, 1, 200, 100_000), (4, 0, 200, TARIFF)]
    rounds = client.rounds(street.query, SLOT + 8)
    assert [(r.round, r.kind, r.traded_wh, r.backstop_wh) for r in rounds] == [
        (1, "day_ahead", 200, 0),
        (2, "intraday", 100, 0),
        (3, "gate", 200, 200),
    ]
    street.to_end(SLOT + 8)
    for number, import_wh, export_wh in ((1, 0, 500), (2, 200, 0), (3, 100, 0), (4, 400, 0)):
        ok(street.read(number, SLOT + 8, import_wh, export_wh))
    street.block()
    bills = client.bills_of_slot(street.query, SLOT + 8)
    assert [bill.total_micro for bill in bills] == [-50_000, 20_000, 10_000, 20_000 + 40_000]
    assert all(street.account(number).held_micro == 0 for number in (1, 2, 3, 4))


def test_a_slots_lowest_and_highest_price_are_of_all_its_rounds() -> None:
    street = Street(params(intraday_every_ms=at(30)))
    for place, price in enumerate((110_000, 140_000, 90_000)):
        ok(street.home(1, sell(100, price)))
        ok(street.home(2, buy(100, TARIFF - 1)))
        street.block(at_ms=at(30 * (place + 1)))
    summary = client.slot_summary(street.query, SLOT + 8)
    assert (summary.rounds, summary.traded_wh) == (3, 300)
    assert (summary.low_micro_per_kwh, summary.high_micro_per_kwh) == (90_000, 140_000)
    found = [
        (r.low_micro_per_kwh, r.high_micro_per_kwh) for r in client.rounds(street.query, SLOT + 8)
    ]
    assert found == [(110_000, 110_000), (140_000, 140_000), (90_000, 90_000)]
    # And the last round's is what the next is told (Hu, step 1).
    told = client.prices(street.query, SLOT + 9)
    assert (told.last_low_micro_per_kwh, told.last_high_micro_per_kwh) == (90_000, 90_000)


def test_an_auction_takes_its_slots_only_and_more_than_a_block_can() -> None:
    count = 20
    street = Street(params(auctions=((DAY_AHEAD_MS, SLOT + 5, count),)))
    for slot in range(SLOT + 4, SLOT + 6 + count):
        ok(street.home(1, client.post_order(slot, "sell", 10, 100_000)))
        ok(street.home(2, client.post_order(slot, "buy", 10, 150_000)))
    street.block(at_ms=at(30))
    # Eight slots a block; work that is left makes the next block at once.
    assert street.app.next_deadline_ms(street.time_ms) == street.time_ms + 1
    street.block()
    street.block()
    assert street.app.next_deadline_ms(street.time_ms) > street.time_ms + 1
    traded = [
        slot for slot in range(SLOT, SLOT + 40) if client.slot_summary(street.query, slot).traded_wh
    ]
    assert traded == list(range(SLOT + 5, SLOT + 5 + count))


def test_the_regulator_dates_auctions() -> None:
    street = Street(params())
    row = (DAY_AHEAD_MS, SLOT, 96)
    assert reason(street.home(1, client.post_auctions([row]))) == "not_regulator"
    past = client.post_auctions([(street.time_ms, SLOT, 1)])
    assert reason(street.send(REGULATOR, past)) == "bad_argument"
    many = [row] * 801
    assert reason(street.send(REGULATOR, client.post_auctions(many))) == "too_many_rows"
    ok(street.send(REGULATOR, client.post_auctions([row])))
    assert client.auctions(street.query) == [row]
    street.block(at_ms=at(30))
    assert client.auctions(street.query) == []


def test_a_withdrawn_order_gives_back_what_is_left() -> None:
    street = Street(params(auctions=((DAY_AHEAD_MS, SLOT, 96),)))
    ok(street.home(1, sell(300, 100_000)))
    ok(street.home(2, buy(100, 150_000)))
    held = street.account(1).held_micro
    street.block(at_ms=at(30))
    receipt = ok(street.home(1, client.withdraw_order(f"{SLOT + 8}-1")))
    event = client.decode_event(receipt.events[0])
    assert event == client.OrderWithdrawn(f"{SLOT + 8}-1", SLOT + 8, 1, 200, held * 2 // 3)
    assert street.account(1).held_micro == held // 3
    again = client.withdraw_order(f"{SLOT + 8}-1")
    assert reason(street.home(1, again)) == "unknown_order"
    assert reason(street.home(2, client.withdraw_order(f"{SLOT + 8}-2"))) == "unknown_order"
    ok(street.home(3, buy(100, 150_000)))
    street.to_gate(SLOT + 8)
    assert trades(street) == [(2, 1, 100, 100_000)]
    street.to_window_end(SLOT + 8)
    assert street.account(1).held_micro == 0


def test_an_expired_order_takes_no_part() -> None:
    street = Street(params(auctions=((DAY_AHEAD_MS, SLOT, 96),)))
    ok(street.home(1, sell(100, 90_000, expires_ms=START_MS + at(30))))
    ok(street.home(2, sell(100, 100_000, expires_ms=START_MS + at(30) + 1)))
    ok(street.home(3, buy(150, 150_000)))
    street.block(at_ms=at(30))
    assert trades(street) == [(3, 2, 100, 100_000)]
    late = sell(1, 1, expires_ms=street.time_ms)
    assert reason(street.home(4, late)) == "bad_argument"


def test_green_only_and_partners() -> None:
    homes = places([(0, 0, False), (0, 0, True), (0, 0, False), (0, 0, False)])
    street = Street(params(homes))
    ok(street.home(1, sell(100, 90_000)))
    ok(street.home(2, sell(100, 120_000)))
    ok(street.home(3, buy(150, 150_000, green=True)))
    ok(street.home(4, buy(100, 140_000, partner=2)))
    street.to_gate(SLOT + 8)
    assert trades(street) == [(3, 2, 100, 120_000)]
    order = client.order_book(street.query, SLOT + 8)[0]
    assert (order.green, order.partner, order.expires_ms) == (True, 0, 0)
    for terms in ({"green": True}, {"partner": 1}, {"partner": 5}, {"partner": 0}):
        call = client.post_order(SLOT + 9, "sell", 1, 1, **terms)  # type: ignore[arg-type]
        assert reason(street.home(1, call)) == "bad_argument", terms
    for raw in ({"colour": 1}, [], {"green": 1}, {"expires_ms": "x"}):
        call = Call(*buy(1, 1)[:2], {**buy(1, 1).args, "slot": SLOT + 9, "terms": raw})  # type: ignore[dict-item]
        assert reason(street.home(3, call)) == "bad_argument", raw


def test_fees_are_matched_paid_and_leave_at_the_border() -> None:
    """Within a cluster 5,000 per kWh, across 30,000; and a twentieth of the price on top."""
    fees = ((0, (5_000, 500, ((0, 25_000), (25_000, 0)))),)
    homes = places([(0, 0, False), (0, 1, False), (0, 0, False), (0, 1, False)])
    street = Street(params(homes, fees=fees))
    ok(street.home(1, sell(1_000, 100_000)))  # 110,000 for home 3, 135,000 for home 4
    ok(street.home(2, sell(1_000, 98_000)))  # 132,900 for home 3, 107,900 for home 4
    ok(street.home(3, buy(600, 120_000)))
    ok(street.home(4, buy(1_500, 134_999)))
    before = client.money(street.query)
    street.to_gate(SLOT + 8)
    found = client.trades_of_slot(street.query, SLOT + 8)
    assert trades(street) == [(4, 2, 1_000, 98_000), (3, 1, 600, 100_000)]
    # 1,000 Wh at 98,000: 98,000; 5,000 and a twentieth of the cost. 600 Wh at 100,000 the same way.
    assert [(t.cost_micro, t.fee_micro) for t in found] == [(98_000, 9_900), (60_000, 6_000)]
    street.to_end(SLOT + 8)
    for number, import_wh, export_wh in ((1, 0, 600), (2, 0, 1_000), (3, 600, 0), (4, 1_000, 0)):
        ok(street.read(number, SLOT + 8, import_wh, export_wh))
    street.block()
    bills = client.bills_of_slot(street.query, SLOT + 8)
    assert [bill.fees_micro for bill in bills] == [0, 0, 6_000, 9_900]
    assert [bill.total_micro for bill in bills] == [-60_000, -98_000, 66_000, 107_900]
    after = client.money(street.query)
    assert after.redeemed_micro - before.redeemed_micro == 15_900
    assert client.slot_summary(street.query, SLOT + 8).fees_micro == 15_900
    assert client.total(street.query, 4).fees_micro == 9_900


def test_uniform_has_one_price() -> None:
    street = Street(params(mechanism="uniform"))
    ok(street.home(1, sell(100, 90_000)))
    ok(street.home(2, sell(100, 120_000)))
    ok(street.home(3, buy(150, 160_000)))
    ok(street.home(4, buy(100, 110_000)))
    street.to_gate(SLOT + 8)
    assert trades(street) == [(3, 1, 100, 120_000), (3, 2, 50, 120_000)]
    assert client.slot_summary(street.query, SLOT + 8).price_micro_per_kwh == 120_000


def test_lines_cut_trades_and_are_named() -> None:
    """Homes 1 and 2 on line 1 of 800 W: 200 Wh in a quarter of an hour; 3 and 4 on line 2."""
    homes = places([(1, 0, False), (1, 0, False), (2, 0, False), (2, 0, False)])
    lines = ((1, 0, 800), (2, 0, 100_000))
    street = Street(params(homes, lines=lines, auctions=((DAY_AHEAD_MS, SLOT, 96),)))
    ok(street.home(1, sell(500, 100_000)))
    ok(street.home(3, buy(150, 150_000)))
    street.block(at_ms=at(30))
    ok(street.home(4, buy(150, 160_000)))
    street.to_gate(SLOT + 8)
    # The line carries what earlier rounds put on it.
    assert trades(street) == [(3, 1, 150, 100_000), (4, 1, 50, 100_000)]
    summary = client.slot_summary(street.query, SLOT + 8)
    assert summary.curtailed_wh == 100
    assert [r.curtailed for r in client.rounds(street.query, SLOT + 8)] == [[], [(1, 100)]]


def test_a_home_is_placed() -> None:
    street = Street(params(lines=((1, 0, 800),)))
    call = client.place_home(HOME_KEYS[0].address, 1, 3, True)
    assert reason(street.home(1, call)) == "not_regulator"
    ok(street.send(REGULATOR, call))
    home = client.home(street.query, HOME_KEYS[0].address)
    assert (home.place.line, home.place.cluster, home.place.green) == (1, 3, True)
    for line, cluster in ((2, 0), (-1, 0), (0, 16)):
        call = client.place_home(HOME_KEYS[0].address, line, cluster, True)
        assert reason(street.send(REGULATOR, call)) == "bad_argument"


def test_fees_and_coefficients_are_posted() -> None:
    street = Street(params())
    at_ms = (SLOT + 4) * SLOT_MS

    def post(kind: str, value: object) -> Receipt:
        return street.send(REGULATOR, client.post_table(kind, at_ms, value))

    for kind, value in (
        ("fees", [1, 2]),
        ("fees", [-1, 0, []]),
        ("fees", [0, 10_001, []]),
        ("fees", [0, 0, [[1, 2]]]),
        ("fees", [0, 0, [["x"]]]),
        ("fees", [0, 0, [[0] * 17] * 17]),
        ("coefficients", [[2, 1], [1, 1]]),
        ("coefficients", [[1, 600_000], [2, 500_000]]),
        ("coefficients", [[1]]),
        ("coefficients", 7),
    ):
        assert reason(post(kind, value)) == "bad_argument", (kind, value)
    ok(post("fees", [7, 8, [[1, 2], [3, 4]]]))
    ok(post("coefficients", [[1, 600_000], [3, 400_000]]))
    assert street.query("tariff", "fees", {"slot": SLOT + 3}) == [0, 0, []]
    assert street.query("tariff", "fees", {"slot": SLOT + 4}) == [7, 8, [[1, 2], [3, 4]]]
    rows = street.query("tariff", "coefficients", {"slot": SLOT + 4})
    assert rows == [[1, 600_000], [3, 400_000]]


@pytest.mark.parametrize("mechanism", ["request_offer", "sharing"])
def test_no_orders_where_there_are_none(mechanism: str) -> None:
    street = Street(params(mechanism=mechanism))
    assert reason(street.home(1, buy(1, 1))) == "wrong_mechanism"
