"""Which switches to turn on: branch and bound over the linear programme, each node a warm run.

A switch is a column that is either zero or within bounds of its own. Without that condition the
programme says how good a plan can be at best. Where its solution has a switch in between, the plan
is sought with it on and with it off, the likelier first, depth first: neighbouring nodes differ in
one bound, and the last basis is almost theirs. Branches that cannot gain more than the gap over
the best plan found are left out, so that an ended search is a proof. All of it is counted in runs,
not in time: what a home does must not depend on how busy its machine is.
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
_FREE: Final = -1


class Switches(NamedTuple):
    """Columns that are zero, or `least` to `most` when on; shape (n,)."""

    columns: IntArray
    least: FloatArray
    most: FloatArray

    @classmethod
    def joined(cls, parts: "list[Switches]") -> "Switches":
        """Return several as one, in their order."""
        if not parts:
            return NONE
        return cls(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def fixed(self, program: Program, choices: IntArray) -> Program:
        """Return a programme with switches on (1) and off (0), others as they are."""
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

    def choices(self, values: FloatArray) -> IntArray:
        """Return which are on (1) and off (0) in a solution that leaves none undecided."""
        return (values[self.columns] >= self.least - TOLERANCE).astype(np.int64)


NONE: Final = Switches(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


class Found(NamedTuple):
    """The best choice found, its solution, and whether it is proven to be so, but the gap."""

    choices: IntArray
    solution: Solution
    proven: bool


def search(
    solver: Solver,
    program: Program,
    switches: Switches,
    relaxed: Solution,
    suggested: IntArray,
    gap: float,
    runs_max: int,
    time_limit_s: float,
) -> Found | None:
    """Return the best choice found within so many runs, or None if there was none.

    Parameters
    ----------
    relaxed : Solution
        Of the programme with all switches free.
    suggested : int array
        A choice to begin with: 1 on, 0 off.
    gap : float
        How far from the best a choice may be. [currency]
    runs_max : int
        Of the solver.
    time_limit_s : float
        For all of them.
    """
    ends_s = solver.run_time_s + time_limit_s
    free = np.where(program.columns.lower[switches.columns] > 0, 1, _FREE)
    best: tuple[IntArray, Solution] | None = None
    runs = 0

    def solve(choices: IntArray) -> Solution | None:
        nonlocal runs
        runs += 1
        left_s = max(0.0, ends_s - solver.run_time_s)
        return solver.solve(switches.fixed(program, choices), left_s)

    first = np.where(free == _FREE, suggested, free)
    solution = solve(first)
    if solution is not None:
        best = first, solution
    nodes: list[tuple[float, IntArray]] = [(relaxed.objective, free)]
    while nodes and runs < runs_max:
        bound, choices = nodes.pop()
        if best is not None and bound >= best[1].objective - gap:
            continue
        solution = relaxed if choices is free else solve(choices)
        if solution is None or (best is not None and solution.objective >= best[1].objective - gap):
            continue
        undecided = switches.undecided(solution.values)
        if len(undecided) == 0:
            best = switches.choices(solution.values), solution
            continue
        place, likely = _branch(switches, undecided, solution.values)
        for on in (not likely, likely):
            branch = choices.copy()
            branch[place] = on
            nodes.append((solution.objective, branch))
    if best is None:
        return None
    proven = all(bound >= best[1].objective - gap for bound, _ in nodes)
    # Once more with the whole choice made: with its prices of energy.
    solution = solve(best[0])
    return Found(best[0], solution, proven) if solution is not None else None


def _branch(switches: Switches, undecided: IntArray, values: FloatArray) -> tuple[int, bool]:
    """Return the switch to decide next, and whether it is likelier on.

    What is there only to choose by (starts of programmes) comes first: much follows from it.
    """
    now, least = values[switches.columns[undecided]], switches.least[undecided]
    rigid = switches.most[undecided] == least
    if rigid.any():
        return int(undecided[np.argmax(np.where(rigid, now / least, -1.0))]), True
    place = int(np.argmax(np.minimum(now, least - now)))
    return int(undecided[place]), bool(now[place] >= LIKELY_ON * least[place])
