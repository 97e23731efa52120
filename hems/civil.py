"""Civil time: where a moment of market time (UTC) falls on the home's wall clock.

Habits follow the wall clock, meters and markets do not. Everything periodic (profiles, forecasts,
replayed files) is therefore indexed by civil *positions*: `day * steps_per_day + step of the day`,
where `day` counts local dates from 1970-01-01. On the day clocks go forward an hour of positions
is never visited, on the day they go back one is visited twice.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import pairwise
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from hems.errors import ConfigError

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float64]
BoolArray: TypeAlias = NDArray[np.bool_]

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_DAYS: Final = 7

_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY: Final = date(1970, 1, 1)


def zone_of(name: str) -> tzinfo:
    """Return the time zone of an IANA name (`Australia/Sydney`). Raises `ConfigError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"{name!r} is not a time zone; give an IANA name such as 'Australia/Sydney'"
        ) from None


def offset_ms(moment_ms: int, zone: tzinfo) -> int:
    """Return how far the wall clock is ahead of UTC at a moment. [ms]"""
    local = (_EPOCH_UTC + timedelta(milliseconds=moment_ms)).astimezone(zone)
    offset = local.utcoffset() or timedelta(0)
    return offset // timedelta(milliseconds=1)


def day_of(moment_ms: int, zone: tzinfo) -> int:
    """Return the local date of a moment, as days since 1970-01-01."""
    return (moment_ms + offset_ms(moment_ms, zone)) // DAY_MS


def day_start_ms(day: int, zone: tzinfo) -> int:
    """Return the moment a local date begins. [ms, UTC]"""
    local = datetime.combine(date_of(day), datetime.min.time(), tzinfo=zone)
    return (local - _EPOCH_UTC) // timedelta(milliseconds=1)


def date_of(day: int) -> date:
    """Return the date of a day number."""
    return _EPOCH_DAY + timedelta(days=day)


def day_number(when: date) -> int:
    """Return the day number of a date."""
    return (when - _EPOCH_DAY).days


def weekday(day: int) -> int:
    """Return 0 for Monday to 6 for Sunday. 1970-01-01 was a Thursday."""
    return (day + 3) % WEEK_DAYS


def positions(start_ms: int, steps: int, step_ms: int, zone: tzinfo) -> IntArray:
    """Return the civil position of each of `steps` steps that follow `start_ms`.

    Returns
    -------
    int array, shape (steps,)
        `local milliseconds since 1970-01-01 // step_ms`; consecutive but for clock changes.
    """
    moments = start_ms + step_ms * np.arange(steps, dtype=np.int64)
    return (moments + offsets(moments, zone)) // step_ms


def offsets(moments_ms: IntArray, zone: tzinfo) -> IntArray:
    """Return the UTC offset at each of some ascending moments, shape as given. [ms]"""
    if len(moments_ms) == 0:
        return np.zeros(0, np.int64)
    result = np.empty(len(moments_ms), np.int64)
    # No zone changes its clock twice within a day, so a day whose ends agree is uniform.
    edges = np.searchsorted(
        moments_ms, np.arange(moments_ms[0], moments_ms[-1] + DAY_MS, DAY_MS), side="left"
    )
    bounds = [*dict.fromkeys(int(edge) for edge in edges), len(moments_ms)]
    for low, high in pairwise(bounds):
        if low == high:
            continue
        first = offset_ms(int(moments_ms[low]), zone)
        if first == offset_ms(int(moments_ms[high - 1]), zone):
            result[low:high] = first
        else:
            result[low:high] = [offset_ms(int(moment), zone) for moment in moments_ms[low:high]]
    return result
