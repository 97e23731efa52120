"""`[mqtt]`: the broker, and which topics say what."""

import re
from typing import Final

import msgspec

# To W, of a power that holds until the next; to Wh, of a register that only grows.
POWERS: Final = {"W": 1.0, "kW": 1_000.0}
COUNTERS: Final = {"Wh": 1.0, "kWh": 1_000.0, "MWh": 1_000_000.0}
# To Wh, of what a car lacks.
LEVELS: Final = {"Wh": 1.0, "kWh": 1_000.0}

PORT_MAX: Final = 65_535
TOPIC_CHARS_MAX: Final = 256
STALE_S_MIN: Final = 5
STALE_S_MAX: Final = 3_600
# Neither a wildcard nor what a broker keeps for itself.
_TOPIC: Final = re.compile(rf"[^$+#\0][^+#\0]{{0,{TOPIC_CHARS_MAX - 1}}}")
_FIELD: Final = re.compile(r"[0-9A-Za-z_-]{0,64}(\.[0-9A-Za-z_-]{1,64}){0,3}")


class Meter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mqtt.load]`, `[mqtt.pv]`: one of a home's meters.

    topic : where it speaks
    unit : W or kW, a power that holds until the next; or Wh, kWh or MWh, a register that only grows
    field : where in a JSON object the number stands, such as power or ENERGY.Total; empty: the
        payload is the number
    """

    topic: str
    unit: str = "W"
    field: str = ""

    def __post_init__(self) -> None:
        if not _TOPIC.fullmatch(self.topic):
            raise ValueError(
                f"topic {self.topic!r}: 1 to {TOPIC_CHARS_MAX} characters, no + and no #, and not "
                "one of the broker's own ($)"
            )
        if self.unit not in {**POWERS, **COUNTERS}:
            raise ValueError(f"unit {self.unit!r}: one of {', '.join([*POWERS, *COUNTERS])}")
        if not _FIELD.fullmatch(self.field):
            raise ValueError(f"field {self.field!r}: names joined by dots, such as ENERGY.Total")

    @property
    def is_power(self) -> bool:
        """Whether it tells power, not energy."""
        return self.unit in POWERS


class BatteryMeter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mqtt.battery]`: what a live home's battery says.

    topic, unit, field : where it tells its power, W or kW; as of a meter
    discharging_positive : whether that is positive while it gives; else while it takes
    soc_topic, soc_field : where it tells its state of charge, in percent
    """

    topic: str
    soc_topic: str
    unit: str = "W"
    field: str = ""
    discharging_positive: bool = False
    soc_field: str = ""

    def __post_init__(self) -> None:
        if self.unit not in POWERS:
            raise ValueError(f"unit {self.unit!r}: a battery's power is in {' or '.join(POWERS)}")
        # The same words for what is wrong with either.
        Meter(topic=self.topic, field=self.field)
        Meter(topic=self.soc_topic, field=self.soc_field)
        if (self.topic, self.field) == (self.soc_topic, self.soc_field):
            raise ValueError("power and state of charge are the same number of the same topic")


class DeviceMeter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mqtt.devices.NAME]`: what a movable load of a live home says; its plan is made for
    `[home.devices.NAME]`.

    topic, unit, field : where it tells what it takes; as of a meter
    in_load : whether the home's load is measured with it
    plugged_topic, plugged_field : where a car's charging point tells whether the car is there: on,
        true or 1; or off, false or 0
    soc_topic, soc_field : where a car tells its state of charge, in percent
    needed_topic, needed_field, needed_unit : or what it lacks to what it shall leave with, in Wh
        or kWh
    """

    topic: str
    unit: str = "W"
    field: str = ""
    in_load: bool = False
    plugged_topic: str = ""
    plugged_field: str = ""
    soc_topic: str = ""
    soc_field: str = ""
    needed_topic: str = ""
    needed_field: str = ""
    needed_unit: str = "kWh"

    def __post_init__(self) -> None:
        numbers = [(self.topic, self.field)]
        # The same words for what is wrong with any.
        Meter(topic=self.topic, unit=self.unit, field=self.field)
        for name in ("plugged", "soc", "needed"):
            topic, field = getattr(self, f"{name}_topic"), getattr(self, f"{name}_field")
            if topic:
                Meter(topic=topic, field=field)
                numbers.append((topic, field))
            elif field:
                raise ValueError(f"{name}_field: give {name}_topic, too")
        if len(set(numbers)) < len(numbers):
            raise ValueError("the same number of the same topic is taken twice")
        if bool(self.plugged_topic) != bool(self.soc_topic or self.needed_topic):
            raise ValueError(
                "a car says whether it is there (plugged_topic) and how full it is (soc_topic or "
                "needed_topic); any other load says neither"
            )
        if self.soc_topic and self.needed_topic:
            raise ValueError("soc_topic and needed_topic: one of them says how full it is")
        if self.needed_unit not in LEVELS:
            raise ValueError(f"needed_unit {self.needed_unit!r}: one of {', '.join(LEVELS)}")

    @property
    def is_power(self) -> bool:
        """Whether it tells power, not energy."""
        return self.unit in POWERS

    @property
    def is_car(self) -> bool:
        """Whether it says what only a car does."""
        return bool(self.plugged_topic)


class MqttSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[mqtt]`: the broker that this home's meters speak to; without this section there is none.

    host, port : of the broker
    username, password_file : as the broker asks for; empty: none
    tls, ca_file : whether to speak TLS, and whom to believe if not the system's authorities
    base : this home's topics begin with it and its name
    discovery : Home Assistant's prefix; empty: nothing is announced to it
    stale_s : a meter that says nothing for so long is not believed any more
    load, pv : the meters; a `live` home has at least the first
    battery : what its battery says, where it has one
    devices : what its movable loads say, by the names they have in [home.devices]
    """

    host: str = "127.0.0.1"
    port: int = 1883
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    base: str = "commonwatt"
    discovery: str = "homeassistant"
    stale_s: int = 300
    load: Meter | None = None
    pv: Meter | None = None
    battery: BatteryMeter | None = None
    devices: dict[str, DeviceMeter] = {}

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= PORT_MAX:
            raise ValueError(f"host and port of the broker, not {self.host!r} and {self.port}")
        for name in ("base", "discovery"):
            topic = getattr(self, name)
            if not (_TOPIC.fullmatch(topic) or (name == "discovery" and not topic)):
                raise ValueError(f"{name} {topic!r}: the beginning of a topic, no + and no #")
        if not STALE_S_MIN <= self.stale_s <= STALE_S_MAX:
            raise ValueError(f"stale_s {self.stale_s}: {STALE_S_MIN} to {STALE_S_MAX} seconds")
        if self.ca_file and not self.tls:
            raise ValueError("ca_file is for tls = true")
        load, pv = self.load, self.pv
        if load and pv and (load.topic, load.field) == (pv.topic, pv.field):
            raise ValueError("load and pv are the same number of the same topic")
