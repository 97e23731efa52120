from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codec import DEPTH_MAX, Message, check_plain, decode, decode_plain, encode
from wire.errors import DecodeError, EncodeError, TooLargeError


class Sample(Message, frozen=True, tag="sample"):
    number: int
    text: str
    items: dict[str, Any]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_values_survive_the_round_trip(value: object) -> None:
    try:
        check_plain(value)
    except EncodeError:
        return
    assert decode_plain(encode(value), 1 << 20) == value


@given(st.integers(), st.text(max_size=30), st.dictionaries(st.text(max_size=5), st.integers()))
def test_messages_survive_or_are_refused(number: int, text: str, items: dict[str, int]) -> None:
    sample = Sample(number, text, items)
    try:
        data = encode(sample)
    except EncodeError:
        return
    assert decode(data, Sample, 1 << 20) == sample


@given(st.binary(max_size=200))
def test_random_bytes_never_escape_as_another_error(data: bytes) -> None:
    for kind in (Sample, object):
        try:
            value = decode(data, kind, 1 << 20)
        except DecodeError:
            continue
        assert encode(value) == data


def test_map_order_does_not_change_the_bytes() -> None:
    assert encode({"b": 1, "a": {"z": 1, "c": 2}}) == encode({"a": {"c": 2, "z": 1}, "b": 1})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x82\xa1b\x01\xa1a\x02", "not the canonical encoding"),  # keys out of order
        (b"\x82\xa1a\x01\xa1a\x02", "not the canonical encoding"),  # a key twice
        (b"\xcd\x00\x01", "not the canonical encoding"),  # 1 in two bytes
        (b"\x01\x01", "MessagePack data is malformed"),  # something after the value
        (b"\xdd\xff\xff\xff\xff", "truncated"),  # four billion elements announced
        (b"\x91" * 100_000, "recursion"),
        (b"\xa1\xff", "utf-8"),
        (b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", "float is not a plain value"),
        (b"\xc4\x01a", "bytes is not a plain value"),
        (b"\x91" * (DEPTH_MAX + 1) + b"\x90", "nested deeper"),
        (b"\x81\x01\x02", "not the canonical encoding"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "outside 64 bits"),
    ],
)
def test_what_is_not_canonical_plain_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        decode_plain(data, 1 << 20)


def test_size_is_bounded_before_decoding() -> None:
    with pytest.raises(TooLargeError, match="11 bytes, at most 10"):
        decode(b"\xff" * 11, object, 10)


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\xa6sample\x01\xa1x",  # a field is missing
        b"\x95\xa6sample\x01\xa1x\x80\x05",  # one too many
        b"\x94\xa5other\x01\xa1x\x80",  # another tag
        b"\x94\xa6sample\xa11\xa1x\x80",  # text for a number
    ],
)
def test_a_message_of_another_shape_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="not a Sample"):
        decode(data, Sample, 100)


@pytest.mark.parametrize("value", [2**64, {1: 2, "a": 3}, object(), "\ud800"])
def test_what_cannot_be_encoded_is_said(value: object) -> None:
    with pytest.raises(EncodeError):
        encode(value)
