"""What a plan is made for, and what it is."""

import math
from typing import Final, NamedTuple

import numpy as np

from hems.civil import HOUR_MS, FloatArray, IntArray
from hems.devices.battery import Battery
from hems.devices.needs import Heat, Need
from hems.errors import ConfigError

STEPS_MAX: Final = 400
NEEDS_MAX: Final = 16
# As the market's: a kWh costs some hundreds in some currencies.
PRICE_MICRO_PER_KWH_MAX: Final = 10**10

# What is not kept costs this much more than the dearest energy of the horizon, so that no plan is
# infeasible: energy wanted in the battery at the end, energy a device misses, import above the cap.
MISSING_FACTOR: Final = 2.0
SHORT_FACTOR: Final = 5.0
EXCESS_FACTOR: Final = 10.0
# Where energy costs nothing, what is missing still costs something. [micro/kWh]
DEAREST_MIN: Final = 1.0


class Limits(NamedTuple):
    """Caps at the home's grid connection. [W] None: no cap."""

    import_w: int | None = None
    export_w: int | None = None


class PlanInput(NamedTuple):
    """What a plan is made for; arrays of shape (steps,).

    `step_ms` may differ from step to step. `load_wh` and `pv_wh` are forecasts; `traded_wh` is
    what is contracted with neighbours, bought positive. `stored_wh` is in the battery at the
    beginning, `more_stored_wh` in the further ones. Prices are those of the grid, export at most
    import; `end_value_micro_per_kwh` is what stored energy is worth at the end. `needs` are the
    loads that can be moved, beside `load_wh`.
    """

    step_ms: IntArray
    load_wh: FloatArray
    pv_wh: FloatArray
    traded_wh: FloatArray
    import_micro_per_kwh: FloatArray
    export_micro_per_kwh: FloatArray
    stored_wh: float = 0.0
    end_value_micro_per_kwh: float = 0.0
    more_stored_wh: tuple[float, ...] = ()
    needs: tuple[Need, ...] = ()


class BatteryPlan(NamedTuple):
    """One battery's part of a plan; arrays of shape (steps,). [Wh]"""

    charge_wh: FloatArray
    discharge_wh: FloatArray
    stored_wh: FloatArray


class Plan(NamedTuple):
    """A plan; arrays of shape (steps,). [Wh per step]

    `import_wh` and `export_wh` are with the grid, beside `traded_wh`. `curtail_wh` is production
    given up (or a purchase no one took). `stored_wh` is at the end of each step. Charge, discharge
    and stored are the sums of all batteries, `batteries` has each. `device_wh` is what each
    device that can be moved takes, by name; `short_wh` what it will miss by its deadlines (only
    where it does). `value_micro_per_kwh` is the marginal value of energy. `cost_micro` holds grid
    and wear, less the value of what is stored at the end beyond the beginning; not what the
    contracted trades cost; `penalty_micro` what is not kept, and
    discomfort. `method`: `lp`; `milp` where devices are on or off; `direct` where nothing is to
    be chosen; `rule` where the solver gave up.
    """

    given: PlanInput
    charge_wh: FloatArray
    discharge_wh: FloatArray
    import_wh: FloatArray
    export_wh: FloatArray
    curtail_wh: FloatArray
    stored_wh: FloatArray
    value_micro_per_kwh: FloatArray
    cost_micro: float
    method: str
    batteries: tuple[BatteryPlan, ...] = ()
    device_wh: dict[str, FloatArray] = {}  # noqa: RUF012 - a tuple's default, never written to
    short_wh: dict[str, float] = {}  # noqa: RUF012 - as above
    penalty_micro: float = 0.0

    @property
    def total_micro(self) -> float:
        """What the plan minimises: cost and penalty."""
        return self.cost_micro + self.penalty_micro


def dearest_micro_per_kwh(given: PlanInput) -> float:
    """Return the dearest energy of the horizon, to which what is not kept is priced. [micro/kWh]"""
    return max(float(given.import_micro_per_kwh.max()), DEAREST_MIN)


def storable_wh(given: PlanInput) -> FloatArray:
    """Return what batteries may take without grid charging: own surplus and purchases. [Wh]

    What was bought from neighbours may be stored while own load runs from the grid, and surplus
    while loads that could wait do. (Were load to come first, buying more could be worth more than
    buying less, and no order book has a place for such a buyer.)
    """
    surplus: FloatArray = np.maximum(given.pv_wh - given.load_wh, 0.0)
    return surplus + np.maximum(given.traded_wh, 0.0)


def left_over_micro_per_kwh(
    battery: Battery | None, tariff_micro_per_kwh: FloatArray, feed_in_micro_per_kwh: float
) -> float:
    """Return what energy left in a battery at a plan's end is worth; 0 without one. [micro/kWh]

    Between what it would bring today, fed in instead of charged, and what it saves at the
    cheapest hour: then whatever the sun leaves over is stored, though the mean forecast
    needs less, and nothing that is of use within the day is kept for the next.
    """
    if battery is None:
        return 0.0
    fed_in = feed_in_micro_per_kwh / battery.charge_efficiency
    saved = float(tariff_micro_per_kwh.min()) - battery.wear_micro_per_kwh
    saved *= battery.discharge_efficiency
    return max(0.0, (fed_in + saved) / 2 if saved > fed_in else min(fed_in, saved))


def grid_room_wh(given: PlanInput, limits: Limits) -> tuple[FloatArray, FloatArray]:
    """Return what the caps leave for import from and export to the grid, beside the trades. [Wh]

    A cap is on what passes the meter; what neighbours buy and sell passes it too.
    """
    steps = len(given.step_ms)
    room = []
    for cap_w, sign in ((limits.import_w, -1.0), (limits.export_w, 1.0)):
        if cap_w is None:
            room.append(np.full(steps, math.inf))
        else:
            through = cap_w * given.step_ms / HOUR_MS
            room.append(np.maximum(0.0, through + sign * given.traded_wh))
    return room[0], room[1]


def check_given(given: PlanInput, batteries: int) -> None:
    """Raise `ConfigError` for what cannot be planned."""
    steps = len(given.step_ms)
    if not 0 < steps <= STEPS_MAX:
        raise ConfigError(f"a plan has 1 to {STEPS_MAX} steps, not {steps}")
    for name in PlanInput._fields[:6]:
        values = getattr(given, name)
        if values.shape != (steps,) or not np.isfinite(values).all():
            raise ConfigError(f"{name} must be {steps} finite numbers, one per step")
        if name in ("load_wh", "pv_wh") and (values < 0).any():
            raise ConfigError(f"{name} must not be negative")
    if (given.step_ms <= 0).any():
        raise ConfigError("step_ms must be positive")
    prices = given.import_micro_per_kwh, given.export_micro_per_kwh
    if (np.abs(prices) > PRICE_MICRO_PER_KWH_MAX).any():
        raise ConfigError(f"prices are at most {PRICE_MICRO_PER_KWH_MAX} micro per kWh")
    above = np.flatnonzero(prices[1] > prices[0])
    if len(above):
        raise ConfigError(
            f"step {above[0]}: export pays {prices[1][above[0]]:.0f} and import costs "
            f"{prices[0][above[0]]:.0f} micro per kWh; export must not pay more"
        )
    for stored_wh in (given.stored_wh, *given.more_stored_wh):
        if not (math.isfinite(stored_wh) and stored_wh >= 0):
            raise ConfigError(f"stored_wh {stored_wh}: must not be negative")
    if not 0 <= given.end_value_micro_per_kwh <= PRICE_MICRO_PER_KWH_MAX:
        raise ConfigError(
            f"end_value_micro_per_kwh {given.end_value_micro_per_kwh}: "
            f"0 to {PRICE_MICRO_PER_KWH_MAX}"
        )
    if batteries and len(given.more_stored_wh) != batteries - 1:
        raise ConfigError(
            f"more_stored_wh has {len(given.more_stored_wh)} states for {batteries - 1} batteries "
            "beside the first"
        )
    _check_needs(given.needs, steps)


def _check_needs(needs: tuple[Need, ...], steps: int) -> None:
    if not needs:
        return
    if len(needs) > NEEDS_MAX:
        raise ConfigError(f"{len(needs)} devices: a plan has at most {NEEDS_MAX}")
    names = [need.name for need in needs]
    if len(set(names)) != len(names):
        raise ConfigError(f"two devices of one name among {', '.join(names)}")
    for need in needs:
        arrays = [value for value in need if isinstance(value, np.ndarray)]
        arrays += [window.room_wh for window in getattr(need, "windows", ())]
        arrays += [row for starts in getattr(need, "starts", ()) for row in starts.energy_wh]
        if any(array.shape != (steps,) or not np.isfinite(array).all() for array in arrays):
            raise ConfigError(f"device {need.name!r}: {steps} finite numbers are needed, per step")
        if any((array < 0).any() for array in arrays) and not isinstance(need, Heat):
            raise ConfigError(f"device {need.name!r}: energies must not be negative")
