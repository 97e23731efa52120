"""What a household knows of the slots it has orders in: outcomes, what stands, what may change.

A slot has one life here: orders are posted, rounds fill some of them, and until the gate closes
what is left may be withdrawn and posted anew, a bounded number of times.
"""

from collections.abc import Callable, Iterable
from typing import Final

from hems.agents.base import Outcome, Revision, Standing
from hems.bid import Band, Order
from market import client, tiers
from market.genesis import MarketParams
from wire.codec import Plain
from wire.transaction import CheckedTransaction

# With intraday rounds, so many slots after the next gate's are traded already.
EARLY_SLOTS_MAX: Final = 8
# Slots that are traded ahead of a dated auction.
AUCTION_SLOTS_MAX: Final = 48
# How often the orders of one slot are changed, and how many transactions are made at a time: of an
# account 64 may wait at a node.
REVISIONS_PER_SLOT_MAX: Final = 6
CALLS_AT_ONCE_MAX: Final = 48

Query = Callable[[str, str, dict[str, Plain]], Plain]


class OpenSlots:
    """The slots a home has posted in, and which of them a round has made stale."""

    def __init__(self) -> None:
        self._passes: dict[int, int] = {}
        self._stale: set[int] = set()

    def __contains__(self, slot: int) -> bool:
        return slot in self._passes

    def looked_at(self, slot: int) -> None:
        """Note that a slot's orders are about to be made what they should be."""
        self._passes[slot] = self._passes.get(slot, 0) + 1
        self._stale.discard(slot)

    def later(self, slot: int) -> None:
        """Note that a slot is to be looked at, which cannot be done now."""
        self._passes.setdefault(slot, 0)
        self._stale.add(slot)

    def put_off(self, slot: int) -> None:
        """Note that nothing came of it yet."""
        self._passes[slot] -= 1
        self._stale.add(slot)

    def moved(self) -> None:
        """Note that a round was held: what is contracted anywhere bears on all open slots."""
        self._stale.update(self._passes)

    def close(self, first_open: int) -> None:
        """Forget slots before the first whose gate is open."""
        self._passes = {slot: n for slot, n in self._passes.items() if slot >= first_open}
        self._stale.intersection_update(self._passes)

    def known(self) -> list[int]:
        """Return the slots posted in, first to last."""
        return sorted(self._passes)

    def stale(self) -> list[int]:
        """Return the slots to look at again, first to last."""
        return sorted(s for s in self._stale if self._passes[s] <= REVISIONS_PER_SLOT_MAX)


def early_slots(
    target: int,
    market_ms: int,
    slot_ms: int,
    intraday: bool,
    auctions: Iterable[tuple[int, int, int]],
) -> list[int]:
    """Return the slots after the next gate's that a round before their gate will clear.

    Those of an auction are traded in the last slot's time before it is held.
    """
    last = target + AUCTION_SLOTS_MAX
    found = set(range(target + 1, target + 1 + EARLY_SLOTS_MAX)) if intraday else set()
    for at_ms, first, count in auctions:
        if market_ms < at_ms <= market_ms + slot_ms:
            found.update(range(max(first, target + 1), min(first + count, last + 1)))
    return sorted(found)


def waiting(outbox: Iterable[CheckedTransaction], slot: int) -> bool:
    """Tell whether an order or a withdrawal for a slot is said and not decided."""
    return any(
        signed.tx.contract in ("market", "sealed") and signed.tx.args.get("slot") == slot
        for signed in outbox
    )


def standing(query: Query, slot: int, number: int) -> list[Standing]:
    """Return a home's orders in a slot's book."""
    return [
        Standing(
            order.order_id,
            Order(
                "bid" if order.side == "buy" else "ask",
                order.residual_wh,
                order.price_micro_per_kwh,
            ),
            order.energy_wh - order.residual_wh,
        )
        for order in client.orders_of(query, slot, number)
    ]


def calls_of(slot: int, revision: Revision) -> list[client.Call]:
    """Return the transactions of a change: what is withdrawn first makes room."""
    calls = [client.withdraw_order(order_id) for order_id in revision.withdraw]
    return calls + [call_of(order, slot) for order in revision.post]


def call_of(order: Order, slot: int) -> client.Call:
    """Return the transaction of an order. The market knows no price below 1."""
    side = "buy" if order.side == "bid" else "sell"
    return client.post_order(slot, side, order.energy_wh, max(1, order.price_micro_per_kwh))


def outcome(query: Query, slot: int, slot_start_ms: int, number: int) -> Outcome:
    """Return what a slot's rounds have brought a home so far."""
    summary = client.slot_summary(query, slot)
    grid = client.grid_price(query, slot)
    mine = [t for t in client.trades_of_home(query, slot, number) if not t.backstop]
    bought = [trade for trade in mine if trade.buyer == number]
    sold = [trade for trade in mine if trade.seller == number]
    return Outcome(
        slot_start_ms=slot_start_ms,
        band=Band(grid.feed_in_micro_per_kwh, grid.tariff_micro_per_kwh),
        bought_wh=sum(trade.energy_wh for trade in bought),
        sold_wh=sum(trade.energy_wh for trade in sold),
        paid_micro=sum(trade.cost_micro + trade.fee_micro for trade in bought),
        earned_micro=sum(trade.cost_micro for trade in sold),
        low_micro_per_kwh=summary.low_micro_per_kwh,
        high_micro_per_kwh=summary.high_micro_per_kwh,
        final=summary.status != "open",
    )


def contracted_wh(query: Query, params: MarketParams, slot: int, number: int) -> int:
    """Return what a home has contracted in a slot, at home and elsewhere, bought positive. [Wh]"""
    net_wh = sum(
        trade.energy_wh * ((trade.buyer == number) - (trade.seller == number))
        for trade in client.trades_of_slot(query, slot)
        if not trade.backstop
    )
    if tiers.exports(params.region):
        net_wh += sum(
            one.bought_wh - one.sold_wh
            for one in client.traded_elsewhere(query, slot)
            if one.home == number
        )
    return net_wh
