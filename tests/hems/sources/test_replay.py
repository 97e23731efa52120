from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hems import civil
from hems.civil import DAY_MS, HOUR_MS
from hems.errors import DataError
from hems.sources.community import CommunitySource
from hems.sources.replay import ReplaySource
from hems.sources.wide import MISSING, HomeSeries

SYDNEY = ZoneInfo("Australia/Sydney")
FIRST = civil.day_number(date(2012, 11, 1))  # a Thursday


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=SYDNEY).timestamp() * 1000)  # type: ignore[misc]


def series(days: int, pv: bool = False) -> HomeSeries:
    """Hour h of day d has 100 d + h Wh of load and half of it of production."""
    load = (np.arange(days)[:, None] * 100 + np.arange(24)).reshape(-1) * 1_000_000
    return HomeSeries("a", load, load // 2 if pv else None, 0)


def test_the_wall_clock_is_kept_where_dates_move() -> None:
    # From a day of summer time to one of winter time: 18:00 stays 18:00.
    shift = civil.day_number(date(2026, 7, 2)) - FIRST
    source = ReplaySource(series(3), 24, FIRST, SYDNEY, shift_days=shift)
    start = ms(2026, 7, 3, 18)
    assert source.window(start, start + 2 * HOUR_MS, HOUR_MS).load_wh.tolist() == [118, 119]


def test_before_the_file_nothing_is_known_and_after_it_weeks_repeat() -> None:
    source = ReplaySource(series(10), 24, FIRST, SYDNEY)
    before = source.window(ms(2012, 10, 31), ms(2012, 11, 1), HOUR_MS)
    assert not before.known.any()
    # Ten days have one whole week to repeat: the last seven days.
    day_11 = source.window(ms(2012, 11, 11), ms(2012, 11, 12), HOUR_MS)
    assert day_11.load_wh[0] == 300
    assert civil.weekday(FIRST + 10) == civil.weekday(FIRST + 3)
    day_18 = source.window(ms(2012, 11, 18), ms(2012, 11, 19), HOUR_MS)
    assert day_18.load_wh.tolist() == day_11.load_wh.tolist()


def test_less_than_a_week_repeats_as_it_is() -> None:
    source = ReplaySource(series(3), 24, FIRST, SYDNEY)
    starts = [ms(2012, 11, day) for day in range(1, 8)]
    got = [int(source.window(at, at + HOUR_MS, HOUR_MS).load_wh[0]) for at in starts]
    assert got == [0, 100, 200, 0, 100, 200, 0]


def test_only_the_days_asked_for_are_used() -> None:
    source = ReplaySource(series(30), 24, FIRST, SYDNEY, last_day=FIRST + 16, repeat_from_day=FIRST)
    at = ms(2012, 11, 18)
    assert source.window(at, at + HOUR_MS, HOUR_MS).load_wh[0] == 300  # 14 days back from day 17
    with pytest.raises(DataError, match="not all in the file"):
        ReplaySource(series(3), 24, FIRST, SYDNEY, last_day=FIRST + 3)


def test_gaps_are_unknown() -> None:
    home = series(1)
    home.load_uwh[5] = MISSING
    got = ReplaySource(home, 24, FIRST, SYDNEY).window(ms(2012, 11, 1), ms(2012, 11, 2), HOUR_MS)
    assert np.flatnonzero(~got.known).tolist() == [5]


def test_production_is_the_files_scaled_or_another_sources() -> None:
    window = ms(2012, 11, 2), ms(2012, 11, 3), HOUR_MS
    own = ReplaySource(series(2, pv=True), 24, FIRST, SYDNEY, pv_scale=4.0).window(*window)
    assert own.pv_wh.tolist() == [2 * wh for wh in own.load_wh.tolist()]
    roof = CommunitySource(0, 1, SYDNEY, 5000)
    lent = ReplaySource(series(2), 24, FIRST, SYDNEY, pv_from=roof).window(*window)
    assert lent.pv_wh.tolist() == roof.window(*window).pv_wh.tolist()
    # Steps of 8 minutes are no whole steps of the other source's five.
    eight = HomeSeries("a", np.full(2 * 180, 10**8), None, 0)
    for steps in (HOUR_MS, 8 * 60_000):
        got = ReplaySource(eight, 180, FIRST, SYDNEY, pv_from=roof).window(*window[:2], steps)
        assert got.pv_wh.sum() == lent.pv_wh.sum()
    none = ReplaySource(series(2), 24, FIRST, SYDNEY).window(*window)
    assert none.pv_wh.sum() == 0
    assert none.load_wh.sum() * 1 == sum(100 + hour for hour in range(24))
    assert DAY_MS == 24 * HOUR_MS
