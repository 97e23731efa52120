"""Types made of a file of measurements, as the built-in ones are (`hems.sources`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from hems import civil
from hems.civil import BoolArray, FloatArray
from hems.errors import HemsError
from study.ce.setting import LOAD_TYPES_MIN, Profile, Types, built_in_types
from study.errors import DataError

if TYPE_CHECKING:
    from hems.forecast.report import Series

DAYS_MIN: Final = 7
# Weekday and weekend of each, and the mean of all.
HOMES_MIN: Final = (LOAD_TYPES_MIN - 1) // 2
PV_PARTS: Final = 3
HOURS: Final = 24
WEEKEND: Final = 5


def types_of(path: Path | None, zone: str) -> Types:
    """Return the types of a file, or the built-in ones.

    Load types: each home's weekday mean and weekend mean by hour of the day, and the mean of all.
    PV types: the means of the thirds of each home's days, as of 1 kWp where its highest step is
    taken for its peak power; the built-in ones where the file has no production.

    Raises
    ------
    DataError
        It cannot be read, or has too few homes or days.
    """
    if path is None:
        return built_in_types()
    from hems.forecast.data import read_series

    try:
        loads, productions = read_series(path, zone)
    except HemsError as error:
        raise DataError(str(error)) from None
    short = [one.name for one in loads if _days(one) < DAYS_MIN or not _has_both(one)]
    good = [one for one in loads if one.name not in short]
    if len(good) < HOMES_MIN:
        left = f"; {', '.join(short)} have fewer days" if short else ""
        raise DataError(
            f"{path}: {len(good)} homes with {DAYS_MIN} days or more, weekend and weekdays"
            f"{left}. CE draws from {LOAD_TYPES_MIN} types of load, which takes {HOMES_MIN} homes"
        )
    types = [_mean_w(one, weekend) for weekend in (False, True) for one in good]
    types.append(np.mean(types, axis=0))
    pv = [part for one in productions if _days(one) >= DAYS_MIN for part in _pv_w_per_kwp(one)]
    sun = tuple(map(_whole, pv)) if pv else built_in_types().pv_w_per_kwp
    name = path.name if pv else f"{path.name}, PV built-in"
    return Types(name, tuple(map(_whole, types)), sun)


def _days(series: "Series") -> int:
    return len(series.energy_wh) // series.steps_per_day


def _grid(series: "Series") -> FloatArray:
    """Return a series as days of hours, gaps NaN. [W]"""
    if series.steps_per_day % HOURS:
        raise DataError(
            f"{series.name}: steps of {1440 // series.steps_per_day} minutes; CE's types are by "
            "hour, which takes steps that divide one"
        )
    days = _days(series)
    per_hour = series.steps_per_day // HOURS
    steps = series.energy_wh[: days * series.steps_per_day].reshape(days, HOURS, per_hour)
    result: FloatArray = steps.mean(axis=2) * per_hour
    return result


def _weekend(series: "Series") -> BoolArray:
    first = series.first_day
    return np.array([civil.weekday(first + day) >= WEEKEND for day in range(_days(series))])


def _has_both(series: "Series") -> bool:
    known = ~np.isnan(_grid(series))
    weekend = _weekend(series)
    return bool(known[weekend].any(axis=0).all() and known[~weekend].any(axis=0).all())


def _mean_w(series: "Series", weekend: bool) -> FloatArray:
    days = _grid(series)[_weekend(series) == weekend]
    result: FloatArray = np.nanmean(days, axis=0)
    return result


def _pv_w_per_kwp(
    series: "Series",
) -> list[FloatArray]:
    grid = _grid(series)
    peak_w = float(np.nanmax(series.energy_wh)) * series.steps_per_day / HOURS
    parts = [
        part for part in np.array_split(grid, PV_PARTS) if not np.isnan(part).all(axis=0).any()
    ]
    return [np.nanmean(part, axis=0) * 1000 / peak_w for part in parts] if peak_w > 0 else []


def _whole(watts: FloatArray) -> Profile:
    return tuple(int(value) for value in np.rint(watts))
