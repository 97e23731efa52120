"""Every format ends on the same grid, and says where it is wrong."""

import gzip
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hems import civil
from hems.errors import DataError
from hems.sources import citylearn
from hems.sources.formats import read_file
from hems.sources.grid import MISSING, WideData

SYDNEY = ZoneInfo("Australia/Sydney")
FIRST = datetime(2012, 11, 1)


def stamps(days: int) -> list[datetime]:
    return [FIRST + timedelta(minutes=30 * step) for step in range(48 * days)]


def wide_text() -> str:
    rows = [
        f"{at:%Y-%m-%d %H:%M},{k % 7 + 1},{k % 5},{k % 3 + 1}" for k, at in enumerate(stamps(3))
    ]
    return "\n".join(["time,north,north_pv,south", *rows]) + "\n"


def long_text() -> str:
    rows = [
        f"{at:%Y-%m-%d %H:%M},north,{k % 7 + 1},{k % 5}\n{at:%Y-%m-%d %H:%M},south,{k % 3 + 1},"
        for k, at in enumerate(stamps(3))
    ]
    return "\n".join(["time,home,load,pv", *rows]) + "\n"


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def same(one: WideData, other: WideData) -> None:
    assert (one.first_day, one.days, one.steps_per_day) == (
        other.first_day,
        other.days,
        other.steps_per_day,
    )
    assert [home.name for home in one.homes] == [home.name for home in other.homes]
    for ours, theirs in zip(one.homes, other.homes, strict=True):
        np.testing.assert_array_equal(ours.load_uwh, theirs.load_uwh)
        assert (ours.pv_uwh is None) == (theirs.pv_uwh is None)
        if ours.pv_uwh is not None and theirs.pv_uwh is not None:
            np.testing.assert_array_equal(ours.pv_uwh, theirs.pv_uwh)


def test_long_and_wide_say_the_same(tmp_path: Path) -> None:
    wide = read_file(written(tmp_path, "wide.csv", wide_text()), SYDNEY)
    same(read_file(written(tmp_path, "long.csv.gz", long_text()), SYDNEY), wide)
    only = read_file(tmp_path / "long.csv.gz", SYDNEY, only="south")
    assert [home.name for home in only.homes] == ["south"]
    np.testing.assert_array_equal(only.homes[0].load_uwh, wide.homes[1].load_uwh)


def test_long_rows_may_come_in_any_order_of_homes_and_leave_gaps(tmp_path: Path) -> None:
    header, *rows = long_text().splitlines()
    rows = [row for row in sorted(rows, key=lambda row: row.split(",")[1]) if "03 04:30" not in row]
    data = read_file(written(tmp_path, "long.csv", "\n".join([header, *rows])), SYDNEY)
    for home in data.homes:
        assert np.flatnonzero(home.load_uwh == MISSING).tolist() == [2 * 48 + 9]


def test_long_power_is_kw(tmp_path: Path) -> None:
    text = long_text().replace("load,pv", "load_kw,pv_kw")
    data = read_file(written(tmp_path, "long.csv", text), SYDNEY)
    assert data.homes[0].load_uwh[0] == 500_000_000
    assert data.homes[0].pv_uwh is not None
    assert data.homes[0].pv_uwh[1] == 500_000_000


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("time,home", "when,home"), "line 1: no column 'time'"),
        (("load,pv", "load,load_kw"), "load in kWh and in kW"),
        (("2012-11-01 00:30,north,2", "2012-11-01 00:30,north,-2"), "line 4, column 'load': negat"),
        (("2012-11-01 00:30,north,2", "2012-11-01 00:30,north,900"), "is the unit right"),
        (("2012-11-01 00:30,north,2", "2012-11-01 00:30,north,x"), "line 4, column 'load': 'x'"),
        (("2012-11-01 00:30,north,2", "2012-11-01 00:30,,2"), "line 4: a row without a home"),
        (("2012-11-01 00:30,north,2", "2012-11-01 00:00,north,2"), "line 4: duplicate time"),
        (("2012-11-01 00:30,north,2", "noon,north,2"), "line 4: time 'noon'"),
        (("2012-11-01 00:30,north,2", "2012-11-01 00:31,north,2"), "step of"),
        (("2012-11-01 00:30,north,2,1", "2012-11-01 00:30,north"), "line 4: 2 fields"),
    ],
)
def test_a_wrong_long_file_is_refused_with_its_place(
    tmp_path: Path, change: tuple[str, str], named: str
) -> None:
    text = long_text()
    assert change[0] in text
    path = written(tmp_path, "long.csv", text.replace(*change))
    with pytest.raises(DataError, match=named):
        read_file(path, SYDNEY)


def test_a_home_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "long.csv", long_text())
    with pytest.raises(DataError, match="no home 'west'; the file has north, south"):
        read_file(path, SYDNEY, only="west")


def test_parquet_says_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    wide = read_file(written(tmp_path, "wide.csv", wide_text()), SYDNEY)
    count = range(48 * 3)
    table = {
        "time": stamps(3),
        "north": [float(k % 7 + 1) for k in count],
        "north_pv": [float(k % 5) for k in count],
        "south": [float(k % 3 + 1) for k in count],
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "wide.parquet")
    same(read_file(tmp_path / "wide.parquet", SYDNEY), wide)
    moments = [at.replace(tzinfo=SYDNEY) for at in stamps(3)]
    both = {
        "time": moments * 2,
        "home": ["north"] * len(moments) + ["south"] * len(moments),
        "load": table["north"] + table["south"],
        "pv": table["north_pv"] + [None] * len(moments),
    }
    parquet.write_table(pyarrow.table(both), tmp_path / "long.parquet")
    same(read_file(tmp_path / "long.parquet", SYDNEY), wide)
    (tmp_path / "bad.parquet").write_text("time,a\n")
    with pytest.raises(DataError, match=r"bad.parquet: cannot be read"):
        read_file(tmp_path / "bad.parquet")


def test_parquet_without_its_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"install commonwatt\[parquet\]"):
        read_file(tmp_path / "a.parquet")


def city_text(days: int, change: tuple[str, str] = ("", "")) -> str:
    """Rows as in the file of 2022: from the last hour of July, kWh and W per kWp."""
    rows = ["7,24,7,0,1.5,0.0,0.0,0.0,0.0"]
    for day in range(days):
        at = date(2016, 8, 1) + timedelta(days=day)
        rows += [
            f"{at.month},{hour},{at.isoweekday()},0,{1 + hour / 100:.2f},0.25,0.0,0.0,{10.0 * hour}"
            for hour in range(1, 25)
        ]
    head = "month,hour,day_type,daylight_savings_status,non_shiftable_load,dhw_demand,"
    text = "\n".join([head + "cooling_demand,heating_demand,solar_generation", *rows]) + "\n"
    assert change[0] in text
    return text.replace(*change) if change[0] else text


def test_a_citylearn_building_is_read(tmp_path: Path) -> None:
    data = read_file(written(tmp_path, "Building_3.csv.gz", city_text(40)))
    assert (civil.date_of(data.first_day), data.days) == (date(2016, 8, 1), 40)
    assert (data.steps_per_day, data.pv_per_kwp) == (24, True)
    (home,) = data.homes
    assert home.name == "Building_3"
    assert home.load_uwh[:2].tolist() == [1_260_000_000, 1_270_000_000]
    assert home.pv_uwh is not None
    assert home.pv_uwh[-1] == 240_000_000


def test_a_folder_of_buildings_is_a_street(tmp_path: Path) -> None:
    for number in (2, 10, 1):
        written(tmp_path, f"Building_{number}.csv", city_text(3))
    written(tmp_path, "weather.csv", "outdoor_dry_bulb_temperature\n20\n")
    names = [home.name for home in read_file(tmp_path).homes]
    assert names == ["Building_1", "Building_2", "Building_10"]
    assert [h.name for h in read_file(tmp_path, only="Building_2").homes] == ["Building_2"]
    with pytest.raises(DataError, match="0 files of home 'Building_7'"):
        read_file(tmp_path, only="Building_7")
    written(tmp_path, "Building_4.csv", city_text(4))
    with pytest.raises(DataError, match=r"Building_4.csv: other days than"):
        read_file(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("8,3,1,0", "8,4,1,0"), "line 5: month 8, hour 4"),
        (("8,3,2,0", "8,3,5,0"), "line 29: month 8, hour 3, day type 5"),
        (("8,3,1,0,1.03", "8,3,1,0,-1"), "column 'non_shiftable_load': -1 cannot be"),
        (("8,3,1,0,1.03", "8,3,1,0,1030"), "line 5: 1030.25 kWh in one hour"),
        (("8,3,1,0", "8,x,1,0"), "column 'hour': 'x' is not a whole number"),
        ((",0.0,30.0", ",0.0,1e19"), "line 5: 1e\\+19 of one kWp in one hour"),
    ],
)
def test_a_wrong_building_is_refused(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    path = written(tmp_path, "Building_1.csv", city_text(3, change))
    with pytest.raises(DataError, match=named):
        read_file(path)


def test_a_month_that_is_none_is_refused(tmp_path: Path) -> None:
    text = city_text(3).replace("\n7,24,", "\n13,24,").replace("\n8,", "\n13,")
    with pytest.raises(DataError, match="line 2: month 13, hour 24; months are 1 to 12"):
        read_file(written(tmp_path, "Building_1.csv", text))


def test_leap_years_tell_the_year(tmp_path: Path) -> None:
    text = city_text(31 + 30 + 31 + 30 + 31 + 31 + 28 + 31)
    data = read_file(written(tmp_path, "Building_1.csv", text))
    assert civil.date_of(data.first_day).year == 2016
    assert citylearn.FIRST_YEAR == 2016
