"""Decoders of what meters say, through a broker or in a file, and of what a home discloses."""

import math
from typing import Final

from node.errors import ConfigError, MeteringError, ProofError
from node.feeder.alarms import read_head
from node.home.detail import SlotDetail, decode_detail
from node.home.disclosure import (
    DISCLOSURE_BYTES_MAX,
    Disclosure,
    Period,
    auditor_key,
    disclose,
    key_text,
    open_period,
    read_disclosure,
    read_key_text,
)
from node.mqtt.payload import PayloadError, number_of
from tests.fuzz.file_targets import from_file
from tests.fuzz.judge import Target, Told
from tests.node.home.test_disclosure import CHAIN, HOME, KEY, METER, TO, signed, slot
from tests.node.mqtt.test_bridge import AT
from tests.node.mqtt.test_commands import commands_of
from tests.node.mqtt.test_devices import CAR, Driven
from wire.codec import decode, encode
from wire.errors import DecodeError

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


def car_command() -> Target:
    """What is commanded of a car through the broker, and what its charging point says of it."""
    told = Driven()

    def heard(data: bytes) -> int | None:
        told.come()
        told.bridge.heard("car/plugged", data)
        if not told.bridge.commands.heard(AT.device("car", "set"), data, False):
            raise Told("not obeyed")
        return told.devices.asked(told.clock.ms)["car"]

    def check(asked_w: int | None, data: bytes) -> str | None:
        good = asked_w is None or 0 <= asked_w <= CAR.power_w
        return None if good else f"the car was asked for {asked_w} W"

    return Target(
        "car-command",
        heard,
        (Told,),
        (b"1500", b"AUTO", b'{"power_w": 3000, "minutes": 15}'),
        kind="text",
        check=check,
        words=(b"AUTO", b"NaN", b"1e999", b"off", b"on", b'"at"', b'"minutes"', b"-", b"7001"),
    )


def disclosure_file() -> Target:
    """A disclosure whose maker signs whatever it holds, so that what is behind is read, too."""
    examples = tuple(
        disclose(slots, TO, CHAIN, HOME, METER)
        for slots in ([slot()], [slot(1, course=(None, (1, 0))), slot(2, devices={}), slot(9)])
    )

    def read(data: bytes) -> Period:
        try:
            period = decode(data, Disclosure, DISCLOSURE_BYTES_MAX).period
        except DecodeError:
            return read_disclosure(data)
        found = read_disclosure(signed(period))
        open_period(found, KEY)
        return found

    def check(period: Period, data: bytes) -> str | None:
        numbers = [sealed.slot for sealed in period.slots]
        return None if numbers == sorted(set(numbers)) else f"slots {numbers}"

    return Target("disclosure-file", read, (ProofError,), examples, check=check)


def slot_detail() -> Target:
    def check(detail: SlotDetail, data: bytes) -> str | None:
        return None if encode(detail) == data else "two encodings of one detail"

    examples = (encode(slot()), encode(slot(1, known=False, devices={}, course=(None, (1, 0)))))
    return Target("slot-detail", decode_detail, (DecodeError,), examples, check=check)


def auditors_key() -> Target:
    def read(data: bytes) -> bytes:
        return read_key_text(data.decode())

    def check(public: bytes, data: bytes) -> str | None:
        return None if len(public) == 32 else f"a key of {len(public)} bytes"

    examples = tuple(key_text(auditor_key(key)).encode() for key in (METER, METER.derive("other")))
    return Target(
        "auditors-key", read, (ConfigError, UnicodeDecodeError), examples, kind="text", check=check
    )


TARGETS: Final = (
    meter_payload,
    battery_command,
    car_command,
    disclosure_file,
    slot_detail,
    auditors_key,
    head_file,
)
