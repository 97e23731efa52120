"""Decoders with one bug each; the judge must find it: `python -m tests.fuzz.buggy`."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tests.fuzz.__main__ import main
from tests.fuzz.judge import CPU_S_MAX, Target
from wire.codec import decode_plain, encode
from wire.errors import DecodeError

EXAMPLES: Final = (encode({"a": [1, 2, 3]}), encode([True, "text", -5]))
# What the bugs wait for: bytes that mutations reach at once, and no example has.
TRIGGER: Final = 0xFF


def _plain(data: bytes) -> Any:
    return decode_plain(data, 100_000)


def _with(bug: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return a decoder that is right but for what has the trigger in it."""

    def decode(data: bytes) -> Any:
        if TRIGGER in data:
            bug(data)
        return _plain(data)

    return decode


def _hang(data: bytes) -> None:
    while True:
        try:
            len(data)
        except Exception:
            raise


def _burn(data: bytes) -> None:
    until = time.process_time() + 3 * CPU_S_MAX
    while time.process_time() < until:
        pass


def _hold(data: bytes) -> None:
    bytearray(data[:1]) * (24 * 1_048_576)


_KEPT: list[bytes] = []


def _leak(data: bytes) -> None:
    _KEPT.append(b"x" * (8 * 1_048_576))


def _any_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DecodeError("not JSON") from None


def _lenient(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except (ValueError, RecursionError):
        raise DecodeError("malformed") from None


def _blow_up(data: bytes) -> list[int]:
    _plain(data)
    return list(range(100_000))


def _narrow(data: bytes) -> Any:
    value = _plain(data)
    if isinstance(value, list):
        raise DecodeError("no lists, though they are valid")
    return value


def _die(data: bytes) -> None:
    sys.exit(9)


_BUGS: Final[dict[str, Callable[[bytes], Any]]] = {
    "sound": _plain,
    "uncaught": _with(lambda data: {}[data]),
    "slow": _with(_burn),
    "hung": _with(_hang),
    "memory-at-once": _with(_hold),
    "memory-in-time": _with(_leak),
    "address-space": _with(lambda data: bytearray(2**40)),
    "canonical": _lenient,
    "unbounded": _blow_up,
    "example": _narrow,
    "died": _with(_die),
}


def _target(name: str) -> Target:
    encode_again = encode if name in ("sound", "canonical") else None
    return Target(name, _BUGS[name], (DecodeError,), EXAMPLES, encode=encode_again)


def _wrong(value: Any, data: bytes) -> str | None:
    return "a list that is empty" if value == [] else None


BUGGY: Final[dict[str, Callable[[], Target]]] = {
    **{name: lambda name=name: _target(name) for name in _BUGS},  # type: ignore[misc]
    "check": lambda: Target(
        "check", _any_json, (DecodeError,), (b"[1]", b"[1,2]"), "text", check=_wrong
    ),
}


if __name__ == "__main__":
    sys.exit(main(BUGGY))
