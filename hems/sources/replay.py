"""Replayed measurements: a home of a wide file, its dates moved to where the market's clock is.

The wall clock is kept: what the file says of 18:30 happens at 18:30 in the community's zone. Dates
are moved by whole weeks where possible (`hems.neighbourhood`), so that Sundays stay Sundays. Before
its first day the file knows nothing; after its last day it goes on with the same days again.
"""

from datetime import tzinfo

import numpy as np

from hems import civil
from hems.civil import WEEK_DAYS
from hems.errors import DataError
from hems.sources.base import DailySource, DayEnergy
from hems.sources.grid import MISSING, HomeSeries
from hems.sources.roof import Roof


class ReplaySource(DailySource):
    """One home of a file.

    Parameters
    ----------
    home : HomeSeries
    steps_per_day : int
    data_first_day : int
        Local date of the series' first element.
    zone : tzinfo
        The community's.
    shift_days : int
        Market date minus the file's date.
    last_day : int, optional
        The file's last day to use; afterwards its days are used again from `repeat_from_day`
        (each the file's own dates; by default the whole file).
    pv_from : DailySource, optional
        Where production comes from if the file has none of this home.
    pv_scale : float
        Factor on the file's production.
    roof : Roof, optional
        What production is reckoned from instead, its days those of the file.
    """

    def __init__(
        self,
        home: HomeSeries,
        steps_per_day: int,
        data_first_day: int,
        zone: tzinfo,
        shift_days: int = 0,
        last_day: int | None = None,
        repeat_from_day: int | None = None,
        pv_from: DailySource | None = None,
        pv_scale: float = 1.0,
        roof: Roof | None = None,
    ) -> None:
        super().__init__(zone)
        self._steps_per_day = steps_per_day
        self._first_day = data_first_day
        days = len(home.load_uwh) // steps_per_day
        self._last_day = data_first_day + days - 1 if last_day is None else last_day
        self._repeat_from_day = data_first_day if repeat_from_day is None else repeat_from_day
        if not data_first_day <= self._repeat_from_day <= self._last_day < data_first_day + days:
            raise DataError(f"home {home.name!r}: the days to replay are not all in the file")
        self._shift_days = shift_days
        self._home = home
        self._pv_from = pv_from
        self._pv_scale = pv_scale
        self._roof = roof

    def day_energy(self, day: int) -> DayEnergy:
        """Return a day of the file, or one of unknowns before it begins."""
        data_day = self._data_day(day - self._shift_days)
        if data_day is None:
            none = np.zeros(self._steps_per_day, np.int64)
            return DayEnergy(none, none, none != 0)
        low = (data_day - self._first_day) * self._steps_per_day
        rows = slice(low, low + self._steps_per_day)
        load_uwh = self._home.load_uwh[rows]
        known = load_uwh != MISSING
        if self._roof is not None:
            pv_uwh, lit = self._roof.day(data_day, self._steps_per_day)
            known &= lit
        elif self._home.pv_uwh is not None:
            pv_uwh = self._home.pv_uwh[rows]
            known &= pv_uwh != MISSING
            pv_uwh = np.rint(pv_uwh * self._pv_scale).astype(np.int64)
        elif self._pv_from is not None:
            pv_uwh = _coarser(self._pv_from.day_energy(day).pv_uwh, self._steps_per_day)
        else:
            pv_uwh = np.zeros_like(load_uwh)
        return DayEnergy(np.maximum(load_uwh, 0), np.maximum(pv_uwh, 0), known)

    def _data_day(self, day: int) -> int | None:
        if day < self._first_day:
            return None
        if day <= self._last_day:
            return day
        span = self._last_day - self._repeat_from_day + 1
        # Whole weeks where there is one, so that what is repeated keeps its weekdays.
        span = span // WEEK_DAYS * WEEK_DAYS or span
        return self._last_day - span + 1 + (day - self._last_day - 1) % span


def _coarser(values: civil.IntArray, steps: int) -> civil.IntArray:
    # By the running total: a file's steps need not be whole steps of the other source.
    totals = np.concatenate(([0], np.cumsum(values)))
    edges = np.arange(steps + 1) * (len(values) / steps)
    at_edges = np.rint(np.interp(edges, np.arange(len(totals)), totals)).astype(np.int64)
    energy: civil.IntArray = np.diff(at_edges)
    return energy
