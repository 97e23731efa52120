"""Photovoltaic arrays: what an irradiance makes of an area (CE 1), up to the inverter's rating."""

import math
from typing import Final

import msgspec
import numpy as np

from hems.civil import FloatArray
from hems.devices.base import POWER_W_MAX
from hems.errors import ConfigError

INVERTER_W_DEFAULT: Final = 5_000


class PvArray(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A PV array by its area (CE 1), capped by its inverter.

    `area_m2` [m²], `efficiency` (fraction), `rating_w` [W].
    """

    area_m2: float
    efficiency: float
    rating_w: int = INVERTER_W_DEFAULT

    def __post_init__(self) -> None:
        if not (self.area_m2 > 0 and math.isfinite(self.area_m2)):
            raise ConfigError(f"area_m2 {self.area_m2}: must be positive")
        if not 0 < self.efficiency < 1:
            raise ConfigError(f"efficiency {self.efficiency}: a fraction between 0 and 1")
        if not 0 < self.rating_w <= POWER_W_MAX:
            raise ConfigError(f"rating_w {self.rating_w}: must be 1 to {POWER_W_MAX} W")

    @property
    def peak_w(self) -> int:
        """Power at 1 kW/m², before the inverter. [W]"""
        return round(1000 * self.area_m2 * self.efficiency)

    def power_w(self, irradiance_kw_m2: float) -> int:
        """Return the power at an irradiance, `area * efficiency * irradiance` (CE 1). [W]"""
        if not irradiance_kw_m2 >= 0:
            raise ConfigError(f"irradiance {irradiance_kw_m2} kW/m²: must not be negative")
        return min(self.rating_w, round(1000 * self.area_m2 * self.efficiency * irradiance_kw_m2))

    def powers_w(self, irradiance_w_m2: FloatArray) -> FloatArray:
        """Return the powers at irradiances of W/m², not rounded; see `power_w`. [W]"""
        power_w = self.area_m2 * self.efficiency * irradiance_w_m2
        return np.minimum(power_w, float(self.rating_w))
