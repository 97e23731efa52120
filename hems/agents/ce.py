"""The agent of CE (Wang et al. 2023, section 2): offers about the suggested price.

A home with surplus offers it at the suggested price, a little up or down:
`p_sell * (1 + U(-0.1, 0.1))`. A home in need requests all of it and takes the offers from the
cheapest up, whatever they ask; what nobody offers the grid serves. That is a bid at the tariff.
"""

from typing import ClassVar

import msgspec

from hems.agents.base import Agent, AgentSettings, Situation
from hems.agents.draws import uniform
from hems.bid import Order, within
from hems.errors import ConfigError


class CeSettings(AgentSettings, frozen=True, kw_only=True):
    """`spread`: the largest deviation from the suggested price, a fraction of it."""

    spread: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.spread < 1:
            raise ConfigError(f"spread {self.spread}: a fraction from 0 to below 1")


class CeAgent(Agent):
    """Asks about the suggested price, bids at the tariff."""

    Settings: ClassVar[type[msgspec.Struct]] = CeSettings
    settings: CeSettings

    def orders(self, situation: Situation) -> list[Order]:
        """Return one order for all surplus or all need."""
        band = situation.band
        if situation.need_wh > 0:
            return [Order("bid", situation.need_wh, band.tariff_micro_per_kwh)]
        energy_wh = min(situation.surplus_wh, situation.export_room_wh)
        if energy_wh <= 0:
            return []
        middle = (band.feed_in_micro_per_kwh + band.tariff_micro_per_kwh) // 2
        about = situation.suggested.sell_micro_per_kwh if situation.suggested else middle
        draw = uniform(self.settings.seed, "ce", situation.slot_start_ms)
        price = round(about * (1 + self.settings.spread * (2 * draw - 1)))
        return [Order("ask", energy_wh, within(band, price))]
