"""Production of an array under a measured irradiance (CE 1), for replayed homes without a meter."""

from typing import Final

import numpy as np

from hems.civil import BoolArray, IntArray
from hems.devices import MICRO, PvArray
from hems.forecast.weather import FileWeather

_DAY_MINUTES: Final = 1_440


class Roof:
    """An array on a roof, and the sun that was measured above it.

    Parameters
    ----------
    array : PvArray
    weather : FileWeather
        With a column `irradiance_w_m2`, in the plane of the array.
    """

    def __init__(self, array: PvArray, weather: FileWeather) -> None:
        self._array = array
        self._weather = weather

    def day(self, day: int, steps_per_day: int) -> tuple[IntArray, BoolArray]:
        """Return the production of a civil day's steps [micro-Wh], and where it is known.

        The inverter's rating caps each minute, not the mean of a step.
        """
        irradiance = self._weather.day(day, _DAY_MINUTES).irradiance_w_m2
        known = np.asarray(np.isfinite(irradiance).reshape(steps_per_day, -1).all(axis=1))
        power_w = self._array.powers_w(np.nan_to_num(irradiance))
        energy_uwh = power_w.reshape(steps_per_day, -1).sum(axis=1) * MICRO / 60
        return np.where(known, np.rint(energy_uwh), 0).astype(np.int64), known
