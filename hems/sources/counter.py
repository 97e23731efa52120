"""What a meter's register says, as energy per step: for sources that count instead of measure.

A register only grows. Where it does not, the meter was changed or began anew; where the time of a
reading is not later than the last one's, a clock was put back: it is left out until time has caught
up. Neither is energy; steps that are not covered are not known, and counting goes on from there.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np

from hems.civil import HOUR_MS, FloatArray
from hems.sensors import POWER_KW_MAX
from hems.sources.base import check_window

# A longer silence than this says how much was used, but not when.
SILENCE_STEPS_MAX: Final = 2.0


class Reading(NamedTuple):
    """A register's value at a moment. [ms, UTC; Wh since the meter began]"""

    at_ms: int
    counter_wh: float


class Counted(NamedTuple):
    """Energy per step, NaN where it is not known, shape (steps,) [Wh]; and what was wrong when.

    `faults` holds `reset`, `clock`, `jump` (more than any home takes) or `silence`, with the moment
    of the reading that showed it [ms].
    """

    energy_wh: FloatArray
    faults: list[tuple[str, int]]


def counted(readings: Iterable[Reading], start_ms: int, end_ms: int, step_ms: int) -> Counted:
    """Return the energy of the steps of `[start_ms, end_ms)`.

    Between two readings power is taken as constant; a step is known where readings cover all of
    it. Raises `ConfigError` for a window that cannot be, as `Source.window`.
    """
    steps = check_window(start_ms, end_ms, step_ms)
    edges = start_ms + step_ms * np.arange(steps + 1, dtype=np.int64)
    energy = np.zeros(steps)
    covered_ms = np.zeros(steps)
    faults: list[tuple[str, int]] = []
    last: Reading | None = None
    for reading in readings:
        fault = None if last is None else fault_of(last, reading, SILENCE_STEPS_MAX * step_ms)
        if fault is not None:
            faults.append((fault, reading.at_ms))
        elif last is not None:
            inside = np.clip(edges, last.at_ms, reading.at_ms)
            lengths = np.diff(inside)
            used = reading.counter_wh - last.counter_wh
            energy += used * lengths / (reading.at_ms - last.at_ms)
            covered_ms += lengths
        # What is heard of a time that was counted already would count it twice. All else, a new
        # register too, is where counting goes on from.
        if fault != "clock":
            last = reading
    return Counted(np.where(covered_ms == step_ms, energy, np.nan), faults)


def fault_of(last: Reading, reading: Reading, silence_ms: float) -> str | None:
    """Return why the energy between two readings cannot be had, None if it can; see `Counted`.

    `silence_ms` is the longest time between them that is none.
    """
    elapsed_ms = reading.at_ms - last.at_ms
    if elapsed_ms <= 0:
        return "clock"
    used_wh = reading.counter_wh - last.counter_wh
    if used_wh < 0:
        return "reset"
    if used_wh > POWER_KW_MAX * 1000 * elapsed_ms / HOUR_MS:
        return "jump"
    return "silence" if elapsed_ms > silence_ms else None
