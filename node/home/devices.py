"""A live home's movable loads: what they say of themselves, and what they are asked to take.

What a meter says decides how far a load is; here is what no meter says: whether the car is there
and how full it is, what the plan wants of each load now, and what its owner wants instead. Nothing
is asked of a load that is not heard, nor of a car that is not known to be there, nor while the
home's connection has a cap and not all that passes it is known.
"""

import math
from typing import Any, Final, NamedTuple

from hems.civil import MINUTE_MS
from hems.devices.loads import Appliance, Car, Deferrable, Load
from hems.devices.metered import on_w
from hems.errors import ConfigError, InvariantError
from hems.home import HomeEnergyManager
from hems.sources.live import LiveSource
from hems.steering import MINUTES_MAX, Command, planned_device_w, planned_start_ms

MICRO: Final = 1_000_000


class Level(NamedTuple):
    """What is in a car, as it said at a moment. [ms, market time; Wh]"""

    at_ms: int
    stored_wh: int


class Presence:
    """What one car has said: whether it is there, and what is in it.

    Parameters
    ----------
    stale_ms : int
        So long it is believed.
    """

    def __init__(self, stale_ms: int) -> None:
        self._stale_ms = stale_ms
        # Since when it has been said to be there, without a silence; None: it is not.
        self.since_ms: int | None = None
        self._said_ms: int | None = None
        self.level: Level | None = None

    def heard(self, at_ms: int, is_plugged: bool) -> None:
        """Take note of whether it is there."""
        if not is_plugged:
            self.since_ms = None
        elif self.since_ms is None or self.said(at_ms) is None:
            self.since_ms = at_ms
        self._said_ms = at_ms

    def said(self, at_ms: int) -> bool | None:
        """Tell whether it is there; None if that was said too long ago."""
        if self._said_ms is None or not 0 <= at_ms - self._said_ms <= self._stale_ms:
            return None
        return self.since_ms is not None

    @property
    def is_level_known(self) -> bool:
        """Whether it has said what is in it since it came, or just before.

        What it takes from then on its meter says: a car that sleeps needs to say no more.
        """
        if self.since_ms is None or self.level is None:
            return False
        return self.level.at_ms >= self.since_ms - self._stale_ms


class LiveDevices:
    """The movable loads of one live home; of any other home there are none here.

    Times are the market's, which runs with real time where a home is live. [ms]

    Parameters
    ----------
    manager : HomeEnergyManager
    live : LiveSource or None
        Where their meters are heard; None for a home that is not live.
    """

    def __init__(self, manager: HomeEnergyManager, live: LiveSource | None) -> None:
        self._manager = manager
        self._live = live
        self.loads: dict[str, Load] = {} if live is None else dict(manager.config.devices)
        stale_ms = 0 if live is None else live.stale_ms
        self._cars = {
            name: Presence(stale_ms) for name, load in self.loads.items() if isinstance(load, Car)
        }
        self._level_taken_ms = dict.fromkeys(self._cars, -1)
        # Those that were there when the home's mind was told last.
        self._stayed: set[str] = set()
        self._commands: dict[str, Command] = {}
        # When an appliance was last seen at work.
        self._on_ms: dict[str, int] = {}

    # -- what they say -----------------------------------------------------------------------

    def heard_plugged(self, name: str, at_ms: int, is_plugged: bool) -> None:
        """Take note of whether a car is there. One that left is commanded no more."""
        self._cars[name].heard(at_ms, is_plugged)
        if not is_plugged:
            self._commands.pop(name, None)
            self._stayed.discard(name)

    def heard_soc(self, name: str, at_ms: int, soc: float) -> None:
        """Take note of a car's state of charge, a fraction; one that cannot be is counted."""
        capacity_wh = self._car(name).capacity_wh
        self._heard_level(name, at_ms, soc * capacity_wh, capacity_wh)

    def heard_needed(self, name: str, at_ms: int, needed_wh: float) -> None:
        """Take note of what a car lacks to its target; what cannot be is counted. [Wh in it]"""
        target_wh = self._car(name).target_uwh / MICRO
        self._heard_level(name, at_ms, target_wh - needed_wh, target_wh)

    def _heard_level(self, name: str, at_ms: int, stored_wh: float, most_wh: float) -> None:
        # Written so that what is no number is refused, too.
        if 0 <= stored_wh <= most_wh:
            self._cars[name].level = Level(at_ms, int(stored_wh))
        elif self._live is not None:
            self._live.note(name, "soc", at_ms)

    def _car(self, name: str) -> Car:
        load = self.loads[name]
        if not isinstance(load, Car):
            raise InvariantError(f"{name!r} is no car and has said that it is")
        return load

    def is_presence_known(self, name: str, at_ms: int) -> bool:
        """Tell whether a car has said of late whether it is there; of other loads, true."""
        return name not in self._cars or self._cars[name].said(at_ms) is not None

    def take(self, at_ms: int, is_slot_over: bool) -> None:
        """Tell the home's mind which cars are there, and what is in them.

        Parameters
        ----------
        at_ms : int
        is_slot_over : bool
            Whether a slot has just been delivered: what a car says now is with what it took in it.
        """
        for name, presence in self._cars.items():
            is_there = presence.said(at_ms)
            if is_there is None:
                continue
            stored_wh = self._stored_wh(name, presence, is_slot_over) if is_there else None
            self._manager.plug(name, is_there, stored_wh)
            if is_there:
                self._stayed.add(name)

    def _stored_wh(self, name: str, presence: Presence, is_slot_over: bool) -> int | None:
        state, level = self._manager.state.devices[name], presence.level
        is_known = bool(state.plugged)
        is_new = level is not None and level.at_ms > self._level_taken_ms[name]
        if level and is_new and presence.is_level_known and (is_slot_over or not is_known):
            self._level_taken_ms[name] = level.at_ms
            return level.stored_wh
        if not is_known and name in self._stayed:
            # Its timetable has let it leave and come; it has not.
            return state.stored_uwh // MICRO
        return None

    # -- what is asked of them ---------------------------------------------------------------

    @property
    def commandable(self) -> dict[str, Car | Deferrable]:
        """Those that can be told a power; an appliance has a programme of its own."""
        return {n: load for n, load in self.loads.items() if isinstance(load, Car | Deferrable)}

    def command(self, name: str, power_w: float, minutes: int, at_ms: int) -> None:
        """Let one take so much for some minutes, whatever the plan says. [W]

        It ends with the daemon, and when a car leaves.

        Raises
        ------
        ConfigError
            The power or the time is none that it can do, or it is not heard, or not there.
        """
        load = self.commandable[name]
        low_w = load.power_min_w
        # Written so that what is no number is refused, too.
        if not (power_w == 0 or low_w <= power_w <= load.power_w):
            raise ConfigError(f"power {power_w:g} W: {name} takes 0 or {low_w} to {load.power_w} W")
        if not 1 <= minutes <= MINUTES_MAX:
            raise ConfigError(f"{minutes} minutes: a command holds for 1 to {MINUTES_MAX}")
        if not self._is_heard(name, at_ms):
            raise ConfigError(f"{name} is not commanded: it is not heard, or not there")
        self._commands[name] = Command(round(power_w), at_ms, at_ms + minutes * MINUTE_MS)

    def release(self, name: str) -> None:
        """Let one follow the plan again."""
        self._commands.pop(name, None)

    def _is_heard(self, name: str, at_ms: int) -> bool:
        """Tell whether enough is known of a load to ask something of it."""
        if self._live is None or self._live.is_stale(name, at_ms):
            return False
        car = self._cars.get(name)
        return car is None or (car.said(at_ms) is True and car.is_level_known)

    def _in_force(self, name: str, at_ms: int) -> Command | None:
        command = self._commands.get(name)
        return command if command is not None and at_ms < command.until_ms else None

    def _wanted_w(self, name: str, load: Car | Deferrable, at_ms: int) -> int | None:
        """Return what is wanted of a load now, None without a plan for now. [W]"""
        command, planned = self._in_force(name, at_ms), self._manager.planned
        if command is not None:
            wanted_w: int | None = command.power_w
        elif planned is None:
            wanted_w = None
        else:
            wanted_w = planned_device_w(planned.plan, planned.begins_ms, at_ms, name)
        if wanted_w is None:
            return None
        if isinstance(load, Car):
            stored_uwh = self._manager.state.devices[name].stored_uwh
            if stored_uwh >= load.capacity_wh * MICRO:
                return 0
        # A plan's step may be longer than what it takes in it.
        if load.power_min_w / 2 <= wanted_w < load.power_min_w and wanted_w:
            wanted_w = load.power_min_w
        return min(wanted_w, load.power_w)

    def asked(self, at_ms: int) -> dict[str, int | None]:
        """Return what is asked of each load now. [W]

        None: nothing is. Of an appliance: to begin, with its programme's greatest power.
        """
        room_w = self._room_w(at_ms)
        found: dict[str, int | None] = dict.fromkeys(self.loads)
        for name, load in self.commandable.items():
            if room_w is None or not self._is_heard(name, at_ms):
                continue
            wanted_w = self._wanted_w(name, load, at_ms)
            if wanted_w is not None:
                wanted_w = max(0, min(wanted_w, math.floor(min(room_w, load.power_w))))
                wanted_w = wanted_w if wanted_w >= load.power_min_w else 0
                room_w -= wanted_w
            found[name] = wanted_w
        for name, one in self.loads.items():
            if isinstance(one, Appliance) and room_w is not None:
                most_w = max(one.profile_w)
                if self._is_due(name, one, at_ms) and most_w <= room_w:
                    found[name] = most_w
                    room_w -= most_w
        return found

    def _is_due(self, name: str, load: Appliance, at_ms: int) -> bool:
        """Tell whether an appliance is to begin now, and its meter says that it has not."""
        last = self._live.last(name) if self._live is not None else None
        if last is None or not self._is_heard(name, at_ms):
            return False
        if last.power_w >= on_w(load):
            self._on_ms[name] = last.at_ms
        on_ms = self._on_ms.get(name)
        if on_ms is not None and at_ms - on_ms < load.run_minutes * MINUTE_MS:
            # At work, or in a pause of its programme.
            return False
        starts_ms = self._starts_ms(name, at_ms)
        return starts_ms is not None and starts_ms <= at_ms

    def _starts_ms(self, name: str, at_ms: int) -> int | None:
        planned = self._manager.planned
        if planned is None:
            return None
        return planned_start_ms(planned.plan, planned.begins_ms, at_ms, name)

    def _room_w(self, at_ms: int) -> float | None:
        """Return what the connection has left for what can be commanded; None: not known. [W]"""
        live, cap_w = self._live, self._manager.config.import_cap_w
        if cap_w is None or live is None:
            return math.inf
        channels = {"load": 1}
        if live.has_pv:
            channels["pv"] = -1
        if self._manager.config.battery is not None:
            channels["battery"] = 1
        for name, load in self.loads.items():
            # What can be commanded is given out anew.
            in_load = name in live.in_load
            if isinstance(load, Appliance):
                channels |= {} if in_load else {name: 1}
            elif in_load:
                channels[name] = -1
        room_w = float(cap_w)
        for channel, sign in channels.items():
            last = live.last(channel)
            if last is None or live.is_stale(channel, at_ms):
                return None
            room_w -= sign * last.power_w
        return room_w

    def state(self, at_ms: int) -> dict[str, dict[str, Any]]:
        """Return what is known of each load and asked of it, for people.

        `power_w`, None when stale; `setpoint_w`, as `asked`; `starts_ms`, as planned; `plugged` of
        a car, None when stale, and `soc`, in percent; `steered_by` and `minutes_left` of what can
        be commanded.
        """
        live = self._live
        if live is None:
            return {}
        asked, found = self.asked(at_ms), dict[str, dict[str, Any]]()
        for name, load in self.loads.items():
            last = None if live.is_stale(name, at_ms) else live.last(name)
            shown = found[name] = {
                "power_w": None if last is None else round(last.power_w),
                "setpoint_w": asked[name],
                "starts_ms": self._starts_ms(name, at_ms),
            }
            if isinstance(load, Car):
                stored_uwh = self._manager.state.devices[name].stored_uwh
                shown["plugged"] = self._cars[name].said(at_ms)
                shown["soc"] = round(100 * stored_uwh / (load.capacity_wh * MICRO))
            if not isinstance(load, Appliance):
                command = self._in_force(name, at_ms)
                left_ms = 0 if command is None else command.until_ms - at_ms
                shown["steered_by"] = "plan" if command is None else "owner"
                shown["minutes_left"] = None if command is None else -(-left_ms // MINUTE_MS)
        return found
