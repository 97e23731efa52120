"""A key on paper: 60 letters and digits in twelve groups of five.

    0123456789ABCDEFGHJKMNPQRSTVWXYZ      Crockford's Base32: no I, L, O, U

Four bits are the version, 256 the seed, 40 a checksum (of SHA-256): a code that is mistyped is
told from another key's with all but 2^-40 of certainty, before anything is written. A list of
words would be friendlier to read aloud; ours would be 2,048 words that no other program knows.
"""

import hashlib
from typing import Final

from node.errors import ConfigError
from wire.keys import SEED_BYTES, SigningKey

GROUPS: Final = 12
GROUP_CHARS: Final = 5
CODE_CHARS: Final = GROUPS * GROUP_CHARS
# Typed with blanks, hyphens and line ends between.
TYPED_CHARS_MAX: Final = 512
VERSION: Final = 1
_SUM_BYTES: Final = 5
_SEED_BITS: Final = 8 * SEED_BYTES
_SUM_BITS: Final = 8 * _SUM_BYTES
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)} | {
    "O": 0,
    "I": 1,
    "L": 1,
}


def recovery_code(key: SigningKey) -> str:
    """Return a key's recovery code, its groups separated by blanks."""
    number = (VERSION << _SEED_BITS | int.from_bytes(key.seed, "big")) << _SUM_BITS
    number |= int.from_bytes(_sum_of(key.seed), "big")
    letters = "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(CODE_CHARS)))
    return " ".join(letters[at : at + GROUP_CHARS] for at in range(0, CODE_CHARS, GROUP_CHARS))


def key_of_code(typed: str) -> SigningKey:
    """Return the key of a recovery code; capitals, blanks and hyphens do not matter.

    Raises
    ------
    ConfigError
        It is none. The message does not show it.
    """
    letters = "".join(typed[: TYPED_CHARS_MAX + 1].replace("-", " ").split()).upper()
    if len(typed) > TYPED_CHARS_MAX or len(letters) != CODE_CHARS:
        raise ConfigError(
            f"a recovery code has {GROUPS} groups of {GROUP_CHARS} letters and digits, "
            f"{CODE_CHARS} in all; these are {len(letters)}"
        )
    number = 0
    for place, letter in enumerate(letters):
        if letter not in _VALUES:
            raise ConfigError(
                f"group {place // GROUP_CHARS + 1} of the recovery code has a character that none "
                "has: it is made of the digits and the letters without I, L, O and U"
            )
        number = number << 5 | _VALUES[letter]
    seed = (number >> _SUM_BITS & (1 << _SEED_BITS) - 1).to_bytes(SEED_BYTES, "big")
    given = (number & (1 << _SUM_BITS) - 1).to_bytes(_SUM_BYTES, "big")
    if given != _sum_of(seed) or number >> _SEED_BITS + _SUM_BITS != VERSION:
        raise ConfigError(
            "the recovery code does not add up: a character of it is another, or two groups "
            "changed places"
        )
    return SigningKey(seed)


def _sum_of(seed: bytes) -> bytes:
    said = b"commonwatt/recovery/" + bytes([VERSION]) + seed
    return hashlib.sha256(said).digest()[:_SUM_BYTES]
