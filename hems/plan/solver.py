"""HiGHS, kept warm: a programme like the last one starts from the last basis."""

from typing import Any, Final, NamedTuple

import numpy as np

from hems.civil import FloatArray
from hems.errors import SolverError
from hems.plan.program import Columns, Program, Rows

# The simplex method need not shake costs so as not to go in circles: acting early breaks ties
# already, and to undo the shaking takes a third as many steps again.
_OPTIONS: Final = {
    "output_flag": False,
    "threads": 1,
    "dual_simplex_cost_perturbation_multiplier": 0.0,
}


class Solution(NamedTuple):
    """Values and reduced costs of columns, prices of rows."""

    values: FloatArray
    reduced: FloatArray
    price: FloatArray
    objective: float


class Solver:
    """One instance of HiGHS, for linear programmes of one shape or another.

    Raises `SolverError` if it cannot be loaded.
    """

    def __init__(self) -> None:
        # Its 20 MiB are loaded by the first home that has something to choose.
        try:
            import highspy
        # A library built for another machine raises OSError.
        except (ImportError, OSError) as error:
            raise SolverError(f"highspy cannot be loaded: {error}") from error

        self._highspy = highspy
        self._highs: Any = highspy.Highs()
        for name, value in _OPTIONS.items():
            self._highs.setOptionValue(name, value)
        self._passed: Program | None = None

    @property
    def run_time_s(self) -> float:
        """How long it has run in all its life."""
        return float(self._highs.getRunTime())

    def solve(self, program: Program, time_limit_s: float) -> Solution | None:
        """Return the optimum, or None if there is none within the limit.

        Raises
        ------
        SolverError
            It raised, or what it calls an optimum are no numbers. It must not be used again.
        """
        try:
            solution = self._run(program, time_limit_s)
        # Whatever the library raises: no home goes without a plan for it.
        except Exception as error:
            raise SolverError(f"HiGHS failed: {type(error).__name__}: {error}") from error
        if solution is not None and not all(np.isfinite(part).all() for part in solution):
            raise SolverError("HiGHS answers an optimum that is no numbers")
        return solution

    def _run(self, program: Program, time_limit_s: float) -> Solution | None:
        highs, passed = self._highs, self._passed
        # A home's core keeps its matrix: the same object, most of the time.
        if passed is not None and (
            passed.matrix is program.matrix or passed.matrix.same_as(program.matrix)
        ):
            self._pass_columns(passed.columns, program.columns)
            self._pass_rows(passed.rows, program.rows)
        else:
            highs.passModel(self._model(program))
        self._passed = program
        # The solver's limit counts its whole life, not each run.
        highs.setOptionValue("time_limit", highs.getRunTime() + time_limit_s)
        highs.run()
        status, statuses = highs.getModelStatus(), self._highspy.HighsModelStatus
        if status == statuses.kInfeasible:
            # Too many switches on; the basis is as good as any for the next.
            return None
        if status != statuses.kOptimal:
            self._passed = None
            highs.clearModel()
            return None
        solution = highs.getSolution()
        return Solution(
            np.array(solution.col_value),
            np.array(solution.col_dual),
            np.array(solution.row_dual),
            float(highs.getObjectiveValue()),
        )

    def _pass_columns(self, old: Columns, new: Columns) -> None:
        """Tell what has changed: every call costs as much as some steps of the simplex method."""
        changed = np.flatnonzero(old.cost != new.cost)
        if len(changed):
            self._highs.changeColsCost(len(changed), changed.astype(np.int32), new.cost[changed])
        changed = np.flatnonzero((old.lower != new.lower) | (old.upper != new.upper))
        if len(changed):
            self._highs.changeColsBounds(
                len(changed), changed.astype(np.int32), new.lower[changed], new.upper[changed]
            )

    def _pass_rows(self, old: Rows, new: Rows) -> None:
        changed = np.flatnonzero((old.lower != new.lower) | (old.upper != new.upper))
        if len(changed):
            self._highs.changeRowsBounds(
                len(changed), changed.astype(np.int32), new.lower[changed], new.upper[changed]
            )

    def _model(self, program: Program) -> Any:
        columns, rows, matrix = program
        model = self._highspy.HighsLp()
        model.num_col_, model.num_row_ = len(columns.cost), len(rows.lower)
        model.col_cost_ = columns.cost
        model.col_lower_, model.col_upper_ = columns.lower, columns.upper
        model.row_lower_, model.row_upper_ = rows.lower, rows.upper
        model.a_matrix_.format_ = self._highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = matrix.starts
        model.a_matrix_.index_ = matrix.rows
        model.a_matrix_.value_ = matrix.value
        return model
