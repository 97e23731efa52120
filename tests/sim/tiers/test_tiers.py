"""Runs of regions and a main chain, and that one seed is one run."""

import re

import pytest

from tests.sim.__main__ import main
from tests.sim.tiers.faults import CHAIN_NAMES, NAMES, grid_faults_of
from tests.sim.tiers.grid import Grid, run_grid

# Where an object lies is no part of a run.
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def trace(seed):
    """Everything that is put into the queue, in order."""
    grid = Grid(seed, 4, 2, grid_faults_of("any", seed))
    lines = []
    push = grid.push

    def recording(delay_ms, number, slot, sender, what):
        shown = what if isinstance(what, tuple) else (what,)
        lines.append(
            (grid.now_ms + delay_ms, number, slot, sender, ADDRESS.sub("", repr(shown[:1])))
        )
        push(delay_ms, number, slot, sender, what)

    grid.push = recording  # type: ignore[method-assign]
    return grid.run(), lines


@pytest.mark.slow
def test_a_region_is_anchored_and_knows_it():
    result = run_grid(1, 4, 1, faults="cuts,reorder")
    assert result.violation is None
    assert result.closed >= result.anchored >= 4
    assert result.slots


@pytest.mark.slow
def test_many_faults():
    for seed in range(1, 4):
        assert run_grid(seed).violation is None


@pytest.mark.slow
def test_one_seed_is_one_run():
    first, second = trace(3), trace(3)
    assert first == second
    assert first[0].anchored


@pytest.mark.parametrize("name", [*NAMES, *CHAIN_NAMES])
def test_a_named_fault_is_switched_on(name):
    nothing, faults = grid_faults_of("lazy", 1), grid_faults_of(name, 1)
    if name in NAMES:
        names = [*NAMES, "drop", "slow"]
        names.remove("loss")
        on = [one for one in names if getattr(faults, one) != getattr(nothing, one)]
        assert on
        assert not faults.chain(1).lazy
    else:
        assert not any(getattr(faults, one) for one in NAMES if one != "loss")
        assert not faults.drop
        assert vars(faults.chain(1)) != vars(grid_faults_of("cuts", 1).chain(1))


@pytest.mark.parametrize(("options", "says"), [
    (["--faults", "gremlins"], "'gremlins' is no fault; it must be any alone, or one of cuts,"),
    (["--nodes", "3"], "a region has 4 authorities or more"),
    (["--regions", "0"], "a whole number from 1 on"),
    (["--regions", "17"], "at most 16"),
    (["--mutant", "no lock"], "'no lock' is none; they are: "),
])  # fmt: skip
def test_what_cannot_be_is_said_so(options, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--tiers", *options])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
