"""Runs of many seeds, and that one seed is one run."""

import pytest

from tests.sim.world import World, run_seed


@pytest.mark.parametrize("n", [4, 7, 10])
def test_chaos(n):
    for seed in range(1, 5):
        assert run_seed(seed, n, faults="chaos").violation is None


@pytest.mark.parametrize(("n", "seeds"), [(4, 40), (7, 10), (10, 5)])
def test_duels(n, seeds):
    for seed in range(1, seeds + 1):
        assert run_seed(seed, n, faults="duel").violation is None


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
