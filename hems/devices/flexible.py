"""Loads that can be moved, over time: what they still need, what they may take now, what was done.

Energies taken are whole watt-hours at the home's side.
"""

import math
from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Final, NamedTuple

import msgspec
import numpy as np

from hems import civil
from hems.civil import DAY_MS, FloatArray, IntArray
from hems.devices.base import HOUR_MS, MICRO
from hems.devices.loads import Adjustable, Appliance, Car, Deferrable, HeatPump, Load
from hems.devices.needs import Adjust, Heat, Job, Need, Run, Starts, Window
from hems.devices.progress import DeviceState
from hems.devices.windows import Span, minutes_of, overlap_ms, spans
from hems.errors import ConfigError, InvariantError

MILLI: Final = 1_000


class Range(NamedTuple):
    """What a device takes in a slot as planned, and the least and most it may. [Wh]

    `begun_ms` as in `DeviceState`, once the slot is over with energy taken.
    """

    name: str
    planned_wh: int
    least_wh: int
    most_wh: int
    begun_ms: int | None = None


class Outlook(NamedTuple):
    """What is ahead: needs to plan for, and what runs already and cannot be moved.

    `running_wh`: float array, shape (steps,). `missed_wh`: by device, what can no longer be
    taken before its deadline, whatever is done. [Wh]
    """

    needs: tuple[Need, ...]
    running_wh: FloatArray
    missed_wh: dict[str, float]


class FlexibleLoads:
    """The movable loads of one home, by name.

    Parameters
    ----------
    loads : mapping of str to Load
    zone : tzinfo
        Whose wall clock their times are of.
    outdoor_c : callable, optional
        The temperature outside in each step between some edges [ms, UTC], NaN where unknown: there,
        and without it, a heat pump's settings say it. [°C]
    """

    def __init__(
        self,
        loads: Mapping[str, Load],
        zone: tzinfo,
        outdoor_c: Callable[[IntArray], FloatArray] | None = None,
    ) -> None:
        self.loads = dict(loads)
        self._zone = zone
        self._outdoor_c = outdoor_c

    def state_of(self, name: str, states: Mapping[str, DeviceState]) -> DeviceState:
        """Return a device's progress; a new one's where there is none."""
        state, load = states.get(name), self.loads[name]
        if state is None:
            state = DeviceState()
            if isinstance(load, Car):
                state = DeviceState(stored_uwh=load.target_uwh)
            elif isinstance(load, HeatPump):
                middle = (load.comfort_min_c + load.comfort_max_c) / 2
                state = DeviceState(inside_mc=round(middle * MILLI))
        if isinstance(load, Car) and state.stored_uwh > load.capacity_wh * MICRO:
            # Only where the car was changed for one with a smaller battery: it is full then.
            state = msgspec.structs.replace(state, stored_uwh=load.capacity_wh * MICRO)
        return state

    # -- planning ----------------------------------------------------------------------------

    def outlook(self, states: Mapping[str, DeviceState], edges_ms: IntArray) -> Outlook:
        """Return what the devices need.

        Only windows that end within the plan are planned for; the next day sees the next ones.

        Parameters
        ----------
        edges_ms : int array, shape (steps + 1,)
            Where the plan's steps begin, and where the last ends. [ms, UTC]
        """
        needs: list[Need] = []
        running = np.zeros(len(edges_ms) - 1)
        missed: dict[str, float] = {}
        for name, load in self.loads.items():
            state = self.state_of(name, states)
            need: Need | None
            match load:
                case Appliance():
                    need, own, late = self._run_need(name, load, state, edges_ms)
                    running += own
                    missed[name] = late
                case Deferrable() | Car():
                    need, missed[name] = self._job_need(name, load, state, edges_ms)
                case HeatPump():
                    need = self._heat_need(name, load, state, edges_ms)
                case Adjustable():
                    need = self._adjust_need(name, load, edges_ms)
            if need is not None:
                needs.append(need)
        return Outlook(tuple(needs), running, {n: wh for n, wh in missed.items() if wh >= 1})

    def _run_need(
        self, name: str, load: Appliance, state: DeviceState, edges_ms: IntArray
    ) -> tuple[Run | None, FloatArray, float]:
        now_ms, end_ms = int(edges_ms[0]), int(edges_ms[-1])
        run_ms = load.run_minutes * 60_000
        running = np.zeros(len(edges_ms) - 1)
        total_wh = load.energy_until_wh(run_ms)
        if state.begun_ms is not None and state.begun_ms + run_ms > now_ms:
            running = np.diff(load.taken_wh(edges_ms - state.begun_ms))
        choices, missed = [], 0.0
        for span in self._spans(load, now_ms, end_ms):
            if span.begin_ms == state.window_ms and state.begun_ms is not None:
                continue
            if span.end_ms > end_ms:
                continue
            first = np.maximum(edges_ms[:-1], span.begin_ms)
            steps = np.flatnonzero((first < edges_ms[1:]) & (first + run_ms <= span.end_ms))
            if len(steps):
                after_ms = edges_ms[None, :] - first[steps][:, None]
                choices.append(Starts(steps, np.diff(load.taken_wh(after_ms), axis=1)))
            elif span.begin_ms <= now_ms:
                missed += total_wh
        return (Run(name, tuple(choices)) if choices else None), running, missed

    def _job_need(
        self, name: str, load: Deferrable | Car, state: DeviceState, edges_ms: IntArray
    ) -> tuple[Job | None, float]:
        windows, missed = [], 0.0
        hours = np.diff(edges_ms) / HOUR_MS
        extra_wh = load.power_min_w * float(hours.max())
        wanted_first = 0.0
        for number, span in enumerate(self._sessions(load, state, edges_ms)):
            room = load.power_w * overlap_ms(span, edges_ms) / HOUR_MS
            wanted, most = self._wanted_wh(load, state, span, number)
            if span.end_ms > edges_ms[-1] or wanted <= 0:
                continue
            if span.begin_ms <= edges_ms[0]:
                missed += max(0.0, wanted - float(room.sum()))
                wanted_first = wanted
            windows.append(Window(wanted, min(most, wanted + extra_wh), room))
        if not windows:
            return None, 0.0
        run_ms = on_ms = 0
        if isinstance(load, Deferrable) and load.run_minutes_min:
            run_ms = load.run_minutes_min * 60_000
            if wanted_first:
                # The last of the energy need not last for a whole run.
                run_ms = min(run_ms, math.floor(wanted_first / load.power_min_w * HOUR_MS))
            if state.begun_ms is not None:
                on_ms = max(0, int(edges_ms[0]) - state.begun_ms)
        return Job(name, tuple(windows), load.power_min_w, run_ms, on_ms), missed

    def _heat_need(self, name: str, load: HeatPump, state: DeviceState, edges_ms: IntArray) -> Heat:
        hours = np.diff(edges_ms) / HOUR_MS
        middles = (edges_ms[:-1] + edges_ms[1:]) // 2
        of_day = (middles + civil.offsets(middles, self._zone)) % DAY_MS / HOUR_MS
        keep = np.array([load.keep(h) for h in hours])
        outdoor = np.array([load.outdoor_c(h) for h in of_day])
        if self._outdoor_c is not None:
            told = self._outdoor_c(edges_ms)
            outdoor = np.where(np.isfinite(told), told, outdoor)
        gain = np.array([load.warmed_c(1.0, h) for h in hours])
        return Heat(
            name,
            load.power_w * hours,
            load.power_min_w,
            keep,
            gain,
            (1 - keep) * outdoor,
            state.inside_mc / MILLI,
            load.comfort_min_c,
            load.comfort_max_c,
            load.discomfort_micro_per_c_h * hours,
        )

    def _adjust_need(self, name: str, load: Adjustable, edges_ms: IntArray) -> Adjust:
        hours = np.zeros(len(edges_ms) - 1)
        for span in self._spans(load, int(edges_ms[0]), int(edges_ms[-1])):
            hours += overlap_ms(span, edges_ms) / HOUR_MS
        return Adjust(
            name,
            hours,
            load.nominal_w,
            load.power_min_w,
            load.power_w,
            float(load.discomfort_micro_per_kw2_h),
        )

    # -- the slot ----------------------------------------------------------------------------

    def ranges(
        self,
        states: Mapping[str, DeviceState],
        start_ms: int,
        slot_ms: int,
        planned_wh: Mapping[str, float] | None,
    ) -> tuple[Range, ...]:
        """Return what each device takes in a slot, and within what it may be changed.

        Parameters
        ----------
        planned_wh : mapping of str to float, or None
            What the plan gives each in the slot [Wh]; None: nothing was planned, everything runs
            as soon as it may.
        """
        found = []
        edges = np.array([start_ms, start_ms + slot_ms])
        for name, load in self.loads.items():
            state = self.state_of(name, states)
            wish = math.inf if planned_wh is None else planned_wh.get(name, 0.0)
            match load:
                case Appliance():
                    found.append(self._run_range(name, load, state, edges, wish))
                case Deferrable() | Car():
                    found.append(self._job_range(name, load, state, edges, wish))
                case HeatPump():
                    found.append(self._heat_range(name, load, state, edges, planned_wh))
                case Adjustable():
                    hours = float(self._adjust_need(name, load, edges).hours[0])
                    least, most = int(load.power_min_w * hours), int(load.power_w * hours)
                    if planned_wh is None:
                        wish = load.nominal_w * hours
                    found.append(Range(name, min(max(round(wish), least), most), least, most))
        # Energy put off is not lost; what a user wanted to have now is changed last.
        found.sort(key=lambda one: isinstance(self.loads[one.name], Adjustable))
        return tuple(found)

    def _run_range(
        self, name: str, load: Appliance, state: DeviceState, edges: IntArray, wish: float
    ) -> Range:
        start_ms, end_ms = int(edges[0]), int(edges[1])
        run_ms = load.run_minutes * 60_000
        begun_ms = state.begun_ms
        if begun_ms is None or begun_ms + run_ms <= start_ms:
            begun_ms = None
            for span in self._spans(load, start_ms, end_ms):
                done = span.begin_ms == state.window_ms and state.begun_ms is not None
                first_ms = max(start_ms, span.begin_ms)
                if not done and wish > 0 and first_ms + run_ms <= span.end_ms:
                    begun_ms = first_ms
                    break
        if begun_ms is None:
            return Range(name, 0, 0, 0)
        before_wh = load.energy_until_wh(start_ms - begun_ms)
        taken = load.energy_until_wh(end_ms - begun_ms) - before_wh
        return Range(name, taken, taken, taken, begun_ms)

    def _job_range(
        self, name: str, load: Deferrable | Car, state: DeviceState, edges: IntArray, wish: float
    ) -> Range:
        start_ms, slot_ms = int(edges[0]), int(edges[1] - edges[0])
        sessions = self._sessions(load, state, edges)
        if not sessions:
            return Range(name, 0, 0, 0)
        span = sessions[0]
        wanted, most = self._wanted_wh(load, state, span, 0)
        here_ms = int(overlap_ms(span, edges)[0])
        room = load.power_w * here_ms // HOUR_MS
        later = load.power_w * max(0, span.end_ms - start_ms - slot_ms) / HOUR_MS
        begun_ms = state.begun_ms if state.begun_ms is not None else start_ms
        floor = -(-load.power_min_w * here_ms // HOUR_MS)
        if load.power_min_w:
            most_wh = min(room, math.floor(most), math.ceil(wanted) + floor)
            if wish < floor / 2 or most_wh < floor or wanted <= 0:
                return Range(name, 0, 0, 0)
            held = isinstance(load, Deferrable) and bool(load.run_minutes_min)
            planned = round(min(max(wish, floor), most_wh))
            return Range(name, planned, floor if not held else planned, most_wh, begun_ms)
        most_wh = min(room, math.ceil(max(0.0, wanted)), math.floor(most))
        least_wh = min(most_wh, math.ceil(max(0.0, wanted - later)))
        planned = min(max(round(min(wish, most_wh)), least_wh), most_wh)
        return Range(name, planned, least_wh, most_wh, begun_ms)

    def _heat_range(
        self,
        name: str,
        load: HeatPump,
        state: DeviceState,
        edges: IntArray,
        planned_wh: Mapping[str, float] | None,
    ) -> Range:
        need = self._heat_need(name, load, state, edges)
        room = int(need.room_wh[0])
        floor = min(room, -(-load.power_min_w * int(edges[1] - edges[0]) // HOUR_MS))
        alone = need.keep[0] * need.start_c + need.drift_c[0]
        gain = float(need.gain_c_per_wh[0])
        to_low, to_high = sorted(((need.low_c - alone) / gain, (need.high_c - alone) / gain))
        if planned_wh is None:
            wish = max(0.0, to_low)
            wish = max(wish, floor) if wish > 0 else 0.0
        else:
            wish = planned_wh.get(name, 0.0)
        if floor and wish < floor / 2:
            return Range(name, 0, 0, 0)
        planned = min(max(round(wish), floor), room)
        least = min(planned, max(floor, math.ceil(max(0.0, to_low))))
        return Range(name, planned, least, max(planned, min(room, math.floor(max(0.0, to_high)))))

    def after(
        self,
        states: Mapping[str, DeviceState],
        start_ms: int,
        slot_ms: int,
        taken: Mapping[str, tuple[Range, int]],
    ) -> dict[str, DeviceState]:
        """Return the progress after a slot in which each device took so much. [Wh]

        Raises
        ------
        InvariantError
            A device took less or more than it may.
        """
        found = {}
        edges = np.array([start_ms, start_ms + slot_ms])
        for name, load in self.loads.items():
            allowed, wh = taken[name]
            if not allowed.least_wh <= wh <= allowed.most_wh:
                raise InvariantError(f"{name} took {wh} Wh, allowed was {allowed}")
            state = self.state_of(name, states)
            match load:
                case Appliance():
                    if allowed.begun_ms is not None and allowed.begun_ms != state.begun_ms:
                        span = self._spans(load, allowed.begun_ms, allowed.begun_ms + 1)[0]
                        state = DeviceState(span.begin_ms, 0, allowed.begun_ms)
                    if allowed.begun_ms is not None:
                        state = msgspec.structs.replace(state, taken_wh=state.taken_wh + wh)
                case Deferrable() | Car():
                    state = self._after_job(load, state, edges, wh, allowed.begun_ms)
                case HeatPump():
                    need = self._heat_need(name, load, state, edges)
                    inside = need.keep[0] * need.start_c + need.drift_c[0]
                    inside += need.gain_c_per_wh[0] * wh
                    state = DeviceState(inside_mc=round(float(inside) * MILLI))
                case Adjustable():
                    pass
            found[name] = state
        return found

    def _after_job(
        self,
        load: Deferrable | Car,
        state: DeviceState,
        edges: IntArray,
        wh: int,
        begun_ms: int | None,
    ) -> DeviceState:
        sessions = self._sessions(load, state, edges)
        begun_ms = begun_ms if wh else None
        if not sessions:
            return msgspec.structs.replace(
                state, begun_ms=None, plugged=self._said(load, state, edges)
            )
        span = sessions[0]
        own = self._own_begin_ms(load, state, span)
        taken_wh = wh + (state.taken_wh if own == state.window_ms else 0)
        if isinstance(load, Deferrable):
            return DeviceState(own, taken_wh, begun_ms)
        stored_uwh = self._arrived_uwh(load, state, span) + wh * load.charge_ppm
        # A real one's losses are its own: what its meter says may come to more than it holds.
        stored_uwh = min(stored_uwh, load.capacity_wh * MICRO)
        return DeviceState(own, taken_wh, begun_ms, stored_uwh, self._said(load, state, edges))

    # -- a car's owner -----------------------------------------------------------------------

    def plugged(
        self,
        name: str,
        state: DeviceState,
        at_ms: int,
        is_plugged: bool,
        stored_wh: int | None = None,
    ) -> DeviceState:
        """Return a car's state after its owner (or its charging point) said where it is.

        Holds until the timetable's next change: one that came early stays until it leaves, one
        that left early is back when it usually is.

        Parameters
        ----------
        stored_wh : int, optional
            What is in its battery, if known. [Wh]

        Raises
        ------
        ConfigError
            No car has this name, or more is stored than it holds.
        """
        load = self.loads.get(name)
        if not isinstance(load, Car):
            cars = ", ".join(n for n, one in self.loads.items() if isinstance(one, Car)) or "none"
            raise ConfigError(f"{name!r} is not a car of this home; its cars: {cars}")
        if stored_wh is not None and not 0 <= stored_wh <= load.capacity_wh:
            raise ConfigError(f"stored_wh {stored_wh}: 0 to the car's {load.capacity_wh} Wh")
        span = self._spans(load, at_ms, at_ms + 2 * DAY_MS)[0]
        stored_uwh = self._arrived_uwh(load, state, span) if is_plugged else state.stored_uwh
        if stored_wh is not None:
            stored_uwh = stored_wh * MICRO
        taken_wh = state.taken_wh if state.window_ms == span.begin_ms else 0
        if is_plugged or span.begin_ms <= at_ms:
            return DeviceState(span.begin_ms, taken_wh, None, stored_uwh, is_plugged)
        return DeviceState(state.window_ms, state.taken_wh, None, stored_uwh, None)

    def _said(self, load: Deferrable | Car, state: DeviceState, edges: IntArray) -> bool | None:
        """Return what the owner said, as long as it holds after a slot."""
        if state.plugged is None or state.window_ms is None:
            return None
        ahead = self._spans(load, int(edges[1]), int(edges[1]) + 2 * DAY_MS)
        return state.plugged if ahead and ahead[0].begin_ms == state.window_ms else None

    # -- windows -----------------------------------------------------------------------------

    def _spans(
        self, load: Appliance | Deferrable | Car | Adjustable, from_ms: int, to_ms: int
    ) -> list[Span]:
        match load:
            case Car():
                begin, end = minutes_of("arrive", load.arrive), minutes_of("leave", load.leave)
            case Adjustable():
                begin, end = minutes_of("begin", load.begin), minutes_of("end", load.end)
            case _:
                begin = minutes_of("earliest", load.earliest)
                end = minutes_of("deadline", load.deadline)
        return spans(begin, end, from_ms, to_ms, self._zone)

    def _sessions(
        self, load: Deferrable | Car, state: DeviceState, edges_ms: IntArray
    ) -> list[Span]:
        """Return the windows in which energy can be taken, as far as known."""
        now_ms, end_ms = int(edges_ms[0]), int(edges_ms[-1])
        if not isinstance(load, Car) or state.plugged is None:
            return self._spans(load, now_ms, end_ms)
        ahead = self._spans(load, now_ms, max(end_ms, now_ms + 2 * DAY_MS))
        if state.plugged is False:
            # Gone out of its turn; back with the next window.
            ahead = [span for span in ahead if span.begin_ms != state.window_ms]
        elif ahead and ahead[0].begin_ms == state.window_ms:
            ahead[0] = ahead[0]._replace(begin_ms=min(now_ms, ahead[0].begin_ms))
        return [span for span in ahead if span.begin_ms < end_ms]

    def _own_begin_ms(self, load: Deferrable | Car, state: DeviceState, span: Span) -> int:
        """Return a window's beginning by the timetable, also for a car that came early."""
        if isinstance(load, Car) and state.plugged:
            return self._spans(load, span.end_ms - 1, span.end_ms)[0].begin_ms
        return span.begin_ms

    def _arrived_uwh(self, load: Car, state: DeviceState, span: Span) -> int:
        """Return what is in the car in a window, by its state before."""
        if self._own_begin_ms(load, state, span) == state.window_ms:
            return state.stored_uwh
        return max(0, state.stored_uwh - load.trip_wh * MICRO)

    def _wanted_wh(
        self, load: Deferrable | Car, state: DeviceState, span: Span, number: int
    ) -> tuple[float, float]:
        """Return what a window still wants, and the most it can take. [Wh at the home's side]

        `number` counts the windows from now on: before the second, the first is thought kept.
        """
        if isinstance(load, Deferrable):
            wanted = load.energy_wh - (state.taken_wh if span.begin_ms == state.window_ms else 0)
            return wanted, max(wanted, 0) + load.power_w
        if number == 0:
            stored_uwh = self._arrived_uwh(load, state, span)
        else:
            stored_uwh = load.target_uwh - load.trip_wh * MICRO
        room = load.capacity_wh * MICRO - stored_uwh
        # To the next whole watt-hour: the target is reached, not almost.
        wanted_wh = math.ceil(max(0, load.target_uwh - stored_uwh) / load.charge_ppm)
        return min(wanted_wh, room / load.charge_ppm), room / load.charge_ppm
