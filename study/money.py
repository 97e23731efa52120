"""What energy costs in the papers, and whose keys are whose."""

import hashlib
from typing import Final

from wire.keys import SigningKey

# CE, table 2: minute of the local day, price from then on. [micro-AUD per kWh]
TARIFF_BANDS: Final = (
    (0, 177_000),
    (7 * 60, 277_100),
    (14 * 60, 541_100),
    (20 * 60, 277_100),
    (22 * 60, 177_000),
)
FEED_IN_MICRO_PER_KWH: Final = 100_000


def key_of(*name: object) -> SigningKey:
    """Return the key of somebody in a study: the same for the same name."""
    text = "/".join(map(str, ("commonwatt/study", *name)))
    return SigningKey(hashlib.sha256(text.encode()).digest())
