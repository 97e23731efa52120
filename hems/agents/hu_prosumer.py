"""A home that is Huang's producer while it has surplus, and Huang's consumer while it lacks.

Hu has either the one or the other; a home with PV is both within a day. Each keeps its own prices
and profits.
"""

from typing import ClassVar

import msgspec

from hems.agents.base import Agent, AgentSettings, Outcome, Situation
from hems.agents.hu import Mode, check
from hems.agents.hu_consumer import HuConsumerAgent, HuConsumerMemory, HuConsumerSettings
from hems.agents.hu_producer import HuProducerAgent, HuProducerMemory, HuProducerSettings
from hems.bid import Order


class HuProsumerSettings(AgentSettings, frozen=True, kw_only=True):
    """`mode` of the producer, Δp and ξ of both; the rest as their defaults."""

    mode: Mode = "literal"
    step_micro_per_kwh: int = HuProducerSettings().step_micro_per_kwh
    xi_micro: int = HuProducerSettings().xi_micro

    def __post_init__(self) -> None:
        check(self, ("step_micro_per_kwh",), ("xi_micro",))


class HuProsumerMemory(msgspec.Struct):
    """Both memories."""

    producer: HuProducerMemory = msgspec.field(default_factory=HuProducerMemory)
    consumer: HuConsumerMemory = msgspec.field(default_factory=HuConsumerMemory)


class HuProsumerAgent(Agent):
    """Sells surplus and buys what it needs."""

    Settings: ClassVar[type[msgspec.Struct]] = HuProsumerSettings
    Memory: ClassVar[type[msgspec.Struct]] = HuProsumerMemory
    settings: HuProsumerSettings
    memory: HuProsumerMemory

    def __init__(
        self, settings: HuProsumerSettings | None = None, memory: HuProsumerMemory | None = None
    ) -> None:
        super().__init__(settings, memory)
        seed, step, xi = (
            self.settings.seed,
            self.settings.step_micro_per_kwh,
            self.settings.xi_micro,
        )
        self._producer = HuProducerAgent(
            HuProducerSettings(
                seed=seed, mode=self.settings.mode, step_micro_per_kwh=step, xi_micro=xi
            ),
            self.memory.producer,
        )
        self._consumer = HuConsumerAgent(
            HuConsumerSettings(seed=seed, step_micro_per_kwh=step, xi_micro=xi),
            self.memory.consumer,
        )

    def orders(self, situation: Situation) -> list[Order]:
        """Return one ask or one bid."""
        return self._producer.orders(situation) or self._consumer.orders(situation)

    def observe(self, outcome: Outcome) -> None:
        """Let whichever has asked end its cycle."""
        self._producer.observe(outcome)
        self._consumer.observe(outcome)
