"""The baseline: random prices that do not lose (Gode and Sunder 1993, "ZI-C").

Each step of the value curve is bid or asked for at a price drawn evenly from all that are no loss:
bids from the feed-in price to the step's value, asks from its value to the tariff. What an agent
earns more than this one, it earns by its wits; the rest is the market's doing.
"""

from hems.agents.base import Agent, AgentSettings, Situation
from hems.agents.draws import uniform
from hems.bid import Order, one_side


class ZeroIntelligenceAgent(Agent):
    """Random prices within the budget."""

    settings: AgentSettings

    def orders(self, situation: Situation) -> list[Order]:
        """Return an order for each step of the side the plan is on."""
        feed_in, tariff = situation.band
        found = []
        for place, segment in enumerate(situation.curve):
            draw = uniform(self.settings.seed, "zi", situation.slot_start_ms, place)
            value = min(max(segment.value_micro_per_kwh, feed_in), tariff)
            low, high = (feed_in, value) if segment.side == "bid" else (value, tariff)
            energy_wh = int(segment.energy_wh)
            if energy_wh >= 1:
                found.append(Order(segment.side, energy_wh, round(low + draw * (high - low))))
        return one_side(found, situation.need_wh)
