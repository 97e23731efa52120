"""A whole node whose home is measured through a broker."""

import json
from pathlib import Path

import aiomqtt
import msgspec
import pytest

from hems.config import HomeConfig, LiveHome
from hems.devices import Battery
from hems.devices.loads import Car, Load
from node.errors import ConfigError
from node.mqtt.discovery import topics
from node.mqtt.settings import BatteryMeter, DeviceMeter, Meter, MqttSection
from tests.node.grid import Grid, make_genesis, running
from tests.node.mqtt.test_bridge import Heard, Mosquitto, broker

__all__ = ["broker"]


def street(
    directory: Path,
    mqtt: MqttSection | None,
    time_lapse: int = 1,
    battery: Battery | None = None,
    devices: dict[str, Load] | None = None,
) -> Grid:
    grid = Grid(directory, make_genesis(1, time_lapse=time_lapse))
    member = grid.members[0]
    home = HomeConfig(source=LiveHome(), battery=battery, devices=devices or {})
    member.config = msgspec.structs.replace(member.config, home=home, mqtt=mqtt)
    return grid


async def test_a_home_hears_its_meter_and_shows_what_it_pays(
    tmp_path: Path, broker: Mosquitto
) -> None:
    mqtt = MqttSection(port=broker.port, load=Meter(topic="house/power"))
    grid = street(tmp_path, mqtt)
    at = topics("commonwatt", grid.members[0].config.node.name, grid.genesis.market.chain_id)
    async with running(grid, [0]), aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(at.state, qos=1)
        heard = Heard(client)
        await heard.until(at.state, lambda told: json.loads(told)["readings"] == "stale: load")
        await client.publish("house/power", "431.4", qos=1)
        told = await heard.until(at.state, lambda told: json.loads(told).get("load_w") == 431)
        assert json.loads(told)["readings"] == "ok"
        assert json.loads(told)["grid_price"] > 0
        await client.publish(at.trading_set, "OFF", qos=1)
        await heard.until(at.state, lambda told: json.loads(told)["trading"] == "OFF")
        household = grid.members[0].node.household
        assert household is not None
        assert not household.trades


async def test_a_real_battery_is_asked_for_nothing_blindly(
    tmp_path: Path, broker: Mosquitto
) -> None:
    meter = BatteryMeter(
        topic="house/battery", field="power", soc_topic="house/battery", soc_field="soc"
    )
    mqtt = MqttSection(port=broker.port, load=Meter(topic="house/power"), battery=meter)
    grid = street(tmp_path, mqtt, battery=Battery(capacity_wh=10_000, power_w=3_000))
    at = topics("commonwatt", grid.members[0].config.node.name, grid.genesis.market.chain_id)
    async with running(grid, [0]), aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(f"{at.state.removesuffix('state')}#", qos=1)
        heard = Heard(client)
        await heard.until(at.availability, lambda told: told == b"online")
        await client.publish(at.battery_set, "-1200", qos=1)
        told = await heard.until(at.state, lambda told: json.loads(told)["steered_by"] == "owner")
        assert json.loads(told)["setpoint_w"] is None
        assert at.setpoint not in heard.last
        await client.publish("house/battery", '{"power": 150, "soc": 64}', qos=1)
        assert await heard.until(at.setpoint, lambda told: told == b"-1200")
        told = await heard.until(at.state, lambda told: json.loads(told).get("battery_w") == 150)
        await client.publish(at.reserve_set, "80", qos=1)
        told = await heard.until(at.state, lambda told: json.loads(told)["reserve"] == 80)
        await client.publish(at.battery_set, "9000", qos=1)
        await client.publish(at.battery_set, "AUTO", qos=1)
        told = await heard.until(at.state, lambda told: json.loads(told)["steered_by"] == "plan")
        member = grid.members[0]
        assert member.node.household is not None
        assert member.node.household.manager.config.battery is not None
        assert member.node.household.manager.config.battery.soc_min == 0.8
    # The reserve outlives the daemon, the command does not.
    async with running(grid, [0]):
        household = grid.members[0].node.household
        assert household is not None
        assert household.battery.state()["reserve"] == 80
        assert household.battery.state()["steered_by"] == "plan"


async def test_a_real_car_is_asked_for_nothing_once_it_has_left(
    tmp_path: Path, broker: Mosquitto
) -> None:
    meter = DeviceMeter(
        topic="car/w", plugged_topic="car/plugged", needed_topic="car/lacks", in_load=True
    )
    mqtt = MqttSection(port=broker.port, load=Meter(topic="p"), devices={"car": meter})
    grid = street(tmp_path, mqtt, devices={"car": Car(capacity_wh=40_000, power_w=7_000)})
    at = topics("commonwatt", grid.members[0].config.node.name, grid.genesis.market.chain_id)
    setpoint = at.device("car", "setpoint")
    async with running(grid, [0]), aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(f"{at.state.removesuffix('state')}#", qos=1)
        heard = Heard(client)

        async def shown(key: str, value: object) -> None:
            def is_so(told: bytes) -> bool:
                return bool(json.loads(told)["devices"]["car"][key] == value)

            await heard.until(at.state, is_so)

        await heard.until(at.availability, lambda told: told == b"online")
        await client.publish("car/w", "0", qos=1)
        await client.publish("car/lacks", "4.5", qos=1)
        await client.publish("car/plugged", "true", qos=1)
        await shown("plugged", "ON")
        await client.publish(at.device("car", "set"), "2500", qos=1)
        assert await heard.until(setpoint, lambda told: told == b"2500")
        await client.publish("car/plugged", "false", qos=1)
        await shown("plugged", "OFF")
        household = grid.members[0].node.household
        assert household is not None
        assert household.devices.state(0)["car"]["steered_by"] == "plan"
        heard.last.pop(setpoint)
        await client.publish(at.device("car", "set"), "2500", qos=1)
        await client.publish(at.trading_set, "OFF", qos=1)
        await heard.until(at.state, lambda told: json.loads(told)["trading"] == "OFF")
        assert setpoint not in heard.last


async def test_a_battery_that_is_said_once_only_does_not_start(tmp_path: Path) -> None:
    mqtt = MqttSection(load=Meter(topic="p"))
    grid = street(tmp_path, mqtt, battery=Battery())
    with pytest.raises(ConfigError, match="its battery is said twice"):
        async with running(grid, [0]):
            pass


@pytest.mark.parametrize(
    ("mqtt", "time_lapse", "words"),
    [
        (None, 1, r"say in \[mqtt.load\]"),
        (MqttSection(), 1, r"say in \[mqtt.load\]"),
        (MqttSection(load=Meter(topic="p")), 900, "runs 900 times as fast"),
        (
            MqttSection(load=Meter(topic="p"), password_file="none"),
            1,
            "none: the password cannot be read",
        ),
    ],
)
async def test_a_home_that_cannot_be_measured_does_not_start(
    tmp_path: Path, mqtt: MqttSection | None, time_lapse: int, words: str
) -> None:
    grid = street(tmp_path, mqtt, time_lapse)
    with pytest.raises(ConfigError, match=words):
        async with running(grid, [0]):
            pass
