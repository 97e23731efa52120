"""Canonical MessagePack: one value, one encoding; the only decoder of untrusted bytes.

A message is a frozen, tagged struct (`Message`). It travels as an array that starts with its tag,
so field names cost nothing. Free-form values (`Plain`: transaction arguments, contract state) are
null, booleans, 64-bit integers, text, lists and maps with text keys in sorted order. There are no
floats anywhere: what two machines could round differently never reaches the wire.

`decode` bounds the size before it looks at a byte, decodes by type, and refuses whatever does not
encode to the same bytes again. One value therefore has one hash, and no signature can be made to
cover two byte strings.
"""

from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from wire.errors import DecodeError, EncodeError, TooLargeError

# Any, because msgspec has no recursive aliases; `check_plain` holds the real rule.
Plain: TypeAlias = Any

DEPTH_MAX: Final = 8
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
TEXT_BYTES_MAX: Final = 65_536


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that crosses the network. Subclasses set `tag=`."""


T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def encode(value: object) -> bytes:
    """Return the canonical encoding of a message or plain value.

    Raises
    ------
    EncodeError
        The value holds something that has no canonical encoding.
    """
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodeError(f"cannot be encoded: {error}") from None


def decode(data: bytes, kind: type[T], size_max: int) -> T:
    """Decode untrusted bytes as one canonical value of type `kind`.

    Parameters
    ----------
    data : bytes
    kind : type
        A `Message` subclass, a union of them, or `dict` / `object` for a plain value.
    size_max : int
        Largest accepted length. [bytes]

    Raises
    ------
    TooLargeError
        `data` is longer than `size_max`.
    DecodeError
        Malformed, of another type, or not canonical.
    """
    if len(data) > size_max:
        raise TooLargeError(f"{len(data)} bytes, at most {size_max} are accepted")
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value = decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError) as error:
        raise DecodeError(f"not a {_name(kind)}: {error}") from None
    if _reencode(value) != data:
        raise DecodeError(f"not the canonical encoding of a {_name(kind)}")
    return value  # type: ignore[no-any-return]


def decode_plain(data: bytes, size_max: int) -> Plain:
    """Decode a canonical plain value (contract state, arguments). Errors as `decode`."""
    value = decode(data, object, size_max)
    problem = plain_problem(value)
    if problem:
        raise DecodeError(problem)
    return value


def check_plain(value: Plain) -> Plain:
    """Return `value` if it is plain.

    Raises
    ------
    EncodeError
        It holds a float, bytes, a non-text key, an integer beyond 64 bits, or nests too deep.
    """
    problem = plain_problem(value)
    if problem:
        raise EncodeError(problem)
    return value


def plain_problem(value: object, depth: int = 0) -> str | None:
    """Say why `value` is not plain, or None if it is."""
    if value is None or isinstance(value, bool):
        return None
    if type(value) is int:
        in_range = INT_MIN <= value <= INT_MAX
        return None if in_range else f"integer {value} is outside 64 bits"
    if type(value) is str:
        return _text_problem(value)
    if depth >= DEPTH_MAX:
        return f"nested deeper than {DEPTH_MAX} levels"
    if type(value) is list:
        for item in value:
            problem = plain_problem(item, depth + 1)
            if problem:
                return problem
        return None
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                return f"map key {key!r} is not text"
            problem = _text_problem(key) or plain_problem(item, depth + 1)
            if problem:
                return problem
        return None
    return f"{type(value).__name__} is not a plain value (null, bool, int, text, list, map)"


def _text_problem(text: str) -> str | None:
    if len(text) > TEXT_BYTES_MAX:
        return f"text of {len(text)} characters, at most {TEXT_BYTES_MAX}"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "text with lone surrogates"
    return None


def _reencode(value: object) -> bytes | None:
    try:
        return encode(value)
    except EncodeError:
        return None


def _name(kind: object) -> str:
    return "plain value" if kind is object else getattr(kind, "__name__", str(kind))
