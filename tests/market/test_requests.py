"""Requests and offers (CE figure 2), and sharing by coefficients: markets without an order book."""

import pytest

from market import client
from market.app import BlockEnv
from market.client import Call
from market.receipts import Receipt
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

MINUTE_MS = 60_000
TIMEOUT_MS = 5 * MINUTE_MS
# The interval of a request: 50 minutes from 10 minutes into a slot on.
START = SLOT * SLOT_MS + 10 * MINUTE_MS
END = START + 50 * MINUTE_MS


def ok(receipt: Receipt) -> Receipt:
    assert receipt.code == "ok", receipt.message
    return receipt


def reason(receipt: Receipt) -> str:
    assert receipt.code == "revert"
    return receipt.reason


def market(**changes: object) -> Street:
    return Street(params(mechanism="request_offer", **changes))


def close(street: Street) -> None:
    street.block(at_ms=street.time_ms + TIMEOUT_MS - START_MS)


def read_all(street: Street, slot: int, readings: dict[int, tuple[int, int]]) -> None:
    street.to_end(slot)
    for number in range(1, 5):
        ok(street.read(number, slot, *readings.get(number, (0, 0))))
    street.block()


def test_a_request_is_met_by_the_cheapest_offers() -> None:
    street = market()
    posted = ok(street.home(1, client.post_request(START, END, 1_000)))
    request = client.open_requests(street.query)[0]
    assert client.decode_event(posted.events[0]) == client.RequestPosted(request)
    assert (request.limit_micro_per_kwh, request.margin_micro) == (TARIFF, 20_000)
    assert request.closes_ms == street.time_ms + TIMEOUT_MS
    ok(street.home(2, client.post_offer(1, 600, 150_000)))
    ok(street.home(3, client.post_offer(1, 700, 120_000)))
    ok(street.home(4, client.post_offer(1, 500, TARIFF + 1)))
    assert [offer.home for offer in client.offers(street.query, 1)] == [2, 3, 4]
    assert street.app.next_deadline_ms(street.time_ms) == request.closes_ms
    height = street.height
    street.height += 1
    street.time_ms = request.closes_ms
    result = street.app.execute(BlockEnv(height + 1, street.time_ms), [])
    street.app.commit(result)
    events = [client.decode_event(event) for event in result.events]
    told = [event for event in events if isinstance(event, client.OfferAnswered)]
    # Home 3 gives all, home 2 what is lacking; who asks more than the grid gets nothing.
    assert [(e.home, e.accepted_wh) for e in told] == [(2, 300), (3, 700), (4, 0)]
    closed = client.request(street.query, 1)
    assert closed is not None
    assert (closed.status, closed.traded_wh) == ("closed", 1_000)
    # 50 minutes touch four slots: 5, 15, 15 and 15 minutes of them (CE 14).
    pieces = {
        slot: sum(t.energy_wh for t in client.trades_of_slot(street.query, slot))
        for slot in range(SLOT, SLOT + 5)
    }
    assert pieces == {SLOT: 100, SLOT + 1: 300, SLOT + 2: 300, SLOT + 3: 300, SLOT + 4: 0}
    costs = [t.cost_micro for slot in pieces for t in client.trades_of_slot(street.query, slot)]
    assert sum(costs) == 700 * 120 + 300 * 150
    # Held is what the contracts need, and no more.
    assert [street.account(n).held_micro for n in (1, 2, 3, 4)] == [20_000, 6_000, 14_000, 0]
    for slot in range(SLOT, SLOT + 4):
        rows = client.trades_of_slot(street.query, slot)
        sold = {n: sum(t.energy_wh for t in rows if t.seller == n) for n in (2, 3)}
        bought = sum(sold.values())
        read_all(street, slot, {1: (bought, 0), 2: (0, sold[2]), 3: (0, sold[3])})
        assert client.slot_summary(street.query, slot).status == "settled"
    assert [street.account(n).held_micro for n in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert client.total(street.query, 1).total_micro == 129_000
    assert client.total(street.query, 3).trades_income_micro == 84_000
    history = street.query("market", "history", {"home": 1})
    assert history["open"] == 0
    assert all(kept for _, kept in history["history"])


def test_the_most_a_request_pays_is_the_mean_tariff_of_its_energy() -> None:
    """400 Wh at 20 cents, 600 Wh of the two slots after them at 40: a mean of 32."""
    dear = (SLOT + 2) * SLOT_MS // MINUTE_MS % 1_440
    street = market(tariffs=((0, ((0, TARIFF), (dear, 2 * TARIFF))),))
    for limit in (0, 320_001):
        ok(street.home(1, client.post_request(START, END, 1_000, limit_micro_per_kwh=limit)))
    ok(street.home(2, client.post_request(START, END, 1_000, limit_micro_per_kwh=319_999)))
    found = client.open_requests(street.query)
    assert [one.limit_micro_per_kwh for one in found] == [320_000, 320_000, 319_999]
    assert {one.margin_micro for one in found} == {32_000}
    # An offer's margin is of the same mean.
    ok(street.home(3, client.post_offer(1, 500, 320_001)))
    ok(street.home(4, client.post_offer(1, 500, 320_000)))
    assert street.account(3).held_micro == 16_000
    close(street)
    closed = client.request(street.query, 1)
    assert closed is not None
    assert closed.traded_wh == 500
    assert {t.seller for t in client.trades_of_slot(street.query, SLOT)} == {4}


def test_a_requests_interval_begins_after_its_gate_to_the_millisecond() -> None:
    street = market()
    # Blocks are a second apart here; the gate closes so long after the request's.
    gate_ms = street.time_ms + 1_000 + TIMEOUT_MS
    call = client.post_request(gate_ms, gate_ms + SLOT_MS, 1)
    assert reason(street.home(1, call)) == "gate_closed"
    gate_ms += 1_000
    ok(street.home(1, client.post_request(gate_ms + 1, gate_ms + SLOT_MS, 1)))


def test_what_nobody_offers_the_grid_serves() -> None:
    street = market()
    ok(street.home(1, client.post_request(START, END, 1_000)))
    ok(street.home(2, client.post_offer(1, 100, 150_000)))
    street.block(at_ms=TIMEOUT_MS + MINUTE_MS)
    assert client.request(street.query, 1).traded_wh == 100  # type: ignore[union-attr]
    read_all(street, SLOT, {1: (100, 0), 2: (0, 10)})
    bill = client.bill(street.query, SLOT, 1)
    assert bill is not None
    assert (bill.bought_wh, bill.grid_wh) == (10, 90)
    assert bill.total_micro == 10 * 150 + 90 * 200


def test_without_bidding_the_grid_serves_and_nothing_is_held() -> None:
    street = market()
    ok(street.home(1, client.post_request(START, END, 1_000, bidding=False)))
    assert street.account(1).held_micro == 0
    assert client.open_requests(street.query) == []
    assert reason(street.home(2, client.post_offer(1, 100, 1))) == "gate_closed"
    assert client.request(street.query, 1).status == "grid"  # type: ignore[union-attr]


def test_an_offer_is_withdrawn() -> None:
    street = market()
    ok(street.home(1, client.post_request(START, END, 1_000)))
    ok(street.home(2, client.post_offer(1, 100, 150_000)))
    assert reason(street.home(3, client.withdraw_offer(1, 1))) == "unknown_order"
    assert reason(street.home(2, client.withdraw_offer(1, 2))) == "unknown_order"
    ok(street.home(2, client.withdraw_offer(1, 1)))
    assert street.account(2).held_micro == 0
    close(street)
    assert client.request(street.query, 1).traded_wh == 0  # type: ignore[union-attr]
    assert reason(street.home(2, client.withdraw_offer(1, 1))) == "unknown_order"


def test_requests_overlap_and_a_meter_is_promised_once() -> None:
    """Two requests of the same time: home 2 may offer what its meter is certified for, in all."""
    street = market()
    ok(street.home(1, client.post_request(START, END, 3_000)))
    ok(street.home(3, client.post_request(START + 1, END + 7, 8_000)))
    # In each quarter of an hour 10 kW are 2,500 Wh; of 8,000 Wh over 50 minutes 2,400 are in one.
    ok(street.home(2, client.post_offer(2, 8_000, 100_000)))
    assert reason(street.home(2, client.post_offer(1, 400, 100_000))) == "over_capability"
    ok(street.home(2, client.post_offer(1, 300, 100_000)))
    close(street)
    street.block()
    assert client.request(street.query, 1).traded_wh == 300  # type: ignore[union-attr]
    assert client.request(street.query, 2).traded_wh == 8_000  # type: ignore[union-attr]


def test_a_homes_requests_in_a_slot_are_bounded() -> None:
    street = market(orders_per_home_max=2)
    quarter = SLOT * SLOT_MS
    for bidding in (True, False):
        ok(street.home(1, client.post_request(quarter, quarter + SLOT_MS, 10, bidding)))
    # One more over that slot and the next is one too many; over the next alone it is not.
    both = client.post_request(quarter + 1, quarter + SLOT_MS + 1, 10)
    assert reason(street.home(1, both)) == "too_many_orders"
    ok(street.home(1, client.post_request(quarter + SLOT_MS, quarter + 2 * SLOT_MS, 10)))
    ok(street.home(2, both))


def suggested(street: Street, slot: int = SLOT) -> tuple[int, int]:
    prices = client.prices(street.query, slot)
    return prices.suggested_sell_micro_per_kwh, prices.suggested_buy_micro_per_kwh


def test_suggested_prices_learn_from_accepted_offers() -> None:
    """CE 5-6: what was accepted is remembered, what is asked for and offered moves the price."""
    street = market()
    band, middle = TARIFF - FEED_IN, (TARIFF + FEED_IN) // 2
    assert suggested(street) == (middle, middle)
    start, end = SLOT * SLOT_MS, (SLOT + 1) * SLOT_MS
    ok(street.home(1, client.post_request(start, end, 600, limit_micro_per_kwh=180_000)))
    # Asked for and nothing offered: x is 1.
    assert suggested(street) == (middle + band // 4, middle + band // 4)
    ok(street.home(2, client.post_offer(1, 400, 100_000)))
    ok(street.home(3, client.post_offer(1, 400, 120_000)))
    ok(street.home(4, client.post_offer(1, 400, 181_000)))
    # 600 asked for and 1,200 offered, also what is refused later: x is -1/3.
    assert suggested(street) == (middle - band // 12, middle - band // 12)
    close(street)
    # The roots of (100^2 + 120^2) / 2 and of 180^2: home 4's offer was not accepted.
    learned = 110_453
    assert suggested(street) == (learned - band // 12, 180_000 - band // 12)
    assert suggested(street, SLOT + 1) == (learned, 180_000)


def test_what_is_withdrawn_or_goes_to_the_grid_moves_no_price() -> None:
    street = market()
    ok(street.home(1, client.post_request(START, END, 1_000)))
    asked = suggested(street)
    ok(street.home(2, client.post_request(START, END, 1_000, bidding=False)))
    ok(street.home(3, client.post_offer(1, 700, 100_000)))
    assert suggested(street) < asked
    ok(street.home(3, client.withdraw_offer(1, 1)))
    assert suggested(street) == asked
    close(street)
    # Nobody offered: nothing is learned.
    assert suggested(street, SLOT + 9) == ((TARIFF + FEED_IN) // 2,) * 2


def test_fees_count_in_the_ranking() -> None:
    street = market(fees=((0, (20_000, 0, ())),))
    ok(street.home(1, client.post_request(START, END, 1_000)))
    ok(street.home(2, client.post_offer(1, 1_000, TARIFF - 19_999)))
    ok(street.home(3, client.post_offer(1, 400, TARIFF - 20_000)))
    close(street)
    rows = client.trades_of_slot(street.query, SLOT + 1)
    assert [(t.seller, t.energy_wh, t.fee_micro) for t in rows] == [(3, 120, 2_400)]


H1, H2 = HOME_KEYS[:2]
REQUESTS: dict[str, tuple[Call, str]] = {
    "past": (client.post_request(START_MS, END, 1), "gate_closed"),
    "before its gate": (client.post_request(START_MS + TIMEOUT_MS, END, 1), "gate_closed"),
    "far": (client.post_request(START + 200 * SLOT_MS, END + 200 * SLOT_MS, 1), "slot_too_far"),
    "no time": (client.post_request(START, START, 1), "bad_argument"),
    "long": (client.post_request(START, START + 17 * SLOT_MS, 1), "bad_argument"),
    "no energy": (client.post_request(START, END, 0), "bad_argument"),
    "too much": (client.post_request(START, END, 8_400), "over_capability"),
    "limit": (client.post_request(START, END, 1, limit_micro_per_kwh=-1), "bad_argument"),
    "bidding": (client.post_request(START, END, 1, bidding=2), "bad_argument"),  # type: ignore[arg-type]
    "text": (client.post_request("x", END, 1), "bad_argument"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", REQUESTS)
def test_refused_requests(name: str) -> None:
    call, code = REQUESTS[name]
    street = market()
    assert reason(street.home(1, call)) == code
    assert street.account(1).held_micro == 0


OFFERS: dict[str, tuple[Call, str]] = {
    "unknown": (client.post_offer(2, 1, 1), "unknown_order"),
    "no number": (client.post_offer("x", 1, 1), "bad_argument"),  # type: ignore[arg-type]
    "more than asked": (client.post_offer(1, 1_001, 1), "bad_argument"),
    "no energy": (client.post_offer(1, 0, 1), "bad_argument"),
    "no price": (client.post_offer(1, 1, 0), "bad_price"),
    "huge price": (client.post_offer(1, 1, 10_000_001), "bad_price"),
}


@pytest.mark.parametrize("name", OFFERS)
def test_refused_offers(name: str) -> None:
    call, code = OFFERS[name]
    street = market()
    ok(street.home(1, client.post_request(START, END, 1_000)))
    assert reason(street.home(2, call)) == code
    assert street.account(2).held_micro == 0


def test_other_refusals() -> None:
    street = market(balance_micro=19_999)
    assert reason(street.home(1, client.post_request(START, END, 1_000))) == "no_margin"
    assert reason(street.send(REGULATOR, client.post_request(START, END, 1))) == "not_a_home"
    ok(street.home(1, client.post_request(START, END, 900)))
    assert reason(street.home(1, client.post_offer(1, 1, 1))) == "bad_argument"
    for _ in range(4):
        ok(street.home(2, client.post_offer(1, 1, 1)))
    assert reason(street.home(2, client.post_offer(1, 1, 1))) == "too_many_orders"
    close(street)
    assert reason(street.home(3, client.post_offer(1, 1, 1))) == "gate_closed"
    orders = Street(params())
    assert reason(orders.home(1, client.post_request(START, END, 1))) == "wrong_mechanism"
    assert reason(orders.home(1, client.post_offer(1, 1, 1))) == "wrong_mechanism"


def test_no_margin_stays_held_for_energy_that_rounds_to_nothing() -> None:
    street = market()
    ok(street.home(1, client.post_request(START, END, 5)))
    for number in (2, 3, 4):
        ok(street.home(number, client.post_offer(1, 1 + number % 2, 100_000)))
    close(street)
    assert client.request(street.query, 1).traded_wh >= 3  # type: ignore[union-attr]
    # Of one or two watt-hours most of the four slots get none; of all together more do.
    slots = [slot for slot in range(SLOT, SLOT + 4) if client.trades_of_slot(street.query, slot)]
    assert len(slots) < 4
    for slot in range(SLOT, SLOT + 4):
        read_all(street, slot, {})
    assert [street.account(number).held_micro for number in range(1, 5)] == [0, 0, 0, 0]


def test_requests_that_close_together_are_one_round() -> None:
    street = market()
    calls = [
        (1, client.post_request(START, END, 1_000)),
        (2, client.post_request(START, END, 1_000)),
    ]
    receipts = street.block(street.sign(HOME_KEYS[n - 1], call) for n, call in calls).receipts
    assert [ok(receipt).code for receipt in receipts] == ["ok", "ok"]
    ok(street.home(3, client.post_offer(1, 600, 150_000)))
    ok(street.home(3, client.post_offer(2, 500, 160_000)))
    ok(street.home(4, client.post_offer(2, 700, 120_000)))
    close(street)
    trades = [
        trade for s in range(SLOT, SLOT + 4) for trade in client.trades_of_slot(street.query, s)
    ]
    sums: dict[tuple[int, int], int] = {}
    for trade in trades:
        pair = (trade.buyer, trade.seller)
        sums[pair] = sums.get(pair, 0) + trade.energy_wh
    assert sums == {(1, 3): 600, (2, 4): 700, (2, 3): 300}
    rounds = client.rounds(street.query, SLOT + 1)
    assert [(one.kind, one.trades) for one in rounds] == [("request", 3)]
    for slot in range(SLOT, SLOT + 4):
        read_all(street, slot, {})
    assert [street.account(number).held_micro for number in range(1, 5)] == [0, 0, 0, 0]


def test_old_requests_are_forgotten() -> None:
    street = market(keep_slots=4)
    for bidding in (True, False):
        ok(street.home(1, client.post_request(START, END, 1_000, bidding)))
    ok(street.home(2, client.post_offer(1, 1_000, 100_000)))
    late = (SLOT + 20) * SLOT_MS
    ok(street.home(1, client.post_request(late, late + 1, 10)))
    close(street)
    street.to_window_end(SLOT + 20)
    for _ in range(8):
        street.block()
    assert client.request(street.query, 1) is None
    assert client.request(street.query, 2) is None
    # It ended less than four slots ago.
    assert client.request(street.query, 3) is not None
    left = [k for k, _ in street.app.state_items() if k.startswith("requests/")]
    assert not [k for k in left if "offer/" in k or "load/" in k]


# -- sharing

MIDDLE = (TARIFF + FEED_IN) // 2


def shared(**changes: object) -> dict[int, client.Bill]:
    """Homes 1 and 2 give 300 and 100 Wh, homes 3 and 4 take 600 and 200 Wh."""
    street = Street(params(mechanism="sharing", **changes))
    read_all(street, SLOT, {1: (0, 300), 2: (0, 100), 3: (600, 0), 4: (200, 0)})
    assert client.slot_summary(street.query, SLOT).status == "settled"
    return {bill.home: bill for bill in client.bills_of_slot(street.query, SLOT)}


def test_sharing_by_consumption() -> None:
    bills = shared()
    assert [bills[n].sold_wh for n in (1, 2)] == [300, 100]
    assert [bills[n].bought_wh for n in (3, 4)] == [300, 100]
    assert [bills[n].grid_wh for n in (3, 4)] == [300, 100]
    assert bills[1].total_micro == -300 * MIDDLE // 1000
    assert bills[3].total_micro == 300 * MIDDLE // 1000 + 300 * TARIFF // 1000
    assert all(bill.penalty_micro == 0 for bill in bills.values())


def test_sharing_by_coefficients() -> None:
    coefficients = ((0, ((3, 250_000), (4, 750_000))),)
    once = shared(sharing_key="static_once", coefficients=coefficients)
    # Home 4 has a right to 300 Wh but takes 200: the rest is fed in.
    assert [once[n].bought_wh for n in (3, 4)] == [100, 200]
    assert once[1].fed_in_wh + once[2].fed_in_wh == 100
    again = shared(sharing_key="static", coefficients=coefficients)
    assert [again[n].bought_wh for n in (3, 4)] == [200, 200]
    assert again[1].fed_in_wh == again[2].fed_in_wh == 0


def test_sharing_at_a_fixed_price_with_fees() -> None:
    bills = shared(sharing_price_micro_per_kwh=90_000, fees=((0, (10_000, 0, ())),))
    assert (bills[1].trades_income_micro, bills[3].fees_micro) == (27_000, 3_000)
    assert bills[3].total_micro == 27_000 + 3_000 + 60_000


def test_sharing_without_readings_shares_nothing_of_the_silent() -> None:
    street = Street(params(mechanism="sharing"))
    street.to_end()
    ok(street.read(1, SLOT, 0, 300))
    ok(street.read(3, SLOT, 200, 0))
    street.to_window_end()
    bills = {bill.home: bill for bill in client.bills_of_slot(street.query, SLOT)}
    assert (bills[3].bought_wh, bills[1].sold_wh, bills[1].fed_in_wh) == (200, 200, 100)
    assert (bills[2].read, bills[2].total_micro) == (False, 0)


def test_a_home_trades_no_slot_before_the_first_it_is_settled_in() -> None:
    street = market()
    newcomer, meter = HOME_KEYS[4], METER_KEYS[4]
    caps = (10_000, 10_000)
    register = client.register_home(newcomer.address, meter.address, "five", "prosumer", *caps)
    ok(street.send(REGULATOR, register))
    ok(street.send(REGULATOR, client.mint(newcomer.address, 10_000_000)))
    start = street.time_ms + TIMEOUT_MS + MINUTE_MS
    assert start < SLOT * SLOT_MS
    ok(street.home(1, client.post_request(start, start + MINUTE_MS, 100)))
    assert reason(street.home(5, client.post_offer(1, 100, 100_000))) == "too_early"
    early = client.post_request(start, start + MINUTE_MS, 100)
    assert reason(street.home(5, early)) == "too_early"
    # From the next slot on it does, and all of it is settled.
    ok(street.home(5, client.post_request(START, START + MINUTE_MS, 100)))
    ok(street.home(1, client.post_offer(2, 100, 100_000)))
    close(street)
    read_all(street, SLOT - 1, {})
    assert client.slot_summary(street.query, SLOT - 1).status == "settled"
    street.to_end(SLOT)
    for number in range(1, 6):
        ok(street.read(number, SLOT, 0, 0))
    street.block()
    assert client.slot_summary(street.query, SLOT).status == "settled"


def test_what_closes_too_late_expires() -> None:
    street = market()
    for number in (1, 2):
        ok(street.home(number, client.post_request(START, END, 1_000)))
        ok(street.home(3, client.post_offer(number, 400, 150_000)))
    # The region makes no blocks until the first slot is over.
    street.to_end(SLOT)
    for number in (1, 2):
        closed = client.request(street.query, number)
        assert closed is not None
        assert (closed.status, closed.traded_wh) == ("closed", 0)
    assert client.trades_of_slot(street.query, SLOT) == []
    assert [street.account(number).held_micro for number in (1, 2, 3)] == [0, 0, 0]
