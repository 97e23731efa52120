"""Series to judge a forecast by: of a file, or of the built-in homes."""

from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from hems import civil
from hems.civil import DAY_MS, HOUR_MS, FloatArray, IntArray
from hems.errors import DataError
from hems.forecast.report import Series
from hems.sensors import STANDBY_W, zero_gaps
from hems.sources.community import CommunitySource
from hems.sources.formats import read_file
from hems.sources.grid import MISSING

BUILT_IN_HOMES: Final = 5
BUILT_IN_DAYS: Final = 200
BUILT_IN_PV_W: Final = 5_000
_BUILT_IN_END: Final = date(2024, 11, 1)
_STEP_MS: Final = 30 * civil.MINUTE_MS


def read_series(path: Path, zone: str) -> tuple[list[Series], list[Series]]:
    """Return the loads and productions of a file (`hems.sources.formats`), missing rows as gaps.

    Raises
    ------
    ConfigError
        An unknown time zone.
    DataError
        The file cannot be read, or has no measurement.
    """
    data = read_file(path, civil.zone_of(zone), missing_rows=True)
    loads: list[Series] = []
    productions: list[Series] = []
    for home in data.homes:
        for into, grid in ((loads, home.load_uwh), (productions, home.pv_uwh)):
            if grid is None:
                continue
            values = watt_hours(grid)
            if into is loads:
                values = without_nothing(values, data.steps_per_day)
            if np.isfinite(values).any():
                first, values = measured_days(values, data.steps_per_day)
                into.append(Series(home.name, values, data.steps_per_day, data.first_day + first))
    if not loads:
        raise DataError(f"{path}: no home has a single measurement of its load")
    return loads, productions


def built_in_series(
    homes: int = BUILT_IN_HOMES, days: int = BUILT_IN_DAYS
) -> tuple[list[Series], list[Series]]:
    """Return homes of the built-in community, half-hourly; synthetic, their habits never change."""
    zone = civil.zone_of("UTC")
    end_day = civil.day_number(_BUILT_IN_END)
    loads, productions = [], []
    for home in range(homes):
        source = CommunitySource(home, 1, zone, BUILT_IN_PV_W)
        end_ms = end_day * DAY_MS
        past = source.window(end_ms - days * DAY_MS, end_ms, _STEP_MS)
        steps, first = DAY_MS // _STEP_MS, end_day - days
        loads.append(Series(f"home_{home}", past.load_wh.astype(np.float64), steps, first))
        productions.append(Series(f"home_{home}", past.pv_wh.astype(np.float64), steps, first))
    return loads, productions


def watt_hours(grid_uwh: IntArray) -> FloatArray:
    """Return a file's column with NaN for gaps. [Wh]"""
    return np.where(grid_uwh == MISSING, np.nan, grid_uwh / 1e6)


def without_nothing(load_wh: FloatArray, steps_per_day: int) -> FloatArray:
    """Return a load with NaN where next to nothing stands for a gap (`hems.sensors.zero_gaps`).

    What is nothing throughout, as of storage, is no load to be judged by: all of it is NaN.
    """
    step_ms = DAY_MS // steps_per_day
    if not (load_wh >= STANDBY_W * step_ms / HOUR_MS).any():
        return np.full_like(load_wh, np.nan)
    return np.where(zero_gaps(load_wh, step_ms), np.nan, load_wh)


def measured_days(values: FloatArray, steps_per_day: int) -> tuple[int, FloatArray]:
    """Cut whole days without any measurement off both ends; return how many off the first."""
    there = np.flatnonzero(np.isfinite(values).reshape(-1, steps_per_day).any(axis=1))
    return int(there[0]), values[there[0] * steps_per_day : (there[-1] + 1) * steps_per_day]
