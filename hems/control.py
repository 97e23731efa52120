"""Inside the slot: the battery keeps the home to its plan and to what it sold.

The plan was made for a forecast; the slot brings another load and another production. Who takes
the difference follows from what the plan does with the grid in this slot. If it neither imports
nor exports, stored energy is worth something between the two prices: the battery takes it all. If
it imports, stored energy is worth at least the tariff: the battery keeps its action and the grid
gives more, but surplus is kept. If it exports, the other way round. What was sold to neighbours
comes before all of this: the battery gives what it can before the home falls short. After the
batteries come the loads that can be moved: they take less before the home falls short or passes
its import cap, as far as their deadlines allow, and more before production is curtailed.
"""

from collections.abc import Sequence
from typing import NamedTuple

from hems.devices import HOUR_MS, Battery
from hems.devices.base import MICRO
from hems.devices.flexible import Range
from hems.errors import ConfigError, InvariantError
from hems.plan import Limits


class Intent(NamedTuple):
    """What the plan has in mind for the slot. [Wh] `grid_wh` is import positive, trades apart.

    `action_wh` is of all batteries, charging positive; `more_action_wh` the part of each beside
    the first. `is_commanded`: the owner wants just that of them (`hems.steering`), whatever it
    costs; their own limits and the connection's hold all the same.
    """

    action_wh: int
    grid_wh: int
    curtails: bool
    more_action_wh: tuple[int, ...] = ()
    is_commanded: bool = False


# Plain self-consumption: nothing planned, the battery takes what it can.
SELF_CONSUMPTION = Intent(0, 0, False)


class Flows(NamedTuple):
    """What passed in a slot. [Wh] `import_wh` and `export_wh` are what the meter reads.

    Always: import + pv + discharge = load + charge + export + curtail. `load_wh` is with what the
    movable loads took, `taken_wh` each of them. `more_stored_uwh` is in the further batteries.
    """

    load_wh: int
    pv_wh: int
    charge_wh: int
    discharge_wh: int
    curtail_wh: int
    import_wh: int
    export_wh: int
    stored_uwh: int
    more_stored_uwh: tuple[int, ...] = ()
    taken_wh: tuple[int, ...] = ()


def follow(
    battery: Battery | None,
    stored_uwh: int,
    step_ms: int,
    load_wh: int,
    pv_wh: int,
    traded_wh: int,
    intent: Intent,
    limits: Limits = Limits(),  # noqa: B008 - immutable
    more: Sequence[tuple[Battery, int]] = (),
    loads: Sequence[Range] = (),
) -> Flows:
    """Return what happens in a slot with this load and production.

    Parameters
    ----------
    stored_uwh : int
        In the battery before. [micro-Wh]
    load_wh : int
        That cannot be moved. [Wh]
    traded_wh : int
        Net contracted with neighbours, bought positive. [Wh]
    intent : Intent
    limits : Limits
        The export cap is kept by curtailing; the import cap as far as the battery can, since load
        must run.
    more : sequence of (Battery, int)
        Further batteries and what is in each before. [micro-Wh]
    loads : sequence of Range
        Movable loads, those to be changed first first.

    Raises
    ------
    ConfigError
        Negative load or production.
    InvariantError
        The balance does not close.
    """
    if load_wh < 0 or pv_wh < 0:
        raise ConfigError(f"load {load_wh} Wh, production {pv_wh} Wh: must not be negative")
    batteries = ([(battery, stored_uwh)] if battery is not None else []) + list(more)
    taken = [one.planned_wh for one in loads]
    must_wh = load_wh - pv_wh - traded_wh
    own_wh = max(0, pv_wh - load_wh) + max(0, traded_wh)
    actions = _battery_actions(
        batteries, step_ms, must_wh + sum(taken), own_wh, traded_wh, intent, limits
    )
    action_wh = sum(actions)
    _change_loads(taken, loads, must_wh + action_wh, step_ms, traded_wh, intent, limits)
    need_wh = must_wh + sum(taken)
    over_wh = -(need_wh + action_wh)
    if not intent.curtails:
        over_wh = _beyond_export_wh(need_wh + traded_wh + action_wh, step_ms, limits)
    curtail_wh = min(pv_wh, max(0, over_wh))
    meter_wh = need_wh + traded_wh + action_wh + curtail_wh
    after = [b.step(uwh, a, step_ms) for (b, uwh), a in zip(batteries, actions, strict=True)]
    flows = Flows(
        load_wh + sum(taken),
        pv_wh,
        sum(max(action, 0) for action in actions),
        sum(max(-action, 0) for action in actions),
        curtail_wh,
        max(meter_wh, 0),
        max(-meter_wh, 0),
        after.pop(0) if battery is not None else stored_uwh,
        tuple(after),
        tuple(taken),
    )
    check_balance(flows)
    return flows


def _beyond_export_wh(grid_wh: int, step_ms: int, limits: Limits) -> int:
    """Return what is exported beyond its cap, or less than nothing, import positive. [Wh]"""
    return 0 if limits.export_w is None else -grid_wh - limits.export_w * step_ms // HOUR_MS


def measured(
    battery: Battery,
    stored_uwh: int,
    load_wh: int,
    pv_wh: int,
    action_wh: int,
    taken_wh: Sequence[int] = (),
) -> Flows:
    """Return what happened in a slot in which a battery's own meter says what it took. [Wh]

    What it holds then is reckoned, within its capacity; what it reports is better. `taken_wh` is
    what each movable load took beside the load. Raises `InvariantError` as `follow`.
    """
    load_wh += sum(taken_wh)
    meter_wh = load_wh - pv_wh + action_wh
    change_uwh = action_wh * battery.charge_ppm
    if action_wh < 0:
        change_uwh = action_wh * MICRO * MICRO // battery.discharge_ppm
    stored_uwh = min(max(stored_uwh + change_uwh, 0), battery.capacity_wh * MICRO)
    charge_wh, discharge_wh = max(action_wh, 0), max(-action_wh, 0)
    meter = max(meter_wh, 0), max(-meter_wh, 0)
    flows = Flows(
        load_wh,
        pv_wh,
        charge_wh,
        discharge_wh,
        0,
        *meter,
        stored_uwh,
        taken_wh=tuple(taken_wh),
    )
    check_balance(flows)
    return flows


def check_balance(flows: Flows) -> None:
    """Raise `InvariantError` unless what came in went somewhere, to the watt-hour."""
    came = flows.import_wh + flows.pv_wh + flows.discharge_wh
    went = flows.load_wh + flows.charge_wh + flows.export_wh + flows.curtail_wh
    if came != went or min(flows[:8]) < 0 or min((*flows.more_stored_uwh, *flows.taken_wh, 0)) < 0:
        raise InvariantError(f"{came} Wh came in and {went} Wh went out: {flows}")


def _battery_actions(
    batteries: Sequence[tuple[Battery, int]],
    step_ms: int,
    need_wh: int,
    own_wh: int,
    traded_wh: int,
    intent: Intent,
    limits: Limits,
) -> list[int]:
    """Return each battery's action, charging positive, within its limits. [Wh]

    Each begins with its part of the plan; what the sum then lacks is given out in their order. No
    battery charges while another discharges.
    """
    if not batteries:
        return []
    wish_wh = _action(step_ms, need_wh, traded_wh, intent, limits)
    planned = [intent.action_wh - sum(intent.more_action_wh), *intent.more_action_wh]
    planned += [0] * (len(batteries) - len(planned))
    if wish_wh >= 0:
        sign = 1
        most = [battery.charge_max_wh(stored_uwh, step_ms) for battery, stored_uwh in batteries]
    else:
        sign = -1
        most = [battery.discharge_max_wh(stored_uwh, step_ms) for battery, stored_uwh in batteries]
    shares_own = [sign > 0 and not battery.grid_charging for battery, _ in batteries]
    parts = [0] * len(batteries)
    rest = abs(wish_wh)
    for wanted in ([max(sign * one, 0) for one in planned], most):
        for i, top in enumerate(most):
            more = min(rest, min(wanted[i], top) - parts[i])
            if shares_own[i]:
                more = min(more, own_wh)
                own_wh -= more
            parts[i] += more
            rest -= more
    return [sign * part for part in parts]


def _change_loads(
    taken: list[int],
    loads: Sequence[Range],
    rest_wh: int,
    step_ms: int,
    traded_wh: int,
    intent: Intent,
    limits: Limits,
) -> None:
    """Let movable loads take what the batteries could not, in place.

    `rest_wh` is what the home needs without them, after trades and batteries. [Wh]
    """
    grid_wh = rest_wh + sum(taken)
    over_wh = max(0, grid_wh) if traded_wh < 0 else 0
    if limits.import_w is not None:
        over_wh = max(over_wh, grid_wh + traded_wh - limits.import_w * step_ms // HOUR_MS)
    under_wh = max(0, -grid_wh) if intent.curtails else 0
    if limits.export_w is not None:
        under_wh = max(under_wh, -grid_wh - traded_wh - limits.export_w * step_ms // HOUR_MS)
    for i, one in enumerate(loads):
        less = min(over_wh, taken[i] - one.least_wh) if over_wh > 0 else 0
        more = min(under_wh, one.most_wh - taken[i]) if under_wh > 0 and not less else 0
        taken[i] += more - less
        over_wh, under_wh = over_wh - less, under_wh - more


def _action(
    step_ms: int,
    need_wh: int,
    traded_wh: int,
    intent: Intent,
    limits: Limits,
) -> int:
    """Return the battery action wanted, charging positive, before its limits. [Wh]"""
    action_wh = intent.action_wh if intent.grid_wh or intent.is_commanded else -need_wh
    grid_wh = need_wh + action_wh
    unwanted_export = intent.grid_wh > 0 and grid_wh < 0
    unwanted_import = grid_wh > 0 and (intent.grid_wh < 0 or traded_wh < 0)
    if (unwanted_export or unwanted_import) and not intent.is_commanded:
        action_wh = -need_wh
    if limits.import_w is not None:
        most_wh = limits.import_w * step_ms // HOUR_MS
        action_wh = min(action_wh, most_wh - need_wh - traded_wh)
    if limits.export_w is not None:
        most_wh = limits.export_w * step_ms // HOUR_MS
        action_wh = max(action_wh, -most_wh - need_wh - traded_wh)
    return action_wh
