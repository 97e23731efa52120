"""Random numbers made from a key, the same in every version of every library on every machine."""

import hashlib
import math
from typing import Final

import numpy as np

from hems.civil import FloatArray

# A walk is cut to so many standard deviations: a home does not draw a hundred kilowatts.
_SIGMAS_MAX: Final = 3.0


def uniforms(count: int, *key: object) -> FloatArray:
    """Return uniforms in [0, 1)."""
    text = "/".join(map(str, key)).encode()
    raw = hashlib.shake_128(b"commonwatt/community/1/" + text).digest(8 * count)
    result: FloatArray = (np.frombuffer(raw, ">u8") >> np.uint64(11)).astype(float) * 2.0**-53
    return result


def normals(count: int, *key: object) -> FloatArray:
    """Return standard normals, by Box and Muller."""
    pairs = (count + 1) // 2
    drawn = uniforms(2 * pairs, *key)
    radius = np.sqrt(-2.0 * np.log1p(-drawn[:pairs]))
    angle = 2.0 * np.pi * drawn[pairs:]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))[:count]


def walk(normal: FloatArray, memory: float) -> FloatArray:
    """Return a stationary first-order walk of unit variance."""
    fresh = math.sqrt(1 - memory * memory)
    result = np.empty_like(normal)
    value = result[0] = normal[0]
    for place in range(1, len(normal)):
        value = result[place] = memory * value + fresh * normal[place]
    return result


def lognormal(normal: FloatArray, sigma: float) -> FloatArray:
    """Return factors of mean one; cut at three deviations."""
    clipped = np.clip(normal, -_SIGMAS_MAX, _SIGMAS_MAX)
    result: FloatArray = np.exp(sigma * clipped - sigma * sigma / 2)
    return result
