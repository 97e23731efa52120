"""The built-in community: synthetic homes around measured profiles, the same for the same seed.

A home has one of 15 load types and, if it has PV, one of 3 PV types (`community_data.py`). About
these hourly means a home's days scatter as the measured homes' do: a lognormal factor per day, and
within the day a lognormal walk with the half-hour scatter and memory of the measurements. The
weather is the neighbourhood's: every home's PV of a day is scaled by the same factor, drawn from
30 measured days, then flickers a little by itself. Every draw is made from (seed, home, day), so
any day of any home can be asked for at any time, in any order, on any machine.
"""

from datetime import tzinfo
from typing import Final

import numpy as np

from hems import civil
from hems.civil import FloatArray, IntArray
from hems.errors import ConfigError
from hems.sources import community_data as tables
from hems.sources.base import MICRO, DailySource, DayEnergy
from hems.sources.draws import lognormal, normals, uniforms, walk

LOAD_TYPES: Final = len(tables.LOAD_TYPES_W)
PV_TYPES: Final = len(tables.PV_TYPES_W_PER_KWP)
WEEKDAY_TYPES: Final = 7
PV_PEAK_W_DEFAULT: Final = 5_000

_STEPS_PER_DAY: Final = 288
_STEP_MINUTES: Final = 5
_CLOUD_SIGMA: Final = 0.15
_CLOUD_MEMORY: Final = 0.9


class CommunitySource(DailySource):
    """A synthetic home.

    Parameters
    ----------
    home : int
        Which home of the community; homes of one seed differ.
    seed : int
    zone : tzinfo
        Whose wall clock the profiles follow.
    pv_peak_w : int
        Peak power of its PV, 0 for none; production never exceeds it. [W]
    load_type, pv_type : int, optional
        Which profile (0 to 14, 0 to 2); by default the seed draws them.
    """

    def __init__(
        self,
        home: int,
        seed: int,
        zone: tzinfo,
        pv_peak_w: int = 0,
        load_type: int | None = None,
        pv_type: int | None = None,
    ) -> None:
        super().__init__(zone)
        if home < 0 or pv_peak_w < 0:
            raise ConfigError(
                f"a home's number and PV peak power are 0 or more: {home}, {pv_peak_w}"
            )
        draws = uniforms(2, "home", seed, home)
        self.load_type = int(draws[0] * LOAD_TYPES) if load_type is None else load_type
        self.pv_type = int(draws[1] * PV_TYPES) if pv_type is None else pv_type
        if not 0 <= self.load_type < LOAD_TYPES or not 0 <= self.pv_type < PV_TYPES:
            raise ConfigError(
                f"load types are 0 to {LOAD_TYPES - 1} and PV types 0 to {PV_TYPES - 1}, "
                f"not {self.load_type} and {self.pv_type}"
            )
        self.home = home
        self.seed = seed
        self.pv_peak_w = pv_peak_w

    def day_energy(self, day: int) -> DayEnergy:
        """Return a day in 5-minute steps."""
        drawn = normals(1 + 2 * _STEPS_PER_DAY, "day", self.seed, self.home, day)
        load_w = five_minute_profile(load_profile_w(self.load_type, civil.weekday(day)))
        load_w *= lognormal(drawn[:1], tables.LOAD_DAY_SIGMA)
        memory = tables.LOAD_HALF_HOUR_MEMORY ** (_STEP_MINUTES / 30)
        wander = walk(drawn[1 : 1 + _STEPS_PER_DAY], memory)
        load_w *= lognormal(wander, tables.LOAD_HALF_HOUR_SIGMA)
        pv_w = np.zeros(_STEPS_PER_DAY)
        if self.pv_peak_w:
            weather = tables.PV_DAY_FACTORS
            factor = weather[int(uniforms(1, "weather", self.seed, day)[0] * len(weather))]
            clouds = lognormal(walk(drawn[1 + _STEPS_PER_DAY :], _CLOUD_MEMORY), _CLOUD_SIGMA)
            per_kwp = five_minute_profile(np.array(tables.PV_TYPES_W_PER_KWP[self.pv_type], float))
            pv_w = np.minimum(per_kwp * factor * clouds / 1000, 1.0) * self.pv_peak_w
        known = np.ones(_STEPS_PER_DAY, np.bool_)
        return DayEnergy(_energy_uwh(load_w), _energy_uwh(pv_w), known)


def load_profile_w(load_type: int, weekday: int) -> FloatArray:
    """Return the hourly mean load of a type on a day of the week, shape (24,). [W]

    Types 0 to 6 are homes with their own weekdays and weekends; in types 7 to 13 someone is at
    home and every day is the weekend of the same seven; type 14 is the mean home.
    """
    if load_type < WEEKDAY_TYPES and weekday >= 5:
        load_type += WEEKDAY_TYPES
    return np.array(tables.LOAD_TYPES_W[load_type], dtype=float)


def five_minute_profile(hourly_w: FloatArray) -> FloatArray:
    """Return an hourly profile without its steps, each hour keeping its mean, shape (288,). [W]"""
    per_hour = 60 // _STEP_MINUTES
    middles = (np.arange(24) + 0.5) * per_hour
    at = np.arange(_STEPS_PER_DAY) + 0.5
    smooth = np.interp(at, middles, hourly_w, period=_STEPS_PER_DAY).reshape(24, per_hour)
    means = smooth.mean(axis=1)
    scale = np.divide(hourly_w, means, out=np.zeros(24), where=means > 0)
    result: FloatArray = (smooth * scale[:, None]).reshape(-1)
    return result


def _energy_uwh(power_w: FloatArray) -> IntArray:
    return np.rint(power_w * (MICRO * _STEP_MINUTES / 60)).astype(np.int64)


def typical_load_wh(positions: IntArray, steps_per_day: int) -> FloatArray:
    """Return the mean home's load at civil positions, for homes with no history yet. [Wh]"""
    hourly = load_profile_w(LOAD_TYPES - 1, 0)
    hour = (positions % steps_per_day) * 24 // steps_per_day
    typical: FloatArray = hourly[hour] * 24 / steps_per_day
    return typical
