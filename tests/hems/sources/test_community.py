from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hems.civil import DAY_MS, HOUR_MS, MINUTE_MS
from hems.errors import ConfigError
from hems.sources import community_data as tables
from hems.sources.community import (
    LOAD_TYPES,
    PV_TYPES,
    CommunitySource,
    five_minute_profile,
    load_profile_w,
)
from hems.sources.draws import normals

UTC_ZONE = ZoneInfo("UTC")
START_MS = int(datetime(2026, 11, 2, tzinfo=UTC).timestamp() * 1000)  # a Monday


def test_there_are_fifteen_load_and_three_pv_types_of_24_hours() -> None:
    assert LOAD_TYPES == 15
    assert PV_TYPES == 3
    for row in tables.LOAD_TYPES_W + tables.PV_TYPES_W_PER_KWP:
        assert len(row) == 24
        assert min(row) >= 0
    assert sum(tables.PV_DAY_FACTORS) == pytest.approx(30, abs=0.02)
    for row in tables.PV_TYPES_W_PER_KWP:
        assert row[:5] == (0,) * 5


def test_the_same_seed_home_and_day_are_the_same_in_any_order() -> None:
    one, other = (CommunitySource(3, 7, UTC_ZONE, 5000) for _ in range(2))
    late = other.window(START_MS + 5 * DAY_MS, START_MS + 6 * DAY_MS, HOUR_MS)
    whole = one.window(START_MS, START_MS + 6 * DAY_MS, HOUR_MS)
    assert late.load_wh.tolist() == whole.load_wh[-24:].tolist()
    assert late.pv_wh.tolist() == whole.pv_wh[-24:].tolist()


def test_a_known_day_stays_what_it_is() -> None:
    # Guards resumed runs: the same seed must give the same community in every version.
    got = CommunitySource(0, 1, UTC_ZONE, 5000).window(START_MS, START_MS + DAY_MS, 6 * HOUR_MS)
    assert (got.load_wh.tolist(), got.pv_wh.tolist()) == KNOWN_DAY


def test_homes_seeds_and_days_differ() -> None:
    def day(home: int, seed: int, number: int) -> list[int]:
        source = CommunitySource(home, seed, UTC_ZONE, load_type=14)
        start = START_MS + number * DAY_MS
        return source.window(start, start + DAY_MS, HOUR_MS).load_wh.tolist()

    days = [day(0, 1, 0), day(1, 1, 0), day(0, 2, 0), day(0, 1, 1)]
    assert len({tuple(values) for values in days}) == 4


def test_days_scatter_about_the_measured_profile() -> None:
    source = CommunitySource(0, 1, UTC_ZONE, 5000, load_type=14, pv_type=0)
    days = 200
    got = source.window(START_MS, START_MS + days * DAY_MS, HOUR_MS)
    mean_w = got.load_wh.reshape(days, 24).mean(axis=0)
    profile_w = load_profile_w(14, 0)
    assert mean_w.mean() == pytest.approx(profile_w.mean(), rel=0.05)
    assert np.corrcoef(mean_w, profile_w)[0, 1] > 0.8
    scatter = np.log(got.load_wh.reshape(days, 24).sum(axis=1)).std()
    assert 0.8 * tables.LOAD_DAY_SIGMA < scatter < 1.8 * tables.LOAD_DAY_SIGMA
    pv_kwh = got.pv_wh.sum() / days / 1000
    assert pv_kwh == pytest.approx(5 * sum(tables.PV_TYPES_W_PER_KWP[0]) / 1000, rel=0.1)
    assert got.pv_wh.max() <= 5000


def test_the_weather_is_the_neighbourhoods() -> None:
    days = 30
    totals = [
        CommunitySource(home, 1, UTC_ZONE, 5000)
        .window(START_MS, START_MS + days * DAY_MS, DAY_MS)
        .pv_wh
        for home in range(2)
    ]
    assert np.corrcoef(totals[0], totals[1])[0, 1] > 0.95


def test_weekends_are_their_own_except_for_homes_that_have_only_one_day() -> None:
    assert load_profile_w(2, 4).tolist() == list(tables.LOAD_TYPES_W[2])
    assert load_profile_w(2, 5).tolist() == list(tables.LOAD_TYPES_W[9])
    assert load_profile_w(9, 0).tolist() == load_profile_w(9, 6).tolist()
    assert load_profile_w(14, 6).tolist() == list(tables.LOAD_TYPES_W[14])


def test_smoothing_keeps_each_hours_mean() -> None:
    hourly = np.array(tables.PV_TYPES_W_PER_KWP[0], float)
    smooth = five_minute_profile(hourly)
    assert smooth.reshape(24, 12).mean(axis=1).tolist() == pytest.approx(hourly.tolist())


def test_the_draws_are_standard_normal() -> None:
    draws = normals(20_000, "test")
    assert abs(draws.mean()) < 0.03
    assert draws.std() == pytest.approx(1, abs=0.03)
    assert np.mean(np.abs(draws) < 1.96) == pytest.approx(0.95, abs=0.01)


def test_without_pv_there_is_none() -> None:
    got = CommunitySource(0, 1, UTC_ZONE).window(START_MS, START_MS + DAY_MS, 5 * MINUTE_MS)
    assert got.pv_wh.sum() == 0
    assert got.known.all()


def test_types_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="load types are 0 to 14"):
        CommunitySource(0, 1, UTC_ZONE, load_type=15)
    with pytest.raises(ConfigError, match="PV types 0 to 2"):
        CommunitySource(0, 1, UTC_ZONE, pv_type=-1)
    with pytest.raises(ConfigError, match="0 or more"):
        CommunitySource(-1, 1, UTC_ZONE)


KNOWN_DAY = ([3476, 3033, 1545, 967], [0, 9729, 20121, 756])
