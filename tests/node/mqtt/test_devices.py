"""A car and a washing machine at a broker: heard, shown, asked, commanded; never blindly."""

import json
import tempfile
from pathlib import Path
from typing import Any, cast

import aiomqtt
import numpy as np
import pytest

from hems.civil import MINUTE_MS
from hems.devices.loads import Appliance, Car, Load
from hems.home import MarketView
from hems.sources.live import LiveSource
from node.home.devices import LiveDevices
from node.home.household import Household
from node.mqtt.bridge import Bridge
from node.mqtt.discovery import announcements
from node.mqtt.settings import DeviceMeter, Meter, MqttSection
from tests.node.mqtt.test_bridge import (
    AT,
    START_MS,
    Clock,
    Heard,
    House,
    Mosquitto,
    broker,
    manager_of,
    speaking,
)

__all__ = ["broker"]

SLOT_MS = 15 * MINUTE_MS
# A slot that has just begun.
NOW_MS = START_MS - START_MS % SLOT_MS
CAR = Car(capacity_wh=40_000, power_w=7_000, arrive="00:01", leave="24:00")
WASHER = Appliance(profile_w=(2_000, 100))
LOADS: dict[str, Load] = {"car": CAR, "washer": WASHER}
METERS = {
    "car": DeviceMeter(
        topic="car/kw",
        unit="kW",
        plugged_topic="car/plugged",
        soc_topic="car/state",
        soc_field="soc",
    ),
    "washer": DeviceMeter(topic="washer/power"),
}


class Driven:
    """A bridge whose home plans 3 kW for the car now, and the washer to begin."""

    def __init__(self, path: Path | None = None, port: int = 1_883) -> None:
        if path is None:
            self._own = tempfile.TemporaryDirectory()
            path = Path(self._own.name)
        self.clock = Clock()
        self.clock.ms = NOW_MS
        settings = MqttSection(port=port, load=Meter(topic="house/power"), devices=METERS)
        stale_ms = 1_000 * settings.stale_s
        self.source = LiveSource(path / "measured.db", False, stale_ms, None, METERS)
        self.manager = manager_of(LOADS, self.source)
        self.devices = LiveDevices(self.manager, self.source)
        household = cast(Household, House(self.devices))
        self.bridge = Bridge(
            settings, path, AT, "home 1", "AUD", "1.0", household, self.source, self.clock
        )
        view = MarketView(lambda ms: 300_000, 100_000)
        planned = self.manager.plan_slot(NOW_MS, SLOT_MS, view)
        car_wh, washer_wh = np.zeros((2, len(planned.plan.given.step_ms)))
        car_wh[0], washer_wh[0] = 750, 500
        plan = planned.plan._replace(device_wh={"car": car_wh, "washer": washer_wh})
        self.manager.planned = planned._replace(plan=plan)

    def come(self) -> None:
        """Let the car be there, half full, and know it; each time a moment later."""
        self.clock.ms += 1
        self.bridge.heard("car/kw", b"0")
        self.bridge.heard("car/plugged", b"on")
        self.bridge.heard("car/state", b'{"soc": 50}')

    def asked(self) -> dict[str, int | None]:
        return self.devices.asked(self.clock.ms)


def test_a_car_is_heard_in_its_units_and_shown(tmp_path: Path) -> None:
    driven = Driven(tmp_path)
    driven.come()
    driven.clock.ms += 1
    driven.bridge.heard("car/kw", b"1.25")
    shown = driven.bridge.state()
    assert shown["readings"] == "stale: load, washer"
    car = shown["devices"]["car"]
    assert (car["power_w"], car["plugged"], car["setpoint_w"]) == (1_250, "ON", 3_000)
    assert car["starts"] == "2023-11-14T22:15:00+00:00"
    assert "car_w" not in shown
    driven.bridge.heard("car/plugged", b"off")
    car = driven.bridge.state()["devices"]["car"]
    assert (car["plugged"], car["setpoint_w"]) == ("OFF", None)
    driven.clock.ms += 300_001
    shown = driven.bridge.state()
    assert (shown["devices"]["car"]["power_w"], shown["devices"]["car"]["plugged"]) == (None, None)
    assert shown["readings"] == "stale: load, car, washer"


@pytest.mark.parametrize(
    ("topic", "payload", "is_retained", "fault"),
    [
        ("car/plugged", b"maybe", False, "car_text"),
        ("car/plugged", b"unavailable", False, "car_absent"),
        ("car/plugged", b"on", True, ""),
        ("car/state", b'{"soc": "full"}', False, "car_text"),
        ("car/state", b'{"soc": 101}', False, "car_soc"),
        ("car/state", b'{"soc": 55}', True, ""),
        ("car/state", b"55", False, "car_absent"),
        ("car/kw", b"-3", False, "car_negative"),
        ("car/kw", b"7000", False, "car_unit"),
        ("car/kw", b"1", True, ""),
    ],
)
def test_what_a_car_cannot_say_is_counted_and_not_believed(
    tmp_path: Path, topic: str, payload: bytes, is_retained: bool, fault: str
) -> None:
    driven = Driven(tmp_path)
    for said_on, said in (("car/kw", b"0"), ("car/plugged", b"on"), ("car/state", b'{"soc": 50}')):
        if said_on != topic:
            driven.bridge.heard(said_on, said)
    driven.bridge.heard(topic, payload, is_retained)
    assert driven.asked()["car"] is None
    assert driven.source.faults.counts == ({fault: 1} if fault else {})
    told = driven.source.faults.told()
    assert [one["channel"] for one in told] == (["car"] if fault else [])


@pytest.mark.parametrize(
    ("payload", "asked_w"),
    [(b"1500", 1_500), (b'{"power_w": 0, "minutes": 5}', 0), (b"AUTO", 3_000), (b"7000", 7_000)],
)
def test_a_car_is_commanded_by_its_owner(tmp_path: Path, payload: bytes, asked_w: int) -> None:
    driven = Driven(tmp_path)
    driven.come()
    assert driven.bridge.commands.heard(AT.device("car", "set"), payload, False)
    assert driven.asked()["car"] == asked_w


@pytest.mark.parametrize(
    ("payload", "is_retained"),
    [
        (b"1500", True),
        (b"7001", False),
        (b"-1", False),
        (b"nan", False),
        (b"full", False),
        (b"", False),
        (None, False),
        (b'{"power_w": 500, "minutes": 241}', False),
        (b'{"power_w": 500, "at": 1}', False),
        (b'{"power_w": 500, "at": 99999999999}', False),
    ],
)
def test_a_car_obeys_nothing_stale_out_of_range_or_unclear(
    tmp_path: Path, payload: Any, is_retained: bool
) -> None:
    driven = Driven(tmp_path)
    driven.come()
    assert not driven.bridge.commands.heard(AT.device("car", "set"), payload, is_retained)
    assert (driven.asked()["car"], driven.bridge.commands.refused) == (3_000, 1)


def test_a_car_that_is_not_there_is_not_commanded(tmp_path: Path) -> None:
    driven = Driven(tmp_path)
    assert not driven.bridge.commands.heard(AT.device("car", "set"), b"1500", False)
    driven.come()
    driven.bridge.heard("car/plugged", b"off")
    assert not driven.bridge.commands.heard(AT.device("car", "set"), b"1500", False)
    assert AT.device("washer", "set") not in driven.bridge.commands.topics


def test_devices_are_announced_with_their_bounds() -> None:
    found = dict(announcements("homeassistant", AT, "home 1", "AUD", "1.0", None, LOADS))
    configs = {topic: json.loads(payload) for topic, payload in found.items()}
    power = configs[f"homeassistant/number/{AT.identity}/device_car_setpoint_w/config"]
    assert (power["min"], power["max"]) == (0, 7_000)
    assert power["command_topic"] == AT.device("car", "set")
    assert power["value_template"] == "{{ value_json.devices['car'].setpoint_w }}"
    assert f"homeassistant/binary_sensor/{AT.identity}/device_car_plugged/config" in configs
    starts = configs[f"homeassistant/sensor/{AT.identity}/device_washer_starts/config"]
    assert starts["device_class"] == "timestamp"
    assert f"homeassistant/number/{AT.identity}/device_washer_setpoint_w/config" not in configs
    assert len({config["unique_id"] for config in configs.values()}) == len(configs)


# -- a real broker -------------------------------------------------------------------------------


async def test_a_broker_tells_the_car_what_the_plan_wants_until_it_leaves(
    tmp_path: Path, broker: Mosquitto
) -> None:
    driven = Driven(tmp_path, broker.port)
    setpoint, start = AT.device("car", "setpoint"), AT.device("washer", "start")
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(f"{AT.state.removesuffix('state')}#", qos=1)
        heard = Heard(client)

        async def shown(holds: Any) -> dict[str, Any]:
            def is_so(told: bytes) -> bool:
                return bool(holds(json.loads(told)["devices"]["car"]))

            return dict(json.loads(await heard.until(AT.state, is_so))["devices"]["car"])

        async with speaking(driven.bridge):
            await shown(lambda car: car["setpoint_w"] is None)
            assert setpoint not in heard.last
            # Another moment for each: what is said at one moment counts once.
            driven.clock.ms += 1
            await client.publish("washer/power", "1", qos=1)
            await client.publish("car/kw", "0", qos=1)
            await client.publish("car/state", '{"soc": 50}', qos=1)
            await client.publish("car/plugged", "on", qos=1)
            assert await heard.until(setpoint, lambda told: told == b"3000")
            assert await heard.until(start, lambda told: told == b"START")
            await client.publish(AT.device("car", "set"), "9000", qos=1)
            await client.publish(AT.device("car", "set"), "1800", qos=1)
            assert await heard.until(setpoint, lambda told: told == b"1800")
            car = await shown(lambda car: car["steered_by"] == "owner")
            assert (car["plugged"], car["minutes_left"]) == ("ON", 60)
            await client.publish("car/plugged", "off", qos=1)
            await shown(lambda car: car["plugged"] == "OFF")
            del heard.last[setpoint]
            await client.publish(AT.device("car", "set"), "1800", qos=1)
            # What comes after it has been seen, too; of the car nothing was told meanwhile.
            await client.publish(AT.trading_set, "OFF", qos=1)
            await heard.until(AT.state, lambda told: json.loads(told)["trading"] == "OFF")
            assert setpoint not in heard.last
            assert driven.bridge.commands.refused == 2
        await heard.until(AT.availability, lambda told: told == b"offline")
