"""Which switches to turn on: branch and bound over the linear programme, each node a warm run.

A switch is a column that is either zero or within bounds of its own. Without that condition the
programme says how good a plan can be at best. Where its solution has a switch in between, the plan
is sought with it on and with it off, the likelier first, depth first: neighbouring nodes differ in
one bound, and the last basis is almost theirs. Branches that cannot gain more than the gap over
the best plan found are left out, so that an ended search is a proof. A search that does not end
in half of its runs looks around the best plan instead: one switch turned, or two of a group
exchanged, those first whose reduced costs promise most. All of it is counted in runs, not in time:
what a home does must not depend on how busy its machine is.
"""

from typing import Final, NamedTuple

import numpy as np

from hems.civil import FloatArray, IntArray
from hems.plan.program import Program
from hems.plan.solver import Solution, Solver

# Of energies [kWh] and shares: what the solver's numbers may be off by.
TOLERANCE: Final = 1e-6
# From this share of its least on, a load is tried on before it is tried off.
LIKELY_ON: Final = 0.7
# A change that cannot gain more is not tried. [currency]
GAIN_MIN: Final = 1e-4
_FREE: Final = -1


class Group(NamedTuple):
    """Switches that can take each other's place: zero, or `least` to `most` when on; shape (n,)."""

    columns: IntArray
    least: FloatArray
    most: FloatArray


class Found(NamedTuple):
    """The best choice found, its solution, and whether it is proven to be so, but the gap."""

    choices: IntArray
    solution: Solution
    proven: bool


class Switches:
    """All switches of a programme, group by group; a choice has 1 for on and 0 for off for each."""

    def __init__(self, groups: list[Group]) -> None:
        self.columns, self.least, self.most = map(np.concatenate, zip(*groups, strict=True))
        self.groups = np.repeat(np.arange(len(groups)), [len(one.columns) for one in groups])
        # There only to choose by, as starts of programmes are.
        self.rigid = self.most == self.least

    def fixed(self, program: Program, choices: IntArray) -> Program:
        """Return a programme with switches on and off as chosen, others as they are."""
        lower, upper = program.columns.lower.copy(), program.columns.upper.copy()
        off, on = self.columns[choices == 0], choices == 1
        lower[off] = upper[off] = 0.0
        lower[self.columns[on]], upper[self.columns[on]] = self.least[on], self.most[on]
        return program._replace(columns=program.columns._replace(lower=lower, upper=upper))

    def undecided(self, values: FloatArray) -> IntArray:
        """Return the switches that are neither off nor on in a solution."""
        now = values[self.columns]
        found: IntArray = np.flatnonzero((now > TOLERANCE) & (now < self.least - TOLERANCE))
        return found

    def chosen(self, values: FloatArray) -> IntArray:
        """Return the choice that a solution with none undecided has made."""
        found: IntArray = (values[self.columns] >= self.least - TOLERANCE).astype(np.int64)
        return found

    def branch(self, undecided: IntArray, values: FloatArray) -> tuple[int, bool]:
        """Return the switch to decide next, and whether it is likelier on.

        What is there only to choose by comes first: much follows from it.
        """
        now, least = values[self.columns[undecided]], self.least[undecided]
        rigid = self.rigid[undecided]
        if rigid.any():
            return int(undecided[np.argmax(np.where(rigid, now / least, -1.0))]), True
        place = int(np.argmax(np.minimum(now, least - now)))
        return int(undecided[place]), bool(now[place] >= LIKELY_ON * least[place])

    def changes(self, choices: IntArray, reduced: FloatArray) -> list[tuple[float, list[int]]]:
        """Return switches to turn together, with the most it can gain [currency], best first.

        A cost that is convex falls by no more than its slope says. Of starts of a programme only
        one can be on.
        """
        slope = reduced[self.columns] * self.least
        gain = np.where(choices == 1, slope, -slope)
        found = [
            (float(gain[i]), [int(i)]) for i in np.flatnonzero(~self.rigid & (gain > GAIN_MIN))
        ]
        for group in range(int(self.groups[-1]) + 1):
            mine = self.groups == group
            on, off = np.flatnonzero(mine & (choices == 1)), np.flatnonzero(mine & (choices == 0))
            if self.rigid[mine].all() and len(on) != 1:
                continue
            both = gain[on][:, None] + gain[off][None, :]
            found += [
                (float(both[i, j]), [int(on[i]), int(off[j])])
                for i, j in zip(*np.nonzero(both > GAIN_MIN), strict=True)
            ]
        found.sort(key=lambda one: -one[0])
        return found


class Search:
    """One search, and what it has found so far.

    Parameters
    ----------
    relaxed : Solution
        Of the programme with all switches free.
    gap : float
        How far from the best a choice may be. [currency]
    runs_max : int
        Of the solver.
    time_limit_s : float
        For all of them.
    """

    def __init__(
        self,
        solver: Solver,
        program: Program,
        switches: Switches,
        relaxed: Solution,
        gap: float,
        runs_max: int,
        time_limit_s: float,
    ) -> None:
        self._solver = solver
        self._program = program
        self._switches = switches
        self._relaxed = relaxed
        self._gap = gap
        self._runs_left = runs_max
        self._ends_s = solver.run_time_s + time_limit_s
        self._best: Found | None = None

    def found(self, suggested: list[IntArray]) -> Found | None:
        """Return the best choice, or None if none was found. It begins with what is suggested."""
        free = np.where(
            self._program.columns.lower[self._switches.columns] > 0, np.int64(1), np.int64(_FREE)
        )
        for choices in suggested:
            if self._worth(self._relaxed.objective):
                self._try(np.where(free == _FREE, choices, free))
        proven = self._descend(free, self._runs_left // 2)
        if not proven:
            self._look_around()
        if self._best is None:
            return None
        # Once more with the whole choice made: with its prices of energy.
        choices = self._best.choices
        return Found(choices, self._solve(choices) or self._best.solution, proven)

    def _worth(self, bound: float) -> bool:
        """Tell whether what costs at least this may be better than the best by the gap."""
        return self._best is None or bound < self._best.solution.objective - self._gap

    def _solve(self, choices: IntArray) -> Solution | None:
        self._runs_left -= 1
        left_s = self._ends_s - self._solver.run_time_s
        if left_s <= 0:
            self._runs_left = 0
            return None
        return self._solver.solve(self._switches.fixed(self._program, choices), left_s)

    def _try(self, choices: IntArray) -> bool:
        """Solve with a whole choice; return whether it is the best so far."""
        solution = self._solve(choices)
        if solution is None or (
            self._best is not None and solution.objective >= self._best.solution.objective - 1e-9
        ):
            return False
        self._best = Found(choices, solution, False)
        return True

    def _descend(self, free: IntArray, runs_kept: int) -> bool:
        """Branch and bound until so many runs are left; return whether it ended."""
        nodes = [(self._relaxed.objective, free)]
        while nodes:
            bound, choices = nodes.pop()
            if not self._worth(bound):
                continue
            if self._runs_left <= runs_kept:
                return False
            solution = self._relaxed if choices is free else self._solve(choices)
            if solution is None or not self._worth(solution.objective):
                continue
            undecided = self._switches.undecided(solution.values)
            if len(undecided) == 0:
                self._best = Found(self._switches.chosen(solution.values), solution, False)
                continue
            place, likely = self._switches.branch(undecided, solution.values)
            for on in (not likely, likely):
                branch = choices.copy()
                branch[place] = on
                nodes.append((solution.objective, branch))
        return True

    def _look_around(self) -> None:
        """Turn switches of the best choice for as long as that makes it better."""
        better = self._best is not None
        while better and self._best is not None:
            better = False
            choices = self._best.choices
            for _, places in self._switches.changes(choices, self._best.solution.reduced):
                if self._runs_left <= 0:
                    return
                turned = choices.copy()
                turned[places] = 1 - turned[places]
                if self._try(turned):
                    better = True
                    break
