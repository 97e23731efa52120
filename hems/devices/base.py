"""Units and bounds that all devices share."""

from typing import Final

MICRO: Final = 1_000_000
HOUR_MS: Final = 3_600_000
CAPACITY_WH_MAX: Final = 1_000_000
POWER_W_MAX: Final = 1_000_000
