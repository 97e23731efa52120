"""Daily windows on the wall clock: when a car is at home, when a dishwasher may run.

A window is two times of day; where the second is not after the first, it ends on the next day.
The days clocks change, windows are an hour longer or shorter, as they are for the household.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

import numpy as np

from hems import civil
from hems.civil import IntArray
from hems.errors import ConfigError

_TIME: Final = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")
DAY_MINUTES: Final = 24 * 60
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Span(NamedTuple):
    """From a moment to another, which is not in it any more. [ms, UTC]"""

    begin_ms: int
    end_ms: int


def minutes_of(name: str, text: str) -> int:
    """Return a time of day like `07:30` as minutes; `24:00` is the day's end.

    Raises `ConfigError` that names the setting.
    """
    if not _TIME.fullmatch(text):
        raise ConfigError(f"{name} {text!r}: a time of day such as '07:30'")
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def length_minutes(begin: int, end: int) -> int:
    """Return how long a window is on a day without a change of clocks."""
    return end - begin if end > begin else end + DAY_MINUTES - begin


def spans(begin: int, end: int, from_ms: int, to_ms: int, zone: tzinfo) -> list[Span]:
    """Return the daily windows that overlap a stretch of time, in order.

    Parameters
    ----------
    begin, end : int
        Minutes of the day.
    from_ms, to_ms : int
        The stretch. [ms, UTC]
    """
    first = civil.day_of(from_ms, zone) - 1
    last = civil.day_of(max(from_ms, to_ms - 1), zone)
    found = []
    for day in range(first, last + 1):
        span = Span(_moment_ms(day, begin, zone), _moment_ms(day + (end <= begin), end, zone))
        if span.begin_ms < to_ms and span.end_ms > from_ms and span.begin_ms < span.end_ms:
            found.append(span)
    return found


def overlap_ms(span: Span, edges_ms: IntArray) -> IntArray:
    """Return how much of each step lies within a window, shape (steps,). [ms]"""
    within = np.clip(edges_ms, span.begin_ms, span.end_ms)
    return np.diff(within)


def _moment_ms(day: int, minutes: int, zone: tzinfo) -> int:
    extra, minutes = divmod(minutes, DAY_MINUTES)
    midnight = datetime.combine(civil.date_of(day + extra), datetime.min.time())
    local = (midnight + timedelta(minutes=minutes)).replace(tzinfo=zone)
    return (local - _EPOCH) // timedelta(milliseconds=1)
