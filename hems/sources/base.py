"""What a home measured: the interface, and the shared body of sources that know whole days.

A `Source` answers one question: how much load and PV energy fell into each step of a window of
market time. It is asked for the past (history for the forecast) and, when a slot's delivery has
ended, for that slot (what the meter reads). Energy is whole watt-hours per step, cut from one
running total per civil day, so steps of any length add up to the same day.
"""

import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from datetime import tzinfo
from typing import Final, NamedTuple, Protocol

import numpy as np

from hems import civil
from hems.civil import DAY_MS, BoolArray, IntArray
from hems.errors import ConfigError

WINDOW_STEPS_MAX: Final = 40_000
DAYS_CACHED_MAX: Final = 40

MICRO: Final = 1_000_000


class Measurements(NamedTuple):
    """Load and PV of a window, one element per step. Where `known` is False both are 0."""

    load_wh: IntArray
    pv_wh: IntArray
    known: BoolArray


class Source(Protocol):
    """Where a home's measurements come from.

    A live source is asked the same way: units are its own matter (whole watt-hours leave it), and
    what it has not heard of, or not lately enough, is not `known`.
    """

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of `[start_ms, end_ms)`, UTC, a whole number of them.

        Raises
        ------
        ConfigError
            The window is empty, too long, or not a whole number of steps.
        """


class DayEnergy(NamedTuple):
    """One civil day on its wall clock, in equal steps. [micro-watt-hours per step]

    Micro-watt-hours, so that 2.2758 kWh an hour or a twelfth of 425 Wh are still integers.
    """

    load_uwh: IntArray
    pv_uwh: IntArray
    known: BoolArray


class _Day(NamedTuple):
    start_ms: int
    end_ms: int
    atom_ms: int
    load_uwh: IntArray
    pv_uwh: IntArray
    unknown: IntArray


class DailySource(ABC):
    """A source that can say for any civil day what happened on it.

    Subclasses give `day_energy`; here a day is laid over UTC (of 23 to 25 hours: the wall clock's
    skipped hour is left out, its repeated hour used twice) and cut into the steps asked for, power
    being constant inside a step of the source.
    """

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self._days: OrderedDict[int, _Day] = OrderedDict()

    @abstractmethod
    def day_energy(self, day: int) -> DayEnergy:
        """Return the energy of a local date (days since 1970-01-01)."""

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of `[start_ms, end_ms)`; see `Source`."""
        steps = check_window(start_ms, end_ms, step_ms)
        edges = start_ms + step_ms * np.arange(steps + 1, dtype=np.int64)
        load_wh = np.zeros(steps, np.int64)
        pv_wh = np.zeros(steps, np.int64)
        unknown = np.zeros(steps, np.int64)
        number = civil.day_of(start_ms, self.zone)
        while True:
            day = self._laid_out(number)
            low = max(0, (day.start_ms - start_ms) // step_ms)
            high = min(steps, -((start_ms - day.end_ms) // step_ms))
            if high > low:
                cuts = np.clip(edges[low : high + 1], day.start_ms, day.end_ms) - day.start_ms
                load_wh[low:high] += np.diff(_running_wh(day.load_uwh, cuts, day.atom_ms))
                pv_wh[low:high] += np.diff(_running_wh(day.pv_uwh, cuts, day.atom_ms))
                first, last = cuts[:-1] // day.atom_ms, -(-cuts[1:] // day.atom_ms)
                unknown[low:high] += day.unknown[last] - day.unknown[first]
            if day.end_ms >= end_ms:
                break
            number += 1
        known = unknown == 0
        load_wh[~known] = 0
        pv_wh[~known] = 0
        return Measurements(load_wh, pv_wh, known)

    def _laid_out(self, number: int) -> _Day:
        day = self._days.get(number)
        if day is None:
            day = self._days[number] = self._lay_out(number)
            if len(self._days) > DAYS_CACHED_MAX:
                self._days.popitem(last=False)
        else:
            self._days.move_to_end(number)
        return day

    def _lay_out(self, number: int) -> _Day:
        energy = self.day_energy(number)
        start_ms = civil.day_start_ms(number, self.zone)
        end_ms = civil.day_start_ms(number + 1, self.zone)
        step_ms = DAY_MS // len(energy.load_uwh)
        atom_ms = math.gcd(step_ms, end_ms - start_ms)
        moments = np.arange(start_ms, end_ms, atom_ms, dtype=np.int64)
        local_ms = moments + civil.offsets(moments, self.zone)
        # The remainder matters only where clocks went back across midnight (Newfoundland, to 2011).
        place = (local_ms - number * DAY_MS) // step_ms % len(energy.load_uwh)
        share = step_ms // atom_ms
        return _Day(
            start_ms,
            end_ms,
            atom_ms,
            _totals(energy.load_uwh[place] // share),
            _totals(energy.pv_uwh[place] // share),
            _totals((~energy.known[place]).astype(np.int64)),
        )


def check_window(start_ms: int, end_ms: int, step_ms: int) -> int:
    """Return the number of steps of a window. Raises `ConfigError`, see `Source.window`."""
    if step_ms <= 0 or end_ms <= start_ms or (end_ms - start_ms) % step_ms:
        raise ConfigError(
            f"a window is a positive whole number of steps, not {end_ms - start_ms} ms "
            f"in steps of {step_ms} ms"
        )
    steps = (end_ms - start_ms) // step_ms
    if steps > WINDOW_STEPS_MAX:
        raise ConfigError(f"a window has at most {WINDOW_STEPS_MAX} steps, not {steps}")
    return steps


def _totals(values: IntArray) -> IntArray:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))


def _running_wh(totals_uwh: IntArray, cuts_ms: IntArray, atom_ms: int) -> IntArray:
    """Return the day's running total at some moments, rounded to the watt-hour."""
    place, rest_ms = np.divmod(cuts_ms, atom_ms)
    following = np.minimum(place + 1, len(totals_uwh) - 1)
    inside = (totals_uwh[following] - totals_uwh[place]) * rest_ms // atom_ms
    total: IntArray = (totals_uwh[place] + inside + MICRO // 2) // MICRO
    return total
