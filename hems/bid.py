"""Orders from a plan: what the slot's energy is worth to this home, in a few price steps.

The plan's cost as a function of the slot's net trade is convex and piecewise linear, its slope
the dual of the slot's balance. Solving again with the trade fixed at a few quantities gives the
mean slope between them: exact values of selling or buying that much, however the battery would
have to be used for it. Selling is offered where its cost is below the tariff, buying where its
value is above the feed-in price. Within the grid's prices every ask of a home is above its bids.

A truthful order earns nothing under pay-as-ask. `shading` moves its price from the true value
towards the contract's suggested price (never beyond, and never against the home), so that both
sides meet there: an ask is at most max(value, suggested sell price), a bid at least min(value,
suggested buy price), and whenever there is something to gain the orders still cross.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from hems.civil import HOUR_MS, FloatArray
from hems.errors import ConfigError
from hems.plan import MICRO, Plan, PlanInput, Planner

ORDERS_PER_SIDE_MAX: Final = 4
# Every order is a transaction: an uncertain curve is told in this many steps.
EXPECTED_STEPS: Final = 3

Side = Literal["bid", "ask"]


class Band(NamedTuple):
    """The grid's prices of a slot, between which neighbours trade. [micro/kWh]"""

    feed_in_micro_per_kwh: int
    tariff_micro_per_kwh: int


class Suggested(NamedTuple):
    """The contract's suggested prices of a slot (CE 5 and 6). [micro/kWh]"""

    sell_micro_per_kwh: int
    buy_micro_per_kwh: int


class Order(NamedTuple):
    """Energy to buy (`bid`) or sell (`ask`) in a slot, with the price at the edge of consent."""

    side: Side
    energy_wh: int
    price_micro_per_kwh: int


class Segment(NamedTuple):
    """One step of the value of trading: this much more energy, worth this much per kWh."""

    side: Side
    energy_wh: float
    value_micro_per_kwh: float


class BidSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How orders are made of values.

    `shading`: 0 is truthful, 1 asks and bids the suggested price. `order_wh_min`: smaller orders
    are not sent. `gain_micro_per_kwh_min`: least difference to the grid's price worth an order.
    `caution`: the share of what may come, the best of it, that is not counted on: 0 takes the
    mean of all, 1 the worst alone. `revise_micro_per_kwh_min`, `revise_wh_min`: an order that
    stands is replaced after a round if its price or energy is further than this from right.
    """

    shading: float = 0.5
    order_wh_min: int = 10
    gain_micro_per_kwh_min: int = 1_000
    caution: float = 0.4
    revise_micro_per_kwh_min: int = 5_000
    revise_wh_min: int = 50

    def __post_init__(self) -> None:
        for name in ("shading", "caution"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)}: a fraction between 0 and 1")
        if self.order_wh_min < 1 or self.gain_micro_per_kwh_min < 1:
            raise ConfigError("order_wh_min and gain_micro_per_kwh_min: at least 1")
        if self.revise_micro_per_kwh_min < 0 or self.revise_wh_min < 0:
            raise ConfigError("revise_micro_per_kwh_min and revise_wh_min: must not be negative")


def value_curve(
    planner: Planner, given: PlanInput, slot: int, shortfall_micro_per_kwh: int = 0
) -> tuple[Plan, list[Segment]]:
    """Return the plan as it stands and the value of trading more energy in one of its steps.

    Parameters
    ----------
    planner : Planner
    given : PlanInput
        With what is contracted already in `traded_wh`.
    slot : int
        The step to trade in.
    shortfall_micro_per_kwh : int
        Penalty, beside the tariff, for energy sold and not delivered. [micro/kWh]

    Returns
    -------
    plan : Plan
    segments : list of Segment
        Bids with falling, asks with rising values.
    """
    plan = planner.solve(_with_trade(given, slot, 0.0, shortfall_micro_per_kwh))
    segments = []
    for side, sign, points in (
        ("bid", 1.0, _points(planner, plan, slot, buying=True)),
        ("ask", -1.0, _points(planner, plan, slot, buying=False)),
    ):
        before_wh, before_micro = 0.0, plan.cost_micro
        for point_wh in points:
            trade = _with_trade(given, slot, sign * point_wh, shortfall_micro_per_kwh)
            cost_micro = planner.solve(trade).cost_micro
            slope = (cost_micro - before_micro) / (point_wh - before_wh) * 1000
            # Bought energy lowers the cost, sold energy raises it.
            segments.append(Segment(side, point_wh - before_wh, -sign * slope))  # type: ignore[arg-type]
            before_wh, before_micro = point_wh, cost_micro
    return plan, segments


def expected_curve(
    segments: list[Segment],
    surplus_errors_wh: FloatArray,
    band: Band,
    shortfall_micro_per_kwh: int = 0,
    export_room_wh: float = math.inf,
    caution: float = 0.0,
) -> list[Segment]:
    """Return the expected value of trading where the slot's surplus is not certain.

    A watt-hour more of surplus does to the home what a watt-hour bought does. So its marginal
    value of trading y, given V(y) for the forecast, is the mean of V(y + error) over the errors.
    Beyond the battery V is tariff and penalty on the side of selling (the tariff on that of
    buying) and feed-in on the other: without battery that is the newsvendor's price, an ask of
    `feed_in + P(surplus < sold) * (tariff + penalty - feed_in)`; with enough in the battery the
    curve stays what it was.

    Parameters
    ----------
    segments : list of Segment
        Of `value_curve`.
    surplus_errors_wh : float array, shape (scenarios,)
        Equally likely errors of the forecast's surplus, what came minus what was forecast. [Wh]
    band : Band
    shortfall_micro_per_kwh : int
        Penalty, beside the tariff, for energy sold and not delivered. [micro/kWh]
    export_room_wh : float
        The most that may be sold. [Wh]
    caution : float
        See `BidSettings`. Errors of one day go together, and their spread is estimated: a home
        that took the plain mean would lose for hours before it gains. The mean is therefore
        taken over the worse part (the conditional value at risk).

    Returns
    -------
    list of Segment
        At most `EXPECTED_STEPS` on either side, bids with falling, asks with rising values.
    """
    if len(surplus_errors_wh) == 0 or np.ptp(surplus_errors_wh) < 1.0:
        return segments
    feed_in, tariff = band
    surplus_errors_wh = np.sort(surplus_errors_wh)
    counted = max(1, round((1 - caution) * len(surplus_errors_wh)))
    found: list[Segment] = []
    sides: tuple[tuple[Side, float, int], ...] = (
        ("bid", 1.0, tariff),
        ("ask", -1.0, tariff + shortfall_micro_per_kwh),
    )
    for side, sign, ceiling in sides:
        if side == "bid":
            errors_wh = surplus_errors_wh[len(surplus_errors_wh) - counted :]
        else:
            errors_wh = surplus_errors_wh[:counted]
        edges, values = _steps(segments, feed_in, ceiling)
        # Each step's edge moves with each error; between two moved edges the mean is constant.
        moved = np.unique((edges[:, None] - errors_wh) * sign)
        cuts = np.concatenate((np.zeros(1), moved[moved > 0.0]))
        if side == "ask":
            cuts = np.unique(np.minimum(cuts, max(0.0, export_room_wh)))
        if len(cuts) < 2:
            continue
        middles = sign * (cuts[1:] + cuts[:-1]) / 2
        places = np.searchsorted(edges, middles[:, None] + errors_wh)
        found += _gathered(side, cuts, values[places].mean(axis=1), band)
    return found


def _steps(segments: list[Segment], low: int, high: int) -> tuple[FloatArray, FloatArray]:
    """Return V as falling steps: edges by net trade, shape (n,), and values, shape (n + 1,)."""
    asks = [s for s in segments if s.side == "ask"]
    bids = [s for s in segments if s.side == "bid"]
    sold = np.cumsum([s.energy_wh for s in asks])
    bought = np.cumsum([s.energy_wh for s in bids])
    edges = np.concatenate((-sold[::-1], np.zeros(1), bought))
    values = [float(high)]
    values += [s.value_micro_per_kwh for s in reversed(asks)]
    values += [s.value_micro_per_kwh for s in bids]
    values += [float(low)]
    return edges, np.minimum.accumulate(np.clip(np.array(values), low, high))


def _gathered(side: Side, cuts: FloatArray, values: FloatArray, band: Band) -> list[Segment]:
    """Return few steps for many: equal energies of what is worth an order, at their mean value."""
    if side == "ask":
        worth = values < band.tariff_micro_per_kwh - 1
    else:
        worth = values > band.feed_in_micro_per_kwh + 1
    count = int(np.argmin(np.append(worth, False)))
    if count == 0:
        return []
    total = np.concatenate((np.zeros(1), np.cumsum(np.diff(cuts)[:count] * values[:count])))
    ends = np.linspace(0.0, cuts[count], EXPECTED_STEPS + 1)
    area = np.diff(np.interp(ends, cuts[: count + 1], total))
    energy = np.diff(ends)
    return [Segment(side, float(e), float(a / e)) for e, a in zip(energy, area, strict=True)]


def orders_for_slot(
    segments: list[Segment],
    band: Band,
    suggested: Suggested | None = None,
    settings: BidSettings = BidSettings(),  # noqa: B008 - immutable
) -> list[Order]:
    """Return the orders worth sending; asks cheapest first, bids dearest first.

    Raises
    ------
    ConfigError
        The band is upside down or negative.
    """
    feed_in, tariff = band
    if not 0 <= feed_in <= tariff:
        raise ConfigError(f"a band has 0 <= feed-in <= tariff, not {feed_in} and {tariff}")
    gain = settings.gain_micro_per_kwh_min
    wanted: dict[tuple[Side, int], float] = {}
    for segment in segments:
        value = min(max(segment.value_micro_per_kwh, feed_in), tariff)
        if segment.side == "ask":
            aim = max(value, suggested.sell_micro_per_kwh) if suggested else value
            price = round(value + settings.shading * (min(aim, tariff) - value))
            worth_it = value <= tariff - gain
        else:
            aim = min(value, suggested.buy_micro_per_kwh) if suggested else value
            price = round(value - settings.shading * (value - max(aim, feed_in)))
            worth_it = value >= feed_in + gain
        if worth_it:
            key = (segment.side, price)
            wanted[key] = wanted.get(key, 0.0) + segment.energy_wh
    orders = [
        Order(side, int(energy_wh), price)
        for (side, price), energy_wh in wanted.items()
        if energy_wh >= settings.order_wh_min
    ]
    asks = sorted((o for o in orders if o.side == "ask"), key=lambda o: o.price_micro_per_kwh)
    bids = sorted((o for o in orders if o.side == "bid"), key=lambda o: -o.price_micro_per_kwh)
    return asks[:ORDERS_PER_SIDE_MAX] + bids[:ORDERS_PER_SIDE_MAX]


def one_side(orders: Sequence[Order], need_wh: float) -> list[Order]:
    """Keep one side: the market takes a home as buyer or as seller of a slot, not as both.

    `need_wh` is what the plan takes from the grid in the slot. A home that takes nothing sells
    first: where nothing goes to the grid either, it has its battery to live on and to sell from.
    """
    preferred: tuple[Side, Side] = ("bid", "ask") if need_wh > 0 else ("ask", "bid")
    for side in preferred:
        chosen = [order for order in orders if order.side == side]
        if chosen:
            return chosen
    return []


def within(band: Band, price_micro_per_kwh: int) -> int:
    """Return a price, or the end of the band that is nearest to it."""
    return min(max(price_micro_per_kwh, band.feed_in_micro_per_kwh), band.tariff_micro_per_kwh)


def _with_trade(given: PlanInput, slot: int, more_wh: float, shortfall: int) -> PlanInput:
    """Return the input with more traded in one step, and sales that miss their energy dearer."""
    traded = given.traded_wh.copy()
    traded[slot] += more_wh
    prices = given.import_micro_per_kwh + np.where(traded < 0, float(shortfall), 0.0)
    return given._replace(traded_wh=traded, import_micro_per_kwh=prices)


def _points(planner: Planner, plan: Plan, slot: int, buying: bool) -> list[float]:
    """Return the net trades to look at: what the grid would take or give, then the battery."""
    if buying:
        first = float(plan.import_wh[slot])
    else:
        first = float(plan.export_wh[slot] + plan.curtail_wh[slot])
    points = [first]
    battery = planner.battery
    if battery is not None and plan.method == "lp":
        action = float(plan.charge_wh[slot] - plan.discharge_wh[slot])
        power = battery.power_limit_w * int(plan.given.step_ms[slot]) / HOUR_MS
        before = float(plan.stored_wh[slot - 1]) if slot else plan.given.stored_wh
        if buying:
            room = max(0.0, battery.max_uwh / MICRO - before) / (battery.charge_ppm / MICRO)
            more = min(power, room) - action
        else:
            there = max(0.0, before - battery.min_uwh / MICRO) * battery.discharge_ppm / MICRO
            more = min(power, there) + action
        points += [first + more / 2, first + more]
    limits = planner.limits
    cap_w = limits.import_w if buying else limits.export_w
    if cap_w is not None:
        contracted = float(plan.given.traded_wh[slot]) * (1 if buying else -1)
        room = cap_w * int(plan.given.step_ms[slot]) / HOUR_MS - contracted
        points = [min(point, room) for point in points]
    kept: list[float] = []
    for point in points:
        if point >= (kept[-1] if kept else 0.0) + 1.0:
            kept.append(point)
    return kept
