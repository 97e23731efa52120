"""The desk: between a home and its agent.

It makes the agent from the home's settings and saved memory, hands it situations and outcomes, and
holds what it answers against what the market can take, so that an agent with a mistake in it loses
a slot and not the home.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from hems.agents.base import (
    ORDERS_PER_SLOT_MAX,
    Agent,
    Outcome,
    Revision,
    Situation,
    Standing,
)
from hems.agents.registry import DEFAULT, agent_class, agent_settings
from hems.bid import BidSettings, Order
from hems.errors import AgentError, ConfigError

MEMORY_BYTES_MAX: Final = 65_536
ENERGY_WH_MAX: Final = 1_000_000_000
# As the market's: a kWh costs some hundreds in some currencies.
PRICE_MICRO_PER_KWH_MAX: Final = 10**10

_NAME: Final = "name"
_MEMORY: Final = "memory"
_OBSERVED: Final = "observed_ms"

T = TypeVar("T")


class Desk:
    """One home's agent, and its memory as it is saved.

    Parameters
    ----------
    name : str
        The agent's.
    settings : mapping
        `[home.agent_settings]`.
    bidding : BidSettings
        `[home.bidding]`, which are the default agent's settings.
    saved : mapping
        `saved` of an earlier desk, or empty. Another agent's memory is not read.

    Raises
    ------
    ConfigError
        There is no such agent, or settings or memory are not its.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        bidding: BidSettings,
        saved: Mapping[str, Any],
    ) -> None:
        self._name = name
        kind = agent_class(name)
        chosen: Any
        if name == DEFAULT:
            if settings:
                raise ConfigError(
                    f"agent {name!r} has its settings in [home.bidding], not in "
                    f"[home.agent_settings]: move {next(iter(settings))!r} there"
                )
            chosen = bidding
        else:
            chosen = agent_settings(name, settings)
        memory = None
        self._observed_ms = -1
        if saved.get(_NAME) == name:
            memory, self._observed_ms = _restored(name, kind, saved)
        self._agent = self._guarded(lambda: kind(chosen, memory))
        self.saved: dict[str, Any] = {}
        self._save()

    @property
    def stores_trades(self) -> bool:
        """Whether the battery serves the contracts; see `Agent`."""
        return self._agent.stores_trades

    def orders(self, situation: Situation) -> list[Order]:
        """Return the agent's orders for a slot. Raises `AgentError`."""
        orders = self._guarded(lambda: list(self._agent.orders(situation)))
        self._check(orders)
        self._save()
        return _sellable(orders, situation.export_room_wh)

    def revise(self, situation: Situation, standing: Sequence[Standing]) -> Revision:
        """Return the agent's changes of what stands. Raises `AgentError`."""
        revision = self._guarded(lambda: Revision(*self._agent.revise(situation, standing)))
        known = {item.order_id: item for item in standing}
        for order_id in revision.withdraw:
            if order_id not in known:
                raise AgentError(
                    f"agent {self._name!r} withdraws {order_id!r}, which does not stand"
                )
        self._check(revision.post)
        self._save()
        left_wh = sum(
            item.order.energy_wh
            for item in standing
            if item.order.side == "ask" and item.order_id not in revision.withdraw
        )
        room_wh = max(0, situation.export_room_wh - left_wh)
        return revision._replace(post=tuple(_sellable(list(revision.post), room_wh)))

    def observe(self, outcome: Outcome) -> None:
        """Tell the agent what a round has brought; a slot's final outcome once. Raises as above."""
        if outcome.slot_start_ms <= self._observed_ms:
            return
        self._guarded(lambda: self._agent.observe(outcome))
        if outcome.final:
            self._observed_ms = outcome.slot_start_ms
        self._save()

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:
            raise AgentError(f"agent {self._name!r}: {type(error).__name__}: {error}") from error

    def _check(self, orders: Sequence[Order]) -> None:
        if len(orders) > ORDERS_PER_SLOT_MAX:
            raise AgentError(
                f"agent {self._name!r} makes {len(orders)} orders for a slot; "
                f"{ORDERS_PER_SLOT_MAX} are taken"
            )
        for order in orders:
            good = (
                isinstance(order, Order)
                and order.side in ("bid", "ask")
                and type(order.energy_wh) is int
                and type(order.price_micro_per_kwh) is int
                and 1 <= order.energy_wh <= ENERGY_WH_MAX
                and 0 <= order.price_micro_per_kwh <= PRICE_MICRO_PER_KWH_MAX
            )
            if not good:
                raise AgentError(
                    f"agent {self._name!r} answers {order!r}: an order is a bid or an ask of whole "
                    "Wh, 1 or more, at a whole price in micro per kWh, 0 or more"
                )
        if len({order.side for order in orders}) > 1:
            raise AgentError(
                f"agent {self._name!r} bids and asks in one slot: the market takes one side"
            )

    def _save(self) -> None:
        memory = self._guarded(lambda: msgspec.to_builtins(self._agent.memory))
        saved = {_NAME: self._name, _OBSERVED: self._observed_ms, _MEMORY: memory}
        if len(self._guarded(lambda: msgspec.json.encode(saved))) > MEMORY_BYTES_MAX:
            raise AgentError(f"agent {self._name!r} remembers more than {MEMORY_BYTES_MAX} bytes")
        # A home whose agent has nothing to remember saves what it always did.
        self.saved = saved if memory else {}


def _restored(name: str, kind: type[Agent], saved: Mapping[str, Any]) -> tuple[Any, int]:
    try:
        memory = msgspec.convert(saved[_MEMORY], kind.Memory)
        return memory, msgspec.convert(saved[_OBSERVED], int)
    except (KeyError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"what agent {name!r} remembers cannot be read ({error}); "
            "choose another agent once, and it begins anew"
        ) from None


def _sellable(orders: list[Order], room_wh: int) -> list[Order]:
    """Return the orders without what goes beyond the room there is to sell."""
    kept = []
    for order in orders:
        if order.side == "ask":
            order = order._replace(energy_wh=min(order.energy_wh, room_wh))
            room_wh -= order.energy_wh
        if order.energy_wh:
            kept.append(order)
    return kept
