"""Carbon quotas and certificates of origin, worked by hand; and who may do what."""

import pytest
from msgspec.structs import replace

from market import carbon, client
from market.client import Call
from market.receipts import Receipt
from tests.market.street import (
    FEED_IN,
    HOME_KEYS,
    INTENSITY,
    METER_KEYS,
    REGULATOR,
    SLOT,
    SLOT_MS,
    START_MS,
    Street,
    params,
)
from wire.keys import SigningKey

FIRST, END = SLOT, SLOT + 2
PRICE = 50_000  # 5 cents per kg


def green_street(**changes: object) -> Street:
    """Homes 1 and 2 are green; a period of two slots is open, with 100 g for home 2 and 3."""
    made = params(**changes)
    homes = tuple(replace(home, green=place < 2) for place, home in enumerate(made.homes))
    street = Street(params(homes, **changes))
    ok(street.send(REGULATOR, carbon.open_period(FIRST, END, PRICE)))
    ok(street.send(REGULATOR, carbon.allot(1, [(2, 100_000), (3, 100_000)])))
    return street


def ok(receipt: Receipt) -> Receipt:
    assert receipt.code == "ok", receipt.message
    return receipt


def settle(street: Street, slot: int, readings: dict[int, tuple[int, int]]) -> None:
    street.to_end(slot)
    for number in range(1, 5):
        import_wh, export_wh = readings.get(number, (0, 0))
        ok(street.read(number, slot, import_wh, export_wh))
    street.block()
    assert client.slot_summary(street.query, slot).status == "settled"


def to_close(street: Street) -> None:
    """Both settlement windows after the period's end."""
    street.block(at_ms=(END + 4) * SLOT_MS - START_MS)
    street.block()


def trade_slot(street: Street, slot: int) -> None:
    """Home 1 (green) sells 600 Wh to home 3, home 4 (not green) sells 200 Wh to home 2."""
    ok(street.home(1, client.post_order(slot, "sell", 600, 100_000)))
    ok(street.home(4, client.post_order(slot, "sell", 200, 110_000)))
    ok(street.home(3, client.post_order(slot, "buy", 600, 150_000)))
    ok(street.home(2, client.post_order(slot, "buy", 200, 140_000)))
    street.to_gate(slot)


def test_grid_energy_carries_carbon_and_a_neighbours_none() -> None:
    street = green_street()
    trade_slot(street, SLOT)
    # Home 1 gave 500 of 600 Wh: 100 Wh came from the grid, on its account.
    settle(street, SLOT, {1: (0, 500), 2: (250, 0), 3: (600, 0), 4: (0, 200)})
    bills = {bill.home: bill for bill in client.bills_of_slot(street.query, SLOT)}
    assert [bills[n].carbon_mg for n in (1, 2, 3, 4)] == [100 * 680, 50 * 680, 0, 0]
    # Certificates: as many as home 1 gave; home 4 has none to give.
    assert [(bills[n].green_bought_wh, bills[n].green_sold_wh) for n in (1, 2, 3, 4)] == [
        (0, 500),
        (0, 0),
        (500, 0),
        (0, 0),
    ]
    summary = client.slot_summary(street.query, SLOT)
    assert (summary.carbon_mg, summary.green_wh) == (150 * 680, 500)
    assert client.total(street.query, 1).carbon_mg == 68_000
    report = carbon.report(street.query, 1, 3)
    assert (report.import_wh, report.green_bought_wh, report.emitted_mg) == (600, 500, 0)
    community = carbon.community(street.query, 1)
    assert community.emitted_mg == 102_000
    assert community.green_bought_wh == community.green_sold_wh == 500


def test_a_silent_green_seller_has_no_certificates() -> None:
    street = green_street()
    trade_slot(street, SLOT)
    street.to_end()
    street.to_window_end()
    bills = {bill.home: bill for bill in client.bills_of_slot(street.query, SLOT)}
    assert not bills[1].read
    assert bills[1].green_sold_wh == bills[3].green_bought_wh == 0
    assert bills[1].carbon_mg == 600 * INTENSITY


def test_over_its_quota_a_home_buys_or_pays() -> None:
    street = green_street()
    # 400 Wh of grid energy carry 272 g; home 2 and home 3 have 100 g each, home 4 nothing.
    settle(street, SLOT, {2: (400, 0), 4: (100, 0)})
    settle(street, SLOT + 1, {})
    # Home 3 needs none of its quota: 80 g of it go to home 2 for 40,000 micro per kg.
    offered = ok(street.home(3, carbon.offer_quota(1, 90_000, 40_000)))
    assert offered.events[0].data["offer"] == 1
    assert carbon.offers(street.query, 1) == [carbon.QuotaOffer(1, 1, 3, 90_000, 40_000)]
    before = street.account(2).balance_micro, street.account(3).balance_micro
    ok(street.home(2, carbon.buy_quota(1, 1, 80_001)))
    # 80,001 mg at 40,000 micro per kg are 3,200.04 micro, rounded up.
    assert street.account(2).balance_micro == before[0] - 3_201
    assert street.account(3).balance_micro == before[1] + 3_201
    ok(street.home(3, carbon.withdraw_quota(1, 1)))
    assert carbon.offers(street.query, 1) == []
    balances = {n: street.account(n).balance_micro for n in (2, 3, 4)}
    to_close(street)
    assert carbon.periods(street.query)[0].status == "closed"
    reports = {row.home: row for row in carbon.reports(street.query, 1)}
    assert reports[2].emitted_mg == 272_000
    assert reports[2].quota_mg == 180_001
    assert (reports[2].excess_mg, reports[2].paid_micro) == (91_999, 91_999 * PRICE // 10**6)
    assert (reports[3].excess_mg, reports[3].paid_micro, reports[3].quota_mg) == (0, 0, 19_999)
    assert (reports[4].excess_mg, reports[4].paid_micro) == (68_000, 3_400)
    assert street.account(2).balance_micro == balances[2] - reports[2].paid_micro
    assert street.account(4).balance_micro == balances[4] - 3_400
    assert refused(street, HOME_KEYS[2], carbon.offer_quota(1, 1, 1)) == "closed"


def test_who_cannot_pay_the_excess_owes_it() -> None:
    street = green_street(balance_micro=30_000)
    settle(street, SLOT, {4: (140, 0)})
    settle(street, SLOT + 1, {})
    assert street.account(4).balance_micro == 2_000
    to_close(street)
    # 95,200 mg at 50,000 micro per kg.
    assert (street.account(4).balance_micro, street.account(4).arrears_micro) == (0, 2_760)


def test_a_period_waits_for_its_last_slot() -> None:
    street = green_street()
    street.to_end(SLOT + 1)
    ok(street.read(2, SLOT + 1, 1_000, 0))
    street.block(at_ms=(END + 4) * SLOT_MS - START_MS - 1)
    assert carbon.periods(street.query)[0].status == "open"
    to_close(street)
    # Silent meters took nothing; home 2 imported a kilowatt-hour in the last slot.
    assert carbon.report(street.query, 1, 2).excess_mg == 580_000


def test_emissions_outside_a_period_are_on_the_bill_only() -> None:
    street = green_street()
    settle(street, SLOT - 1, {2: (100, 0)})
    bill = client.bill(street.query, SLOT - 1, 2)
    assert bill is not None
    assert bill.carbon_mg == 68_000
    assert carbon.report(street.query, 1, 2).emitted_mg == 0


def refused(street: Street, key: SigningKey, call: Call) -> str:
    receipt = street.send(key, call)
    assert receipt.code == "revert"
    return receipt.reason


H1, H2, H3 = HOME_KEYS[:3]
REFUSALS = {
    "a home's period": (H1, carbon.open_period(END, END + 1, 1), "not_regulator"),
    "overlapping": (REGULATOR, carbon.open_period(END - 1, END + 1, 1), "bad_argument"),
    "empty": (REGULATOR, carbon.open_period(END, END, 1), "bad_argument"),
    "negative price": (REGULATOR, carbon.open_period(END, END + 1, -1), "bad_argument"),
    "a home's allotment": (H1, carbon.allot(1, [(1, 1)]), "not_regulator"),
    "unknown period": (REGULATOR, carbon.allot(2, [(1, 1)]), "unknown_period"),
    "unknown home": (REGULATOR, carbon.allot(1, [(5, 1)]), "bad_argument"),
    "nothing": (REGULATOR, carbon.allot(1, [(1, 0)]), "bad_argument"),
    "no rows": (REGULATOR, carbon.allot(1, []), "bad_argument"),
    "more than it has": (H2, carbon.offer_quota(1, 100_001, 1), "no_quota"),
    "has none": (H1, carbon.offer_quota(1, 1, 1), "no_quota"),
    "regulator offers": (REGULATOR, carbon.offer_quota(1, 1, 1), "not_a_home"),
    "no offer": (H2, carbon.buy_quota(1, 1, 1), "unknown_order"),
    "a meter": (METER_KEYS[1], carbon.offer_quota(1, 1, 1), "not_a_home"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused(name: str) -> None:
    key, call, reason = REFUSALS[name]
    assert refused(green_street(), key, call) == reason


def test_refusals_of_trade() -> None:
    street = green_street()
    ok(street.home(2, carbon.offer_quota(1, 60_000, 10**10)))
    assert refused(street, H2, carbon.offer_quota(1, 40_001, 1)) == "no_quota"
    assert refused(street, H2, carbon.buy_quota(1, 1, 1)) == "bad_argument"
    assert refused(street, H3, carbon.buy_quota(1, 1, 60_001)) == "bad_argument"
    assert refused(street, H3, carbon.buy_quota(1, 1, 60_000)) == "no_money"
    assert refused(street, H3, carbon.withdraw_quota(1, 1)) == "unknown_order"
    assert carbon.report(street.query, 1, 3).bought_mg == 0
    for _ in range(7):
        ok(street.home(2, carbon.offer_quota(1, 1, 0)))
    assert refused(street, H2, carbon.offer_quota(1, 1, 0)) == "too_many_orders"


def test_old_periods_are_forgotten() -> None:
    street = green_street()
    settle(street, SLOT, {2: (400, 0)})
    settle(street, SLOT + 1, {})
    to_close(street)
    first = END + 10
    for number in range(23):
        ok(street.send(REGULATOR, carbon.open_period(first + number, first + number + 1, 0)))
    assert carbon.report(street.query, 1, 2).emitted_mg > 0
    ok(street.send(REGULATOR, carbon.open_period(first + 23, first + 24, 0)))
    assert [p.period for p in carbon.periods(street.query)] == list(range(2, 26))
    assert carbon.report(street.query, 1, 2).emitted_mg == 0
    last = carbon.open_period(first + 24, first + 25, 0)
    assert refused(street, REGULATOR, last) == "too_many_periods"


def test_posted_tables() -> None:
    street = Street(params())
    assert refused(street, H1, client.post_table("feed_in", 0, [[0, 1]])) == "not_regulator"
    ok(street.home(1, client.post_order(SLOT + 3, "buy", 10, 1)))
    change_ms = (SLOT + 4) * SLOT_MS

    def post(kind: str, at_ms: int, value: object) -> Receipt:
        return street.send(REGULATOR, client.post_table(kind, at_ms, value))

    # Up to slot + 3 somebody has bid on today's prices.
    assert post("tariffs", change_ms - 1, [[0, 1]]).reason == "too_late"
    for kind, value in (
        ("tariffs", []),
        ("tariffs", [[1, 5]]),
        ("tariffs", [[0, 5], [0, 6]]),
        ("tariffs", [[0, 5], [1_440, 6]]),
        ("tariffs", [[0, 0]]),
        ("tariffs", 5),
        ("feed_in", [[0, -1]]),
        ("intensities", [[0, 100_001]]),
        ("utc_offsets", [[0, 5]]),
        ("utc_offsets", 1_441),
        ("colours", 1),
        (None, 1),
    ):
        assert post(kind, change_ms, value).reason == "bad_argument", (kind, value)  # type: ignore[arg-type]
    ok(post("tariffs", change_ms, [[0, 333_000], [1_439, 1]]))
    ok(post("feed_in", change_ms, [[0, 44_000]]))
    ok(post("intensities", change_ms, [[0, 7]]))
    before = client.grid_price(street.query, SLOT + 3)
    after = client.grid_price(street.query, SLOT + 4)
    assert (before.tariff_micro_per_kwh, before.feed_in_micro_per_kwh) == (200_000, FEED_IN)
    assert (after.tariff_micro_per_kwh, after.feed_in_micro_per_kwh) == (333_000, 44_000)
    assert client.intensity(street.query, SLOT + 3) == INTENSITY
    assert client.intensity(street.query, SLOT + 4) == 7
    # A later word replaces what was to come.
    ok(post("tariffs", change_ms, [[0, 222_000]]))
    assert client.grid_price(street.query, SLOT + 4).tariff_micro_per_kwh == 222_000


def test_a_table_forgets_what_no_slot_needs() -> None:
    street = Street(params(keep_slots=2))
    for step in range(1, 6):
        call = client.post_table("intensities", (SLOT + step) * SLOT_MS, [[0, step]])
        ok(street.send(REGULATOR, call))
    street.block(at_ms=(SLOT + 5) * SLOT_MS - START_MS)
    call = client.post_table("intensities", (SLOT + 9) * SLOT_MS, [[0, 9]])
    ok(street.send(REGULATOR, call))
    rows = street.query("tariff", "table", {"kind": "intensities"})
    assert [row[1][0][1] for row in rows] == [3, 4, 5, 9]
