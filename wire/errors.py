"""The errors of `wire/`.

WireError
├── DecodeError      the bytes are not one canonical value of the expected type
│   └── TooLargeError    ... and were refused by their size, before decoding
├── EncodeError      the value has no canonical encoding (a float, a huge integer, ...)
└── KeyFormatError   a key, address or peer id that is not one
"""


class WireError(Exception):
    """Something from, or for, the wire is not as it must be."""


class DecodeError(WireError):
    """The bytes are not the canonical encoding of one value of the expected type."""


class TooLargeError(DecodeError):
    """The bytes exceed the bound of their kind; they were not decoded."""


class EncodeError(WireError):
    """The value cannot be encoded canonically."""


class KeyFormatError(WireError):
    """Not a key, an address or a peer id."""
