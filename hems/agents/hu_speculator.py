"""Huang's speculator (Hu, section 2, participant 3): storage that buys low and sells high.

The price is the middle of each slot's lowest and highest; its relative change over the last
`window` slots that traded decides. At `-buy_change` or below it buys what its battery can take, at
`+sell_change` or above it sells what it can give. (Printed is one threshold "higher" for buying
and "lower" for selling, against the sentence after it.) By Hu's step 1 the price of an order
comes from the prior round: it buys up to the highest, and sells from the lowest, so that it trades
where others just did. Energy is not offered for less than it has cost, losses included, unless
`sells_at_loss`.
"""

import math
from typing import ClassVar, Final

import msgspec

from hems.agents.base import Agent, AgentSettings, Outcome, Situation
from hems.bid import Order, within
from hems.errors import ConfigError

WINDOW_MAX: Final = 1_000


class HuSpeculatorSettings(AgentSettings, frozen=True, kw_only=True):
    """Settings of Huang's speculator.

    window : τ, in slots that traded
    buy_change, sell_change : the thresholds TH, relative changes of the price
    order_wh_min : smaller orders are not sent
    loss : share of what is bought that the battery never gives back
    sells_at_loss : whether it sells for less than it paid
    """

    window: int = 8
    buy_change: float = 0.05
    sell_change: float = 0.05
    order_wh_min: int = 10
    loss: float = 0.1
    sells_at_loss: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.window <= WINDOW_MAX:
            raise ConfigError(f"window {self.window}: 1 to {WINDOW_MAX} slots")
        if not (0 < self.buy_change < 1 and 0 < self.sell_change < math.inf):
            raise ConfigError(
                f"buy_change {self.buy_change}, sell_change {self.sell_change}: above 0, and no "
                "price falls by 1"
            )
        if not 0 <= self.loss < 1:
            raise ConfigError(f"loss {self.loss}: a fraction from 0 to below 1")
        if self.order_wh_min < 1:
            raise ConfigError(f"order_wh_min {self.order_wh_min}: at least 1")


class HuSpeculatorMemory(msgspec.Struct):
    """The last prices, oldest first; energy bought and not sold yet, and what was paid for it."""

    prices: list[int] = []
    held_wh: int = 0
    cost_micro: int = 0


class HuSpeculatorAgent(Agent):
    """Trades for the difference of prices alone."""

    Settings: ClassVar[type[msgspec.Struct]] = HuSpeculatorSettings
    Memory: ClassVar[type[msgspec.Struct]] = HuSpeculatorMemory
    stores_trades = True
    settings: HuSpeculatorSettings
    memory: HuSpeculatorMemory

    def orders(self, situation: Situation) -> list[Order]:
        """Return one order, if the price has moved enough."""
        change = self.change()
        if change is None or situation.prior is None:
            return []
        if change <= -self.settings.buy_change:
            order = Order("bid", situation.charge_room_wh, situation.prior.high_micro_per_kwh)
        elif change >= self.settings.sell_change:
            energy_wh = min(situation.discharge_room_wh, situation.export_room_wh)
            price = max(situation.prior.low_micro_per_kwh, self._floor())
            # Above the tariff nobody would buy.
            if price >= situation.band.tariff_micro_per_kwh:
                return []
            order = Order("ask", energy_wh, price)
        else:
            return []
        if order.energy_wh < self.settings.order_wh_min:
            return []
        return [
            order._replace(price_micro_per_kwh=within(situation.band, order.price_micro_per_kwh))
        ]

    def change(self) -> float | None:
        """Return the price's relative change over the window; None while it is not known."""
        prices = self.memory.prices
        if len(prices) <= self.settings.window:
            return None
        then = prices[-1 - self.settings.window]
        return (prices[-1] - then) / then

    def observe(self, outcome: Outcome) -> None:
        """Note a slot's price, and what was bought and sold in it."""
        if not outcome.final:
            return
        memory = self.memory
        if outcome.high_micro_per_kwh > 0:
            middle = (outcome.low_micro_per_kwh + outcome.high_micro_per_kwh) // 2
            kept = self.settings.window + 1
            memory.prices = [*memory.prices, max(1, middle)][-kept:]
        memory.held_wh += outcome.bought_wh
        memory.cost_micro += outcome.paid_micro
        taken_wh = min(round(outcome.sold_wh / (1 - self.settings.loss)), memory.held_wh)
        if taken_wh:
            memory.cost_micro -= memory.cost_micro * taken_wh // memory.held_wh
            memory.held_wh -= taken_wh

    def _floor(self) -> int:
        """Return the price at which the energy held brings in what was paid for it."""
        if self.settings.sells_at_loss or not self.memory.held_wh:
            return 0
        left_wh = self.memory.held_wh * (1 - self.settings.loss)
        return math.ceil(self.memory.cost_micro * 1000 / left_wh)
