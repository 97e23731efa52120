"""Each seeded bug between the tiers is found by the simulator."""

import pytest

from tests.sim.tiers.mutants import MUTANTS, hunt

# Those that are found within a second and a half beside the contracts' compilation.
QUICK = {"M4 no signatures", "M5 any record", "F1 no signatures", "F2 any proof"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in MUTANTS],
)
def test_is_found(name):
    found = hunt(name)
    assert found is not None, f"{MUTANTS[name].seeds} seeds do not find {name!r}"


def test_the_quick_ones_are_named_right():
    assert MUTANTS.keys() >= QUICK
