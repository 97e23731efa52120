"""A live home's source of readings, once its settings say all that is needed and agree."""

from pathlib import Path

from hems.civil import MINUTE_MS
from hems.config import HomeConfig
from hems.devices.loads import Car
from hems.sources.checked import Faults
from hems.sources.live import BIN_MS, LiveSource
from market.genesis import MarketParams
from node.errors import ConfigError
from node.mqtt.settings import MqttSection
from node.setup import LIVE_NAME


def check_live(home: HomeConfig, mqtt: MqttSection | None) -> MqttSection:
    """Return the broker's settings of a live home.

    Raises
    ------
    ConfigError
        A meter is missing, or what `[home]` can and what `[mqtt]` says do not belong together.
    """
    if mqtt is None or mqtt.load is None:
        raise ConfigError("[home.source] is live: say in [mqtt.load] what its meter speaks on")
    if (home.battery is None) != (mqtt.battery is None):
        raise ConfigError(
            "[home.source] is live: its battery is said twice, what it can in [home.battery], "
            "what it does in [mqtt.battery]; give both, or neither"
        )
    for name in sorted(home.devices.keys() ^ mqtt.devices.keys()):
        there, lacks = "home", "mqtt"
        if name in mqtt.devices:
            there, lacks = lacks, there
        raise ConfigError(
            f"[home.source] is live: {name!r} is in [{there}.devices] and not in "
            f"[{lacks}.devices]; what it can stands in [home.devices.{name}], what it does in "
            f"[mqtt.devices.{name}]"
        )
    for name, meter in mqtt.devices.items():
        if isinstance(home.devices[name], Car) != meter.is_car:
            raise ConfigError(
                f"[mqtt.devices.{name}]: plugged_topic and soc_topic or needed_topic are given for "
                "a car, and for nothing else"
            )
    return mqtt


def check_market(market: MarketParams) -> None:
    """Raise `ConfigError` if a market's slots are none that meters can measure."""
    if market.time_lapse != 1 or market.slot_minutes * MINUTE_MS % BIN_MS:
        raise ConfigError(
            f"[home.source] is live: meters need a market in real time and slots of a multiple "
            f"of {BIN_MS // MINUTE_MS} minutes; this one runs {market.time_lapse} times as "
            f"fast, with slots of {market.slot_minutes}"
        )


def open_live(
    home: HomeConfig, mqtt: MqttSection | None, market: MarketParams, data: Path, name: str
) -> LiveSource:
    """Return where the readings of a live home's meters go.

    Raises
    ------
    ConfigError
        As `check_live`; or the market's slots are none that can be measured.
    DataError
        The file in `data` cannot be opened.
    """
    mqtt = check_live(home, mqtt)
    check_market(market)
    in_load = [device for device, meter in mqtt.devices.items() if meter.in_load]
    return LiveSource(
        data / LIVE_NAME,
        mqtt.pv is not None,
        1_000 * mqtt.stale_s,
        Faults(name),
        mqtt.devices,
        in_load,
    )
