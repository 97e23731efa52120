"""A generator's battery over a day (CE 7 to 11, η = 1, no limit of power), minute by minute.

Flows are known before they happen: the surplus of intervals, what the home keeps for itself, and
what is promised to others. The battery takes the surplus until it is full; the rest overflows to
the grid. `room` says how much more can be promised without anything being short.
"""

from typing import Final

import numpy as np

from hems.civil import IntArray
from study.ce.setting import DAY_MINUTES
from study.errors import InvariantError

# Beyond midnight, for promises that end after it.
AHEAD_MINUTES: Final = 512


def spread(energy_wh: int, minutes: int) -> IntArray:
    """Return energy evenly over minutes, as the contract divides it: up to each, rounded down."""
    up_to = energy_wh * np.arange(minutes + 1, dtype=np.int64) // minutes
    result: IntArray = np.diff(up_to)
    return result


class Store:
    """A battery, what flows in and out of it, and what it gives away because it is full.

    Parameters
    ----------
    capacity_wh : int
        It begins empty.
    minute : int
        When it begins, in minutes of the day.
    """

    def __init__(self, capacity_wh: int, minute: int = 0) -> None:
        self.capacity_wh = capacity_wh
        self.energy_wh = 0
        self.minute = minute
        self._known = minute
        self._flow = np.zeros(DAY_MINUTES + AHEAD_MINUTES, np.int64)
        self.overflow = np.zeros(DAY_MINUTES, np.int64)

    def add(self, start: int, end: int, energy_wh: int) -> None:
        """Let energy flow in, or out where negative, evenly. [Wh]"""
        self._known = max(self._known, end)
        flow = spread(abs(energy_wh), end - start)
        self._flow[start:end] += flow if energy_wh >= 0 else -flow

    def pass_to(self, minute: int) -> None:
        """Let time pass.

        Raises
        ------
        InvariantError
            More was promised than there is.
        """
        if minute <= self.minute:
            return
        level, lost = self._levels(self.minute, minute)
        if level.min() < 0:
            raise InvariantError(f"a battery at {level.min()} Wh: more was promised than there is")
        self.overflow[self.minute : minute] = np.diff(lost, prepend=0)
        self.energy_wh, self.minute = int(level[-1]), minute

    def room(self, start: int, end: int) -> int:
        """Return the most that can still flow out evenly from `start` to `end`. [Wh]"""
        level, _ = self._levels(self.minute, max(end, self._known))
        length = end - start
        after = level[start - self.minute :]
        shares = after[:length] * length // np.arange(1, length + 1)
        return max(0, int(min(shares.min(), after[length - 1 :].min())))

    def _levels(self, start: int, end: int) -> tuple[IntArray, IntArray]:
        """Return the state of charge after each minute, and what has overflowed by then. [Wh]"""
        free = self.energy_wh + np.cumsum(self._flow[start:end])
        lost = np.maximum.accumulate(np.maximum(free - self.capacity_wh, 0))
        return free - lost, lost
