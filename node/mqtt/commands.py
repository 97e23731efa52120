"""What may be commanded through a broker: trading, the battery's power and reserve, a car's power.

A command is obeyed as it comes or not at all: what the broker has kept, what says it was sent too
long ago, what is out of range and what is no command is refused and counted.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Final

import msgspec

from hems.errors import HemsError
from hems.steering import MINUTES_MAX
from node.home.household import Household
from node.mqtt.discovery import Topics
from node.mqtt.payload import PAYLOAD_BYTES_MAX, PayloadError, number_of

log = logging.getLogger("commonwatt.mqtt")

SWITCH: Final = {b"ON": True, b"OFF": False}
AUTO: Final = b"AUTO"
# What a plain number holds for, such as Home Assistant sends.
MINUTES: Final = 60


class CommandError(ValueError):
    """A command that is none, or is not obeyed; the text says why and what would be."""


class SetPoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command for the battery, or for a movable load.

    power_w : what it shall take; of a battery charging positive [W]
    minutes : for so long; then the plan is followed again
    at : when it was sent, seconds since 1970; left out: now
    """

    power_w: float
    minutes: Annotated[int, msgspec.Meta(ge=1, le=MINUTES_MAX)] = MINUTES
    at: float | None = None


class Commands:
    """Takes in the commands of one home.

    Parameters
    ----------
    at : Topics
    household : Household
    stale_s : float
        A command that was sent longer ago is not obeyed.
    now_s : callable
        Real time, since 1970. [s]
    market_ms : callable
        The market's time, which is that of devices. [ms]
    """

    def __init__(
        self,
        at: Topics,
        household: Household,
        stale_s: float,
        now_s: Callable[[], float] = time.time,
        market_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._household = household
        self._stale_s = stale_s
        self._now_s = now_s
        self._market_ms = market_ms
        self._obey: dict[str, Callable[[object], None]] = {
            at.trading_set: self._trade,
            at.battery_set: self._battery,
            at.reserve_set: self._reserve,
        }
        for name in household.devices.commandable:
            self._obey[at.device(name, "set")] = partial(self._device, name)
        # Commands that were none; the first is logged for all.
        self.refused = 0

    @property
    def topics(self) -> set[str]:
        """Where commands come in."""
        return set(self._obey)

    def heard(self, topic: str, payload: object, is_retained: bool) -> bool:
        """Obey a command; return whether it was. One that is not is counted."""
        try:
            if is_retained:
                raise CommandError("a kept command is not obeyed")
            self._obey[topic](payload)
        except (CommandError, PayloadError, HemsError) as error:
            log.log(logging.WARNING if not self.refused else logging.DEBUG, "%s: %s", topic, error)
            self.refused += 1
            return False
        return True

    def _trade(self, payload: object) -> None:
        is_on = SWITCH.get(bytes(payload)) if isinstance(payload, bytes | bytearray) else None
        if is_on is None:
            raise CommandError("a command is ON or OFF")
        self._household.trade(is_on)

    def _battery(self, payload: object) -> None:
        if payload == AUTO:
            self._household.battery.release()
            return
        wanted = self._fresh(_setpoint(payload))
        self._household.battery.command(wanted.power_w, wanted.minutes)

    def _device(self, name: str, payload: object) -> None:
        devices = self._household.devices
        if payload == AUTO:
            devices.release(name)
            return
        wanted = self._fresh(_setpoint(payload))
        devices.command(name, wanted.power_w, wanted.minutes, self._market_ms())

    def _fresh(self, wanted: SetPoint) -> SetPoint:
        if wanted.at is not None and not 0 <= self._now_s() - wanted.at <= self._stale_s:
            raise CommandError(
                f"sent {self._now_s() - wanted.at:.0f} s ago; one that is obeyed was sent 0 to "
                f"{self._stale_s:g} s ago"
            )
        return wanted

    def _reserve(self, payload: object) -> None:
        self._household.battery.keep_reserve(number_of(payload) / 100)


def _setpoint(payload: object) -> SetPoint:
    """Return what a command says: a number of W, or a JSON object."""
    if not isinstance(payload, bytes | bytearray) or not payload.startswith(b"{"):
        return SetPoint(number_of(payload))
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise CommandError(f"a command has at most {PAYLOAD_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(payload, type=SetPoint)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"a command is W, AUTO, or power_w and minutes: {error}") from None
