"""Huang's consumer (Hu 5): a hard demand, and a bid that follows its own profits.

Profit is `q * (c - p)` with what was paid. The bid rises by Δp when profit rose, falls by Δp when
it fell, as it does while sellers ask for more, and takes a random step of up to Δp in between; it
is never above the value c. A demand that is not met is a loss, as selling nothing is to a producer
(Hu 1): nothing else could make the profit negative, after which the bid is back at c (docs/adr,
24). What nobody sells is bought from the grid: the demand is served in any case.
"""

from typing import ClassVar

import msgspec

from hems.agents.base import Agent, AgentSettings, Outcome, Situation, remember
from hems.agents.draws import uniform
from hems.agents.hu import STEP_MICRO_PER_KWH, XI_MICRO, Profits, check
from hems.bid import Order, within


class HuConsumerSettings(AgentSettings, frozen=True, kw_only=True):
    """Settings of Huang's consumer.

    value_micro_per_kwh : c; the slot's tariff, which it would pay otherwise, if not given
    price_micro_per_kwh : initial price; a step below the value if not given
    step_micro_per_kwh : Δp
    xi_micro : ξ, changes of profit up to it count as none
    unmet_micro : σ, the loss of a cycle in which the demand is not met
    """

    value_micro_per_kwh: int | None = None
    price_micro_per_kwh: int | None = None
    step_micro_per_kwh: int = STEP_MICRO_PER_KWH
    xi_micro: int = XI_MICRO
    unmet_micro: int = 1_000

    def __post_init__(self) -> None:
        others = ("value_micro_per_kwh", "price_micro_per_kwh", "xi_micro", "unmet_micro")
        check(self, ("step_micro_per_kwh",), others)


class HuConsumerMemory(msgspec.Struct):
    """`pending` is by slot: [value, demand] it was asked at."""

    price_micro_per_kwh: int | None = None
    profit_micro: int = 0
    cycles: int = 0
    pending: dict[str, list[int]] = msgspec.field(default_factory=dict)


class HuConsumerAgent(Agent):
    """Buys what it needs; never sells."""

    Settings: ClassVar[type[msgspec.Struct]] = HuConsumerSettings
    Memory: ClassVar[type[msgspec.Struct]] = HuConsumerMemory
    settings: HuConsumerSettings
    memory: HuConsumerMemory

    def orders(self, situation: Situation) -> list[Order]:
        """Return one bid."""
        if situation.need_wh <= 0:
            return []
        memory = self.memory
        value = self.settings.value_micro_per_kwh
        if value is None:
            value = situation.band.tariff_micro_per_kwh
        if memory.price_micro_per_kwh is None:
            first = self.settings.price_micro_per_kwh
            memory.price_micro_per_kwh = (
                value - self.settings.step_micro_per_kwh if first is None else first
            )
        memory.price_micro_per_kwh = min(memory.price_micro_per_kwh, value)
        remember(memory.pending, situation.slot_start_ms, [value, situation.need_wh])
        return [Order("bid", situation.need_wh, within(situation.band, memory.price_micro_per_kwh))]

    def observe(self, outcome: Outcome) -> None:
        """End a cycle: move the price by its profit."""
        memory, settings = self.memory, self.settings
        if not outcome.final or str(outcome.slot_start_ms) not in memory.pending:
            return
        value, demand_wh = memory.pending.pop(str(outcome.slot_start_ms))
        profit = -settings.unmet_micro
        if outcome.bought_wh >= demand_wh:
            profit = outcome.bought_wh * value // 1000 - outcome.paid_micro
        profits = Profits(profit, memory.profit_micro, settings.xi_micro)
        price = memory.price_micro_per_kwh or 0
        if profits.rose:
            price += settings.step_micro_per_kwh
        elif profits.fell:
            price -= settings.step_micro_per_kwh
        else:
            draw = uniform(settings.seed, "hu_consumer", "size", memory.cycles)
            up = uniform(settings.seed, "hu_consumer", "side", memory.cycles) < 0.5
            price += round(settings.step_micro_per_kwh * draw) * (1 if up else -1)
        if profit < 0:
            price = value
        memory.price_micro_per_kwh = min(max(0, price), value)
        memory.profit_micro = profit
        memory.cycles += 1
