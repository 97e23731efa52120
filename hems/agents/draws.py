"""Random numbers made from a seed and a key: the same after a restart, on every machine."""

import hashlib
from collections.abc import Iterable

_SCALE = 2.0**-53


def uniform(seed: int, *key: object) -> float:
    """Return a number in [0, 1), one for each key."""
    text = "/".join(map(str, (seed, *key))).encode()
    raw = hashlib.shake_128(b"commonwatt/agents/1/" + text).digest(8)
    return (int.from_bytes(raw) >> 11) * _SCALE


def shuffled(seed: int, numbers: Iterable[int]) -> list[int]:
    """Return numbers in an order of the seed's own, the same however they come."""
    return sorted(numbers, key=lambda number: (uniform(seed, "shuffled", number), number))
