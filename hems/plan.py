"""The plan: what to charge, discharge, import and export, step by step, at least cost.

One linear programme per home, built directly in HiGHS. With e the stored energy, all in kWh of
the step, for each step t:

    balance   import + excess + discharge - charge - export - curtail = load - pv - traded
    storage   e[t] - e[t-1] - charge * eta_c + discharge / eta_d = 0            (CE 7 to 9)
    end       e[T] + missing >= soc_end * capacity                              (CE 11, a wish)

Bounds hold the power limit, the range of the state of charge (CE 10), the caps at the grid and
what may be charged from; costs are prices and wear. Import never being cheaper than export, and
losses or wear above zero, no optimum charges and discharges at once: binaries are not needed.

The dual of a balance row (with that of the charging bound, where own surplus is what limits it) is
what one more kWh would be worth to this home in that step. A solver is kept between solves; the
next differs in bounds and costs only and starts from the last basis.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np

from hems.civil import HOUR_MS, FloatArray, IntArray
from hems.devices import Battery
from hems.errors import ConfigError

STEPS_MAX: Final = 400
TIME_LIMIT_S: Final = 0.5
PRICE_MICRO_PER_KWH_MAX: Final = 1_000_000_000

MICRO: Final = 1_000_000
# Leaving a wish open costs this much more than the dearest energy of the horizon.
_MISSING_FACTOR: Final = 2.0
_EXCESS_FACTOR: Final = 10.0
# Curtailing costs next to nothing, but more than selling for nothing.
_CURTAIL_COST: Final = 1e-6
# Among plans of equal cost, the one that acts early, by this per kWh and step: a plan made again
# at every step would otherwise put off for ever what is worth as much tomorrow.
_DELAY_COST: Final = 3e-7

_CHARGE, _DISCHARGE, _IMPORT, _EXPORT, _CURTAIL, _EXCESS, _STORED = range(7)
_KINDS: Final = 7


class Limits(NamedTuple):
    """Caps at the home's grid connection. [W] None: no cap."""

    import_w: int | None = None
    export_w: int | None = None


class PlanInput(NamedTuple):
    """What a plan is made for; arrays of shape (steps,).

        `step_ms` may differ from step to step. `load_wh` and `pv_wh` are forecasts; `traded_wh` is
    @@"""

    step_ms: IntArray
    load_wh: FloatArray
    pv_wh: FloatArray
    traded_wh: FloatArray
    import_micro_per_kwh: FloatArray
    export_micro_per_kwh: FloatArray
    stored_wh: float = 0.0
    end_value_micro_per_kwh: float = 0.0


class Plan(NamedTuple):
    """A plan; arrays of shape (steps,). [Wh per step]

    `import_wh` and `export_wh` are with the grid, beside `traded_wh`. `curtail_wh` is production
    given up (or a purchase no one took). `stored_wh` is at the end of each step.
    `value_micro_per_kwh` is the marginal value of energy. `cost_micro` holds grid and wear, less
    the value of what is stored at the end beyond the beginning; not what the trades cost.
    `method`: `lp`; `direct` without a battery, where nothing is to be chosen; `rule` where the
    solver gave up.
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

    @property
    def charge_w(self) -> FloatArray:
        """Mean battery power of each step, discharging negative. [W]"""
        power: FloatArray = (self.charge_wh - self.discharge_wh) * HOUR_MS / self.given.step_ms
        return power


class Planner:
    """Plans for one home. Keeps its solver, so that a plan like the last one is cheap.

    Parameters
    ----------
    battery : Battery or None
    limits : Limits
    time_limit_s : float, optional
        After which the solver is given up and the rule is used; `TIME_LIMIT_S` if left out.
    """

    def __init__(
        self,
        battery: Battery | None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        time_limit_s: float | None = None,
    ) -> None:
        for name, cap_w in limits._asdict().items():
            if cap_w is not None and cap_w < 0:
                raise ConfigError(f"{name} cap {cap_w}: must not be negative")
        self.battery = battery
        self.limits = limits
        self._time_limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
        self._model: _Model | None = None

    def solve(self, given: PlanInput) -> Plan:
        """Return the cheapest plan.

        Raises
        ------
        ConfigError
            Arrays of unequal shape, negative energy, prices with holes or above each other.
        """
        _check(given)
        if self.battery is None:
            return rule_plan(given, None, self.limits)
        if self._model is None or self._model.steps != len(given.step_ms):
            self._model = _Model(self.battery, len(given.step_ms), self._time_limit_s)
        plan = self._model.solve(given, self.limits)
        return plan or rule_plan(given, self.battery, self.limits)


class _Model:
    """The linear programme of a fixed number of steps, in HiGHS."""

    def __init__(self, battery: Battery, steps: int, time_limit_s: float) -> None:
        # Its 20 MiB are loaded by the first home that has something to choose.
        import highspy

        self._highspy = highspy
        self.battery = battery
        self.steps = steps
        self.columns = _KINDS * steps + 1
        self._column_index = np.arange(self.columns, dtype=np.int32)
        self._row_index = np.arange(2 * steps + 1, dtype=np.int32)
        self._highs: Any = highspy.Highs()
        self._time_limit_s = time_limit_s
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        self._fresh = True

    def solve(self, given: PlanInput, limits: Limits) -> Plan | None:
        """Return the optimum, or None if it was not reached."""
        cost, lower, upper = self._column_data(given, limits)
        row_lower, row_upper = self._row_data(given)
        if self._fresh:
            self._highs.passModel(self._program(cost, lower, upper, row_lower, row_upper))
            self._fresh = False
        else:
            count, rows = self.columns, len(row_lower)
            self._highs.changeColsCost(count, self._column_index, cost)
            self._highs.changeColsBounds(count, self._column_index, lower, upper)
            self._highs.changeRowsBounds(rows, self._row_index, row_lower, row_upper)
        # The solver's limit counts its whole life, not each run.
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + self._time_limit_s)
        self._highs.run()
        if self._highs.getModelStatus() != self._highspy.HighsModelStatus.kOptimal:
            self._fresh = True
            self._highs.clearModel()
            return None
        return self._plan(given)

    def _program(
        self,
        cost: FloatArray,
        lower: FloatArray,
        upper: FloatArray,
        row_lower: FloatArray,
        row_upper: FloatArray,
    ) -> Any:
        starts, index, value = self._matrix()
        program = self._highspy.HighsLp()
        program.num_col_, program.num_row_ = self.columns, len(row_lower)
        program.col_cost_, program.col_lower_, program.col_upper_ = cost, lower, upper
        program.row_lower_, program.row_upper_ = row_lower, row_upper
        program.a_matrix_.format_ = self._highspy.MatrixFormat.kColwise
        program.a_matrix_.start_ = starts
        program.a_matrix_.index_ = index
        program.a_matrix_.value_ = value
        return program

    def _matrix(self) -> tuple[IntArray, IntArray, FloatArray]:
        """Return the coefficients by column: balance rows first, then storage, then end."""
        steps = self.steps
        balance = np.arange(steps)
        storage = steps + balance
        into, out = self.battery.charge_ppm / MICRO, MICRO / self.battery.discharge_ppm
        following = np.append(storage[1:], 2 * steps)
        pairs = {
            _CHARGE: ((balance, -1.0), (storage, -into)),
            _DISCHARGE: ((balance, 1.0), (storage, out)),
            _IMPORT: ((balance, 1.0),),
            _EXPORT: ((balance, -1.0),),
            _CURTAIL: ((balance, -1.0),),
            _EXCESS: ((balance, 1.0),),
            # The last step's energy counts towards the end row instead of a following step.
            _STORED: ((storage, 1.0), (following, np.append(np.full(steps - 1, -1.0), 1.0))),
        }
        counts, index, value = [], [], []
        for kind in range(_KINDS):
            entries = pairs[kind]
            counts.append(np.full(steps, len(entries)))
            index.append(np.column_stack([rows for rows, _ in entries]).ravel())
            value.append(np.column_stack([np.broadcast_to(v, steps) for _, v in entries]).ravel())
        counts.append(np.array([1]))
        index.append(np.array([2 * steps]))
        value.append(np.array([1.0]))
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))))
        return starts, np.concatenate(index), np.concatenate(value)

    def _column_data(
        self, given: PlanInput, limits: Limits
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        battery, steps = self.battery, self.steps
        hours = given.step_ms / HOUR_MS
        cost = np.zeros((_KINDS, steps))
        lower = np.zeros((_KINDS, steps))
        upper = np.full((_KINDS, steps), math.inf)
        power_kwh = battery.power_limit_w * hours / 1000
        upper[_CHARGE] = power_kwh
        if not battery.grid_charging:
            upper[_CHARGE] = np.minimum(power_kwh, storable_wh(given) / 1000)
        upper[_DISCHARGE] = power_kwh
        cost[_CHARGE] = _DELAY_COST * np.arange(steps)
        cost[_DISCHARGE] = battery.wear_micro_per_kwh / MICRO + cost[_CHARGE]
        cost[_IMPORT] = given.import_micro_per_kwh / MICRO
        cost[_EXPORT] = -given.export_micro_per_kwh / MICRO
        cost[_CURTAIL] = _CURTAIL_COST
        cost[_STORED, -1] = -given.end_value_micro_per_kwh / MICRO
        upper[_CURTAIL] = (given.pv_wh + np.maximum(given.traded_wh, 0.0)) / 1000
        dearest = max(float(cost[_IMPORT].max()), _CURTAIL_COST)
        cost[_EXCESS] = _EXCESS_FACTOR * dearest
        upper[_EXCESS] = 0.0 if limits.import_w is None else math.inf
        import_wh, export_wh = grid_room_wh(given, limits)
        upper[_IMPORT], upper[_EXPORT] = import_wh / 1000, export_wh / 1000
        # A state outside its range may stay there, but not go further out.
        stored_kwh = given.stored_wh / 1000
        lower[_STORED] = min(battery.min_uwh / 1e9, stored_kwh)
        upper[_STORED] = max(battery.max_uwh / 1e9, stored_kwh)
        return (
            np.append(cost.ravel(), _MISSING_FACTOR * dearest),
            np.append(lower.ravel(), 0.0),
            np.append(upper.ravel(), math.inf),
        )

    def _row_data(self, given: PlanInput) -> tuple[FloatArray, FloatArray]:
        balance = (given.load_wh - given.pv_wh - given.traded_wh) / 1000
        storage = np.zeros(self.steps)
        storage[0] = given.stored_wh / 1000
        end = self.battery.soc_end * self.battery.capacity_wh / 1000
        equal = np.concatenate((balance, storage))
        return np.append(equal, end), np.append(equal, math.inf)

    def _plan(self, given: PlanInput) -> Plan:
        solution = self._highs.getSolution()
        steps = self.steps
        columns = np.array(solution.col_value)[: _KINDS * steps].reshape(_KINDS, steps) * 1000
        duals = np.array(solution.row_dual)[:steps]
        if not self.battery.grid_charging:
            # One more kWh of surplus is also one more that may be charged.
            power_wh = self.battery.power_limit_w * given.step_ms / HOUR_MS
            allows = (given.pv_wh > given.load_wh) & (storable_wh(given) < power_wh)
            duals = duals - np.where(allows, np.array(solution.col_dual)[:steps], 0.0)
        return _priced(
            given,
            self.battery,
            columns[_CHARGE],
            columns[_DISCHARGE],
            columns[_IMPORT] + columns[_EXCESS],
            columns[_EXPORT],
            columns[_CURTAIL],
            columns[_STORED],
            duals * MICRO,
            "lp",
        )


def storable_wh(given: PlanInput) -> FloatArray:
    """Return what a battery may take without grid charging: own surplus and purchases. [Wh]

    What was bought from neighbours may be stored while own load runs from the grid. (Were load to
    come first, buying more could be worth more than buying less, and no order book has a place
    for such a buyer.)
    """
    surplus: FloatArray = np.maximum(given.pv_wh - given.load_wh, 0.0)
    return surplus + np.maximum(given.traded_wh, 0.0)


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


def rule_plan(given: PlanInput, battery: Battery | None, limits: Limits) -> Plan:
    """Return the plan of plain self-consumption: surplus into the battery, need out of it.

    Always legal for the battery. Without a battery it is the optimum (`direct`): what is worth
    energy then is the grid's price of the side the home is on. With one (`rule`), the value in
    steps without grid exchange is the middle of the two.
    """
    steps = len(given.step_ms)
    charge, discharge = np.zeros(steps), np.zeros(steps)
    stored = np.full(steps, given.stored_wh)
    need = given.load_wh - given.pv_wh - given.traded_wh
    if battery is not None:
        level = given.stored_wh
        into, out = battery.charge_ppm / MICRO, battery.discharge_ppm / MICRO
        power = battery.power_limit_w * given.step_ms / HOUR_MS
        own = storable_wh(given)
        for t in range(steps):
            room = max(0.0, battery.max_uwh / MICRO - level) / into
            there = max(0.0, level - battery.min_uwh / MICRO) * out
            charge[t] = min(max(-need[t], 0.0), own[t], power[t], room)
            discharge[t] = min(max(need[t], 0.0), power[t], there)
            level += charge[t] * into - discharge[t] / out
            stored[t] = level
    net = need + charge - discharge
    imported = np.maximum(net, 0.0)
    surplus = np.maximum(-net, 0.0)
    exported = np.minimum(surplus, grid_room_wh(given, limits)[1])
    exported = np.where(given.export_micro_per_kwh < 0, 0.0, exported)
    # What neighbours bought from this home beyond its production cannot be curtailed, only kept.
    curtailed = surplus - exported
    middle = (given.import_micro_per_kwh + given.export_micro_per_kwh) / 2
    value = np.where(net > 0, given.import_micro_per_kwh, middle)
    value = np.where(exported > 0, given.export_micro_per_kwh, value)
    value = np.where(curtailed > 0, 0.0, value)
    method = "direct" if battery is None else "rule"
    return _priced(
        given, battery, charge, discharge, imported, exported, curtailed, stored, value, method
    )


def _priced(
    given: PlanInput,
    battery: Battery | None,
    charge: FloatArray,
    discharge: FloatArray,
    imported: FloatArray,
    exported: FloatArray,
    curtailed: FloatArray,
    stored: FloatArray,
    value: FloatArray,
    method: str,
) -> Plan:
    wear = battery.wear_micro_per_kwh if battery is not None else 0
    cost = float(
        imported @ given.import_micro_per_kwh
        - exported @ given.export_micro_per_kwh
        + discharge.sum() * wear
        - (stored[-1] - given.stored_wh) * given.end_value_micro_per_kwh
    )
    return Plan(
        given, charge, discharge, imported, exported, curtailed, stored, value, cost / 1000, method
    )


def _check(given: PlanInput) -> None:
    steps = len(given.step_ms)
    if not 0 < steps <= STEPS_MAX:
        raise ConfigError(f"a plan has 1 to {STEPS_MAX} steps, not {steps}")
    for name, values in given._asdict().items():
        if name in ("stored_wh", "end_value_micro_per_kwh"):
            continue
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
    if not (math.isfinite(given.stored_wh) and given.stored_wh >= 0):
        raise ConfigError(f"stored_wh {given.stored_wh}: must not be negative")
    if not 0 <= given.end_value_micro_per_kwh <= PRICE_MICRO_PER_KWH_MAX:
        raise ConfigError(
            f"end_value_micro_per_kwh {given.end_value_micro_per_kwh}: "
            f"0 to {PRICE_MICRO_PER_KWH_MAX}"
        )
