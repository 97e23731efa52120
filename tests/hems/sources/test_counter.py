"""A register's readings as energy: exact where it grows, unknown where it does not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.civil import MINUTE_MS
from hems.errors import ConfigError
from hems.sources.counter import Counted, Reading, counted

STEP = 15 * MINUTE_MS


def count(readings: list[tuple[int, float]], steps: int) -> Counted:
    return counted([Reading(at * MINUTE_MS, wh) for at, wh in readings], 0, steps * STEP, STEP)


@given(st.lists(st.tuples(st.integers(1, 25), st.integers(0, 500)), min_size=1, max_size=40))
def test_what_the_register_grew_by_is_the_energy(parts: list[tuple[int, int]]) -> None:
    readings, at, wh = [(0, 0.0)], 0, 0
    for minutes, used in parts:
        at, wh = at + minutes, wh + used
        readings.append((at, float(wh)))
    steps = -(-at // 15)
    got = count(readings, steps)
    assert got.faults == []
    assert np.flatnonzero(np.isnan(got.energy_wh)).tolist() == ([steps - 1] if at % 15 else [])
    if at % 15 == 0:
        assert got.energy_wh.sum() == pytest.approx(wh)


def test_power_is_constant_between_readings() -> None:
    got = count([(0, 100.0), (10, 200.0), (30, 400.0)], 2)
    assert got.energy_wh.tolist() == pytest.approx([150.0, 150.0])


@pytest.mark.parametrize(
    ("readings", "fault", "expected"),
    [
        ([(0, 900), (15, 950), (30, 20), (45, 60)], ("reset", 30), [50, None, 40]),
        ([(0, 0), (15, 50), (30, 9e6), (45, 9e6 + 40)], ("jump", 30), [50, None, 40]),
        ([(0, 0), (15, 50), (10, 55), (30, 90), (45, 95)], ("clock", 10), [50, 40, 5]),
        ([(0, 0), (15, 50), (46, 90), (60, 95)], ("silence", 46), [50, None, None, None]),
    ],
)
def test_what_is_no_energy_is_not_known(
    readings: list[tuple[int, float]], fault: tuple[str, int], expected: list[float | None]
) -> None:
    got = count(readings, len(expected))
    assert got.faults == [(fault[0], fault[1] * MINUTE_MS)]
    for ours, wanted in zip(got.energy_wh.tolist(), expected, strict=True):
        assert np.isnan(ours) if wanted is None else ours == pytest.approx(wanted)


def test_windows_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="whole number of steps"):
        counted([], 0, STEP + 1, STEP)
    assert np.isnan(count([], 3).energy_wh).all()
