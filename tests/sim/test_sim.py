"""Runs of many seeds; that one seed is one run; and seeds that once found a bug."""

import pytest

from tests.sim.world import World, run_seed

# Runs that break if a bug of the past comes back (the mutant of that name is the bug).
REGRESSIONS = [
    (38, 4, "duel"),  # parent unproved after restart
    (42, 4, "duel"),  # way forgotten on restart
    (3466, 4, "duel"),
    (239, 4, "chaos"),  # peers not renumbered
    (395, 4, "chaos"),
]


@pytest.mark.parametrize("n", [4, 7, 10])
def test_chaos(n):
    for seed in range(1, 9):
        assert run_seed(seed, n, kind="chaos").violation is None


@pytest.mark.parametrize(("n", "seeds"), [(4, 150), (7, 50), (10, 20)])
def test_duels(n, seeds):
    for seed in range(1, seeds + 1):
        assert run_seed(seed, n, kind="duel").violation is None


@pytest.mark.parametrize(("seed", "n", "kind"), REGRESSIONS)
def test_regressions(seed, n, kind):
    assert run_seed(seed, n, kind=kind).violation is None


def test_sizes_that_are_not_3f_plus_1():
    for n in (1, 2, 3, 5, 6):
        for seed in range(1, 6):
            assert run_seed(seed, n).violation is None


def trace(seed, n):
    """Every message of a run, in order, with when it arrives and where."""
    world = World(seed, n)
    lines = []
    deliver = world.deliver

    def recording(a, b, message, delay_ms):
        lines.append((world.now_ms + delay_ms, a, b, repr(message)))
        deliver(a, b, message, delay_ms)

    world.deliver = recording  # type: ignore[method-assign]
    result = world.run()
    return result, lines


def test_one_seed_is_one_run():
    first, first_lines = trace(3, 4)
    second, second_lines = trace(3, 4)
    assert first == second
    assert first_lines == second_lines
    assert trace(4, 4)[1] != first_lines


@pytest.mark.slow
@pytest.mark.parametrize(("n", "kind", "seeds"), [
    (4, "duel", 4_000), (7, "duel", 1_000), (10, "duel", 400), (4, "chaos", 400),
    (7, "chaos", 150), (10, "chaos", 80), (16, "chaos", 10),
])  # fmt: skip
def test_thousands(n, kind, seeds):
    for seed in range(10_001, 10_001 + seeds):
        assert run_seed(seed, n, kind=kind).violation is None
