"""What each kind of movable load adds to the programme, and how it is read back.

Every block takes energy out of the balance rows. None can make the programme infeasible: what a
window misses, and every degree outside the band, has a column of its own with a price
(`hems.plan.given`). Loads that are on or off have `switches`, and `suggest`
makes a choice for them out of the programme without that condition and the prices it found.
"""

import math
from typing import Final, NamedTuple, Protocol

import numpy as np

from hems.civil import HOUR_MS, BoolArray, FloatArray, IntArray
from hems.devices import MICRO
from hems.devices.needs import Adjust, Heat, Job, Need, Run, Window
from hems.plan.given import SHORT_FACTOR, PlanInput, dearest_micro_per_kwh
from hems.plan.program import DELAY_COST, Builder
from hems.plan.search import Group

# Pieces of the quadratic disutility on either side of the nominal power.
PIECES: Final = 4
NOTHING: Final = np.zeros(0, np.int64)


class Block(Protocol):
    """One device's part of a programme."""

    # What of it is on or off, in order.
    switches: list[Group]

    def energy_wh(self, values: FloatArray) -> FloatArray:
        """Return what the device takes in each step, of a solution. [Wh]"""
        ...

    def suggest(self, values: FloatArray, price: FloatArray, on_share: float) -> IntArray:
        """Return 0 or 1 for each switch, near a solution and cheap at these prices.

        From `on_share` of its least on, what is in between is on.
        """
        ...


def add_block(builder: Builder, need: Need, given: PlanInput) -> Block:
    """Add a device to a programme."""
    match need:
        case Job():
            return JobBlock(builder, need, given)
        case Run():
            return RunBlock(builder, need, given)
        case Heat():
            return HeatBlock(builder, need, given)
        case Adjust():
            return AdjustBlock(builder, need, given)


def _add_on(
    builder: Builder, energy: IntArray, room: FloatArray, least: FloatArray, forced: int
) -> IntArray:
    """Add `least * on <= energy <= room * on`; return the columns `on`, the first ones fixed."""
    count = len(energy)
    lower = np.where(np.arange(count) < forced, 1.0, 0.0)
    on = builder.add_columns(count, 0.0, lower, 1.0)
    over = builder.add_rows(count, -math.inf, 0.0)
    builder.put(over, energy, 1.0)
    builder.put(over, on, -room)
    under = builder.add_rows(count, 0.0, math.inf)
    builder.put(under, energy, 1.0)
    builder.put(under, on, -least)
    return on


class _Switched(NamedTuple):
    """A window's steps that are on or off, shape (n,); energies in kWh."""

    window: Window
    steps: IntArray
    energy: IntArray
    room: FloatArray
    least: FloatArray
    length_ms: IntArray
    forced: int


class JobBlock:
    """Energy in windows: a column for each step with room, a row for each window.

    A minimum run of L: a start `v[t]` is at least `on[t] - on[t-1]`, and the starts since L ago
    are at most `on[t]`.
    """

    def __init__(self, builder: Builder, need: Job, given: PlanInput) -> None:
        self._need = need
        self._count = len(given.step_ms)
        self._places: list[tuple[IntArray, IntArray]] = []
        self._switched: list[_Switched] = []
        self.switches: list[Group] = []
        short_cost = SHORT_FACTOR * dearest_micro_per_kwh(given) / MICRO
        for number, window in enumerate(need.windows):
            steps = np.flatnonzero(window.room_wh > 0)
            room = window.room_wh[steps] / 1000
            energy = builder.add_columns(len(steps), DELAY_COST * steps.astype(float), 0.0, room)
            builder.put(steps, energy, -1.0)
            short = builder.add_columns(1, short_cost)
            wanted = builder.add_rows(1, window.energy_wh / 1000, math.inf)
            builder.put(np.repeat(wanted, len(steps)), energy, 1.0)
            builder.put(wanted, short, 1.0)
            most = builder.add_rows(1, -math.inf, max(window.most_wh, window.energy_wh) / 1000)
            builder.put(np.repeat(most, len(steps)), energy, 1.0)
            self._places.append((steps, energy))
            if need.least_w and len(steps):
                length_ms = given.step_ms[steps]
                least = np.minimum(need.least_w * length_ms / HOUR_MS / 1000, room)
                was_on = number == 0 and need.on_ms > 0 and steps[0] == 0
                forced = self._forced(steps, least, length_ms) if was_on else 0
                if need.run_ms_min:
                    on = _add_on(builder, energy, room, least, forced)
                    self._add_runs(builder, on, length_ms, was_on)
                    self.switches.append(Group(on, np.ones(len(on)), np.ones(len(on))))
                else:
                    self.switches.append(Group(energy, least, room))
                self._switched.append(
                    _Switched(window, steps, energy, room, least, length_ms, forced)
                )

    def _forced(self, steps: IntArray, least: FloatArray, length_ms: IntArray) -> int:
        """Return how many steps a run already begun must go on, as far as its energy is wanted."""
        rest_ms, kwh, count = self._need.run_ms_min - self._need.on_ms, 0.0, 0
        while rest_ms > 0 and count < len(steps) and steps[count] == count:
            kwh += least[count]
            if kwh > self._need.windows[0].most_wh / 1000:
                break
            rest_ms -= int(length_ms[count])
            count += 1
        return count

    def _add_runs(self, builder: Builder, on: IntArray, length_ms: IntArray, was_on: bool) -> None:
        count = len(on)
        start = builder.add_columns(count, 0.0, 0.0, 1.0)
        lower = np.where((np.arange(count) == 0) & was_on, -1.0, 0.0)
        first = builder.add_rows(count, lower, math.inf)
        builder.put(first, start, 1.0)
        builder.put(first, on, -1.0)
        builder.put(first[1:], on[:-1], 1.0)
        held = builder.add_rows(count, 0.0, math.inf)
        builder.put(held, on, 1.0)
        begins_ms = np.cumsum(length_ms) - length_ms
        since_ms = begins_ms[:, None] - begins_ms[None, :]
        row, column = np.nonzero((since_ms >= 0) & (since_ms < self._need.run_ms_min))
        builder.put(held[row], start[column], -1.0)

    def energy_wh(self, values: FloatArray) -> FloatArray:
        """See `Block`."""
        taken = np.zeros(self._count)
        for steps, energy in self._places:
            taken[steps] += values[energy] * 1000
        return taken

    def suggest(self, values: FloatArray, price: FloatArray, on_share: float) -> IntArray:
        """See `Block`. As the solution, until the energy fits; runs too short are made longer."""
        found = []
        for switched in self._switched:
            energy = values[switched.energy]
            on = energy >= switched.least * on_share
            on[: switched.forced] = True
            cost = price[switched.steps]
            wanted = switched.window.energy_wh / 1000
            for place in np.argsort(cost, kind="stable"):
                if switched.room[on].sum() >= wanted - 1e-9:
                    break
                on[place] = True
            on = self._lengthened(switched, on)
            most = max(switched.window.most_wh / 1000, wanted)
            if switched.least[on].sum() > most:
                on = self._one_run(switched, cost, wanted)
            found.append(on.astype(np.int64))
        return np.concatenate([NOTHING, *found])

    def _lengthened(self, switched: _Switched, on: BoolArray) -> BoolArray:
        if not self._need.run_ms_min:
            return on
        on = on.copy()
        place = switched.forced
        while place < len(on):
            if on[place] and not (place and on[place - 1]):
                run_ms, end = 0, place
                while end < len(on) and (run_ms < self._need.run_ms_min or on[end]):
                    on[end] = True
                    run_ms += int(switched.length_ms[end])
                    end += 1
                place = end
            else:
                place += 1
        return on

    def _one_run(self, switched: _Switched, cost: FloatArray, wanted: float) -> BoolArray:
        """Return the cheapest stretch of steps that holds the energy."""
        held = np.concatenate((np.zeros(1), np.cumsum(switched.room)))
        paid = np.concatenate((np.zeros(1), np.cumsum(switched.room * cost)))
        ends = np.searchsorted(held, held[:-1] + wanted - 1e-9)
        fits = ends < len(held)
        on = np.zeros(len(cost), bool)
        on[: switched.forced] = True
        if switched.forced == 0 and fits.any():
            begin = int(
                np.argmin(np.where(fits, paid[np.minimum(ends, len(cost))] - paid[:-1], np.inf))
            )
            on[begin : ends[begin]] = True
        return on


class RunBlock:
    """Programmes: a whole column for each moment to start at, a row for each run."""

    def __init__(self, builder: Builder, need: Run, given: PlanInput) -> None:
        self._need = need
        self._count = len(given.step_ms)
        self._chosen: list[IntArray] = []
        short_cost = SHORT_FACTOR * dearest_micro_per_kwh(given) / MICRO
        for starts in need.starts:
            kwh = starts.energy_wh / 1000
            count = len(starts.steps)
            chosen = builder.add_columns(
                count,
                DELAY_COST * starts.steps.astype(float) * kwh.sum(axis=1),
                0.0,
                1.0,
            )
            row, step = np.nonzero(kwh)
            builder.put(step, chosen[row], -kwh[row, step])
            missed = builder.add_columns(1, short_cost * float(kwh[0].sum()), 0.0, 1.0)
            once = builder.add_rows(1, 1.0, 1.0)
            builder.put(np.repeat(once, count), chosen, 1.0)
            builder.put(once, missed, 1.0)
            self._chosen.append(chosen)
        self.switches = [
            Group(chosen, np.ones(len(chosen)), np.ones(len(chosen))) for chosen in self._chosen
        ]

    def energy_wh(self, values: FloatArray) -> FloatArray:
        """See `Block`."""
        taken = np.zeros(self._count)
        for starts, chosen in zip(self._need.starts, self._chosen, strict=True):
            taken += values[chosen] @ starts.energy_wh
        return taken

    def suggest(self, values: FloatArray, price: FloatArray, on_share: float) -> IntArray:
        """See `Block`. The start that is cheapest at the prices; of equal ones the solution's."""
        del on_share
        found = []
        for starts, chosen in zip(self._need.starts, self._chosen, strict=True):
            cost = starts.energy_wh @ price / 1000
            close = cost <= cost.min() + 1e-4
            place = int(np.argmax(np.where(close, 1.0 + values[chosen], 0.0)))
            found.append((np.arange(len(chosen)) == place).astype(np.int64))
        return np.concatenate([NOTHING, *found])


class HeatBlock:
    """A thermal node: a temperature for each step, and what it is below and above the band."""

    def __init__(self, builder: Builder, need: Heat, given: PlanInput) -> None:
        steps = np.arange(len(given.step_ms))
        count = len(steps)
        room = need.room_wh / 1000
        self._energy = builder.add_columns(count, DELAY_COST * steps.astype(float), 0.0, room)
        builder.put(steps, self._energy, -1.0)
        inside = builder.add_columns(count, 0.0, -math.inf, math.inf)
        cost = need.discomfort_micro / MICRO
        below, above = builder.add_columns(count, cost), builder.add_columns(count, cost)
        drift = need.drift_c.copy()
        drift[0] += need.keep[0] * need.start_c
        course = builder.add_rows(count, drift, drift)
        builder.put(course, inside, 1.0)
        builder.put(course[1:], inside[:-1], -need.keep[1:])
        builder.put(course, self._energy, -need.gain_c_per_wh * 1000)
        low = builder.add_rows(count, need.low_c, math.inf)
        builder.put(low, inside, 1.0)
        builder.put(low, below, 1.0)
        high = builder.add_rows(count, -math.inf, need.high_c)
        builder.put(high, inside, 1.0)
        builder.put(high, above, -1.0)
        self.switches: list[Group] = []
        if need.least_w:
            least = np.minimum(need.least_w * given.step_ms / HOUR_MS / 1000, room)
            self.switches.append(Group(self._energy, least, room))

    def energy_wh(self, values: FloatArray) -> FloatArray:
        """See `Block`."""
        taken: FloatArray = values[self._energy] * 1000
        return taken

    def suggest(self, values: FloatArray, price: FloatArray, on_share: float) -> IntArray:
        """See `Block`. Halves are carried over, so that the heat stays what it was."""
        del price
        if not self.switches:
            return NOTHING
        columns, leasts, _ = self.switches[0]
        on = np.zeros(len(columns), np.int64)
        owed = 0.0
        for step, (energy, least) in enumerate(zip(values[columns], leasts, strict=True)):
            owed += energy
            if energy > 0 and owed >= least * on_share:
                on[step] = 1
                owed -= max(energy, least)
        return on


class AdjustBlock:
    """A load around its nominal power: pieces of rising cost on either side."""

    def __init__(self, builder: Builder, need: Adjust, given: PlanInput) -> None:
        self._need = need
        self._pieces: list[tuple[IntArray, float]] = []
        steps = np.arange(len(given.step_ms))
        self._steps = np.flatnonzero(need.hours > 0)
        hours = need.hours[self._steps]
        nominal = builder.add_columns(
            len(self._steps), 0.0, need.nominal_w * hours / 1000, need.nominal_w * hours / 1000
        )
        builder.put(steps[self._steps], nominal, -1.0)
        for sign, range_w in (
            (-1.0, need.nominal_w - need.least_w),
            (1.0, need.most_w - need.nominal_w),
        ):
            if range_w == 0:
                continue
            kw = range_w / 1000 / PIECES
            for piece in range(PIECES):
                slope = need.discomfort_micro / MICRO * kw * (2 * piece + 1)
                more = builder.add_columns(len(self._steps), slope, 0.0, kw * hours)
                builder.put(self._steps, more, -sign)
                self._pieces.append((more, sign))
        self.switches: list[Group] = []

    def energy_wh(self, values: FloatArray) -> FloatArray:
        """See `Block`."""
        taken = np.zeros(len(self._need.hours))
        taken[self._steps] = self._need.nominal_w * self._need.hours[self._steps]
        for columns, sign in self._pieces:
            taken[self._steps] += sign * values[columns] * 1000
        return taken

    def suggest(self, values: FloatArray, price: FloatArray, on_share: float) -> IntArray:
        """See `Block`."""
        del values, price, on_share
        return NOTHING


def discomfort_micro(need: Adjust, energy_wh: FloatArray) -> float:
    """Return what the user of an adjustable load bears for taking so much. [micro]"""
    on = need.hours > 0
    kw = energy_wh[on] / need.hours[on] / 1000 - need.nominal_w / 1000
    down, up = (need.nominal_w - need.least_w) / 1000, (need.most_w - need.nominal_w) / 1000
    pieces = np.arange(PIECES + 1) / PIECES
    points = np.unique(np.concatenate((-down * pieces, up * pieces)))
    by_pieces = np.interp(kw, points, points**2)
    return float(by_pieces @ need.hours[on]) * need.discomfort_micro
