"""Clearing: random books against a brute-force reference, and cases worked by hand."""

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import client
from market.app import Application, BlockEnv
from market.vm.gas import HOOK_CAPS
from market.vm.journal import Journal
from tests.market.reference import BUY, Match, Row, match_by_the_watt_hour
from tests.market.street import SLOT, START_MS, TARIFF, Street, params
from wire.codec import decode_plain, encode

HOMES = 18
CLEARED_MS = START_MS + 10 * 60_000
RULES = ("ask", "mid", "bid")
_streets: dict[str, Street] = {}


def street_with(rule: str) -> Street:
    if rule not in _streets:
        market = params(homes=1, trade_price=rule)
        others = tuple(
            msgspec.structs.replace(
                market.homes[0], address=f"cw{n:040x}", meter=f"cw{n + 2**80:040x}", name=f"{n}"
            )
            for n in range(2, HOMES + 1)
        )
        street = Street(msgspec.structs.replace(market, homes=(*market.homes, *others)))
        street.home(1, client.post_order(SLOT, "buy", 1, 1))
        _streets[rule] = street
    return _streets[rule]


def clear(app: Application, rows: list[Row]) -> tuple[list[Match], dict[str, int]]:
    """Clear a book that is put into the state as posting would have left it."""
    journal = Journal(app._state)
    by_home: dict[int, list[list[int]]] = {}
    for row in rows:
        values = [row.number, row.home, row.side, row.energy_wh, row.price, START_MS, 0]
        if row.expires_ms:
            values += [row.expires_ms, 0, 0]
        by_home.setdefault(row.home, []).append(values)
    journal.put(f"market/orders/{SLOT}/1", None)
    for home, values in by_home.items():
        journal.put(f"market/orders/{SLOT}/{home}", encode(values))
    round_now = app.query("market", "round", {"slot": SLOT})
    round_now["bid_wh"] = sum(row.energy_wh for row in rows if row.side == BUY)
    journal.put(f"market/slot/{SLOT}", encode(round_now))
    env = app._env(BlockEnv(2, CLEARED_MS))
    outcome = app._executor.run(journal, "market", "on_block", {}, env, HOOK_CAPS)
    assert outcome.error is None, outcome.detail
    trades = [
        Match(*trade)
        for event in outcome.events
        if event.name == "trades"
        for trade in event.data["rows"]
    ]
    stored = [
        Match(*trade)
        for key in journal.keys_under(f"market/trades/{SLOT}/")
        for trade in decode_plain(journal.get(key), 65_536)
    ]
    assert stored == trades
    return trades, decode_plain(journal.get(f"market/slot/{SLOT}"), 4_096)


def check_against_reference(rows: list[Row], rule: str) -> None:
    trades, summary = clear(street_with(rule).app, rows)
    valid = [row for row in rows if not row.expires_ms or row.expires_ms > CLEARED_MS]
    expected = match_by_the_watt_hour(valid, TARIFF, rule)
    assert trades == expected
    peer = [trade for trade in expected if trade.seller != 0]
    assert summary["trades"] == len(peer)
    assert summary["traded_wh"] == sum(trade.energy_wh for trade in peer)
    assert summary["traded_micro"] == sum(trade.cost for trade in peer)
    assert summary["backstop_wh"] == sum(t.energy_wh for t in expected) - summary["traded_wh"]
    assert summary["low_micro_per_kwh"] == min((t.price for t in peer), default=0)
    assert summary["high_micro_per_kwh"] == max((t.price for t in peer), default=0)


prices = st.one_of(
    st.integers(1, 400_000), st.sampled_from([TARIFF - 1, TARIFF, TARIFF + 1, 100_000])
)


@st.composite
def books(draw: st.DrawFn) -> list[Row]:
    count = draw(st.integers(0, 14))
    numbers = draw(st.permutations(range(1, count + 1)))
    return [
        Row(
            number,
            draw(st.integers(1, 6)) * 2 + side,
            side,
            draw(st.integers(1, 12)),
            draw(prices),
        )
        for number in numbers
        for side in [draw(st.integers(0, 1))]
    ]


@settings(max_examples=100, deadline=None)
@given(books(), st.sampled_from(RULES))
def test_random_books(rows: list[Row], rule: str) -> None:
    check_against_reference(rows, rule)


@pytest.mark.slow
def test_ten_thousand_random_books() -> None:
    random_ = random.Random(20)
    expired = 0
    for _ in range(10_000):
        ends = random_.choice([[0], [0, 0, CLEARED_MS - 1, CLEARED_MS, CLEARED_MS + 1]])
        levels = random_.choice([2, 5, 300_000])
        rows = []
        for number in range(1, random_.randrange(1, 25)):
            side = random_.randrange(2)
            price = random_.choice([TARIFF, 100_000 + random_.randrange(levels) * 1_000])
            home = random_.randrange(1, 9) * 2 + side
            energy, end = random_.randrange(1, 30), random_.choice(ends)
            rows.append(Row(number, home, side, energy, max(1, price), end))
        expired += any(0 < row.expires_ms <= CLEARED_MS for row in rows)
        check_against_reference(rows, random_.choice(RULES))
    assert expired > 3_000


def test_equal_prices_go_by_order_time() -> None:
    rows = [
        Row(1, 2, 0, 5, 150_000),
        Row(2, 4, 0, 5, 150_000),
        Row(3, 3, 1, 4, 120_000),
        Row(4, 5, 1, 2, 120_000),
    ]
    trades, _ = clear(street_with("ask").app, rows)
    assert trades == [
        Match(2, 3, 1, 3, 4, 120_000, 480),
        Match(2, 5, 1, 4, 1, 120_000, 120),
        Match(4, 5, 2, 4, 1, 120_000, 120),
    ]


def test_homes_come_before_the_grid_at_the_same_price() -> None:
    rows = [Row(1, 3, 1, 4, TARIFF), Row(2, 2, 0, 10, TARIFF), Row(3, 4, 0, 10, TARIFF - 1)]
    trades, summary = clear(street_with("bid").app, rows)
    assert [trade.seller for trade in trades] == [3, 0]
    assert trades[1].energy_wh == 6
    assert summary["backstop_wh"] == 6


@pytest.mark.parametrize(("rule", "price"), [("ask", 100_001), ("mid", 125_001), ("bid", 150_002)])
def test_trade_price_rules(rule: str, price: int) -> None:
    rows = [Row(1, 2, 0, 999, 150_002), Row(2, 3, 1, 999, 100_001), Row(3, 2, 0, 7, 300_000)]
    trades, _ = clear(street_with(rule).app, rows)
    assert trades[-1].price == TARIFF or trades[-1].price == price
    peer = [trade for trade in trades if trade.seller and trade.bid == 1]
    assert [trade.price for trade in peer] == [price]
    assert peer[0].cost == peer[0].energy_wh * price // 1000


def test_an_empty_book_clears_to_nothing() -> None:
    trades, summary = clear(street_with("ask").app, [])
    assert trades == []
    assert summary["status"] == "cleared"


def test_suggested_prices_by_hand() -> None:
    """CE 5-6 as read: root mean square of accepted prices, shifted by the imbalance, clipped."""
    street = Street(params())
    before = client.prices(street.query, SLOT)
    assert before.suggested_sell_micro_per_kwh == (200_000 + 80_000) // 2
    street.home(1, client.post_order(SLOT, "sell", 600, 110_000))
    street.home(2, client.post_order(SLOT, "buy", 200, 150_000))
    street.home(3, client.post_order(SLOT, "buy", 100, 140_000))
    # x = (300 - 600) / 900 = -1/3; b = 120,000; the shift is b * x / 4 = -10,000.
    during = client.prices(street.query, SLOT)
    assert during.suggested_sell_micro_per_kwh == 140_000 - 10_000
    street.to_gate()
    after = client.prices(street.query, SLOT + 1)
    assert after.suggested_sell_micro_per_kwh == 110_000
    # The root of (150,000^2 + 140,000^2) / 2 is 145,086.18...
    assert after.suggested_buy_micro_per_kwh == 145_086
    assert (after.last_slot, after.last_low_micro_per_kwh) == (SLOT, 110_000)
    assert after.last_high_micro_per_kwh == 110_000
    # Nothing but demand: x = 1.
    street.home(2, client.post_order(SLOT + 1, "buy", 1_000, 150_000))
    assert client.prices(street.query, SLOT + 1).suggested_buy_micro_per_kwh == 175_086
    # Nothing but supply: x = -1, just down to the feed-in price.
    street.home(1, client.post_order(SLOT + 2, "sell", 1_000, 150_000))
    assert client.prices(street.query, SLOT + 2).suggested_sell_micro_per_kwh == 80_000


def test_the_prior_rounds_lowest_and_highest_price_are_told() -> None:
    """Hu, step 1: of the last round in which homes traded, whichever slot it was of."""
    street = Street(params())
    for home, side, energy, price in (
        (1, "sell", 100, 90_000),
        (2, "sell", 100, 120_000),
        (3, "buy", 200, 150_000),
        (4, "buy", 50, 100_000),
    ):
        assert street.home(home, client.post_order(SLOT, side, energy, price)).code == "ok"
    street.to_gate()
    told = client.prices(street.query, SLOT + 3)
    assert (told.last_slot, told.last_low_micro_per_kwh, told.last_high_micro_per_kwh) == (
        SLOT,
        90_000,
        120_000,
    )
    # A round without trades is none that prices could be told of.
    street.home(4, client.post_order(SLOT + 1, "buy", 50, 100_000))
    street.to_gate(SLOT + 1)
    assert client.prices(street.query, SLOT + 3) == told


def test_suggested_prices_by_the_weights_of_the_genesis() -> None:
    """CE 5-6 with mu, lambda, nu and beta of one's own, and the last two prices of each side."""
    street = Street(
        params(
            suggested_ask_percent=120,
            suggested_ask_shift_percent=50,
            suggested_bid_percent=90,
            suggested_bid_shift_percent=10,
            suggested_last=2,
        )
    )
    for place, (ask, bid) in enumerate(((81_000, 199_000), (90_000, 130_000), (110_000, 150_000))):
        street.home(1, client.post_order(SLOT + place, "sell", 100, ask))
        street.home(2, client.post_order(SLOT + place, "buy", 100, bid))
        street.to_gate(SLOT + place)
    slot = SLOT + 4
    found = client.prices(street.query, slot)
    # Roots of (90^2 + 110^2) / 2 and (130^2 + 150^2) / 2: 100,498.7 and 140,356.6.
    assert found.suggested_sell_micro_per_kwh == 100_498 * 120 // 100
    assert found.suggested_buy_micro_per_kwh == 140_356 * 90 // 100
    street.home(1, client.post_order(slot, "sell", 300, 110_000))
    street.home(2, client.post_order(slot, "buy", 100, 90_000))
    # x = -1/2, b = 120,000: shifts of -30,000 and -6,000.
    found = client.prices(street.query, slot)
    assert found.suggested_sell_micro_per_kwh == 100_498 * 120 // 100 - 30_000
    assert found.suggested_buy_micro_per_kwh == 140_356 * 90 // 100 - 6_000


def test_so_many_accepted_prices_are_remembered_and_no_more() -> None:
    """CE 5-6 look back on the last 32 of each side; nothing grows with the trades before them."""
    street = Street(params(orders_per_home_max=64))
    for place in range(40):
        for home, side, price in ((1, "sell", 90_000 + place), (2, "buy", 190_000 - place)):
            assert street.home(home, client.post_order(SLOT, side, 10, price)).code == "ok"
    street.to_gate()
    accepted = decode_plain(dict(street.app.state_items())["market/accepted"], 65_536)
    # The last pairs: the dearest asks with the lowest bids.
    assert accepted["asks"] == [90_000 + place for place in range(8, 40)]
    assert accepted["bids"] == [190_000 - place for place in range(8, 40)]
    street.home(1, client.post_order(SLOT + 1, "sell", 10, 100_000))
    street.home(2, client.post_order(SLOT + 1, "buy", 10, 180_000))
    street.to_gate(SLOT + 1)
    accepted = decode_plain(dict(street.app.state_items())["market/accepted"], 65_536)
    assert accepted["asks"][-2:] == [90_039, 100_000]
    assert len(accepted["asks"]) == len(accepted["bids"]) == 32


def test_suggested_prices_stay_within_the_grids() -> None:
    """CE 5-6: clipped at the tariff where all lack, at the feed-in price where all have some."""
    street = Street(params(suggested_ask_shift_percent=100, suggested_bid_shift_percent=100))
    street.home(2, client.post_order(SLOT, "buy", 1_000, 150_000))
    short = client.prices(street.query, SLOT)
    # From the middle of 80,000 and 200,000 by 120,000.
    assert short.suggested_sell_micro_per_kwh == short.suggested_buy_micro_per_kwh == TARIFF
    street.home(1, client.post_order(SLOT + 1, "sell", 1_000, 150_000))
    long = client.prices(street.query, SLOT + 1)
    assert long.suggested_sell_micro_per_kwh == long.suggested_buy_micro_per_kwh == 80_000
