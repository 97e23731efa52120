"""Offers to the requests of others."""

from hems.bid import Order
from market import client
from node.home.requests import Requests
from tests.market.street import SLOT, SLOT_MS, Street, params


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
