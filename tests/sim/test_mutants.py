"""Each seeded bug is found by the simulator."""

import pytest

from tests.sim.mutants import MUTANTS, hunt

# Those that take more than a second or two.
RARE = {
    "no lock",
    "stale proof unlocks",
    "no proof unlocks",
    "lock forgotten on restart",
    "way forgotten on restart",
    "peers not renumbered",
    "any time is timely",
    "evidence never proposed",
    "time not monotone",
    "state root unchecked",
    "prevote unchecked",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in RARE else []) for name in MUTANTS],
)
def test_is_found(name):
    found = hunt(name)
    assert found is not None, f"{MUTANTS[name].seeds} seeds do not find {name!r}"


def test_the_rare_ones_are_named_right():
    assert MUTANTS.keys() >= RARE
