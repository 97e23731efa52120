"""Readings, state and the switch: taken in by hand, then through a real broker."""

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import aiomqtt
import pytest

from hems.config import ConstantHome, HomeConfig, LiveHome
from hems.devices import Battery
from hems.devices.loads import Load
from hems.errors import HemsError
from hems.home import HomeEnergyManager
from hems.sources.live import LiveSource
from market.client import Prices
from market.errors import QueryError
from node.home.devices import LiveDevices
from node.home.household import Household
from node.mqtt.bridge import Bridge
from node.mqtt.discovery import announcements, topics
from node.mqtt.settings import Meter, MqttSection
from tests.node.grid import until

BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
AT = topics("commonwatt", "home 1", "street")
START_MS = 1_700_000_100_000
PATIENCE_S = 30.0


class Steered:
    """What the bridge asks of a household's battery."""

    def __init__(self) -> None:
        self.rated: Battery | None = Battery(power_w=2_000)
        self.reserve = 0.1
        self.commanded: list[tuple[float, int]] = []

    def keep_reserve(self, soc: float) -> None:
        if not 0.1 <= soc < 1:
            raise HemsError(f"reserve {soc:g}")
        self.reserve = soc

    def command(self, power_w: float, minutes: int) -> None:
        if not -2_000 <= power_w <= 2_000:
            raise HemsError(f"power {power_w:g}")
        self.commanded.append((power_w, minutes))

    def release(self) -> None:
        self.commanded.clear()

    def state(self) -> dict[str, Any]:
        if self.rated is None:
            return {}
        by = "owner" if self.commanded else "plan"
        return {"setpoint_w": 0, "steered_by": by, "reserve": round(100 * self.reserve)}


class House:
    """What the bridge asks of a household."""

    def __init__(self, devices: LiveDevices | None = None) -> None:
        self.trades = True
        self.is_registered = True
        self.battery = Steered()
        self.devices = devices or LiveDevices(manager_of({}), None)

    def trade(self, is_on: bool) -> None:
        self.trades = is_on

    def snapshot(self) -> dict[str, Any]:
        if not self.is_registered:
            raise QueryError("not_a_home", "no home of that address")
        names = ("stored_wh", "bought_wh", "sold_wh", "total_micro", "saved_micro", "balance_micro")
        return dict.fromkeys(names, 1500000) | {"battery_wh": 6_000_000}

    def price_now(self) -> Prices:
        return Prices(7, 250_000, 80_000, 150_000, 160_000, 6, 0, 0)


def manager_of(devices: dict[str, Load], source: LiveSource | None = None) -> HomeEnergyManager:
    """Return the mind of a live home; without a source it is none."""
    home = ConstantHome() if source is None else LiveHome()
    config = HomeConfig(source=home, zone="UTC", devices=devices)
    return HomeEnergyManager(config, None, source)


class Clock:
    def __init__(self) -> None:
        self.ms = START_MS

    def __call__(self) -> int:
        return self.ms


def bridge_of(
    tmp_path: Path, port: int = 1_883, clock: Clock | None = None
) -> tuple[Bridge, House, LiveSource]:
    settings = MqttSection(
        port=port,
        load=Meter(topic="house/meter", field="power"),
        pv=Meter(topic="house/pv", unit="kWh"),
    )
    source = LiveSource(tmp_path / "measured.db", True, 1_000 * settings.stale_s)
    house = House()
    household = cast(Household, house)
    bridge = Bridge(
        settings, tmp_path, AT, "home 1", "AUD", "1.0", household, source, clock or Clock()
    )
    return bridge, house, source


def test_readings_reach_the_source_in_its_units(tmp_path: Path) -> None:
    clock = Clock()
    bridge, _, source = bridge_of(tmp_path, clock=clock)
    for minute in range(6):
        clock.ms = START_MS + 60_000 * minute
        bridge.heard("house/meter", b'{"power": 1200, "voltage": 231}')
        bridge.heard("house/pv", f"{1_000 + minute / 100:.3f}".encode())
    found = source.window(START_MS, START_MS + 300_000, 300_000)
    assert (found.load_wh.tolist(), found.pv_wh.tolist()) == ([100], [50])
    state = bridge.state()
    assert (state["load_w"], state["pv_w"], state["readings"]) == (1_200, 600, "ok")
    clock.ms += 600_000
    state = bridge.state()
    assert (state["load_w"], state["readings"]) == (None, "stale: load, pv")


def test_what_is_no_reading_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    bridge, house, source = bridge_of(tmp_path)
    bridge.heard("house/meter", b'{"power": "unavailable"}')
    bridge.heard("house/meter", b"<html>")
    bridge.heard("house/meter", b'{"power": 900}', is_retained=True)
    bridge.heard("house/elsewhere", b"5")
    bridge.heard("house/meter", b'{"power": 1e12}')
    assert source.last("load") is None
    assert source.faults.counts == {"load_absent": 1, "load_text": 1, "load_unit": 1}
    assert [fault["outcome"] for fault in source.faults.told()] == ["refused"] * 3
    for command, is_retained in ((b"on", False), (b"OFF", True), (b"\xff", False), (None, False)):
        bridge.heard(AT.trading_set, command, is_retained)
    assert house.trades
    assert bridge.commands.refused == 4


def test_the_switch_is_obeyed(tmp_path: Path) -> None:
    bridge, house, _ = bridge_of(tmp_path)
    bridge.heard(AT.trading_set, b"OFF")
    assert (house.trades, bridge.state()["trading"]) == (False, "OFF")
    bridge.heard(AT.trading_set, b"ON")
    assert (house.trades, bridge.state()["trading"]) == (True, "ON")


def test_a_home_shows_itself_before_the_chain_knows_it(tmp_path: Path) -> None:
    bridge, house, _ = bridge_of(tmp_path)
    house.is_registered = False
    battery = {"setpoint_w", "steered_by", "reserve"}
    assert set(bridge.state()) == {"trading", "load_w", "pv_w", "readings"} | battery
    house.battery.rated = None
    assert set(bridge.state()) == {"trading", "load_w", "pv_w", "readings"}
    house.is_registered = True
    assert bridge.state()["grid_price"] == 0.25
    assert bridge.state()["soc"] == 25


def test_every_value_shown_is_announced_and_told() -> None:
    found = dict(announcements("homeassistant", AT, "home 1", "AUD", "1.0"))
    configs = {topic: json.loads(payload) for topic, payload in found.items()}
    assert f"homeassistant/switch/{AT.identity}/trading/config" in configs
    assert AT.identity == "street-home-1"
    assert len({config["unique_id"] for config in configs.values()}) == len(configs)
    assert all(config["state_topic"] == AT.state for config in configs.values())
    prices = configs[f"homeassistant/sensor/{AT.identity}/grid_price/config"]
    assert prices["unit_of_measurement"] == "AUD/kWh"


def test_what_steers_a_battery_is_announced_within_its_bounds() -> None:
    battery = Battery(power_w=2_000, discharge_power_w=1_500, soc_min=0.15, soc_max=0.9)
    found = dict(announcements("homeassistant", AT, "home 1", "AUD", "1.0", battery))
    power = json.loads(found[f"homeassistant/number/{AT.identity}/setpoint_w/config"])
    assert (power["min"], power["max"], power["command_topic"]) == (-1_500, 2_000, AT.battery_set)
    reserve = json.loads(found[f"homeassistant/number/{AT.identity}/reserve/config"])
    assert (reserve["min"], reserve["max"], reserve["command_topic"]) == (15, 89, AT.reserve_set)
    button = json.loads(found[f"homeassistant/button/{AT.identity}/battery_auto/config"])
    assert (button["payload_press"], button["command_topic"]) == ("AUTO", AT.battery_set)


# -- a real broker -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


class Mosquitto:
    """A broker on a port of its own, which can be stopped and started again."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._config = directory / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert BROKER is not None
        self._process = subprocess.Popen(
            [BROKER, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError("the broker does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if BROKER is None:
        pytest.skip("no mosquitto on this machine")
    found = Mosquitto(tmp_path)
    found.start()
    yield found
    found.stop()


@contextlib.asynccontextmanager
async def speaking(bridge: Bridge) -> AsyncIterator[None]:
    task = asyncio.create_task(bridge.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Heard:
    """All that a broker has told a listener, the last of each topic."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self.last: dict[str, bytes] = {}

    async def until(self, topic: str, holds: Any) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while topic not in self.last or not holds(self.last[topic]):
                message = await anext(aiter(self._client.messages))
                self.last[message.topic.value] = cast(bytes, message.payload)
        return self.last[topic]


async def test_a_cancellation_that_the_client_swallows_is_obeyed(
    tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge, _, _ = bridge_of(tmp_path, broker.port)
    published = asyncio.Event()
    plain = aiomqtt.Client.publish

    async def swallowing(self: aiomqtt.Client, *args: Any, **kwargs: Any) -> None:
        await plain(self, *args, **kwargs)
        published.set()
        # As `asyncio.wait_for` does with one that comes as the answer does.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)

    monkeypatch.setattr(aiomqtt.Client, "publish", swallowing)
    task = asyncio.create_task(bridge.run())
    async with asyncio.timeout(PATIENCE_S):
        await published.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENCE_S)
    assert done == {task}
    assert task.cancelled()


async def test_a_broker_hears_the_home_and_the_home_its_meters(
    tmp_path: Path, broker: Mosquitto
) -> None:
    bridge, house, source = bridge_of(tmp_path, broker.port)
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("#", qos=1)
        heard = Heard(client)
        async with speaking(bridge):
            await heard.until(AT.availability, lambda payload: payload == b"online")
            assert f"homeassistant/sensor/{AT.identity}/saved/config" in heard.last
            await client.publish("house/meter", b'{"power": 640}', qos=1)
            await client.publish(AT.trading_set, b"OFF", qos=1)
            state = await heard.until(AT.state, lambda told: json.loads(told)["trading"] == "OFF")
            assert json.loads(state)["load_w"] == 640
            assert not house.trades
            await client.publish(AT.battery_set, b"-900", qos=1)
            await heard.until(AT.state, lambda told: json.loads(told)["steered_by"] == "owner")
            assert house.battery.commanded == [(-900.0, 60)]
            await client.publish(AT.reserve_set, b"35", qos=1)
            await heard.until(AT.state, lambda told: json.loads(told)["reserve"] == 35)
        await heard.until(AT.availability, lambda payload: payload == b"offline")
    last = source.last("load")
    assert last is not None
    assert last.power_w == 640


async def test_a_broker_that_goes_away_is_found_again(tmp_path: Path, broker: Mosquitto) -> None:
    bridge, _, source = bridge_of(tmp_path, broker.port)
    async with speaking(bridge):
        await until(lambda: bridge.is_connected, "the broker's welcome", PATIENCE_S)
        broker.stop()
        await until(lambda: not bridge.is_connected, "the loss", PATIENCE_S)
        broker.start()
        async with aiomqtt.Client("127.0.0.1", broker.port) as client:
            await client.subscribe(AT.availability, qos=1)
            await Heard(client).until(AT.availability, lambda payload: payload == b"online")
            async with asyncio.timeout(PATIENCE_S):
                while source.last("load") is None:
                    await client.publish("house/meter", b'{"power": 75}', qos=1)
                    await asyncio.sleep(0.05)
