"""Inside the slot: the battery keeps the home to its plan and to what it sold.

The plan was made for a forecast; the slot brings another load and another production. Who takes
the difference follows from what the plan does with the grid in this slot. If it neither imports
nor exports, stored energy is worth something between the two prices: the battery takes it all. If
it imports, stored energy is worth at least the tariff: the battery keeps its action and the grid
gives more, but surplus is kept. If it exports, the other way round. What was sold to neighbours
comes before all of this: the battery gives what it can before the home falls short.
"""

from typing import NamedTuple

from hems.devices import HOUR_MS, Battery
from hems.errors import ConfigError, InvariantError
from hems.plan import Limits


class Intent(NamedTuple):
    """What the plan has in mind for the slot. [Wh] `grid_wh` is import positive, trades apart."""

    action_wh: int
    grid_wh: int
    curtails: bool


# Plain self-consumption: nothing planned, the battery takes what it can.
SELF_CONSUMPTION = Intent(0, 0, False)


class Flows(NamedTuple):
    """What passed in a slot. [Wh] `import_wh` and `export_wh` are what the meter reads.

    Always: import + pv + discharge = load + charge + export + curtail.
    """

    load_wh: int
    pv_wh: int
    charge_wh: int
    discharge_wh: int
    curtail_wh: int
    import_wh: int
    export_wh: int
    stored_uwh: int


def follow(
    battery: Battery | None,
    stored_uwh: int,
    step_ms: int,
    load_wh: int,
    pv_wh: int,
    traded_wh: int,
    intent: Intent,
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> Flows:
    """Return what happens in a slot with this load and production.

    Parameters
    ----------
    stored_uwh : int
        In the battery before. [micro-Wh]
    traded_wh : int
        Net contracted with neighbours, bought positive. [Wh]
    intent : Intent
    limits : Limits
        The export cap is kept by curtailing; the import cap as far as the battery can, since load
        must run.

    Raises
    ------
    ConfigError
        Negative load or production.
    InvariantError
        The balance does not close.
    """
    if load_wh < 0 or pv_wh < 0:
        raise ConfigError(f"load {load_wh} Wh, production {pv_wh} Wh: must not be negative")
    need_wh = load_wh - pv_wh - traded_wh
    action_wh = 0
    if battery is not None:
        action_wh = _action(battery, stored_uwh, step_ms, need_wh, traded_wh, intent, limits)
        own_wh = max(0, pv_wh - load_wh) + max(0, traded_wh)
        charge_max_wh = battery.charge_max_wh(stored_uwh, step_ms)
        if not battery.grid_charging:
            charge_max_wh = min(charge_max_wh, own_wh)
        discharge_max_wh = battery.discharge_max_wh(stored_uwh, step_ms)
        action_wh = min(max(action_wh, -discharge_max_wh), charge_max_wh)
        stored_uwh = battery.step(stored_uwh, action_wh, step_ms)
    surplus_wh = max(0, -(need_wh + action_wh))
    curtail_wh = 0
    if intent.curtails:
        curtail_wh = min(pv_wh, surplus_wh)
    elif limits.export_w is not None:
        over_wh = pv_wh - load_wh - action_wh - limits.export_w * step_ms // HOUR_MS
        curtail_wh = min(pv_wh, max(0, over_wh))
    meter_wh = load_wh - pv_wh + action_wh + curtail_wh
    flows = Flows(
        load_wh,
        pv_wh,
        max(action_wh, 0),
        max(-action_wh, 0),
        curtail_wh,
        max(meter_wh, 0),
        max(-meter_wh, 0),
        stored_uwh,
    )
    check_balance(flows)
    return flows


def check_balance(flows: Flows) -> None:
    """Raise `InvariantError` unless what came in went somewhere, to the watt-hour."""
    came = flows.import_wh + flows.pv_wh + flows.discharge_wh
    went = flows.load_wh + flows.charge_wh + flows.export_wh + flows.curtail_wh
    if came != went or min(flows) < 0:
        raise InvariantError(f"{came} Wh came in and {went} Wh went out: {flows}")


def _action(
    battery: Battery,
    stored_uwh: int,
    step_ms: int,
    need_wh: int,
    traded_wh: int,
    intent: Intent,
    limits: Limits,
) -> int:
    """Return the battery action wanted, charging positive, before its limits. [Wh]"""
    action_wh = intent.action_wh if intent.grid_wh else -need_wh
    grid_wh = need_wh + action_wh
    unwanted_export = intent.grid_wh > 0 and grid_wh < 0
    unwanted_import = grid_wh > 0 and (intent.grid_wh < 0 or traded_wh < 0)
    if unwanted_export or unwanted_import:
        action_wh = -need_wh
    if limits.import_w is not None:
        most_wh = limits.import_w * step_ms // HOUR_MS
        action_wh = min(action_wh, most_wh - need_wh - traded_wh)
    if limits.export_w is not None:
        most_wh = limits.export_w * step_ms // HOUR_MS
        action_wh = max(action_wh, -most_wh - need_wh - traded_wh)
    return action_wh
