"""Decoders of what meters say: a home's own through a broker, the feeder's in a file."""

import math
from typing import Final

from node.alarms import read_head
from node.errors import MeteringError
from node.mqtt.payload import PayloadError, number_of
from tests.fuzz.file_targets import from_file
from tests.fuzz.judge import Target, Told
from tests.node.mqtt.test_bridge import AT
from tests.node.mqtt.test_commands import commands_of

FIELD: Final = "ENERGY.Total"


def meter_payload() -> Target:
    def read(data: bytes) -> float:
        # A number by itself where there is no object: both ways of a meter in one.
        return number_of(data, FIELD if data.lstrip()[:1] == b"{" else "")

    def check(number: float, data: bytes) -> str | None:
        return None if math.isfinite(number) else f"a meter said {number}"

    return Target(
        "meter-payload",
        read,
        (PayloadError,),
        (b"412.5", b"-3e2", b'{"ENERGY": {"Total": 12.75}, "at": "2026-11-05T02:45:00"}'),
        kind="text",
        check=check,
        words=(b"unavailable", b"NaN", b"1e999", b"null", b'"ENERGY"', b'"Total"', b"[", b"{"),
    )


def battery_command() -> Target:
    """What is commanded of the battery through the broker, obeyed or refused."""
    commands, house = commands_of()

    def heard(data: bytes) -> int:
        house.battery.commanded.clear()
        if not commands.heard(AT.battery_set, data, False):
            raise Told("not obeyed")
        return len(house.battery.commanded)

    def check(obeyed: int, data: bytes) -> str | None:
        good = all(math.isfinite(w) and minutes >= 1 for w, minutes in house.battery.commanded)
        return None if good else f"the battery was told {house.battery.commanded}"

    return Target(
        "battery-command",
        heard,
        (Told,),
        (b"1500", b"AUTO", b'{"power_w": -800, "minutes": 15}', b'{"power_w": 0}'),
        kind="text",
        check=check,
        words=(b"AUTO", b"NaN", b"1e999", b"null", b'"at"', b'"minutes"', b"-", b"2001"),
    )


def head_file() -> Target:
    """What the regulator's head meter counted, as a file."""

    def check(found: dict[int, int], data: bytes) -> str | None:
        good = all(slot >= 0 and abs(wh) < 10**16 for slot, wh in found.items())
        return None if good else f"a head meter counted {found}"

    return Target(
        "head-file",
        from_file("head.csv", read_head),
        (MeteringError,),
        (
            b"slot,import_wh,export_wh\n7,1200,0\n8,0,310\n",
            '\ufeffslot,note,import_wh,export_wh\r\n7,"a\nb",1,2\r\n'.encode(),
        ),
        kind="text",
        check=check,
        words=(b"slot", b"import_wh", b"export_wh", b'"', b"\0", b"-1", b"\xd9\xa3", b",,,,"),
    )


TARGETS: Final = (meter_payload, battery_command, head_file)
