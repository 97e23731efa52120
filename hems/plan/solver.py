"""HiGHS, kept warm: a programme like the last one starts from the last basis."""

from typing import Any, Final, NamedTuple

import numpy as np

from hems.civil import FloatArray, IntArray
from hems.plan.program import Matrix, Program

# Searches for a first solution, which these programmes have: half of the time for nothing.
_COSTLY: Final = (
    "mip_heuristic_run_feasibility_jump",
    "mip_heuristic_run_rins",
    "mip_heuristic_run_rens",
    "mip_heuristic_run_root_reduced_cost",
)


class Solution(NamedTuple):
    """Values and reduced costs of columns, prices of rows; `proven` to be the best, but the gap."""

    values: FloatArray
    reduced: FloatArray
    price: FloatArray
    objective: float
    proven: bool


class Solver:
    """One instance of HiGHS, for programmes of one shape or another.

    Parameters
    ----------
    whole : bool
        Whether it keeps to whole numbers where a programme wants them.
    relative_gap, absolute_gap : float
        With `whole`: how far from the best a solution may be, of the objective and in currency.
    """

    def __init__(
        self, whole: bool = False, relative_gap: float = 0.0, absolute_gap: float = 0.0
    ) -> None:
        # Its 20 MiB are loaded by the first home that has something to choose.
        import highspy

        self._highspy = highspy
        self._whole = whole
        self._highs: Any = highspy.Highs()
        self._highs.setOptionValue("output_flag", False)
        self._highs.setOptionValue("threads", 1)
        if whole:
            self._highs.setOptionValue("mip_rel_gap", relative_gap)
            self._highs.setOptionValue("mip_abs_gap", absolute_gap)
            for name in _COSTLY:
                self._highs.setOptionValue(name, False)
        self._passed: Matrix | None = None
        self._column_index: IntArray = np.zeros(0, np.int32)
        self._row_index: IntArray = np.zeros(0, np.int32)

    def solve(
        self, program: Program, time_limit_s: float, start: FloatArray | None = None
    ) -> Solution | None:
        """Return the best found, or None if there is none within the limit.

        `start` is a solution to begin with; only with `whole`.
        """
        highs = self._highs
        columns, rows, matrix = program
        passed = self._passed
        # A home's core keeps its matrix: the same object, most of the time.
        if passed is not None and (passed is matrix or passed.same_as(matrix)):
            highs.changeColsCost(len(columns.cost), self._column_index, columns.cost)
            highs.changeColsBounds(
                len(columns.cost), self._column_index, columns.lower, columns.upper
            )
            highs.changeRowsBounds(len(rows.lower), self._row_index, rows.lower, rows.upper)
        else:
            highs.passModel(self._model(program))
            self._column_index = np.arange(len(columns.cost), dtype=np.int32)
            self._row_index = np.arange(len(rows.lower), dtype=np.int32)
        self._passed = matrix
        if start is not None:
            begin = self._highspy.HighsSolution()
            begin.col_value = start
            highs.setSolution(begin)
        # The solver's limit counts its whole life, not each run.
        highs.setOptionValue("time_limit", highs.getRunTime() + time_limit_s)
        highs.run()
        optimal = highs.getModelStatus() == self._highspy.HighsModelStatus.kOptimal
        info = highs.getInfo()
        if not optimal and not (self._whole and info.primal_solution_status == 2):
            self._passed = None
            highs.clearModel()
            return None
        solution = highs.getSolution()
        return Solution(
            np.array(solution.col_value),
            np.array(solution.col_dual),
            np.array(solution.row_dual),
            float(info.objective_function_value),
            optimal,
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
        if self._whole:
            kinds = self._highspy.HighsVarType
            model.integrality_ = [
                kinds.kInteger if whole else kinds.kContinuous for whole in columns.whole
            ]
        return model
