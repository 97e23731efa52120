"""The plan of plain rules, and what any plan costs.

The rule is what a home does that does not plan: surplus into the batteries, need out of them,
every load that could wait as soon as it may, the house kept just within its band. It is used
where the solver gives up, and is always legal for every device.
"""

import numpy as np

from hems.civil import HOUR_MS, FloatArray
from hems.devices import MICRO, Battery
from hems.devices.needs import Adjust, Heat, Job, Need, Run
from hems.plan.blocks import discomfort_micro
from hems.plan.given import (
    EXCESS_FACTOR,
    MISSING_FACTOR,
    SHORT_FACTOR,
    BatteryPlan,
    Limits,
    Plan,
    PlanInput,
    dearest_micro_per_kwh,
    grid_room_wh,
    storable_wh,
)

# Less than this is what numbers lose by rounding. [Wh]
_SHORT_WH_MIN = 0.5


def rule_plan(
    given: PlanInput,
    battery: Battery | None,
    limits: Limits,
    more_batteries: tuple[Battery, ...] = (),
) -> Plan:
    """Return the plan of plain self-consumption: surplus into the batteries, need out of them.

    Always legal for the batteries and devices. Without either it is the optimum (`direct`): what
    is worth energy then is the grid's price of the side the home is on. With one (`rule`), the
    value in steps without grid exchange is the middle of the two.
    """
    steps = len(given.step_ms)
    batteries = (*([battery] if battery else []), *more_batteries)
    device_wh = _rule_devices(given, limits)
    flexible = sum(device_wh.values(), np.zeros(steps))
    need = given.load_wh + flexible - given.pv_wh - given.traded_wh
    storable = storable_wh(given)
    parts = []
    rest = need
    for one, stored_wh in zip(batteries, (given.stored_wh, *given.more_stored_wh), strict=False):
        part = _rule_battery(one, stored_wh, given, rest, storable)
        parts.append(part)
        rest = rest + part.charge_wh - part.discharge_wh
        storable = storable - (0.0 if one.grid_charging else part.charge_wh)
    imported = np.maximum(rest, 0.0)
    surplus = np.maximum(-rest, 0.0)
    exported = np.minimum(surplus, grid_room_wh(given, limits)[1])
    exported = np.where(given.export_micro_per_kwh < 0, 0.0, exported)
    # What neighbours bought from this home beyond its production cannot be curtailed, only kept.
    curtailed = surplus - exported
    middle = (given.import_micro_per_kwh + given.export_micro_per_kwh) / 2
    value = np.where(rest > 0, given.import_micro_per_kwh, middle)
    value = np.where(exported > 0, given.export_micro_per_kwh, value)
    value = np.where(curtailed > 0, 0.0, value)
    method = "rule" if batteries or given.needs else "direct"
    return priced(
        given,
        limits,
        batteries,
        tuple(parts),
        (imported, exported, curtailed),
        device_wh,
        value,
        method,
    )


def priced(
    given: PlanInput,
    limits: Limits,
    batteries: tuple[Battery, ...],
    parts: tuple[BatteryPlan, ...],
    grid: tuple[FloatArray, FloatArray, FloatArray],
    device_wh: dict[str, FloatArray],
    value: FloatArray,
    method: str,
) -> Plan:
    """Return a plan of its flows, with what it costs.

    Parameters
    ----------
    parts : tuple of BatteryPlan
        One for each battery.
    grid : tuple of float array, shape (steps,)
        Import, export and curtailed. [Wh]
    """
    imported, exported, curtailed = grid
    cost = float(imported @ given.import_micro_per_kwh - exported @ given.export_micro_per_kwh)
    dearest = dearest_micro_per_kwh(given)
    penalty = 0.0
    if limits.import_w is not None:
        over = np.maximum(0.0, imported - grid_room_wh(given, limits)[0])
        penalty += float(over @ (EXCESS_FACTOR * dearest - given.import_micro_per_kwh))
    contents = (given.stored_wh, *given.more_stored_wh)
    for battery, part, before_wh in zip(batteries, parts, contents, strict=False):
        cost -= (float(part.stored_wh[-1]) - before_wh) * given.end_value_micro_per_kwh
        cost += float(part.discharge_wh.sum()) * battery.wear_micro_per_kwh
        wanted = battery.soc_end * battery.capacity_wh
        penalty += max(0.0, wanted - float(part.stored_wh[-1])) * MISSING_FACTOR * dearest
    short_wh: dict[str, float] = {}
    for need in given.needs:
        missed, borne_micro = _kept(need, device_wh[need.name])
        if missed >= _SHORT_WH_MIN:
            short_wh[need.name] = missed
        penalty += missed * SHORT_FACTOR * dearest + borne_micro * 1000
    zero = np.zeros(len(given.step_ms))
    if len(parts) == 1:
        charge, discharge, stored = parts[0]
    else:
        # Without a battery there is nothing stored, whatever the state says.
        charge = sum((part.charge_wh for part in parts), zero)
        discharge = sum((part.discharge_wh for part in parts), zero)
        stored = sum((part.stored_wh for part in parts), zero) if parts else zero + given.stored_wh
    return Plan(
        given,
        charge,
        discharge,
        imported,
        exported,
        curtailed,
        stored,
        value,
        cost / 1000,
        method,
        parts,
        device_wh,
        short_wh,
        penalty / 1000,
    )


def temperatures_c(need: Heat, energy_wh: FloatArray) -> FloatArray:
    """Return the course of a house's temperature, at the end of each step. [°C]"""
    course = np.empty(len(energy_wh))
    inside = need.start_c
    for t, energy in enumerate(energy_wh):
        inside = need.keep[t] * inside + need.gain_c_per_wh[t] * energy + need.drift_c[t]
        course[t] = inside
    return course


def _kept(need: Need, energy_wh: FloatArray) -> tuple[float, float]:
    """Return what a device misses [Wh] and what its user bears [micro]."""
    match need:
        case Job():
            left = energy_wh.copy()
            missed = 0.0
            for window in need.windows:
                # A step may belong to the end of one window and the beginning of the next.
                taken = np.minimum(left, window.room_wh)
                if taken.sum() > window.most_wh:
                    taken *= window.most_wh / taken.sum()
                left = left - taken
                missed += max(0.0, window.energy_wh - float(taken.sum()))
            return missed, 0.0
        case Run():
            wanted = sum(float(starts.energy_wh[0].sum()) for starts in need.starts)
            return max(0.0, wanted - float(energy_wh.sum())), 0.0
        case Heat():
            inside = temperatures_c(need, energy_wh)
            outside = np.maximum(0.0, need.low_c - inside) + np.maximum(0.0, inside - need.high_c)
            return 0.0, float(outside @ need.discomfort_micro)
        case Adjust():
            return 0.0, discomfort_micro(need, energy_wh)


def _rule_battery(
    battery: Battery,
    stored_wh: float,
    given: PlanInput,
    need: FloatArray,
    storable: FloatArray,
) -> BatteryPlan:
    steps = len(need)
    charge, discharge, stored = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    level = stored_wh
    into, out = battery.charge_ppm / MICRO, battery.discharge_ppm / MICRO
    charge_most = battery.charge_limit_w * given.step_ms / HOUR_MS
    discharge_most = battery.discharge_limit_w * given.step_ms / HOUR_MS
    for t in range(steps):
        room = max(0.0, battery.max_uwh / MICRO - level) / into
        there = max(0.0, level - battery.min_uwh / MICRO) * out
        charge[t] = min(max(-need[t], 0.0), max(0.0, storable[t]), charge_most[t], room)
        discharge[t] = min(max(need[t], 0.0), discharge_most[t], there)
        level += charge[t] * into - discharge[t] / out
        stored[t] = level
    return BatteryPlan(charge, discharge, stored)


def _rule_devices(given: PlanInput, limits: Limits) -> dict[str, FloatArray]:
    """Return every device's energy where nothing is planned, within the import cap if it can."""
    free = grid_room_wh(given, limits)[0] - (given.load_wh - given.pv_wh - given.traded_wh)
    free = np.maximum(0.0, free)
    found: dict[str, FloatArray] = {}
    for need in given.needs:
        match need:
            case Job():
                energy = _rule_job(need, given, free)
            case Run():
                energy = _rule_run(need, free)
            case Heat():
                energy = _rule_heat(need, given, free)
            case Adjust():
                energy = need.nominal_w * need.hours
        found[need.name] = energy
        free = np.maximum(0.0, free - energy)
    return found


def _rule_job(need: Job, given: PlanInput, free: FloatArray) -> FloatArray:
    energy = np.zeros(len(free))
    least = need.least_w * given.step_ms / HOUR_MS
    for window in need.windows:
        rest = window.energy_wh
        pace_wh_ms = window.energy_wh / need.run_ms_min if need.run_ms_min else np.inf
        for t in np.flatnonzero(window.room_wh > 0):
            room = min(window.room_wh[t] - energy[t], free[t] - energy[t])
            floor = min(least[t], window.room_wh[t])
            wish = min(rest, max(floor, pace_wh_ms * given.step_ms[t]))
            taken = min(room, max(wish, floor))
            if rest > 1e-9 and taken >= floor and taken > 0:
                energy[t] += taken
                rest -= taken
    return energy


def _rule_run(need: Run, free: FloatArray) -> FloatArray:
    energy = np.zeros(len(free))
    for starts in need.starts:
        fits = (starts.energy_wh + energy <= free + 1e-9).all(axis=1)
        energy = energy + starts.energy_wh[int(np.argmax(fits)) if fits.any() else 0]
    return energy


def _rule_heat(need: Heat, given: PlanInput, free: FloatArray) -> FloatArray:
    energy = np.zeros(len(free))
    least = np.minimum(need.least_w * given.step_ms / HOUR_MS, need.room_wh)
    inside = need.start_c
    for t in range(len(free)):
        alone = need.keep[t] * inside + need.drift_c[t]
        gain = need.gain_c_per_wh[t]
        away = need.low_c - alone if gain > 0 else need.high_c - alone
        wanted = away / gain if gain else 0.0
        if wanted > 0:
            taken = min(max(wanted, least[t]), need.room_wh[t], free[t])
            energy[t] = taken if taken >= least[t] else 0.0
        inside = alone + gain * energy[t]
    return energy
