"""What its owner may want of a battery beside the plan: a reserve, and for a while a power.

Nothing here goes past the battery: powers are within its rating, it is never emptied below its
reserve nor filled past its limit, and a command ends by itself.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np

from hems.civil import HOUR_MS, MINUTE_MS
from hems.devices import Battery
from hems.errors import ConfigError
from hems.plan import Plan

MINUTES_MAX: Final = 240
# Changed so often within what is not delivered yet, the oldest is forgotten.
COMMANDS_MAX: Final = 64
# A plan that begins so long ago was made by a home that has not planned since.
FRESH_MS: Final = 2 * HOUR_MS


class Command(NamedTuple):
    """A power, charging positive, that holds from one moment to another. [W; ms, market time]"""

    power_w: int
    from_ms: int
    until_ms: int


def reserved(battery: Battery, soc: float) -> Battery:
    """Return a battery that is not emptied below a reserve. [fraction of its capacity]

    Raises
    ------
    ConfigError
        It is less than the battery is ever left with, or more than it is filled to.
    """
    if not battery.soc_min <= soc < battery.soc_max:
        raise ConfigError(
            f"reserve {soc:g}: at least {battery.soc_min:g}, less than {battery.soc_max:g}, as the "
            "battery's soc_min and soc_max are"
        )
    return msgspec.structs.replace(battery, soc_min=soc, soc_end=max(soc, battery.soc_end))


def allowed_w(battery: Battery, stored_uwh: int, power_w: int) -> int:
    """Return what is allowed of a power, charging positive. [W]"""
    low_w = -battery.discharge_limit_w if stored_uwh > battery.min_uwh else 0
    high_w = battery.charge_limit_w if stored_uwh < battery.max_uwh else 0
    return min(max(power_w, low_w), high_w)


def planned_w(plan: Plan, begins_ms: int, at_ms: int) -> int | None:
    """Return what a plan does with the first battery at a moment, charging positive. [W]

    None outside the plan, if it is old, or for a home without a battery.
    """
    step = _step_at(plan, begins_ms, at_ms)
    if not plan.batteries or step is None:
        return None
    first = plan.batteries[0]
    action_wh = float(first.charge_wh[step] - first.discharge_wh[step])
    return round(action_wh * HOUR_MS / int(plan.given.step_ms[step]))


def planned_device_w(plan: Plan, begins_ms: int, at_ms: int, name: str) -> int | None:
    """Return what a plan gives a movable load at a moment; None outside it, or if it is old. [W]"""
    step = _step_at(plan, begins_ms, at_ms)
    if step is None:
        return None
    taken_wh = plan.device_wh.get(name)
    if taken_wh is None:
        return 0
    return round(float(taken_wh[step]) * HOUR_MS / int(plan.given.step_ms[step]))


def planned_start_ms(plan: Plan, begins_ms: int, at_ms: int, name: str) -> int | None:
    """Return when a plan next lets a movable load begin; None if it does not, or if it is old."""
    taken_wh = plan.device_wh.get(name)
    if taken_wh is None or _step_at(plan, begins_ms, at_ms) is None:
        return None
    steps = np.flatnonzero(taken_wh >= 1)
    if len(steps) == 0:
        return None
    return begins_ms + int(plan.given.step_ms[: steps[0]].sum())


def _step_at(plan: Plan, begins_ms: int, at_ms: int) -> int | None:
    """Return the step of a plan at a moment; None outside it, or if it is old."""
    if not 0 <= at_ms - begins_ms < FRESH_MS:
        return None
    ends_ms = begins_ms + np.cumsum(plan.given.step_ms)
    step = int(np.searchsorted(ends_ms, at_ms, side="right"))
    return step if step < len(ends_ms) else None


class Steering:
    """The commands of an owner. Each replaces those before it from its beginning on."""

    def __init__(self) -> None:
        self._commands: tuple[Command, ...] = ()

    def command(self, battery: Battery, power_w: float, minutes: int, now_ms: int) -> None:
        """Let the battery charge, or discharge if negative, for some minutes from now on.

        Raises
        ------
        ConfigError
            The power is beyond the battery's rating, or the time is none that is allowed.
        """
        low_w, high_w = -battery.discharge_limit_w, battery.charge_limit_w
        # Written so that what is no number is refused, too.
        if not low_w <= power_w <= high_w:
            raise ConfigError(f"power {power_w:g} W: this battery's are {low_w} to {high_w} W")
        if not 1 <= minutes <= MINUTES_MAX:
            raise ConfigError(f"{minutes} minutes: a command holds for 1 to {MINUTES_MAX}")
        self.release(now_ms)
        added = Command(round(power_w), now_ms, now_ms + minutes * MINUTE_MS)
        self._commands = (*self._commands, added)[-COMMANDS_MAX:]

    def release(self, now_ms: int) -> None:
        """Go back to the plan from now on."""
        self._commands = tuple(
            one._replace(until_ms=min(one.until_ms, now_ms))
            for one in self._commands
            if one.from_ms < now_ms
        )

    def at(self, at_ms: int) -> Command | None:
        """Return the command in force at a moment, None if the plan is."""
        return next((one for one in self._commands if one.from_ms <= at_ms < one.until_ms), None)

    def wanted_wh(self, start_ms: int, end_ms: int, planned_wh: int) -> int | None:
        """Return what the battery shall take in a time, None if nothing was commanded in it. [Wh]

        For what no command covers it does its part of the plan.
        """
        energy_wh, covered_ms = 0.0, 0
        for one in self._commands:
            held_ms = min(one.until_ms, end_ms) - max(one.from_ms, start_ms)
            if held_ms > 0:
                energy_wh += one.power_w * held_ms / HOUR_MS
                covered_ms += held_ms
        if not covered_ms:
            return None
        return round(energy_wh + planned_wh * (1 - covered_ms / (end_ms - start_ms)))

    def forget(self, before_ms: int) -> None:
        """Forget what ended before a moment."""
        self._commands = tuple(one for one in self._commands if one.until_ms > before_ms)
