"""The product's own agent: orders from the plan's value of energy, revised until the gate closes.

Each step of the value curve becomes an order between its value and the contract's suggested price
(`hems.bid.orders_for_slot`). After a round the curve is drawn again, with what was traded in it
contracted; of the orders that still stand those are replaced that are now wrong by enough to
matter.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from hems.agents.base import ORDERS_PER_SLOT_MAX, Agent, Revision, Situation, Standing
from hems.bid import BidSettings, Order, Side, one_side, orders_for_slot

# An order's energy is as wrong as it may be at a tenth of it.
_ENERGY_SHARE: Final = 0.1


class MpcAgent(Agent):
    """Bids and asks at the marginal value of energy in the home's own plan; `[home.bidding]`."""

    Settings: ClassVar[type[msgspec.Struct]] = BidSettings
    settings: BidSettings

    def orders(self, situation: Situation) -> list[Order]:
        """Return a few orders of the side the plan is on."""
        every = orders_for_slot(
            list(situation.curve), situation.band, situation.suggested, self.settings
        )
        return one_side(every, situation.need_wh)

    def revise(self, situation: Situation, standing: Sequence[Standing]) -> Revision:
        """Replace the orders whose price or energy is no longer right."""
        every = orders_for_slot(
            list(situation.curve), situation.band, situation.suggested, self.settings
        )
        side = bound_side(situation, standing)
        if side is None:
            wanted = one_side(every, situation.need_wh)
        else:
            wanted = [order for order in every if order.side == side]
        return changes(standing, wanted, self.settings)


def bound_side(situation: Situation, standing: Sequence[Standing]) -> Side | None:
    """Return the side a home must keep to in a slot: that of what it has traded there."""
    if situation.contracted_wh:
        return "bid" if situation.contracted_wh > 0 else "ask"
    filled = [item.order.side for item in standing if item.filled_wh]
    return filled[0] if filled else None


def changes(
    standing: Sequence[Standing], wanted: Sequence[Order], settings: BidSettings
) -> Revision:
    """Return the fewest changes that make of what stands about what is wanted.

    A standing order is kept for a wanted one if their prices differ by at most
    `revise_micro_per_kwh_min` and their energies by at most `revise_wh_min`, or a tenth.
    """
    free = list(wanted)
    withdraw, kept = [], 0
    for item in standing:
        if not item.order.energy_wh:
            kept += 1
            continue
        near = [order for order in free if _same(item.order, order, settings)]
        if near:
            price = item.order.price_micro_per_kwh
            free.remove(min(near, key=lambda order: abs(order.price_micro_per_kwh - price)))
            kept += 1
        else:
            withdraw.append(item.order_id)
            # What is filled of it stays in the book and counts.
            kept += item.filled_wh > 0
    return Revision(tuple(withdraw), tuple(free[: ORDERS_PER_SLOT_MAX - kept]))


def _same(old: Order, new: Order, settings: BidSettings) -> bool:
    if old.side != new.side:
        return False
    price = abs(old.price_micro_per_kwh - new.price_micro_per_kwh)
    energy_wh = abs(old.energy_wh - new.energy_wh)
    enough_wh = max(settings.revise_wh_min, int(_ENERGY_SHARE * new.energy_wh))
    return price <= settings.revise_micro_per_kwh_min and energy_wh <= enough_wh
