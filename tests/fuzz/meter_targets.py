"""Decoders of what a home's meters say through a broker."""

import math
from typing import Final

from node.mqtt.payload import PayloadError, number_of
from tests.fuzz.judge import Target

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


TARGETS: Final = (meter_payload,)
