"""What a trading agent is told, and what it answers.

An agent is asked for orders once for each slot that its home trades in, with a `Situation`. After
each round that clears the slot it gets an `Outcome`; until the gate closes it may then change what
still stands (`revise`). It talks about one home and one slot at a time, in integers: Wh, and micro
of the currency per kWh. It has no clock and no randomness of its own: what it draws comes from
`hems.agents.draws`, what it must remember stands in `memory`, and both are the same after a
restart.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from hems.bid import Band, Order, Segment, Suggested

# The market takes no more of a home in a slot.
ORDERS_PER_SLOT_MAX: Final = 8
# Slots whose clearing an agent may wait for at a time; older ones are forgotten.
PENDING_SLOTS_MAX: Final = 128


class Prior(NamedTuple):
    """Lowest and highest price of the last round that traded (Hu, step 1). [micro/kWh]"""

    low_micro_per_kwh: int
    high_micro_per_kwh: int


class Situation(NamedTuple):
    """What there is to know before orders for a slot are made.

    Parameters
    ----------
    slot_start_ms, slot_ms : int
        The slot. [ms of market time]
    band : Band
        The grid's prices in it.
    suggested : Suggested, optional
        The contract's suggested prices (CE 5 and 6).
    prior : Prior, optional
        None before anything was traded.
    curve : list of Segment
        What trading is worth to the home by its plan, the forecast's spread counted in: bids with
        falling, asks with rising values.
    need_wh, surplus_wh : int
        What the plan takes from the grid in the slot, and what it gives to the grid or throws
        away; not both. [Wh]
    contracted_wh : int
        What is contracted in the slot already, bought positive. [Wh]
    charge_room_wh, discharge_room_wh : int
        What the battery could still take and give in the slot, after the contracts before and in
        it; zeros without a battery. [Wh at the home's side]
    export_room_wh : int
        The most that may still be sold, by the caps and the meter's certificate. [Wh]
    """

    slot_start_ms: int
    slot_ms: int
    band: Band
    suggested: Suggested | None = None
    prior: Prior | None = None
    curve: Sequence[Segment] = ()
    need_wh: int = 0
    surplus_wh: int = 0
    contracted_wh: int = 0
    charge_room_wh: int = 0
    discharge_room_wh: int = 0
    export_room_wh: int = 0


class Outcome(NamedTuple):
    """What the rounds of a slot have brought this home so far, all together.

    Energy of the grid (a bid that the regulator's ask has filled) is not in it. `paid_micro`
    includes grid fees. `low_` and `high_micro_per_kwh` are the street's, 0 if nobody traded.
    `final` once the gate's round is held: no other will follow.
    """

    slot_start_ms: int
    band: Band
    bought_wh: int = 0
    sold_wh: int = 0
    paid_micro: int = 0
    earned_micro: int = 0
    low_micro_per_kwh: int = 0
    high_micro_per_kwh: int = 0
    final: bool = True

    @property
    def profit_micro(self) -> int:
        """What trading brought against the grid's prices."""
        bought = self.bought_wh * self.band.tariff_micro_per_kwh // 1000 - self.paid_micro
        return bought + self.earned_micro - self.sold_wh * self.band.feed_in_micro_per_kwh // 1000


class Standing(NamedTuple):
    """An order of the home in the book. `order` says what is left of it, `filled_wh` the rest."""

    order_id: str
    order: Order
    filled_wh: int = 0


class Revision(NamedTuple):
    """Orders to take back, by their ids, and orders to post afterwards."""

    withdraw: tuple[str, ...] = ()
    post: tuple[Order, ...] = ()


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of agents' settings. `seed`: of what the agent draws; homes get one each."""

    seed: int = 1


class NoMemory(msgspec.Struct):
    """Memory of agents that need none."""


class Agent(ABC):
    """Base of agents.

    Subclasses give `orders`, and whatever of `revise`, `observe`, `Settings` and `Memory` they
    need. `Settings` is a msgspec struct, `[home.agent_settings]` is read as. `Memory` is a struct
    whose fields all have defaults; `self.memory` is saved with the home's state after each call,
    so it holds plain data only: numbers, text, lists, maps with text keys.

    An agent that raises loses the slot, and its home is served by the grid.
    """

    Settings: ClassVar[type[msgspec.Struct]] = AgentSettings
    Memory: ClassVar[type[msgspec.Struct]] = NoMemory
    # True: inside a slot the battery takes what the contracts leave over, rather than what the
    # plan says. For homes whose purpose is to store what they buy.
    stores_trades: ClassVar[bool] = False

    def __init__(self, settings: Any = None, memory: Any = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()
        self.memory: Any = memory if memory is not None else self.Memory()

    @abstractmethod
    def orders(self, situation: Situation) -> list[Order]:
        """Return the orders for a slot: all of one side, at most `ORDERS_PER_SLOT_MAX`."""

    def revise(self, situation: Situation, standing: Sequence[Standing]) -> Revision:
        """Return what to change of the orders that stand, after a round; by default nothing.

        `situation` is as in `orders`: for all that is not contracted, as if nothing stood.
        """
        del situation, standing
        return Revision()

    def observe(self, outcome: Outcome) -> None:
        """Take note of a slot's clearing; of every slot, also those without own orders."""
        del outcome


def remember(pending: dict[str, list[int]], slot_start_ms: int, values: list[int]) -> None:
    """Keep what was asked for a slot until it clears; the oldest are forgotten first."""
    pending[str(slot_start_ms)] = values
    for old in sorted(pending, key=int)[:-PENDING_SLOTS_MAX]:
        del pending[old]
