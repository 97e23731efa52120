"""What a meter's message says, as a number. A broker's bytes are strangers' bytes."""

import math
import re
from typing import Final

import msgspec

PAYLOAD_BYTES_MAX: Final = 16_384
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,24}(\.[0-9]{0,24})?([eE][+-]?[0-9]{1,3})?", re.ASCII)
# As charging points, Home Assistant and IEC 61851 (A: no car) say it.
_SWITCH: Final = dict.fromkeys(("on", "true", "1", "b", "c", "d"), True) | dict.fromkeys(
    ("off", "false", "0", "a"), False
)
_NOT_A_NUMBER: Final = ("unavailable", "unknown", "none", "null", "nan", "")


class PayloadError(ValueError):
    """A message that is no number. `kind` counts such; the text says what would be one."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


def number_of(payload: object, field: str = "") -> float:
    """Return the number of a message.

    Parameters
    ----------
    payload : object
        What came; bytes of text are asked for.
    field : str
        Names joined by dots: where in a JSON object the number stands. Empty: it is the payload.

    Raises
    ------
    PayloadError
        `size`, `absent` (a sensor that says it does not know, or has no such field) or `text`.
    """
    value = _value(payload, field)
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        raise PayloadError("text", f"{field!r} is no number")
    return _number("" if value is None else str(value))


def switch_of(payload: object, field: str = "") -> bool:
    """Return whether a message says that something is so: on, true, 1; or off, false, 0.

    The states of IEC 61851 are read, too: A is no car, B, C and D are one. Parameters and errors
    are those of `number_of`.
    """
    value = _value(payload, field)
    text = "" if value is None else str(value).strip().lower()
    if text in _NOT_A_NUMBER:
        raise PayloadError("absent", "the sensor says that it does not know")
    if text not in _SWITCH:
        raise PayloadError("text", f"{text[:40]!r}: on or off is meant")
    return _SWITCH[text]


def _value(payload: object, field: str) -> object:
    if not isinstance(payload, bytes | bytearray) or len(payload) > PAYLOAD_BYTES_MAX:
        raise PayloadError("size", f"text of at most {PAYLOAD_BYTES_MAX} bytes is read")
    if not field:
        return payload.decode("utf-8", "replace")
    try:
        value: object = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise PayloadError("text", f"no JSON, in which {field!r} would stand") from None
    for name in field.split("."):
        if not isinstance(value, dict) or name not in value:
            raise PayloadError("absent", f"no {field!r} in it")
        value = value[name]
    return value


def _number(text: str) -> float:
    text = text.strip()
    if text.lower() in _NOT_A_NUMBER:
        raise PayloadError("absent", "the sensor says that it does not know")
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise PayloadError("text", f"{text[:40]!r} is no number")
    return value
