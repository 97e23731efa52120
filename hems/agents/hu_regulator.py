"""Huang's regulator (Hu, section 2, participant 4): a standing ask without limit at P_regulator.

On a street the contract itself keeps the grid's ask at the tariff (docs/spec/market.md). This
agent is for a home that is a plant: it asks P_regulator for all that its connection can give, in
every slot, whatever else goes on. What it sells and does not produce it falls short of.
"""

from typing import ClassVar

import msgspec

from hems.agents.base import Agent, AgentSettings, Situation
from hems.bid import Order
from hems.errors import ConfigError


class HuRegulatorSettings(AgentSettings, frozen=True, kw_only=True):
    """`price_micro_per_kwh`: P_regulator; the slot's tariff if not given."""

    price_micro_per_kwh: int | None = None

    def __post_init__(self) -> None:
        if self.price_micro_per_kwh is not None and self.price_micro_per_kwh < 1:
            raise ConfigError(f"price_micro_per_kwh {self.price_micro_per_kwh}: at least 1")


class HuRegulatorAgent(Agent):
    """Always sells, at one price."""

    Settings: ClassVar[type[msgspec.Struct]] = HuRegulatorSettings
    settings: HuRegulatorSettings

    def orders(self, situation: Situation) -> list[Order]:
        """Return one ask for all that may be sold."""
        price = self.settings.price_micro_per_kwh or situation.band.tariff_micro_per_kwh
        if situation.export_room_wh <= 0:
            return []
        return [Order("ask", situation.export_room_wh, price)]
