"""What a home announces to Home Assistant, and where it says what it has to say.

One message per entity, kept by the broker: `DISCOVERY/sensor/ID/NAME/config`. All values are in one
JSON object at `BASE/ID/state`; whether they can be believed is at `BASE/ID/availability`.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from hems.devices import Battery
from hems.devices.loads import Appliance, Car, Load

ONLINE: Final = "online"
OFFLINE: Final = "offline"
_UNSAFE: Final = re.compile("[^0-9A-Za-z_-]+")


class Topics(NamedTuple):
    """Where one home speaks and listens."""

    identity: str
    state: str
    availability: str
    trading_set: str
    battery_set: str
    reserve_set: str
    setpoint: str
    devices: str

    def device(self, name: str, what: str) -> str:
        """Return one topic of a movable load: `set`, `setpoint` or `start`."""
        return f"{self.devices}/{name}/{what}"


class Sensor(NamedTuple):
    """An entity that shows a number of the state: its key there, its words, unit and kinds."""

    key: str
    name: str
    unit: str | None = None
    device_class: str | None = None
    state_class: str | None = "measurement"


def sensors(currency: str) -> tuple[Sensor, ...]:
    """Return what a home shows, in a community's currency."""
    price = f"{currency}/kWh"
    return (
        Sensor("load_w", "Load", "W", "power"),
        Sensor("pv_w", "Production", "W", "power"),
        Sensor("battery_w", "Battery charging", "W", "power"),
        Sensor("grid_price", "Grid price", price),
        Sensor("feed_in_price", "Feed-in price", price),
        Sensor("sell_price", "Suggested price to sell at", price),
        Sensor("buy_price", "Suggested price to buy at", price),
        Sensor("bought_kwh", "Bought from neighbours", "kWh", "energy", "total_increasing"),
        Sensor("sold_kwh", "Sold to neighbours", "kWh", "energy", "total_increasing"),
        Sensor("bill", "Bill so far", currency, "monetary", "total"),
        Sensor("saved", "Saved so far", currency, "monetary", "total"),
        Sensor("balance", "Balance", currency, "monetary", "total"),
        Sensor("soc", "Battery", "%", "battery"),
        Sensor("readings", "Meter readings", None, None, None),
    )


def topics(base: str, name: str, chain: str) -> Topics:
    """Return the topics of a home of a chain; what topics do not take stands as a dash."""
    identity = _UNSAFE.sub("-", f"{chain}-{name}")
    root = f"{base}/{identity}"
    return Topics(
        identity,
        state=f"{root}/state",
        availability=f"{root}/availability",
        trading_set=f"{root}/trading/set",
        battery_set=f"{root}/battery/set",
        reserve_set=f"{root}/reserve/set",
        setpoint=f"{root}/battery/setpoint",
        devices=f"{root}/devices",
    )


def announcements(
    prefix: str,
    at: Topics,
    name: str,
    currency: str,
    version: str,
    battery: Battery | None = None,
    devices: Mapping[str, Load] | None = None,
) -> list[tuple[str, bytes]]:
    """Return the discovery messages, each with its topic.

    With a battery what steers it, too; and what live devices say and are asked for.
    """
    common: dict[str, Any] = {
        "state_topic": at.state,
        "availability_topic": at.availability,
        "device": {
            "identifiers": [at.identity],
            "name": f"Commonwatt {name}",
            "manufacturer": "Commonwatt",
            "sw_version": version,
        },
    }
    found = []
    for sensor in sensors(currency):
        known = {
            "unit_of_measurement": sensor.unit,
            "device_class": sensor.device_class,
            "state_class": sensor.state_class,
        }
        config = common | {key: value for key, value in known.items() if value is not None}
        config |= _entity(at, sensor.key, sensor.name)
        found.append((f"{prefix}/sensor/{at.identity}/{sensor.key}/config", config))
    switch = common | _entity(at, "trading", "Trading")
    switch |= {"command_topic": at.trading_set, "state_on": "ON", "state_off": "OFF"}
    found.append((f"{prefix}/switch/{at.identity}/trading/config", switch))
    for kind, key, config in _steering(at, battery) if battery is not None else ():
        found.append((f"{prefix}/{kind}/{at.identity}/{key}/config", common | config))
    for device, load in (devices or {}).items():
        for kind, key, config in _of_device(at, device, load):
            found.append((f"{prefix}/{kind}/{at.identity}/{key}/config", common | config))
    return [(topic, msgspec.json.encode(config)) for topic, config in found]


def _steering(at: Topics, battery: Battery) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what steers a battery: each entity's kind, key and settings."""
    power = {
        "command_topic": at.battery_set,
        "min": -battery.discharge_limit_w,
        "max": battery.charge_limit_w,
        "step": 1,
        "unit_of_measurement": "W",
        "device_class": "power",
    }
    reserve = {
        "command_topic": at.reserve_set,
        "min": math.ceil(100 * battery.soc_min),
        "max": math.ceil(100 * battery.soc_max) - 1,
        "step": 1,
        "unit_of_measurement": "%",
    }
    auto = _entity(at, "battery_auto", "Battery by its plan")
    auto |= {"command_topic": at.battery_set, "payload_press": "AUTO"}
    return [
        ("number", "setpoint_w", _entity(at, "setpoint_w", "Battery set-point") | power),
        ("number", "reserve", _entity(at, "reserve", "Battery reserve") | reserve),
        ("sensor", "steered_by", _entity(at, "steered_by", "Battery steered by")),
        ("button", "battery_auto", auto),
    ]


def _of_device(at: Topics, device: str, load: Load) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield what shows and steers a movable load: each entity's kind, key and settings."""

    def entity(key: str, name: str, **more: Any) -> tuple[str, dict[str, Any]]:
        whole = f"device_{device}_{key}"
        config = _entity(at, whole, f"{device} {name}")
        config["value_template"] = f"{{{{ value_json.devices['{device}'].{key} }}}}"
        return whole, config | more

    watts = {"unit_of_measurement": "W", "device_class": "power"}
    yield "sensor", *entity("power_w", "power", state_class="measurement", **watts)
    yield "sensor", *entity("starts", "planned start", device_class="timestamp")
    if isinstance(load, Appliance):
        return
    if isinstance(load, Car):
        yield "binary_sensor", *entity("plugged", "plugged in", device_class="plug")
        percent = {"unit_of_measurement": "%", "device_class": "battery"}
        yield "sensor", *entity("soc", "state of charge", state_class="measurement", **percent)
    bounds = {"command_topic": at.device(device, "set"), "min": 0, "max": load.power_w, "step": 1}
    yield "number", *entity("setpoint_w", "set-point", **watts, **bounds)
    yield "sensor", *entity("steered_by", "steered by")
    auto = {"command_topic": at.device(device, "set"), "payload_press": "AUTO"}
    yield "button", *entity("auto", "by its plan", **auto)


def _entity(at: Topics, key: str, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "unique_id": f"{at.identity}-{key}",
        "object_id": f"{at.identity}_{key}",
        "value_template": f"{{{{ value_json.{key} }}}}",
    }
