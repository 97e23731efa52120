from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from hems import civil
from hems.devices.windows import minutes_of, spans
from hems.errors import ConfigError

SYDNEY = civil.zone_of("Australia/Sydney")


def at(text: str) -> int:
    local = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo("Australia/Sydney"))
    return int(local.timestamp()) * 1000


def test_a_window_over_midnight_is_one() -> None:
    begin, end = minutes_of("arrive", "18:00"), minutes_of("leave", "07:30")
    found = spans(begin, end, at("2026-11-20T05:00"), at("2026-11-21T05:00"), SYDNEY)
    assert found == [
        (at("2026-11-19T18:00"), at("2026-11-20T07:30")),
        (at("2026-11-20T18:00"), at("2026-11-21T07:30")),
    ]
    # One that ends with the stretch's beginning is not in it.
    assert spans(begin, end, at("2026-11-20T07:30"), at("2026-11-20T18:00"), SYDNEY) == []


def test_whole_days_follow_each_other_over_a_change_of_clocks() -> None:
    begin, end = minutes_of("earliest", "00:00"), minutes_of("deadline", "24:00")
    found = spans(begin, end, at("2026-10-03T12:00"), at("2026-10-05T12:00"), SYDNEY)
    hours = [(span.end_ms - span.begin_ms) / civil.HOUR_MS for span in found]
    assert hours == [24, 23, 24]
    assert found[0].end_ms == found[1].begin_ms


@pytest.mark.parametrize("text", ["24:01", "7:30", "07:60", "noon", "", "07:30:00"])
def test_what_is_no_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"leave .*a time of day such as '07:30'"):
        minutes_of("leave", text)
