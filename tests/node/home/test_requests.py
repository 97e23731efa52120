"""Offers to the requests of others."""

from hems.bid import Order
from market import client, contracts
from market.client import Call
from node.home.requests import OFFERS_TO_ONE_MAX, Requests
from tests.market.street import SLOT, SLOT_MS, START_MS, Street, params

START = SLOT * SLOT_MS
ASKS = [Order("ask", 400, 120_000), Order("ask", 300, 90_000), Order("ask", 200, 150_000)]


def test_homes_do_not_all_begin_with_the_same_request() -> None:
    street = Street(params(4, mechanism="request_offer"))
    start_ms = SLOT * SLOT_MS
    for home in (1, 2):
        call = client.post_request(start_ms, start_ms + SLOT_MS, 500)
        assert street.home(home, call).code == "ok"
    served = []
    for number in range(3, 23):
        home = Requests(street.query, number, SLOT_MS)
        home.plan(SLOT, [Order("ask", 500, 100_000)])
        (offer,) = home.offers()
        served.append(offer.args["request"])
    # Each has enough for one: whoever is asked second gets its share, too.
    assert min(served.count(1), served.count(2)) >= 4


def market() -> Street:
    return Street(params(4, mechanism="request_offer"))


def asked(street: Street, home: int, wh: int, limit: int, start: int = START) -> None:
    call = client.post_request(start, start + SLOT_MS, wh, limit_micro_per_kwh=limit)
    assert street.home(home, call).code == "ok"


def told(calls: list[Call]) -> list[tuple[int, int, int]]:
    return [
        (call.args["request"], call.args["energy_wh"], call.args["price_micro_per_kwh"])
        for call in calls
    ]


def test_a_home_asks_for_each_step_of_what_it_needs_with_the_most_it_pays() -> None:
    """CE figure 2, step 1: how much is required, and that offers are wanted."""
    home = Requests(market().query, 1, SLOT_MS)
    calls = home.plan(SLOT, [Order("bid", 300, 180_000), Order("bid", 200, 140_000)])
    assert [call.args for call in calls] == [
        {
            "start_ms": START,
            "end_ms": START + SLOT_MS,
            "energy_wh": energy_wh,
            "bidding": True,
            "limit_micro_per_kwh": limit,
        }
        for energy_wh, limit in ((300, 180_000), (200, 140_000))
    ]
    assert home.offers() == []


def test_offers_begin_with_the_cheapest_and_end_where_the_request_does() -> None:
    """CE figure 2, step 5: what can be given, at the agent's prices, to requests of others."""
    street = market()
    asked(street, 1, 500, 130_000)
    home = Requests(street.query, 3, SLOT_MS)
    home.plan(SLOT, ASKS)
    assert told(home.offers()) == [(1, 300, 90_000), (1, 200, 120_000)]
    # Once to each request; its own, and those of other times, are none to offer to.
    assert home.offers() == []
    asked(street, 3, 500, 180_000)
    asked(street, 2, 500, 180_000, START + SLOT_MS)
    assert home.offers() == []
    # Nor one that goes on into a slot whose plan is not made.
    asked(street, 2, 500, 180_000, START + 1)
    assert home.offers() == []
    # What is left goes to the next request, but nothing that asks more than it would pay.
    asked(street, 2, 50, 120_000)
    assert told(home.offers()) == [(5, 50, 120_000)]
    asked(street, 2, 500, 149_999)
    assert told(home.offers()) == [(6, 150, 120_000)]


def test_what_was_not_accepted_is_offered_again() -> None:
    street = market()
    asked(street, 1, 300, 180_000)
    home = Requests(street.query, 3, SLOT_MS)
    home.plan(SLOT, [Order("ask", 300, 120_000)])
    for number, call in ((3, home.offers()[0]), (4, client.post_offer(1, 200, 100_000))):
        assert street.home(number, call).code == "ok"
    result = street.block(at_ms=street.time_ms + SLOT_MS // 3 - START_MS)
    answers = [client.decode_event(event) for event in result.events]
    for answer in answers:
        if isinstance(answer, client.OfferAnswered):
            home.answered(answer)
    asked(street, 2, 500, 180_000)
    # Home 4 was cheaper: 100 Wh were accepted here, 200 are left.
    assert told(home.offers()) == [(2, 200, 120_000)]


def test_no_more_offers_go_to_a_request_than_it_takes_of_a_home() -> None:
    """Eight steps of 50 Wh, two requests: what the first cannot take of them is the second's."""
    street = market()
    for home in (1, 2):
        asked(street, home, 400, 180_000)
    home = Requests(street.query, 3, SLOT_MS)
    home.plan(SLOT, [Order("ask", 50, 90_000 + 1_000 * place) for place in range(8)])
    calls = home.offers()
    assert sorted(call.args["request"] for call in calls) == [1] * 4 + [2] * 4
    assert sorted(price for _, _, price in told(calls)) == [90_000 + 1_000 * n for n in range(8)]
    assert all(street.home(3, call).code == "ok" for call in calls)


def test_a_home_knows_how_many_offers_the_contract_takes() -> None:
    assert f"\nOFFERS_PER_HOME_MAX = {OFFERS_TO_ONE_MAX}\n" in contracts.source("requests")
