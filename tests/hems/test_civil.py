from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems import civil
from hems.civil import DAY_MS, HOUR_MS, MINUTE_MS
from hems.errors import ConfigError

SYDNEY = ZoneInfo("Australia/Sydney")
ZONES = [
    ZoneInfo(name)
    for name in (
        "Australia/Sydney",
        "Australia/Adelaide",  # half-hour offset
        "Australia/Lord_Howe",  # moves by half an hour
        "Asia/Kathmandu",
        "America/St_Johns",
        "Africa/Casablanca",  # two changes about a month apart
        "Asia/Beirut",  # changes at midnight
        "UTC",
    )
]


def ms(*parts: int, zone: ZoneInfo | None = None) -> int:
    return int(datetime(*parts, tzinfo=zone or UTC).timestamp() * 1000)  # type: ignore[misc]


@given(
    st.sampled_from(ZONES),
    st.integers(ms(2000, 1, 1), ms(2030, 1, 1)),
    st.integers(1, 400),
    st.sampled_from([5 * MINUTE_MS, 30 * MINUTE_MS, HOUR_MS, 7 * HOUR_MS]),
)
def test_offsets_are_those_of_each_moment(
    zone: ZoneInfo, start: int, steps: int, step: int
) -> None:
    moments = start + step * np.arange(steps, dtype=np.int64)
    assert civil.offsets(moments, zone).tolist() == [
        civil.offset_ms(int(moment), zone) for moment in moments
    ]


@given(st.sampled_from(ZONES), st.dates(date(1990, 1, 1), date(2035, 12, 31)))
def test_a_day_begins_where_its_date_does(zone: ZoneInfo, when: date) -> None:
    day = civil.day_number(when)
    start = civil.day_start_ms(day, zone)
    assert civil.date_of(day) == when
    assert civil.day_of(start, zone) == day
    assert civil.day_of(start - 1, zone) == day - 1
    assert civil.weekday(day) == when.weekday()


def test_the_clock_change_skips_and_repeats_positions() -> None:
    forward = civil.positions(ms(2026, 10, 4, zone=SYDNEY), 23, HOUR_MS, SYDNEY)
    assert (forward % 24).tolist() == [0, 1, *range(3, 24)]
    back = civil.positions(ms(2026, 4, 5, zone=SYDNEY), 25, HOUR_MS, SYDNEY)
    assert (back % 24).tolist() == [0, 1, 2, 2, *range(3, 24)]


def test_positions_in_a_half_hour_zone_follow_its_midnight() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    start = ms(2026, 11, 1, zone=zone)
    assert start % HOUR_MS == 30 * MINUTE_MS
    assert (civil.positions(start, 48, 30 * MINUTE_MS, zone) % 48).tolist() == list(range(48))


def test_a_name_that_is_no_zone_is_refused() -> None:
    for name in ("Mars/Olympus", "", "../etc/passwd"):
        with pytest.raises(ConfigError, match="not a time zone"):
            civil.zone_of(name)


def test_offset_agrees_with_the_standard_library() -> None:
    assert civil.offset_ms(ms(2026, 1, 1), SYDNEY) == timedelta(hours=11) / timedelta(
        milliseconds=1
    )
    assert civil.offset_ms(ms(2026, 7, 1), SYDNEY) == 10 * HOUR_MS
    assert DAY_MS == 24 * HOUR_MS
