"""Huang's producer (Hu 1 to 4): learns its price, then its quantity, from its own profits.

The profit of a cycle (Hu 1) is what was earned less the cost of what was sold, or the breakdown
loss σ if nothing was sold. The price moves by Hu 3; after a loss it is back at cost. Once it has
stalled, that is, `stall_rounds` cycles in a row have not raised the profit, the quantity moves
too, by Hu 4 and with sums of its own, within `[0, q_max]` (Hu 2). q_max is the slot's surplus,
which changes; what is remembered is therefore how much of it is withheld.
"""

from typing import ClassVar

import msgspec

from hems.agents.base import Agent, AgentSettings, Outcome, Situation, remember
from hems.agents.draws import uniform
from hems.agents.hu import STEP_MICRO_PER_KWH, XI_MICRO, Climb, Mode, Profits, check, climbed
from hems.bid import Order, within


class HuProducerSettings(AgentSettings, frozen=True, kw_only=True):
    """Settings of Huang's producer.

    mode : "literal" (as printed) or "hill_climb" (keeps the direction that last helped)
    cost_micro_per_kwh : unit cost c; the feed-in price, which it forgoes by selling, if not given
    price_micro_per_kwh : initial price; a step above cost if not given
    step_micro_per_kwh, step_wh : Δp and Δq
    xi_micro : ξ, changes of profit up to it count as none
    breakdown_micro : σ, the loss of a cycle in which nothing is sold
    stall_rounds : cycles without more profit after which the quantity moves too
    """

    mode: Mode = "literal"
    cost_micro_per_kwh: int | None = None
    price_micro_per_kwh: int | None = None
    step_micro_per_kwh: int = STEP_MICRO_PER_KWH
    step_wh: int = 50
    xi_micro: int = XI_MICRO
    breakdown_micro: int = 1_000
    stall_rounds: int = 3

    def __post_init__(self) -> None:
        others = ("cost_micro_per_kwh", "price_micro_per_kwh", "xi_micro", "breakdown_micro")
        check(self, ("step_micro_per_kwh", "step_wh", "stall_rounds"), others)


class HuProducerMemory(msgspec.Struct):
    """`pending` is by slot: [cost, q_max] it was asked at; the rest as in the module's text."""

    price_micro_per_kwh: int | None = None
    withheld_wh: int = 0
    profit_micro: int = 0
    stalled: int = 0
    cycles: int = 0
    price: Climb = msgspec.field(default_factory=Climb)
    quantity: Climb = msgspec.field(default_factory=Climb)
    pending: dict[str, list[int]] = msgspec.field(default_factory=dict)


class HuProducerAgent(Agent):
    """Sells surplus; never buys."""

    Settings: ClassVar[type[msgspec.Struct]] = HuProducerSettings
    Memory: ClassVar[type[msgspec.Struct]] = HuProducerMemory
    settings: HuProducerSettings
    memory: HuProducerMemory

    def orders(self, situation: Situation) -> list[Order]:
        """Return one ask."""
        most_wh = min(situation.surplus_wh, situation.export_room_wh)
        if most_wh <= 0:
            return []
        memory = self.memory
        cost = self.settings.cost_micro_per_kwh
        if cost is None:
            cost = situation.band.feed_in_micro_per_kwh
        if memory.price_micro_per_kwh is None:
            first = self.settings.price_micro_per_kwh
            memory.price_micro_per_kwh = (
                cost + self.settings.step_micro_per_kwh if first is None else first
            )
        remember(memory.pending, situation.slot_start_ms, [cost, most_wh])
        energy_wh = max(0, most_wh - memory.withheld_wh)
        if energy_wh == 0:
            return []
        return [Order("ask", energy_wh, within(situation.band, memory.price_micro_per_kwh))]

    def observe(self, outcome: Outcome) -> None:
        """End a cycle: move price and quantity by its profit."""
        memory, settings = self.memory, self.settings
        if not outcome.final or str(outcome.slot_start_ms) not in memory.pending:
            return
        cost, most_wh = memory.pending.pop(str(outcome.slot_start_ms))
        profit = -settings.breakdown_micro
        if outcome.sold_wh:
            profit = outcome.earned_micro - outcome.sold_wh * cost // 1000
        profits = Profits(profit, memory.profit_micro, settings.xi_micro)
        # Once stalled, the quantity goes on moving with the price.
        if memory.stalled < settings.stall_rounds:
            memory.stalled = 0 if profits.rose else memory.stalled + 1
        draw = uniform(settings.seed, "hu_producer", "price", memory.cycles)
        change, memory.price = climbed(
            memory.price, settings.step_micro_per_kwh, profits, draw, settings.mode
        )
        memory.price_micro_per_kwh = max(0, (memory.price_micro_per_kwh or cost) + change)
        if profit < 0:
            memory.price_micro_per_kwh = cost
            memory.price.direction = 1
        if memory.stalled >= settings.stall_rounds:
            draw = uniform(settings.seed, "hu_producer", "quantity", memory.cycles)
            change, memory.quantity = climbed(
                memory.quantity, settings.step_wh, profits, draw, settings.mode
            )
            memory.withheld_wh = min(max(0, memory.withheld_wh - change), most_wh)
        memory.profit_micro = profit
        memory.cycles += 1
