"""The plan: what to charge, discharge, import and export, step by step, at least cost.

One linear programme per home, built directly in HiGHS. With e the stored energy, all in kWh of
the step, for each step t and summed over batteries and movable loads:

    balance   import + excess + discharge - charge - export - curtail - devices = load - pv - traded
    storage   e[t] - e[t-1] - charge * eta_c + discharge / eta_d = 0            (CE 7 to 9)
    end       e[T] + missing >= soc_end * capacity                              (CE 11, a wish)

Bounds hold the power limits, the range of the state of charge (CE 10), the caps at the grid and
what may be charged from; costs are prices and wear. Import never being cheaper than export, and
losses or wear above zero, no optimum charges and discharges at once: binaries are not needed.

Only devices that are on or off need more. The programme without that condition says how good a plan
can be at best, and a search over it (`hems.plan.search`) finds one within `GAP`, or the best it can
in so many runs.

The dual of a balance row (with that of the charging bound, where own surplus is what limits it) is
what one more kWh would be worth to this home in that step. A solver is kept between solves; the
next differs in bounds and costs only and starts from the last basis.
"""

import logging
from typing import Final

import numpy as np

from hems.civil import HOUR_MS, FloatArray, IntArray
from hems.devices import MICRO, Battery
from hems.devices.needs import reach_wh
from hems.errors import ConfigError, SolverError
from hems.plan.blocks import Block, add_block
from hems.plan.given import BatteryPlan, Limits, Plan, PlanInput, check_given, storable_wh
from hems.plan.program import (
    CHARGE,
    CURTAIL,
    DISCHARGE,
    EXCESS,
    EXPORT,
    IMPORT,
    STORED,
    Builder,
    Core,
    Program,
)
from hems.plan.rule import priced, rule_plan
from hems.plan.search import Search, Switches
from hems.plan.solver import Solution, Solver

TIME_LIMIT_S: Final = 0.5
# How far from the best a plan with devices that are on or off may be: a fifth of a cent.
GAP: Final = 2e-3
RELATIVE_GAP: Final = 1e-3
# How often the search for it may run the solver: what it finds later is worth less than a cent.
RUNS_MAX: Final = 80
# From these shares of its least on, a load is thought to be on at first.
ON_SHARES: Final = (0.5, 0.1, 0.75)

log = logging.getLogger("commonwatt.hems")


class Planner:
    """Plans for one home. Keeps its solver, so that a plan like the last one is cheap.

    Parameters
    ----------
    battery : Battery or None
    limits : Limits
    time_limit_s : float, optional
        After which the solver is given up: a plan found by then is used, else the rule;
        `TIME_LIMIT_S` if left out.
    more_batteries : tuple of Battery
    """

    def __init__(
        self,
        battery: Battery | None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        time_limit_s: float | None = None,
        more_batteries: tuple[Battery, ...] = (),
    ) -> None:
        for name, cap_w in limits._asdict().items():
            if cap_w is not None and cap_w < 0:
                raise ConfigError(f"{name} cap {cap_w}: must not be negative")
        if more_batteries and battery is None:
            raise ConfigError("more_batteries: the first one is `battery`")
        self.battery = battery
        self.batteries = (*([battery] if battery else []), *more_batteries)
        self.limits = limits
        self._time_limit_s = TIME_LIMIT_S if time_limit_s is None else time_limit_s
        self._model: _Model | None = None
        self._is_ruled = False

    def solve(self, given: PlanInput, keep_choices: bool = False) -> Plan:
        """Return the cheapest plan.

        Where the solver fails or finds none in time it is the rule's, which is logged once until
        the solver is well again. With `keep_choices` what is on or off stays as in the last plan,
        if that had the same devices and steps: quicker, and the cost is convex in what is traded.

        Raises
        ------
        ConfigError
            Arrays of unequal shape, negative energy, prices with holes or above each other.
        """
        check_given(given, len(self.batteries))
        if not self.batteries and not given.needs:
            return rule_plan(given, None, self.limits)
        plan, is_best = self._solved(given, keep_choices)
        if plan is not None and is_best:
            return plan
        rule = rule_plan(given, self.battery, self.limits, self.batteries[1:])
        return rule if plan is None or rule.total_micro < plan.total_micro else plan

    def _solved(self, given: PlanInput, keep_choices: bool) -> tuple[Plan | None, bool]:
        """Return the solver's plan, None if it has none, and whether none is better."""
        problem = f"no plan within {self._time_limit_s:g} s"
        try:
            if self._model is None or self._model.core.steps != len(given.step_ms):
                self._model = _Model(self.batteries, len(given.step_ms), self._time_limit_s)
            plan = self._model.solve(given, self.limits, keep_choices)
            is_best = plan is not None and (plan.method == "lp" or self._model.proven)
        except SolverError as error:
            # The next plan gets a new one.
            self._model = None
            plan, is_best, problem = None, False, str(error)
        if plan is None and not self._is_ruled:
            log.warning("%s; planned by plain rules until the solver is well again", problem)
        self._is_ruled = plan is None
        return plan, is_best

    def reach_wh(self, plan: Plan, step: int) -> tuple[float, float]:
        """Return how much more than planned the home could take, and do without, in a step. [Wh]

        By its batteries from where they are, and by the loads that could be moved.
        """
        hours = float(plan.given.step_ms[step]) / HOUR_MS
        contents = (plan.given.stored_wh, *plan.given.more_stored_wh)
        more = less = 0.0
        for i, (battery, part) in enumerate(zip(self.batteries, plan.batteries, strict=True)):
            before = float(part.stored_wh[step - 1]) if step else contents[i]
            action = float(part.charge_wh[step] - part.discharge_wh[step])
            room = max(0.0, battery.max_uwh / MICRO - before) / (battery.charge_ppm / MICRO)
            there = max(0.0, before - battery.min_uwh / MICRO) * battery.discharge_ppm / MICRO
            more += max(0.0, min(battery.charge_limit_w * hours, room) - action)
            less += max(0.0, min(battery.discharge_limit_w * hours, there) + action)
        for need in plan.given.needs:
            least_wh = getattr(need, "least_w", 0) * hours
            up, down = reach_wh(need, step, float(plan.device_wh[need.name][step]), least_wh)
            more, less = more + up, less + down
        return more, less


class _Model:
    """The programme of a fixed number of steps, and its solvers."""

    def __init__(self, batteries: tuple[Battery, ...], steps: int, time_limit_s: float) -> None:
        self.core = Core(batteries, steps)
        self.proven = True
        self._time_limit_s = time_limit_s
        self._linear = Solver()
        self._choices: IntArray | None = None

    def solve(self, given: PlanInput, limits: Limits, keep_choices: bool) -> Plan | None:
        """Return the optimum or the best found, or None if there is none."""
        core = self.core
        columns, rows = core.column_data(given, limits), core.row_data(given)
        program = Program(columns, rows, core.matrix)
        blocks: list[Block] = []
        if given.needs:
            builder = Builder(core.columns, core.rows)
            blocks = [add_block(builder, need, given) for need in given.needs]
            if builder.column_count > core.columns:
                program = builder.program(columns, rows, core.matrix)
        if not any(block.switches for block in blocks):
            solution = self._linear.solve(program, self._time_limit_s)
            return self._plan(given, limits, blocks, solution, "lp") if solution else None
        solution = self._chosen(program, blocks, keep_choices)
        return self._plan(given, limits, blocks, solution, "milp") if solution else None

    def _chosen(self, program: Program, blocks: list[Block], keep_choices: bool) -> Solution | None:
        self.proven = True
        switches = Switches([group for block in blocks for group in block.switches])
        last = self._choices
        if keep_choices and last is not None and len(last) == len(switches.columns):
            kept = self._linear.solve(switches.fixed(program, last), self._time_limit_s)
            if kept is not None:
                return kept
        relaxed = self._linear.solve(program, self._time_limit_s)
        if relaxed is None:
            return None
        price = relaxed.price[: self.core.steps]
        suggested = [
            np.concatenate([block.suggest(relaxed.values, price, share) for block in blocks])
            for share in ON_SHARES
        ]
        search = Search(
            self._linear,
            program,
            switches,
            relaxed,
            max(GAP, RELATIVE_GAP * abs(relaxed.objective)),
            RUNS_MAX,
            self._time_limit_s,
        )
        found = search.found(suggested)
        self._choices = found.choices if found else None
        self.proven = found is not None and found.proven
        return found.solution if found else None

    def _plan(
        self,
        given: PlanInput,
        limits: Limits,
        blocks: list[Block],
        solution: Solution,
        method: str,
    ) -> Plan:
        core, steps = self.core, self.core.steps
        kinds = solution.values[: core.kinds * steps].reshape(core.kinds, steps) * 1000
        price = solution.price[:steps]
        if core.without_grid:
            price = price - self._surplus_price(given, solution)
        parts = tuple(
            BatteryPlan(
                kinds[core.kind(i, CHARGE)],
                kinds[core.kind(i, DISCHARGE)],
                kinds[core.kind(i, STORED)],
            )
            for i in range(len(core.batteries))
        )
        return priced(
            given,
            limits,
            core.batteries,
            parts,
            (kinds[IMPORT] + kinds[EXCESS], kinds[EXPORT], kinds[CURTAIL]),
            {
                need.name: block.energy_wh(solution.values)
                for need, block in zip(given.needs, blocks, strict=True)
            },
            price * MICRO,
            method,
        )

    def _surplus_price(self, given: PlanInput, solution: Solution) -> FloatArray:
        """Return what being allowed to charge is worth: one more kWh of surplus may be charged."""
        core, steps = self.core, self.core.steps
        storable = storable_wh(given)
        surplus = given.pv_wh > given.load_wh
        if core.shares:
            return np.where(surplus, solution.price[core.shared_row :][:steps], 0.0)
        only = core.without_grid[0]
        first = core.kind(only, CHARGE) * steps
        power_wh = core.batteries[only].charge_limit_w * given.step_ms / HOUR_MS
        bounded = surplus & (storable < power_wh)
        return np.where(bounded, solution.reduced[first : first + steps], 0.0)
