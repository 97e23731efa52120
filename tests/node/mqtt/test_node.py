"""A whole node whose home is measured through a broker."""

import json
from pathlib import Path

import aiomqtt
import msgspec
import pytest

from hems.config import HomeConfig, LiveHome
from node.errors import ConfigError
from node.mqtt.discovery import topics
from node.mqtt.settings import Meter, MqttSection
from tests.node.grid import Grid, make_genesis, running
from tests.node.mqtt.test_bridge import Heard, Mosquitto, broker

__all__ = ["broker"]


def street(directory: Path, mqtt: MqttSection | None, time_lapse: int = 1) -> Grid:
    grid = Grid(directory, make_genesis(1, time_lapse=time_lapse))
    member = grid.members[0]
    home = HomeConfig(source=LiveHome())
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
