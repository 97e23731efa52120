"""The progress of loads that can be moved: integers only, which a home keeps with its own state.

How much of a window's energy is taken, when a programme began, what is in the car, how warm it is
inside.
"""

from typing import Final

import msgspec

from hems.devices.base import CAPACITY_WH_MAX, MICRO
from hems.errors import ConfigError

STORED_UWH_MAX: Final = CAPACITY_WH_MAX * MICRO
# Of times in milliseconds and energies in Wh, which are both far smaller.
NUMBER_MAX: Final = 2**53


class DeviceState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The progress of one device; what does not concern it is left out.

    `window_ms` is the beginning of the window it is in, or was last; `taken_wh` what it took in
    it. `begun_ms`: since when its programme runs, or since when it is on. `stored_uwh` is in the
    car. `plugged` tells what its owner said of the car; None: by the timetable. `inside_mc` is the
    temperature inside. [thousandths of °C]
    """

    window_ms: int | None = None
    taken_wh: int = 0
    begun_ms: int | None = None
    stored_uwh: int = 0
    plugged: bool | None = None
    inside_mc: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.stored_uwh <= STORED_UWH_MAX:
            raise ConfigError(f"a car stores 0 to {STORED_UWH_MAX} micro-Wh, not {self.stored_uwh}")
        numbers = (self.window_ms or 0, self.taken_wh, self.begun_ms or 0, self.inside_mc)
        if any(abs(number) > NUMBER_MAX for number in numbers) or self.taken_wh < 0:
            raise ConfigError(f"a device's time or energy beyond {NUMBER_MAX}, or negative")
