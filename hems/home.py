"""The home energy management system of one home: history in, plan and orders out, slots delivered.

Its memory is one small explicit state (`HomeState`): how much is stored, which slot comes next,
what is contracted, what its agent remembers. Everything else is asked of the source again. A
daemon keeps the state with its other data and goes on after a restart exactly where it was.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from hems import bid, civil, control, forecast
from hems.agents.base import Outcome, Prior, Revision, Situation, Standing
from hems.agents.desk import Desk
from hems.bid import Band, Order, Suggested
from hems.civil import DAY_MS, MINUTE_MS, IntArray
from hems.config import HomeConfig, open_source
from hems.delivery import NOTHING_PLANNED, Delivery, House, Wanted
from hems.devices.flexible import FlexibleLoads, Outlook
from hems.devices.progress import DeviceState
from hems.errors import ConfigError
from hems.forecast import Forecast
from hems.foresight import Foresight
from hems.plan import Plan, PlanInput, Planner, grid_room_wh, left_over_micro_per_kwh
from hems.prices import Tariff, tariff_over
from hems.sensors import checked_soc, soc_change_max
from hems.sources.base import Source
from hems.sources.checked import CheckedSource
from hems.state import LEAD_SLOTS_MAX, HomeState
from hems.steering import Steering, allowed_w, planned_w, reserved

SLOT_MINUTES_MIN: Final = 5
SLOT_MINUTES_MAX: Final = 60
# Slots planned one by one; the rest of the day is planned in half hours.
FINE_STEPS: Final = 8
COARSE_STEP_MS: Final = 30 * MINUTE_MS
CATCH_UP_SLOTS_MAX: Final = 7 * 288
# What an uncapped connection can give in a slot, as a number. [Wh]
EXPORT_WH_MAX: Final = 1_000_000

MICRO: Final = 1_000_000

log = logging.getLogger("commonwatt.hems")


class MarketView(NamedTuple):
    """Prices as the home sees them. [micro/kWh]

    `tariff_micro_per_kwh` maps a moment (ms, UTC) to the grid's price; where it is None, the one
    before stands in and the slot is not traded. `suggested` is for the slot to be traded.
    `shortfall_micro_per_kwh` is the penalty, beside the tariff, for energy sold and not delivered.
    `prior` is what the last round traded at. `export_cap_w` is what the market lets the home sell,
    if that is less than its own cap. [W] `strain` is how much of the defaults that the market
    allows the home has had: at 1 it is turned away.
    """

    tariff_micro_per_kwh: Tariff
    feed_in_micro_per_kwh: int
    suggested: Suggested | None = None
    shortfall_micro_per_kwh: int = 0
    prior: Prior | None = None
    export_cap_w: int | None = None
    strain: float = 0.0


class SlotPlan(NamedTuple):
    """A plan from the next undelivered slot on (`begins_ms`), and the orders for one slot in it.

    The forecasts are slot by slot, the plan's later steps are longer.
    """

    slot_start_ms: int
    plan: Plan
    orders: list[Order]
    load: Forecast
    pv: Forecast
    begins_ms: int


class HomeEnergyManager:
    """One home's manager.

    Parameters
    ----------
    config : HomeConfig
    state : HomeState, optional
        From an earlier run; a new home starts with its battery at `soc_end`.
    source : Source, optional
        Instead of the one the configuration names.
    battery_wh : callable, optional
        What the battery really took between two moments, discharging negative, None where that is
        not known [Wh]; the battery does what it is asked to otherwise.
    device_wh : callable, optional
        What a movable load, by its name, really took between two moments, None where that is not
        known [Wh]: nothing is thought taken then. Without it they do what they are asked to.

    Raises
    ------
    ConfigError, DataError
        As `hems.config.open_source`.
    """

    def __init__(
        self,
        config: HomeConfig,
        state: HomeState | None = None,
        source: Source | None = None,
        battery_wh: Callable[[int, int], int | None] | None = None,
        device_wh: Callable[[str, int, int], int | None] | None = None,
    ) -> None:
        self.config = config
        self.zone = civil.zone_of(config.zone)
        if source is None:
            # Of a file that is replayed there is no meter to look at: what is found warns nobody.
            opened = open_source(config.source, self.zone)
            source = CheckedSource(opened, level=logging.INFO)
        self.source = source if isinstance(source, CheckedSource) else CheckedSource(source)
        battery = config.battery
        if state is None:
            state = HomeState(battery.end_uwh if battery is not None else 0)
        self.state = state
        if battery is not None:
            # Only where the battery was changed for a smaller one: it is full then.
            most_uwh = battery.capacity_wh * MICRO
            self._change(stored_uwh=min(self.state.stored_uwh, most_uwh))
        self._foresight = Foresight(config, self.source, self.zone)
        self._loads = FlexibleLoads(config.devices, self.zone, self._foresight.outdoor_c)
        self._change(
            batteries={
                name: min(self.state.batteries.get(name, more.end_uwh), more.capacity_wh * MICRO)
                for name, more in config.more_batteries.items()
            },
            devices={
                name: self._loads.state_of(name, self.state.devices) for name in config.devices
            },
        )
        # The last plan, for who wants to see it.
        self.planned: SlotPlan | None = None
        self.steering = Steering()
        self._house = House(
            self.source, self._loads, self.steering, self.zone, battery_wh, device_wh
        )
        self._rated = battery
        self._planner = self._make_planner()
        self._missing: set[str] = set()
        self._is_unplanned = False
        self._desk = Desk(config.agent, config.agent_settings, config.bidding, self.state.agent)

    def _make_planner(self) -> Planner:
        config = self.config
        limit_ms = config.planning.time_limit_ms
        limit_s = limit_ms / 1000 if limit_ms is not None else None
        more_batteries = tuple(config.more_batteries.values())
        return Planner(config.battery, config.limits, limit_s, more_batteries)

    @property
    def soc(self) -> float | None:
        """The battery's state of charge, a fraction; None without a battery."""
        battery = self.config.battery
        return self.state.stored_uwh / (battery.capacity_wh * MICRO) if battery else None

    @property
    def faults(self) -> dict[str, int]:
        """How many readings were not as they must be, by channel and kind (`hems.sensors`)."""
        return dict(self.source.faults.counts)

    def keep_reserve(self, soc: float) -> None:
        """Never empty the battery below this state of charge, from the next plan on.

        Raises
        ------
        ConfigError
            There is no battery, or it is out of that battery's range.
        """
        if self._rated is None:
            raise ConfigError("reserve: this home has no battery")
        battery = reserved(self._rated, soc)
        self.config = msgspec.structs.replace(self.config, battery=battery)
        self._planner = self._make_planner()

    def setpoint_w(self, at_ms: int) -> int | None:
        """Return what the battery is to do at a moment, charging positive. [W]

        By its owner's command or the plan, within its rating, its limit and its reserve. None
        without a battery, and where there is no plan for that moment.
        """
        battery, command, planned = self.config.battery, self.steering.at(at_ms), self.planned
        if battery is None:
            return None
        power_w = command.power_w if command is not None else None
        if power_w is None and planned is not None:
            power_w = planned_w(planned.plan, planned.begins_ms, at_ms)
        return None if power_w is None else allowed_w(battery, self.state.stored_uwh, power_w)

    def report_soc(self, soc: float, elapsed_ms: int, name: str | None = None) -> bool:
        """Take over the state of charge a battery reports, if it can be.

        Parameters
        ----------
        soc : float
            A fraction of the capacity.
        elapsed_ms : int
            Time since the last report that was taken over.
        name : str, optional
            One of `more_batteries`; the home's first battery if left out.

        Returns
        -------
        bool
            Whether it was; the reckoned state is kept otherwise. False without a battery.

        Raises
        ------
        ConfigError
            The home has no battery of that name.
        """
        more = self.config.more_batteries
        if name is not None and name not in more:
            known = ", ".join(more) or "none beside its first"
            raise ConfigError(f"{name!r} is not a battery of this home; it has {known}")
        battery = self.config.battery if name is None else more[name]
        if battery is None:
            return False
        capacity_uwh = battery.capacity_wh * MICRO
        reckoned_uwh = self.state.stored_uwh if name is None else self.state.batteries[name]
        power_w = max(battery.charge_limit_w, battery.discharge_limit_w)
        change = soc_change_max(power_w, battery.capacity_wh, elapsed_ms)
        believed_soc, believed = checked_soc(soc, reckoned_uwh / capacity_uwh, change)
        if not believed:
            at_ms = (self.state.next_slot_ms or 0) + elapsed_ms
            self.source.faults.note(name or "battery", "soc", np.array([at_ms], np.int64))
            return False
        stored_uwh = round(believed_soc * capacity_uwh)
        if name is None:
            self._change(stored_uwh=stored_uwh)
        else:
            self._change(batteries={**self.state.batteries, name: stored_uwh})
        return True

    def commit(self, slot_start_ms: int, net_wh: int) -> None:
        """Note what is contracted for a slot in all, bought positive; replaces an earlier note.

        Raises `ConfigError` if the slot is delivered already or too many are noted.
        """
        done_ms = self.state.next_slot_ms
        if done_ms is not None and slot_start_ms < done_ms:
            raise ConfigError(f"slot {slot_start_ms} is delivered; nothing can be contracted in it")
        self._change(committed_wh={**self.state.committed_wh, slot_start_ms: net_wh})

    def plug(self, car: str, is_plugged: bool, stored_wh: int | None = None) -> None:
        """Note that a car came or left out of its turn, and what is in it if known. [Wh]

        Raises `ConfigError` as `FlexibleLoads.plugged`.
        """
        at_ms = self.state.next_slot_ms or 0
        state = self.state.devices.get(car, DeviceState())
        changed = self._loads.plugged(car, state, at_ms, is_plugged, stored_wh)
        self._change(devices={**self.state.devices, car: changed})

    def plan_slot(self, slot_start_ms: int, slot_ms: int, market: MarketView) -> SlotPlan:
        """Plan from the next undelivered slot on and make orders for the slot given.

        What is contracted already (`commit`) is kept to; the home's agent makes orders for more,
        as if none of its earlier orders for the slot were still open. They are all of one side.

        Raises
        ------
        ConfigError
            A slot in the past, too far ahead, or of a length that cannot be.
        AgentError
            The agent failed.
        """
        planned, situation = self._look(slot_start_ms, slot_ms, market)
        if situation is None:
            return planned
        try:
            return planned._replace(orders=self._desk.orders(situation))
        finally:
            self._change(agent=self._desk.saved)

    def revise_slot(
        self, slot_start_ms: int, slot_ms: int, market: MarketView, standing: Sequence[Standing]
    ) -> Revision:
        """Plan again and return what to change of the orders that stand for a slot.

        What a round has traded of them must be contracted (`commit`) before. Raises as
        `plan_slot`.
        """
        _, situation = self._look(slot_start_ms, slot_ms, market)
        if situation is None:
            return Revision(tuple(item.order_id for item in standing if item.order.energy_wh))
        try:
            return self._desk.revise(situation, standing)
        finally:
            self._change(agent=self._desk.saved)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Tell the agent what rounds have brought, in the order of their slots.

        A slot's final outcome is heard once, however often it is told. Raises `AgentError`.
        """
        try:
            for outcome in outcomes:
                self._desk.observe(outcome)
        finally:
            self._change(agent=self._desk.saved)

    def _look(
        self, slot_start_ms: int, slot_ms: int, market: MarketView
    ) -> tuple[SlotPlan, Situation | None]:
        """Plan, and return with the plan what an agent is told; None if there is nothing to gain.

        That is so without room between the grid's prices.
        """
        ahead = self._slots_ahead(slot_start_ms, slot_ms)
        given, load, pv = self._given(slot_ms, max(FINE_STEPS, ahead + 1), market)
        shortfall = market.shortfall_micro_per_kwh
        plan, segments = bid.value_curve(self._planner, given, ahead, shortfall)
        begins_ms = self.state.next_slot_ms or 0
        planned = self.planned = SlotPlan(slot_start_ms, plan, [], load, pv, begins_ms)
        tariff = market.tariff_micro_per_kwh(slot_start_ms)
        band = Band(max(0, market.feed_in_micro_per_kwh), tariff or 0)
        if band.tariff_micro_per_kwh <= band.feed_in_micro_per_kwh:
            return planned, None
        errors = forecast.surplus_errors_wh(load, pv, ahead)
        room_wh = float(grid_room_wh(given, self.config.limits)[1][ahead])
        contracted_wh = self.state.committed_wh.get(slot_start_ms, 0)
        if market.export_cap_w is not None:
            certified_wh = market.export_cap_w * slot_ms // civil.HOUR_MS
            room_wh = max(0.0, min(room_wh, float(certified_wh + min(0, contracted_wh))))
        # The nearer to where the market turns a home away, the less is counted on.
        caution = 1 - (1 - self.config.bidding.caution) * (1 - min(1.0, market.strain))
        curve = bid.expected_curve(segments, errors, band, shortfall, room_wh, caution)
        charge_wh, discharge_wh = self._battery_room(ahead, slot_ms, load, pv)
        situation = Situation(
            slot_start_ms=slot_start_ms,
            slot_ms=slot_ms,
            band=band,
            suggested=market.suggested,
            prior=market.prior,
            curve=curve,
            need_wh=round(float(plan.import_wh[ahead])),
            surplus_wh=round(float(plan.export_wh[ahead] + plan.curtail_wh[ahead])),
            contracted_wh=contracted_wh,
            charge_room_wh=charge_wh,
            discharge_room_wh=discharge_wh,
            export_room_wh=int(min(room_wh, EXPORT_WH_MAX)),
        )
        return planned, situation

    def _battery_room(
        self, ahead: int, slot_ms: int, load: Forecast, pv: Forecast
    ) -> tuple[int, int]:
        """Return what the battery could yet take and give in a slot some slots ahead. [Wh]

        Until then, and for what is contracted in it, it serves the home by itself.
        """
        battery = self.config.battery
        if battery is None:
            return 0, 0
        stored_uwh, start_ms = self.state.stored_uwh, self.state.next_slot_ms or 0
        for step in range(ahead + 1):
            over_wh = float(pv.mean_wh[step] - load.mean_wh[step])
            over_wh += self.state.committed_wh.get(start_ms + step * slot_ms, 0)
            charge_wh = battery.charge_max_wh(stored_uwh, slot_ms)
            discharge_wh = battery.discharge_max_wh(stored_uwh, slot_ms)
            action_wh = min(max(round(over_wh), -discharge_wh), charge_wh)
            if step < ahead:
                stored_uwh = battery.step(stored_uwh, action_wh, slot_ms)
        return charge_wh - action_wh, discharge_wh + action_wh

    def _change(self, **changes: Any) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    def deliver(self, slot_start_ms: int, slot_ms: int, market: MarketView) -> Delivery:
        """Let a slot happen: the battery follows the plan and keeps to what was contracted.

        Slots missed since the last delivery happen first, as plain self-consumption within their
        contracts: the battery did not wait for the daemon.

        Raises
        ------
        ConfigError
            The slot is delivered already, or more than `CATCH_UP_SLOTS_MAX` were missed.
        InvariantError
            The slot's energy does not balance.
        """
        missed = self._slots_ahead(slot_start_ms, slot_ms, CATCH_UP_SLOTS_MAX)
        for number in range(missed, 0, -1):
            self._let_happen(slot_start_ms - number * slot_ms, slot_ms)
        try:
            given, load, pv = self._given(slot_ms, FINE_STEPS, market)
        except ConfigError as error:
            # The home lives through the slot all the same, and its meter reads.
            if not self._is_unplanned:
                log.warning("self-consumption until there is a plan again: %s", error)
            self._is_unplanned = True
            return self._let_happen(slot_start_ms, slot_ms)
        self._is_unplanned = False
        load_wh, pv_wh = round(float(load.mean_wh[0])), round(float(pv.mean_wh[0]))
        if self._desk.stores_trades:
            wanted = Wanted(control.SELF_CONSUMPTION, load_wh, pv_wh)
            return self._let_happen(slot_start_ms, slot_ms, wanted)
        sold = given.traded_wh < 0
        dearer = given.import_micro_per_kwh + sold * float(market.shortfall_micro_per_kwh)
        plan = self._planner.solve(given._replace(import_micro_per_kwh=dearer))
        intent = control.Intent(
            round(float(plan.charge_wh[0] - plan.discharge_wh[0])),
            round(float(plan.import_wh[0] - plan.export_wh[0])),
            bool(plan.curtail_wh[0] >= 1 and plan.export_wh[0] < 1),
            tuple(round(float(b.charge_wh[0] - b.discharge_wh[0])) for b in plan.batteries[1:]),
        )
        device_wh = {name: float(wh[0]) for name, wh in plan.device_wh.items()}
        wanted = Wanted(intent, load_wh, pv_wh, device_wh)
        return self._let_happen(slot_start_ms, slot_ms, wanted)

    def _let_happen(
        self, start_ms: int, slot_ms: int, wanted: Wanted = NOTHING_PLANNED
    ) -> Delivery:
        self.state, delivery = self._house.let_happen(
            self.config, self.state, start_ms, slot_ms, wanted
        )
        return delivery

    def _slots_ahead(
        self, slot_start_ms: int, slot_ms: int, slots_max: int = LEAD_SLOTS_MAX
    ) -> int:
        """Return how many slots lie between the next undelivered one and this; begin if none."""
        if slot_ms % MINUTE_MS or not (
            SLOT_MINUTES_MIN <= slot_ms // MINUTE_MS <= SLOT_MINUTES_MAX and DAY_MS % slot_ms == 0
        ):
            raise ConfigError(
                f"a slot of {slot_ms} ms; {SLOT_MINUTES_MIN} to {SLOT_MINUTES_MAX} minutes that "
                "divide a day can be planned"
            )
        if self.state.next_slot_ms is None:
            self._change(next_slot_ms=slot_start_ms)
        ahead, rest = divmod(slot_start_ms - (self.state.next_slot_ms or 0), slot_ms)
        if rest or not 0 <= ahead <= slots_max:
            raise ConfigError(
                f"slot {slot_start_ms}: the next undelivered slot is {self.state.next_slot_ms}, "
                f"at most {slots_max} slots of {slot_ms} ms may lie between"
            )
        return ahead

    def _given(
        self, slot_ms: int, fine: int, market: MarketView
    ) -> tuple[PlanInput, Forecast, Forecast]:
        """Return the coming day as the planner takes it, and the forecasts slot by slot."""
        now_ms = self.state.next_slot_ms or 0
        group = max(1, COARSE_STEP_MS // slot_ms)
        slots = fine + -(-max(0, DAY_MS // slot_ms - fine) // group) * group
        load, pv = self._foresight.ahead(now_ms, slots, slot_ms)
        starts = now_ms + slot_ms * np.arange(slots, dtype=np.int64)
        tariff, is_hole = tariff_over(market.tariff_micro_per_kwh, starts)
        self.source.faults.note("tariff", "hole", starts[is_hole])
        traded = np.array([float(self.state.committed_wh.get(int(at), 0)) for at in starts])
        edges = np.concatenate((np.arange(fine), np.arange(fine, slots, group)))
        size = np.diff(np.append(edges, slots))
        outlook = self._outlook(now_ms + slot_ms * np.append(edges, slots))
        caution = self.config.planning.caution
        load_wh = load.mean_wh + caution * np.maximum(load.high_wh - load.mean_wh, 0.0)
        pv_wh = pv.mean_wh - caution * np.maximum(pv.mean_wh - pv.low_wh, 0.0)
        given = PlanInput(
            (size * slot_ms).astype(np.int64),
            np.add.reduceat(load_wh, edges) + outlook.running_wh,
            np.add.reduceat(pv_wh, edges),
            np.add.reduceat(traded, edges),
            np.add.reduceat(tariff, edges) / size,
            np.minimum(float(market.feed_in_micro_per_kwh), np.add.reduceat(tariff, edges) / size),
            self.state.stored_uwh / MICRO,
            left_over_micro_per_kwh(self.config.battery, tariff, market.feed_in_micro_per_kwh),
            more_stored_wh=tuple(uwh / MICRO for uwh in self.state.batteries.values()),
            needs=outlook.needs,
        )
        return given, load, pv

    def _outlook(self, edges_ms: IntArray) -> Outlook:
        outlook = self._loads.outlook(self.state.devices, edges_ms)
        for name, wh in outlook.missed_wh.items():
            if name not in self._missing:
                log.warning("%s will miss %.0f Wh by its deadline, whatever is done", name, wh)
        self._missing = set(outlook.missed_wh)
        return outlook
