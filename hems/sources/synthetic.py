"""Synthetic homes: load and production made from who lives there, not from a measured profile.

Where the built-in community repeats measured homes, these are built bottom-up, so that a street can
be asked what a heat pump or a car changes. A home's power is a sum, in steps of five minutes:

| part | how |
|---|---|
| standby | 40 W, and 20 W for each person |
| fridge | 90 W in cycles of an hour, half of it, with a phase of its own |
| people | at home and awake: 45 W each; on work days most are away from about 8 to 17 |
| light | 60 W and 40 W for each person, when someone is awake and the sun is down |
| cooking | an evening meal (1.2 kW and 0.2 kW a person, half an hour) and a breakfast (0.8 kW) |
| appliances | washing and dishes: 0.25 runs a day for each person, 1.2 kWh in an hour and a half |
| hot water | 2.2 kWh a person and day at 3 kW from 22:00 where `hot_water` is electric |
| heating | `electric` or `heat_pump`: 150 W for each degree below 17 °C, by a COP of 1 or 3.2 |
| car | `ev_km_per_day` at 0.18 kWh/km, at 7 kW from the evening on, on most days |
| PV | `pv_peak_w` under a sun at `latitude`, dimmed by the day's weather and by passing clouds |

The weather (temperature, cloud) of a day is the same for all homes of a seed. Every number is drawn
from (seed, home, day): any day may be asked for in any order, on any machine, with the same answer.
The numbers are round and plausible, not fitted to anything.
"""

import math
from datetime import tzinfo
from typing import Final, Literal

import numpy as np

from hems import civil
from hems.civil import FloatArray
from hems.errors import ConfigError
from hems.sources.base import MICRO, DailySource, DayEnergy
from hems.sources.draws import normals, uniforms, walk

Heating = Literal["none", "electric", "heat_pump"]

PERSONS_MAX: Final = 8
PV_PEAK_W_MAX: Final = 100_000
EV_KM_MAX: Final = 150.0
LATITUDE_SYDNEY: Final = -33.9

_STEPS: Final = 288
_STEP_MINUTES: Final = 5
_HOURS: Final = (np.arange(_STEPS) + 0.5) * (_STEP_MINUTES / 60)
_EV_W: Final = 7_000
_EV_WH_PER_KM: Final = 180
_WATER_W: Final = 3_000
_COP: Final = {"none": math.inf, "electric": 1.0, "heat_pump": 3.2}
_HEATING_W_PER_DEGREE: Final = 150.0
_COMFORT_C: Final = 17.0
_CLOUD_MEMORY: Final = 0.93


class SyntheticSource(DailySource):
    """A home by its household.

    Parameters
    ----------
    home, seed : int
        Which home; homes of one seed share their weather and differ in everything else.
    zone : tzinfo
    persons : int
        1 to `PERSONS_MAX`.
    heating : str
        `none`, `electric` or `heat_pump`.
    hot_water : bool
        Whether water is heated by electricity, at night.
    pv_peak_w : int
        0 for none. [W]
    ev_km_per_day : float
        Mean distance of a driven day, 0 for no car. [km]
    latitude : float
        South negative; decides the sun and the season. [degrees]

    Raises
    ------
    ConfigError
        A value outside its range.
    """

    def __init__(
        self,
        home: int,
        seed: int,
        zone: tzinfo,
        persons: int = 2,
        heating: Heating = "none",
        hot_water: bool = False,
        pv_peak_w: int = 0,
        ev_km_per_day: float = 0.0,
        latitude: float = LATITUDE_SYDNEY,
    ) -> None:
        super().__init__(zone)
        if not 1 <= persons <= PERSONS_MAX:
            raise ConfigError(f"persons {persons}: 1 to {PERSONS_MAX} live in a home")
        if heating not in _COP:
            raise ConfigError(f"heating {heating!r}: use {', '.join(map(repr, _COP))}")
        if not 0 <= pv_peak_w <= PV_PEAK_W_MAX:
            raise ConfigError(f"pv_peak_w {pv_peak_w}: 0 to {PV_PEAK_W_MAX} W")
        if not 0 <= ev_km_per_day <= EV_KM_MAX:
            raise ConfigError(f"ev_km_per_day {ev_km_per_day}: 0 to {EV_KM_MAX:g} km")
        if not -66 <= latitude <= 66:
            raise ConfigError(f"latitude {latitude}: -66 to 66 degrees, where the sun sets daily")
        self.home, self.seed = home, seed
        self.persons, self.heating, self.hot_water = persons, heating, hot_water
        self.pv_peak_w, self.ev_km_per_day, self.latitude = pv_peak_w, ev_km_per_day, latitude
        # What is a habit of the home is drawn once: fridge, mornings, evenings, meals.
        self._habits = uniforms(4, "synthetic", "habits", seed, home)

    def day_energy(self, day: int) -> DayEnergy:
        """Return a day in five-minute steps."""
        load_w = self._base_w(day) + self._people_w(day) + self._warmth_w(day) + self._car_w(day)
        known = np.ones(_STEPS, np.bool_)
        return DayEnergy(_uwh(load_w), _uwh(self._pv_w(day)), known)

    def _draw(self, count: int, what: str, day: int) -> FloatArray:
        return uniforms(count, "synthetic", what, self.seed, self.home, day)

    def _base_w(self, day: int) -> FloatArray:
        fridge = np.where((_HOURS + self._habits[0]) % 1.0 < 0.5, 90.0, 0.0)
        flicker = normals(_STEPS, "synthetic", "base", self.seed, self.home, day)
        base: FloatArray = 40.0 + 20.0 * self.persons + fridge + 8.0 * np.abs(flicker)
        return base

    def _people_w(self, day: int) -> FloatArray:
        works = civil.weekday(day) < 5
        draws = self._draw(8, "people", day)
        wake = 5.5 + 1.5 * self._habits[1] + 0.5 * draws[0] + (0 if works else 1.2)
        sleep = 21.5 + 1.5 * self._habits[2] + 0.7 * draws[1]
        awake = (wake <= _HOURS) & (sleep > _HOURS)
        leaves, returns = wake + 1.2 + draws[2], 16.0 + 2.5 * draws[3]
        # Somebody stays at home in larger households; on free days most do.
        away = self.persons * (0.8 if works else 0.25)
        present = self.persons - np.where((leaves <= _HOURS) & (returns > _HOURS), away, 0.0)
        watts = np.where(awake, 45.0 * present, 0.0)
        dark = self._elevation(day) < 0.05
        watts += np.where(awake & dark, 60.0 + 40.0 * present, 0.0)
        dinner = max(returns + 0.5, 17.5 + 1.5 * self._habits[3])
        watts += _block(dinner, 0.5, 1_200.0 + 200.0 * self.persons) * (draws[4] < 0.85)
        watts += _block(wake + 0.3, 0.25, 800.0) * (draws[5] < 0.7)
        if draws[6] < 0.25 * self.persons:
            watts += _block(9.0 + 10.0 * draws[7], 1.5, 800.0)
        return watts

    def _warmth_w(self, day: int) -> FloatArray:
        watts = np.zeros(_STEPS)
        if self.hot_water:
            share = 0.7 + 0.6 * self._draw(1, "water", day)[0]
            watts += _block(
                22.0 - 24.0, 2_200.0 * self.persons * share / _WATER_W, _WATER_W, wrap=True
            )
        cold = np.maximum(0.0, _COMFORT_C - self.temperature_c(day))
        watts += _HEATING_W_PER_DEGREE * cold / _COP[self.heating]
        return watts

    def _car_w(self, day: int) -> FloatArray:
        draws = self._draw(3, "car", day)
        if not self.ev_km_per_day or draws[0] > (0.9 if civil.weekday(day) < 5 else 0.5):
            return np.zeros(_STEPS)
        hours = self.ev_km_per_day * (0.5 + draws[1]) * _EV_WH_PER_KM / _EV_W
        # Full by midnight: each day stands for itself.
        return _block(min(17.0 + 2.5 * draws[2], 24.0 - hours), hours, _EV_W)

    def temperature_c(self, day: int) -> FloatArray:
        """Return the outdoor temperature of a day, shape (288,), the same for all homes. [°C]"""
        chance = normals(1, "synthetic", "air", self.seed, day)[0]
        season = math.cos(2 * math.pi * (self._day_of_year(day) - 200) / 365.25)
        south = -1.0 if self.latitude < 0 else 1.0
        mean = 24.0 - abs(self.latitude) / 5 + south * abs(self.latitude) / 5 * season + 2 * chance
        daily: FloatArray = mean + 5.0 * np.cos(2 * np.pi * (_HOURS - 15.0) / 24)
        return daily

    def _pv_w(self, day: int) -> FloatArray:
        if not self.pv_peak_w:
            return np.zeros(_STEPS)
        sky = uniforms(1, "synthetic", "sky", self.seed, day)[0]
        # One day in five is overcast, half are fine.
        clear = 0.15 + 0.85 * min(1.0, 2.0 * sky) ** 1.2
        gust = walk(normals(_STEPS, "synthetic", "cloud", self.seed, self.home, day), _CLOUD_MEMORY)
        dim = np.clip(clear * (1 + 0.35 * (1 - clear) * gust), 0.05, 1.0)
        sun: FloatArray = np.maximum(0.0, self._elevation(day)) ** 1.15 * dim * self.pv_peak_w
        return sun

    def _elevation(self, day: int) -> FloatArray:
        """Return the sine of the sun's elevation through a day, solar noon at 12:00."""
        tilt = math.radians(23.44)
        turn = 2 * math.pi * (self._day_of_year(day) + 10) / 365.25
        declination = math.asin(-math.sin(tilt) * math.cos(turn))
        place = math.radians(self.latitude)
        hour_angle = np.pi * (_HOURS - 12.0) / 12
        high: FloatArray = math.sin(place) * math.sin(declination) + (
            math.cos(place) * math.cos(declination) * np.cos(hour_angle)
        )
        return high

    @staticmethod
    def _day_of_year(day: int) -> int:
        return civil.date_of(day).timetuple().tm_yday


def _block(begin_hour: float, hours: float, watts: float, wrap: bool = False) -> FloatArray:
    """Return a constant power for a while, its energy exact: partly used steps count in part."""
    low = _HOURS - _STEP_MINUTES / 120
    offsets = (0.0, 24.0) if wrap else (0.0,)
    covered = np.zeros(_STEPS)
    for offset in offsets:
        begin = begin_hour + offset
        covered += np.clip(
            np.minimum(low + _STEP_MINUTES / 60, begin + hours) - np.maximum(low, begin), 0.0, None
        )
    result: FloatArray = watts * covered * (60 / _STEP_MINUTES)
    return result


def _uwh(power_w: FloatArray) -> civil.IntArray:
    return np.rint(power_w * (MICRO * _STEP_MINUTES / 60)).astype(np.int64)
