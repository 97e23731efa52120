from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems import civil
from hems.civil import HOUR_MS, MINUTE_MS
from hems.errors import ConfigError
from hems.sources.base import WINDOW_STEPS_MAX, DailySource, DayEnergy

SYDNEY = ZoneInfo("Australia/Sydney")


class Hourly(DailySource):
    """Each wall-clock hour h has h + 1 Wh of load; PV is odd micro-watt-hours; hour 5 unknown."""

    def day_energy(self, day: int) -> DayEnergy:
        load = (np.arange(24, dtype=np.int64) + 1) * 1_000_000
        pv = np.full(24, 1_234_567, np.int64)
        return DayEnergy(load, pv, np.arange(24) != 5)


class Whole(Hourly):
    """The same without a gap."""

    def day_energy(self, day: int) -> DayEnergy:
        return super().day_energy(day)._replace(known=np.ones(24, np.bool_))


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=SYDNEY).timestamp() * 1000)  # type: ignore[misc]


@given(
    st.sampled_from([5, 10, 12, 15, 20, 30, 60]),
    st.sampled_from([ms(2026, 11, 3), ms(2026, 10, 4), ms(2026, 4, 5)]),
    st.sampled_from(["Australia/Sydney", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_steps_of_any_length_add_up_to_the_day(minutes: int, at: int, name: str) -> None:
    zone = ZoneInfo(name)
    day = civil.day_of(at, zone)
    start, end = civil.day_start_ms(day, zone), civil.day_start_ms(day + 1, zone)
    hours = [
        civil.positions(start + k * 1_800_000, 1, HOUR_MS, zone)[0] % 24
        for k in range((end - start) // 1_800_000)
    ]
    expected = sum(int(hour) + 1 for hour in hours) / 2
    step = minutes * MINUTE_MS
    if (end - start) % step:
        return
    got = Whole(zone).window(start, end, step)
    assert got.known.all()
    assert abs(int(got.load_wh.sum()) - expected) <= 0.5
    assert got.load_wh.sum() == Whole(zone).window(start, end, end - start).load_wh[0]


@given(st.integers(0, 287), st.integers(1, 288))
def test_a_step_is_the_same_in_every_window(first: int, steps: int) -> None:
    source, step = Whole(SYDNEY), 5 * MINUTE_MS
    start = ms(2026, 11, 3)
    whole = source.window(start, start + 3 * 288 * step, step)
    part = source.window(start + first * step, start + (first + steps) * step, step)
    assert part.load_wh.tolist() == whole.load_wh[first : first + steps].tolist()
    assert part.pv_wh.tolist() == whole.pv_wh[first : first + steps].tolist()


def test_a_window_may_begin_inside_a_step_and_cross_midnight() -> None:
    start = ms(2026, 11, 3, 23, 30)
    got = Whole(SYDNEY).window(start, start + 2 * HOUR_MS, HOUR_MS)
    assert got.load_wh.tolist() == [13, 1]  # 12 + 0.5 and 0.5 + 1, cut from a running total


def test_clock_changes_leave_out_and_repeat_an_hour() -> None:
    forward = Whole(SYDNEY).window(ms(2026, 10, 4), ms(2026, 10, 5), HOUR_MS)
    assert forward.load_wh.tolist() == [1, 2, *range(4, 25)]
    back = Whole(SYDNEY).window(ms(2026, 4, 5), ms(2026, 4, 6), HOUR_MS)
    assert back.load_wh.tolist() == [1, 2, 3, 3, *range(4, 25)]


def test_a_gap_touches_every_step_that_overlaps_it() -> None:
    start = ms(2026, 11, 3)
    got = Hourly(SYDNEY).window(
        start + 30 * MINUTE_MS, start + 8 * HOUR_MS + 30 * MINUTE_MS, HOUR_MS
    )
    assert np.flatnonzero(~got.known).tolist() == [4, 5]
    assert got.load_wh[[4, 5]].tolist() == got.pv_wh[[4, 5]].tolist() == [0, 0]


def test_windows_that_cannot_be_are_refused() -> None:
    source = Whole(SYDNEY)
    for start, end, step in ((0, 0, 1), (10, 0, 5), (0, 10, 3), (0, 10, 0), (0, 10, -5)):
        with pytest.raises(ConfigError, match="whole number of steps"):
            source.window(start, end, step)
    with pytest.raises(ConfigError, match="at most"):
        source.window(0, (WINDOW_STEPS_MAX + 1) * 1000, 1000)


def test_a_year_is_asked_for_without_keeping_it() -> None:
    source = Whole(ZoneInfo("UTC"))
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert source.window(start, start + 365 * 24 * HOUR_MS, HOUR_MS).load_wh.sum() == 365 * 300
    assert len(source._days) <= 40
