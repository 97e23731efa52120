from pathlib import Path

import pytest

from node.config import Config, load_config, settings_text
from node.errors import ConfigError
from node.mqtt.payload import PAYLOAD_BYTES_MAX, PayloadError, number_of, switch_of
from node.mqtt.source import check_live

WHOLE = """
[mqtt]
host = "broker.lan"
username = "home"
password_file = "mqtt.password"

[mqtt.load]
topic = "zigbee2mqtt/main meter"
field = "power.total"

[mqtt.pv]
topic = "inverter/energy"
unit = "kWh"

[mqtt.battery]
topic = "inverter/battery"
discharging_positive = true
soc_topic = "inverter/battery"
soc_field = "soc"

[mqtt.devices.car]
topic = "wallbox/power"
unit = "kW"
in_load = true
plugged_topic = "wallbox/state"
soc_topic = "car/state"
soc_field = "battery"

[mqtt.devices.washer]
topic = "plug/washer"

[home.source]
kind = "live"

[home.devices.car]
kind = "car"
power_w = 11000

[home.devices.washer]
kind = "appliance"
profile_w = [2000, 100]

[home.battery]
capacity_wh = 10000
"""


def read(tmp_path: Path, text: str) -> Config:
    (tmp_path / "node.toml").write_text(text)
    return load_config(tmp_path / "node.toml", {})


def test_settings_are_read_and_written(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    assert config.mqtt is not None
    assert config.mqtt.load is not None
    assert config.mqtt.pv is not None
    assert (config.mqtt.load.is_power, config.mqtt.pv.is_power) == (True, False)
    again = read(tmp_path, settings_text(config))
    assert again == config
    assert config.home is not None
    assert check_live(config.home, config.mqtt) == config.mqtt


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[mqtt.load]", "[mqtt.devices.load]"), r"say in \[mqtt.load\]"),
        (("[home.devices.car]", "[home.devices.van]"), r"'car' is in \[mqtt.devices\]"),
        (("[mqtt.devices.washer]", "[mqtt.devices.dryer]"), r"'dryer' is in \[mqtt.devices\]"),
        (
            ('kind = "car"\npower_w = 11000', 'kind = "deferrable"\nenergy_wh = 9\npower_w = 11'),
            "are given for a car, and for nothing else",
        ),
    ],
)
def test_what_a_device_can_and_what_it_says_belong_together(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    assert change[0] in WHOLE
    config = read(tmp_path, WHOLE.replace(*change))
    assert config.home is not None
    with pytest.raises(ConfigError, match=words):
        check_live(config.home, config.mqtt)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('field = "power.total"', 'unit = "VA"'), "unit 'VA': one of W, kW, Wh, kWh, MWh"),
        (('topic = "inverter/energy"', 'topic = "inverter/#"'), r"no \+ and no #"),
        (('topic = "inverter/energy"', 'topic = "$SYS/load"'), "not one of the broker's own"),
        (('field = "power.total"', 'field = "a..b"'), "names joined by dots"),
        (('soc_field = "soc"', 'unit = "kWh"'), "a battery's power is in W or kW"),
        (('soc_field = "soc"', ""), "same number of the same topic"),
        (('soc_topic = "inverter/battery"', 'soc_topic = "+"'), r"no \+ and no #"),
        (('soc_topic = "inverter/battery"', ""), "soc_topic"),
        (('plugged_topic = "wallbox/state"', ""), "a car says whether it is there"),
        (('topic = "plug/washer"', 'topic = "+/washer"'), r"no \+ and no #"),
        (('plugged_topic = "wallbox/state"', 'plugged_topic = "#"'), r"no \+ and no #"),
        (('unit = "kW"', 'unit = "A"'), "unit 'A': one of W, kW"),
        (('plugged_topic = "wallbox/state"', 'plugged_topic = "wallbox/power"'), "taken twice"),
        (('soc_field = "battery"', 'needed_topic = "car/lacks"'), "one of them says how full"),
        (('soc_field = "battery"', 'needed_field = "lacks"'), "give needed_topic, too"),
        (('soc_field = "battery"', 'needed_unit = "%"'), "needed_unit '%': one of Wh, kWh"),
        (('soc_field = "battery"', "volts = 1"), r"unknown key 'volts' in \[mqtt.devices.car\]"),
        (('kind = "appliance"', 'kind = "heat_pump"'), "profile_w"),
        (('host = "broker.lan"', 'host = ""'), "host and port of the broker"),
        (('username = "home"', "stale_s = 1"), "stale_s 1: 5 to 3600 seconds"),
        (('username = "home"', 'ca_file = "ca.pem"'), "ca_file is for tls = true"),
        (('username = "home"', 'user = "home"'), r"unknown key 'user' in \[mqtt\]"),
        (
            (
                'topic = "inverter/energy"',
                'topic = "zigbee2mqtt/main meter"\nfield = "power.total"',
            ),
            "the same number of the same topic",
        ),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in WHOLE
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, WHOLE.replace(*change))


@pytest.mark.parametrize(
    ("payload", "field", "number"),
    [
        (b"412.5", "", 412.5),
        (b" -3 ", "", -3.0),
        (b'{"power": {"total": 7}}', "power.total", 7.0),
        (b'{"power": "7.25"}', "power", 7.25),
    ],
)
def test_a_number_is_found(payload: bytes, field: str, number: float) -> None:
    assert number_of(payload, field) == number


@pytest.mark.parametrize(
    ("payload", "field", "kind"),
    [
        (b"unavailable", "", "absent"),
        (b"", "", "absent"),
        (b"NaN", "", "absent"),
        (b"1e999", "", "text"),
        (b"12 W", "", "text"),
        (b"\xff\xfe", "", "text"),
        (b"{", "power", "text"),
        (b'{"power\xff": 1}', "power", "text"),
        (b"[" * 5_000, "power", "text"),
        (b"{}", "power", "absent"),
        (b"3", "power", "absent"),
        (b'{"power": null}', "power", "absent"),
        (b'{"power": true}', "power", "text"),
        (b'{"power": [1]}', "power", "text"),
        (b"1" * (PAYLOAD_BYTES_MAX + 1), "", "size"),
        (None, "", "size"),
    ],
)
def test_what_is_no_number_says_why(payload: object, field: str, kind: str) -> None:
    with pytest.raises(PayloadError) as caught:
        number_of(payload, field)
    assert caught.value.kind == kind
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("payload", "field", "is_on"),
    [
        (b"on", "", True),
        (b" OFF\n", "", False),
        (b"true", "", True),
        (b"0", "", False),
        (b"B", "", True),
        (b"A", "", False),
        (b'{"plug": {"in": true}}', "plug.in", True),
        (b'{"in": 0}', "in", False),
        (b'{"in": "ON"}', "in", True),
    ],
)
def test_on_and_off_are_found(payload: bytes, field: str, is_on: bool) -> None:
    assert switch_of(payload, field) is is_on


@pytest.mark.parametrize(
    ("payload", "field", "kind"),
    [
        (b"unavailable", "", "absent"),
        (b"", "", "absent"),
        (b'{"in": null}', "in", "absent"),
        (b"{}", "in", "absent"),
        (b"2", "", "text"),
        (b"1.0", "", "text"),
        (b"connected?", "", "text"),
        (b'{"in": [true]}', "in", "text"),
        (b"\xff\xfe", "", "text"),
        (b"1" * (PAYLOAD_BYTES_MAX + 1), "", "size"),
        (None, "", "size"),
    ],
)
def test_what_is_neither_on_nor_off_says_why(payload: object, field: str, kind: str) -> None:
    with pytest.raises(PayloadError) as caught:
        switch_of(payload, field)
    assert caught.value.kind == kind
