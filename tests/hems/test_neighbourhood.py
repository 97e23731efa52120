from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from hems import civil
from hems.civil import DAY_MS, HOUR_MS
from hems.config import CommunityHome, HomeConfig, ReplayHome, SyntheticHome, open_source
from hems.errors import ConfigError, DataError
from hems.neighbourhood import built_in, replayed, synthetic

SYDNEY = ZoneInfo("Australia/Sydney")
MARKET_MS = int(datetime(2026, 11, 20, tzinfo=SYDNEY).timestamp() * 1000)


def file_of(
    tmp_path: Path, days: int, header: str = "time,a,b", gap: int | None = None, pv: str = ""
) -> Path:
    """Hourly; a has 1000 + hour Wh, b one more; b has no value at 05:00 of day `gap`."""
    lines = [header]
    for hour in range(24 * days):
        at = datetime(2012, 10, 1) + timedelta(hours=hour)
        b = "" if gap is not None and hour == 24 * gap + 5 else f"{1.001 + at.hour / 1000:.3f}"
        lines.append(f"{at:%Y-%m-%d %H:%M},{1 + at.hour / 1000:.3f},{b}{pv}")
    path = tmp_path / "homes.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_pv_and_batteries_are_spread_evenly() -> None:
    homes = built_in(12).homes
    has = [home.battery is not None for home in homes]
    assert sum(has) == 7
    assert has == [home.source.pv_peak_w > 0 for home in homes]  # type: ignore[union-attr]
    assert sum(has[:6]) in (3, 4)
    assert sum(h.battery is not None for h in built_in(10, pv_share=0.0).homes) == 0
    assert sum(h.battery is not None for h in built_in(10, pv_share=1.0).homes) == 10


def test_homes_survive_a_configuration_file() -> None:
    for home in [*built_in(2).homes, HomeConfig(source=REPLAY)]:
        plain = msgspec.to_builtins(home)
        assert plain["source"]["kind"] in ("community", "replay")
        assert msgspec.convert(plain, HomeConfig) == home


REPLAY = ReplayHome(
    path="homes.csv", home="a", data_date=date(2012, 11, 2), market_date=date(2026, 11, 20)
)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"zone": "Nowhere"}, "not a time zone"),
        ({"import_cap_w": -1}, "import_cap_w -1"),
        ({"export_cap_w": 10**13}, "export_cap_w 10000000000000: 0 to 1000000 W"),
        ({"colour": 1}, "colour"),
        ({"battery": {"capacity_wh": 0}}, "capacity_wh 0"),
        ({"source": {"kind": "community"}}, "home"),
        ({"source": {"kind": "moon"}}, "moon"),
        ({"source": {**msgspec.to_builtins(REPLAY), "pv_scale": 0}}, "pv_scale 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], named: str) -> None:
    plain = {"source": {"kind": "community", "home": 0}, **change}
    with pytest.raises(msgspec.ValidationError, match=named):
        msgspec.convert(plain, HomeConfig)


def test_a_file_is_replayed_from_the_markets_first_day(tmp_path: Path) -> None:
    hood = replayed(file_of(tmp_path, 60), 4, MARKET_MS)
    assert len(hood.homes) == 4
    first = hood.homes[0].source
    assert isinstance(first, ReplayHome)
    assert first.market_date == date(2026, 11, 20)
    assert first.data_date.weekday() == first.market_date.weekday()
    source = open_source(first, SYDNEY)
    got = source.window(MARKET_MS - 28 * DAY_MS, MARKET_MS + DAY_MS, HOUR_MS)
    assert got.known.all()
    assert got.load_wh.tolist() == [1000 + hour for _ in range(29) for hour in range(24)]


def test_used_again_a_home_is_in_another_week(tmp_path: Path) -> None:
    homes = [home.source for home in replayed(file_of(tmp_path, 60), 6, MARKET_MS).homes]
    assert [home.home for home in homes] == ["a", "b"] * 3  # type: ignore[union-attr]
    dates = [home.data_date for home in homes]  # type: ignore[union-attr]
    assert dates[0] == dates[1]
    assert len({*dates[::2]}) == 3
    assert {when.weekday() for when in dates} == {dates[0].weekday()}


def test_a_file_without_production_borrows_the_built_in_one(tmp_path: Path) -> None:
    hood = replayed(file_of(tmp_path, 40), 2, MARKET_MS, pv_share=0.5)
    assert [home.source.pv is not None for home in hood.homes] == [  # type: ignore[union-attr]
        home.battery is not None for home in hood.homes
    ]
    assert sum(home.battery is not None for home in hood.homes) == 1
    assert any("no production" in note for note in hood.notes)


def test_the_files_own_production_is_used(tmp_path: Path) -> None:
    path = file_of(tmp_path, 40, "time,a,b,b_pv", pv=",2")
    hood = replayed(path, 4, MARKET_MS, pv_share=1.0, pv_scale=1.5)
    assert [home.battery is not None for home in hood.homes] == [False, True] * 2
    source = open_source(hood.homes[1].source, SYDNEY)
    assert source.window(MARKET_MS, MARKET_MS + HOUR_MS, HOUR_MS).pv_wh.tolist() == [3000]


def test_in_a_long_file_gaps_are_gone_round_and_said(tmp_path: Path) -> None:
    hood = replayed(file_of(tmp_path, 40, gap=20), 2, MARKET_MS)
    assert {home.source.home for home in hood.homes} == {"a"}  # type: ignore[union-attr]
    assert "b is left out: 1 gaps, the first at 2012-10-21 05:00" in hood.notes


def test_in_a_short_file_a_gap_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'b' has 1 gaps, the first at 2012-10-06 05:00"):
        replayed(file_of(tmp_path, 14, gap=5), 2, MARKET_MS)


def test_a_short_file_is_used_whole(tmp_path: Path) -> None:
    source = replayed(file_of(tmp_path, 9), 1, MARKET_MS, run_days=2).homes[0].source
    assert isinstance(source, ReplayHome)
    assert (source.repeat_date, source.data_date, source.last_date) == (
        date(2012, 10, 1),
        date(2012, 10, 8),
        date(2012, 10, 9),
    )


def test_too_few_days_are_refused_with_the_number_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few days: 8; 7 of history and 2 to run are needed"):
        replayed(file_of(tmp_path, 8), 1, MARKET_MS, run_days=2)


def test_arguments_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 homes"):
        built_in(0)
    with pytest.raises(ConfigError, match="pv_share"):
        built_in(3, pv_share=1.5)
    with pytest.raises(ConfigError, match="run_days"):
        replayed(file_of(tmp_path, 8), 1, MARKET_MS, run_days=0)
    with pytest.raises(DataError, match="cannot be read"):
        open_source(msgspec.structs.replace(REPLAY, path=str(tmp_path / "no.csv")), SYDNEY)
    assert open_source(CommunityHome(home=1), civil.zone_of("UTC")) is not None


def test_synthetic_households_differ_and_open() -> None:
    hood = synthetic(24, seed=3)
    sources = [home.source for home in hood.homes]
    assert all(isinstance(source, SyntheticHome) for source in sources)
    assert len({source.persons for source in sources}) >= 4  # type: ignore[union-attr]
    assert {source.heating for source in sources} == {"none", "electric", "heat_pump"}  # type: ignore[union-attr]
    assert 2 <= sum(source.ev_km_per_day > 0 for source in sources) <= 10  # type: ignore[union-attr]
    assert [home.battery is not None for home in hood.homes] == [
        source.pv_peak_w > 0  # type: ignore[union-attr]
        for source in sources
    ]
    assert synthetic(24, seed=3) == hood != synthetic(24, seed=4)
    plain = msgspec.to_builtins(hood.homes[0])
    assert msgspec.convert(plain, HomeConfig) == hood.homes[0]
    window = open_source(sources[0], SYDNEY).window(MARKET_MS, MARKET_MS + DAY_MS, HOUR_MS)
    assert window.known.all()
    assert window.load_wh.min() > 50


def test_production_per_kwp_becomes_the_array_a_home_has(tmp_path: Path) -> None:
    titles = "month,hour,day_type,non_shiftable_load,solar_generation"
    days = [date(2016, 8, 1) + timedelta(days=day) for day in range(40)]
    rows = [
        f"{day.month},{hour},{day.isoweekday()},1.5,{100 * (hour == 12)}"
        for day in days
        for hour in range(1, 25)
    ]
    (tmp_path / "Building_1.csv").write_text("\n".join([titles, *rows]))
    hood = replayed(tmp_path, 1, MARKET_MS, pv_share=1.0, pv_peak_w=4_000)
    assert "production is that of 1 kWp; homes have 4 kWp" in hood.notes
    got = open_source(hood.homes[0].source, SYDNEY).window(MARKET_MS, MARKET_MS + DAY_MS, HOUR_MS)
    assert got.pv_wh.tolist() == [400 * (hour == 11) for hour in range(24)]
    assert got.load_wh.tolist() == [1_500] * 24


def test_regions_have_their_own_shares_of_pv() -> None:
    street = built_in(8, pv_shares=[(4, 1.0), (4, 0.25)])
    sunny = [home.battery is not None for home in street.homes]
    assert [sum(sunny[:4]), sum(sunny[4:])] == [4, 1]
    with pytest.raises(ConfigError, match="pv_shares: of 7 homes, not of 8"):
        built_in(8, pv_shares=[(7, 0.5)])
