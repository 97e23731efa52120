"""Trading by request and offer (CE figure 2): what a home asks for, and what it offers to others.

A home that needs energy in a slot asks for it, once for each step of what it is worth to it. A
home that has some to spare keeps it here, step by step, and offers it to the requests that lie
inside the slot, in an order of its own and cheapest step first, until all is promised; what is not
accepted can be offered again.
"""

from collections.abc import Callable, Iterable
from typing import Final

from hems.agents.draws import shuffled
from hems.bid import Order
from market import client
from market.client import Call, OfferAnswered
from wire.codec import Plain
from wire.transaction import CheckedTransaction

# Requests are small and many: as many offers go out at a time.
OFFERS_AT_ONCE_MAX: Final = 64
# The contract takes no more of a home to one request; an agent may have more steps than that.
OFFERS_TO_ONE_MAX: Final = 4
SLOTS_KEPT: Final = 8

Query = Callable[[str, str, dict[str, Plain]], Plain]


class Step:
    """Energy to spare at a price."""

    __slots__ = ("left_wh", "price_micro_per_kwh")

    def __init__(self, price_micro_per_kwh: int, left_wh: int) -> None:
        self.price_micro_per_kwh = price_micro_per_kwh
        self.left_wh = left_wh


class Requests:
    """One home's side of a market by request and offer.

    Parameters
    ----------
    query : callable
        Asks a contract at the committed state.
    number : int
        The home's.
    slot_ms : int
        Length of a slot. [ms of market time]
    """

    def __init__(self, query: Query, number: int, slot_ms: int) -> None:
        self._query = query
        self._number = number
        self._slot_ms = slot_ms
        self._spare: dict[int, list[Step]] = {}
        self._offered: dict[int, int] = {}

    def plan(self, slot: int, orders: list[Order]) -> list[Call]:
        """Take a slot's plan: return the requests it makes, and keep what it has to spare."""
        asks = sorted(
            (order for order in orders if order.side == "ask"),
            key=lambda order: order.price_micro_per_kwh,
        )
        self._spare[slot] = [Step(order.price_micro_per_kwh, order.energy_wh) for order in asks]
        for old in sorted(self._spare)[:-SLOTS_KEPT]:
            del self._spare[old]
        start_ms = slot * self._slot_ms
        return [
            client.post_request(
                start_ms,
                start_ms + self._slot_ms,
                order.energy_wh,
                bidding=True,
                limit_micro_per_kwh=order.price_micro_per_kwh,
            )
            for order in orders
            if order.side == "bid"
        ]

    def offers(self) -> list[Call]:
        """Return offers to the open requests, each request once."""
        if not any(step.left_wh for steps in self._spare.values() for step in steps):
            return []
        open_now = client.open_requests(self._query)
        known = {request.request: request for request in open_now}
        self._offered = {n: slot for n, slot in self._offered.items() if n in known}
        calls: list[Call] = []
        # If all homes began with the first request, nothing would be left for the others.
        for number in shuffled(self._number, known):
            request = known[number]
            slot = request.start_ms // self._slot_ms
            inside = request.end_ms <= (slot + 1) * self._slot_ms
            if request.home == self._number or request.request in self._offered or not inside:
                continue
            made = self._offers_to(request, self._spare.get(slot, []))
            if made:
                self._offered[request.request] = slot
                calls += made
            if len(calls) >= OFFERS_AT_ONCE_MAX:
                break
        return calls

    def _offers_to(self, request: client.Request, steps: list[Step]) -> list[Call]:
        calls: list[Call] = []
        wanted_wh = request.energy_wh
        for step in steps:
            energy_wh = min(step.left_wh, wanted_wh)
            if energy_wh == 0 or step.price_micro_per_kwh > request.limit_micro_per_kwh:
                continue
            if len(calls) == OFFERS_TO_ONE_MAX:
                break
            step.left_wh -= energy_wh
            wanted_wh -= energy_wh
            calls.append(client.post_offer(request.request, energy_wh, step.price_micro_per_kwh))
        return calls

    def answered(self, answer: OfferAnswered) -> None:
        """Take back what was not accepted of an offer of this home."""
        if answer.home != self._number:
            return
        for offer in client.offers(self._query, answer.request):
            if offer.offer == answer.offer:
                left_wh = offer.energy_wh - answer.accepted_wh
                self._return(answer.request, offer.price_micro_per_kwh, left_wh)

    def _return(self, request: int, price: int, energy_wh: int) -> None:
        slot = self._offered.get(request)
        for step in self._spare.get(slot, []) if slot is not None else []:
            if step.price_micro_per_kwh == price:
                step.left_wh += energy_wh
                return


def spoken(
    query: Query,
    number: int,
    slot_start_ms: int,
    slot_ms: int,
    outbox: Iterable[CheckedTransaction],
) -> bool:
    """Tell whether a home has asked or offered in a slot, and does not know yet what came of it."""
    if any(signed.tx.contract == "requests" for signed in outbox):
        return True
    slot_end_ms = slot_start_ms + slot_ms
    return any(
        request.home == number
        or any(offer.home == number for offer in client.offers(query, request.request))
        for request in client.open_requests(query)
        if slot_start_ms <= request.start_ms and request.end_ms <= slot_end_ms
    )
