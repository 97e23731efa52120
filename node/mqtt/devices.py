"""What a live home's movable loads say through a broker, and what is asked of them there."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hems.devices.loads import Appliance
from hems.sources.live import LiveSource
from node.home.devices import LiveDevices
from node.mqtt.discovery import Topics
from node.mqtt.payload import PayloadError, number_of, switch_of
from node.mqtt.settings import LEVELS, DeviceMeter

# What an appliance hears when it is to begin.
START: Final = "START"
_SWITCH: Final = {True: "ON", False: "OFF", None: None}


class DeviceListener:
    """Hears whether cars are there and how full; what loads take is heard as of any meter.

    Parameters
    ----------
    meters : mapping of str to DeviceMeter
    devices : LiveDevices
    source : LiveSource or None
        Where messages that say nothing are counted; None: there are no meters.
    """

    def __init__(
        self, meters: Mapping[str, DeviceMeter], devices: LiveDevices, source: LiveSource | None
    ) -> None:
        self.meters = dict(meters)
        self._devices = devices
        self._source = source

    @property
    def topics(self) -> set[str]:
        """Where cars speak, beside their meters."""
        every = self.meters.values()
        named = {t for one in every for t in (one.plugged_topic, one.soc_topic, one.needed_topic)}
        return named - {""}

    def heard(self, topic: str, payload: object, at_ms: int) -> bool:
        """Take a message in; return whether a car said something in it."""
        has_said = False
        for name, meter in self.meters.items():
            for said_on, hear in (
                (meter.plugged_topic, self._plugged),
                (meter.soc_topic, self._soc),
                (meter.needed_topic, self._needed),
            ):
                if said_on != topic or self._source is None:
                    continue
                try:
                    hear(name, meter, payload, at_ms)
                except PayloadError as error:
                    self._source.note(name, error.kind, at_ms)
                else:
                    has_said = True
        return has_said

    def _plugged(self, name: str, meter: DeviceMeter, payload: object, at_ms: int) -> None:
        self._devices.heard_plugged(name, at_ms, switch_of(payload, meter.plugged_field))

    def _soc(self, name: str, meter: DeviceMeter, payload: object, at_ms: int) -> None:
        self._devices.heard_soc(name, at_ms, number_of(payload, meter.soc_field) / 100)

    def _needed(self, name: str, meter: DeviceMeter, payload: object, at_ms: int) -> None:
        needed_wh = number_of(payload, meter.needed_field) * LEVELS[meter.needed_unit]
        self._devices.heard_needed(name, at_ms, needed_wh)

    def is_believed(self, name: str, at_ms: int) -> bool:
        """Tell whether a car has said of late whether it is there; of other loads, true."""
        return self._devices.is_presence_known(name, at_ms)

    def asked(self, at: Topics, at_ms: int) -> Iterator[tuple[str, str]]:
        """Yield what is asked of each load now, with its topic; of most at most times nothing."""
        for name, power_w in self._devices.asked(at_ms).items():
            if power_w is None:
                continue
            if isinstance(self._devices.loads[name], Appliance):
                yield at.device(name, "start"), START
            else:
                yield at.device(name, "setpoint"), str(power_w)

    def state(self, at_ms: int) -> dict[str, dict[str, Any]]:
        """Return what is shown of each load, as Home Assistant reads it."""
        found = self._devices.state(at_ms)
        for shown in found.values():
            starts_ms = shown.pop("starts_ms")
            shown["starts"] = None
            if starts_ms is not None:
                shown["starts"] = datetime.fromtimestamp(starts_ms / 1_000, UTC).isoformat()
            if "plugged" in shown:
                shown["plugged"] = _SWITCH[shown["plugged"]]
        return found
