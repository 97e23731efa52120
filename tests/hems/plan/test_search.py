"""The search for what is on and off, against trying everything."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hems.devices.needs import Heat, Job, Need, Run, Starts, Window
from hems.plan import Limits
from hems.plan.blocks import add_block
from hems.plan.program import Builder, Core, Program
from hems.plan.search import Found, Search, Switches
from hems.plan.solver import Solver
from tests.hems.plan.test_planner import IDEAL, given_of

STEPS = 4
GAP = 1e-4


def needs_of(rng: np.random.Generator) -> list[Need]:
    starts = np.eye(3, STEPS) * 900.0 + np.eye(3, STEPS, 1) * 300.0
    energy = float(rng.uniform(500, 2500))
    needs: list[Need] = [
        Job("car", (Window(energy, energy + 700, np.full(STEPS, 1500.0)),), least_w=700),
        Run("washer", (Starts(np.arange(3), starts),)),
        Heat(
            "heat",
            np.full(STEPS, 2000.0),
            800,
            np.full(STEPS, 0.9),
            np.full(STEPS, 0.002),
            np.full(STEPS, float(rng.uniform(0, 2))),
            float(rng.uniform(19, 22)),
            20.0,
            22.0,
            np.full(STEPS, 1e6),
        ),
    ]
    return [need for need in needs if rng.random() < 0.6] or needs[:1]


def programme(seed: int) -> tuple[Program, Switches]:
    rng = np.random.default_rng(seed)
    prices = list(rng.uniform(150_000, 600_000, STEPS))
    day = given_of(
        list(rng.uniform(0, 500, STEPS)),
        list(rng.uniform(0, 1500, STEPS)),
        prices,
        stored_wh=800,
    )
    core = Core((IDEAL,), STEPS)
    builder = Builder(core.columns, core.rows)
    blocks = [add_block(builder, need, day) for need in needs_of(rng)]
    switches = Switches([group for block in blocks for group in block.switches])
    columns, rows = core.column_data(day, Limits()), core.row_data(day)
    return builder.program(columns, rows, core.matrix), switches


def found(program: Program, switches: Switches, runs_max: int) -> tuple[Found | None, float]:
    solver = Solver()
    relaxed = solver.solve(program, 60.0)
    assert relaxed is not None
    search = Search(solver, program, switches, relaxed, GAP, runs_max, 60.0)
    return search.found([np.zeros(len(switches.columns), np.int64)]), relaxed.objective


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**32))
def test_it_ends_with_what_trying_everything_finds(seed: int) -> None:
    program, switches = programme(seed)
    best, bound = found(program, switches, 10_000)
    solver, tried = Solver(), []
    for choices in itertools.product((0, 1), repeat=len(switches.columns)):
        solution = solver.solve(switches.fixed(program, np.array(choices)), 60.0)
        if solution is not None:
            tried.append(solution.objective)
    assert best is not None
    assert best.proven
    assert bound - 1e-7 <= min(tried) <= best.solution.objective + 1e-7
    assert best.solution.objective <= min(tried) + GAP + 1e-7
    assert len(switches.undecided(best.solution.values)) == 0


@pytest.mark.parametrize("seed", range(4))
def test_out_of_runs_it_has_a_choice_and_says_that_it_is_not_proven(seed: int) -> None:
    program, switches = programme(seed)
    proven, bound = found(program, switches, 10_000)
    assert proven is not None
    costs = []
    for runs_max in (1, 4, 12, 40):
        best, _ = found(program, switches, runs_max)
        assert best is not None
        assert best.proven <= (best.solution.objective <= proven.solution.objective + GAP + 1e-7)
        assert len(switches.undecided(best.solution.values)) == 0
        costs.append(best.solution.objective)
    # Nothing on at all, to begin with, and that is dear.
    assert costs[0] > costs[-1] >= bound - 1e-7


def test_out_of_time_it_has_the_best_so_far() -> None:
    program, switches = programme(3)
    solver = Solver()
    relaxed = solver.solve(program, 60.0)
    assert relaxed is not None
    search = Search(solver, program, switches, relaxed, GAP, 10_000, 60.0)
    first = np.zeros(len(switches.columns), np.int64)
    assert search._try(first)
    search._ends_s = 0.0
    best = search.found([first])
    assert best is not None
    assert not best.proven
    assert best.choices.tolist() == first.tolist()


def test_a_change_promises_no_less_than_it_gains() -> None:
    program, switches = programme(3)
    solver = Solver()
    best, _ = found(program, switches, 4)
    assert best is not None
    changes = switches.changes(best.choices, best.solution.reduced)
    assert [gain for gain, _ in changes] == sorted((gain for gain, _ in changes), reverse=True)
    for gain, places in changes:
        turned = best.choices.copy()
        turned[places] = 1 - turned[places]
        solution = solver.solve(switches.fixed(program, turned), 60.0)
        if solution is not None:
            assert best.solution.objective - solution.objective <= gain + 1e-6


def test_what_cannot_be_leaves_the_solver_as_good_as_before() -> None:
    program, switches = programme(3)
    solver = Solver()
    relaxed = solver.solve(program, 60.0)
    runs = switches.rigid
    assert runs.sum() == 3
    # A programme cannot start three times.
    assert solver.solve(switches.fixed(program, runs.astype(np.int64)), 60.0) is None
    again = solver.solve(program, 60.0)
    assert relaxed is not None
    assert again is not None
    assert again.objective == pytest.approx(relaxed.objective)
