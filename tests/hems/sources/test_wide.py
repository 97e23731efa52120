import contextlib
import gzip
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hems import civil
from hems.errors import DataError
from hems.sources import grid, wide
from hems.sources.grid import MISSING, pick
from hems.sources.wide import read_wide

SYDNEY = ZoneInfo("Australia/Sydney")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_text(text: str, name: str = "homes.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return path

    return write_text


def table(
    days: int = 2,
    header: str = "time,a",
    step: int = 60,
    row: Callable[[datetime], str] = lambda at: "0.5",
    start: datetime = datetime(2026, 11, 2),
) -> list[str]:
    times = [start + timedelta(minutes=step * k) for k in range(days * 1440 // step)]
    return [header, *(f"{at:%Y-%m-%d %H:%M},{row(at)}" for at in times)]


def text(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def test_a_plain_file_is_read(write: Write) -> None:
    lines = table(header="time,a,b,b_pv", row=lambda at: f"0.5,1.25,{at.hour / 10}")
    data = read_wide(write(text(lines)))
    assert (data.first_day, data.days, data.steps_per_day) == (
        civil.day_number(date(2026, 11, 2)),
        2,
        24,
    )
    a, b = data.homes
    assert (a.name, b.name, a.pv_uwh) == ("a", "b", None)
    assert a.load_uwh.tolist() == [500_000_000] * 48
    assert b.pv_uwh is not None
    assert b.pv_uwh[:3].tolist() == [0, 100_000_000, 200_000_000]
    assert a.known().all()


def test_compressed_seconds_and_t_are_fine(write: Write) -> None:
    lines = [line.replace(" ", "T").replace(":00,", ":00:00,") for line in table()]
    plain = read_wide(write(text(table())))
    other = read_wide(write(text(lines), "homes.csv.gz"))
    assert other.homes[0].load_uwh.tolist() == plain.homes[0].load_uwh.tolist()


def test_the_ausgrid_shape_is_mean_kilowatts_of_one_home(write: Write) -> None:
    lines = table(header="local_time,load_kw,pv_kw", step=30, row=lambda at: "0.4,1.0")
    data = read_wide(write(text(lines)))
    assert [home.name for home in data.homes] == ["load"]
    assert data.homes[0].load_uwh[0] == 200_000_000
    assert data.homes[0].pv_uwh is not None
    assert data.homes[0].pv_uwh[0] == 500_000_000


def test_only_one_home_may_be_kept(write: Write) -> None:
    path = write(text(table(header="time,a,b,b_pv", row=lambda at: "1,2,3")))
    data = read_wide(path, only="b")
    assert [home.name for home in data.homes] == ["b"]
    assert data.homes[0].pv_uwh is not None
    with pytest.raises(DataError, match="no home 'c'; the file has a, b"):
        read_wide(path, only="c")


def test_empty_cells_are_gaps(write: Write) -> None:
    lines = table(header="time,a,b", row=lambda at: "1,2" if at.hour != 3 else ",NaN")
    data = read_wide(write(text(lines)))
    for home in data.homes:
        assert np.flatnonzero(~home.known()).tolist() == [3, 27]


def test_missing_rows_are_refused_or_taken_as_gaps(write: Write) -> None:
    lines = table()
    del lines[10:13]
    path = write(text(lines))
    with pytest.raises(DataError, match="gap: 3 rows are missing, the first at 2026-11-02 09:00"):
        read_wide(path)
    data = read_wide(path, missing_rows=True)
    assert np.flatnonzero(data.homes[0].load_uwh == MISSING).tolist() == [9, 10, 11]


def test_days_that_are_not_whole_are_left_out(write: Write) -> None:
    lines = table(days=4)
    data = read_wide(write(text([lines[0], *lines[8:-3]])))
    assert data.days == 2
    assert civil.date_of(data.first_day) == date(2026, 11, 3)


def test_many_zeros_are_gaps_and_few_are_not(write: Write) -> None:
    few = table(days=10, row=lambda at: "0" if (at.day, at.hour) == (5, 5) else "1")
    assert read_wide(write(text(few))).homes[0].zeros_dropped == 0
    many = table(days=10, row=lambda at: "0" if at.hour < 5 else "1")
    home = read_wide(write(text(many))).homes[0]
    assert home.zeros_dropped == 50
    assert (~home.known()).sum() == 50


def test_zeros_of_production_are_night(write: Write) -> None:
    data = read_wide(write(text(table(header="time,a,a_pv", row=lambda at: "1,0"))))
    assert data.homes[0].known().all()


class TestDaylightSaving:
    """Clocks go forward on 2026-10-04 at 2:00 and back on 2026-04-05 at 3:00 in Sydney."""

    @staticmethod
    def wall_clock(first: date, days: int) -> list[str]:
        start = int(datetime.combine(first, datetime.min.time(), SYDNEY).timestamp())
        end_day = datetime.combine(first + timedelta(days), datetime.min.time(), SYDNEY)
        lines = ["time,a"]
        for at in range(start, int(end_day.timestamp()), 1800):
            local = datetime.fromtimestamp(at, SYDNEY)
            lines.append(f"{local:%Y-%m-%d %H:%M},{1 + local.fold}")
        return lines

    def test_a_repeated_hour_is_averaged(self, write: Write) -> None:
        lines = self.wall_clock(date(2026, 4, 4), 3)
        assert len(lines) == 1 + 3 * 48 + 2
        data = read_wide(write(text(lines)), SYDNEY)
        assert data.days == 3
        load = data.homes[0].load_uwh.reshape(3, 48) / 1e9
        assert load[1, 3:7].tolist() == [1, 1.5, 1.5, 1]

    def test_a_skipped_hour_is_no_gap(self, write: Write) -> None:
        lines = self.wall_clock(date(2026, 10, 3), 3)
        assert len(lines) == 1 + 3 * 48 - 2
        assert read_wide(write(text(lines)), SYDNEY).homes[0].known().all()

    def test_without_a_zone_both_are_errors(self, write: Write) -> None:
        with pytest.raises(DataError, match="times must ascend; '2026-04-05 02:00'"):
            read_wide(write(text(self.wall_clock(date(2026, 4, 4), 3))))
        with pytest.raises(DataError, match="gap: 2 rows are missing, the first at 2026-10-04 02"):
            read_wide(write(text(self.wall_clock(date(2026, 10, 3), 3))))

    def test_a_file_with_24_hours_every_day_is_read_as_it_is(self, write: Write) -> None:
        for first in (datetime(2026, 4, 4), datetime(2026, 10, 3)):
            lines = table(days=3, start=first, row=lambda at: f"{1 + at.hour / 100}")
            data = read_wide(write(text(lines)), SYDNEY)
            hours = data.homes[0].load_uwh.reshape(3, 24)
            assert hours[0].tolist() == hours[1].tolist()

    def test_a_third_time_is_a_duplicate(self, write: Write) -> None:
        lines = self.wall_clock(date(2026, 4, 4), 3)
        at = lines.index("2026-04-05 02:30,1")
        with pytest.raises(DataError, match="duplicate time '2026-04-05 02:30'"):
            read_wide(
                write(text([*lines[: at + 1], lines[at], lines[at], *lines[at + 1 :]])), SYDNEY
            )


def replaced(line: int, by: str) -> list[str]:
    lines = table(header="time,a,b", row=lambda at: "1,2")
    lines[line - 1] = by
    return lines


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (replaced(5, "yesterday,1,2"), "line 5: time 'yesterday' is not YYYY-MM-DD HH:MM"),
        (replaced(5, "2026-11-02 02:00,1,2"), "line 5: duplicate time '2026-11-02 02:00'"),
        (replaced(5, "2026-11-01 03:00,1,2"), "line 5: times must ascend; '2026-11-01 03:00'"),
        (replaced(5, "2026-11-02 03:00+11:00,1,2"), "line 5: .* give local wall-clock time"),
        (replaced(5, "2026-11-02 03:00:30,1,2"), "line 5: .* whole minutes"),
        (replaced(5, "2026-11-02 03:00,1,-0.5"), "line 5, column 'b': negative energy -0.5"),
        (replaced(5, "2026-11-02 03:00,one,2"), "line 5, column 'a': 'one' is not a number"),
        (replaced(5, "2026-11-02 03:00,1,425"), "line 5, column 'b': 425 kWh in one step"),
        (replaced(5, "2026-11-02 03:00,1,inf"), "line 5, column 'b': inf kWh"),
        (replaced(5, "2026-11-02 03:00,1"), "line 5: 2 fields, the header has 3"),
        (replaced(5, "2026-11-02 03:20,1,2"), "a step of 20 minutes|irregular step"),
        (
            replaced(1, "time"),
            "line 1: the first line names a column `time` and one for each of 1 to",
        ),
        (replaced(1, "time,a,"), "line 1: column 3 has no name"),
        (replaced(1, "time,a,a"), "line 1, column 'a': two columns have this name"),
        (replaced(1, "time,a,c_pv"), "line 1, column 'c_pv': .* load column 'c' is missing"),
        (replaced(1, "time,a_pv,b_pv"), "line 1: no load column"),
        (replaced(1, "time,a,a_kw"), "a home has its load .* in two columns"),
        (["time,a"], "0 rows of data"),
        (["time,a", "2026-11-02 00:00,1"], "1 rows of data"),
        (table(step=60)[:20], "not one whole day"),
        (table(step=120), "a step of 120 minutes"),
        (table(days=4, step=7)[:200], "a step of 7 minutes"),
    ],
)
def test_a_bad_file_says_where_it_is_bad(write: Write, lines: list[str], message: str) -> None:
    path = write(text(lines))
    with pytest.raises(DataError, match=message) as caught:
        read_wide(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_odd_label_in_the_middle_is_irregular(write: Write) -> None:
    lines = table(days=2, step=30)
    lines[20] = lines[20].replace(":30", ":35")
    with pytest.raises(DataError, match="25 minutes"):
        read_wide(write(text(lines)))
    lines = table(days=2, step=30, start=datetime(2026, 11, 2, 0, 10))
    with pytest.raises(DataError, match=r"line 2: irregular step: .* 2026-11-02 00:10 is not one"):
        read_wide(write(text(lines)))


def test_what_is_no_table_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_wide(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_wide(tmp_path)
    with pytest.raises(DataError, match="empty"):
        read_wide(write(""))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_wide(tmp_path / "binary.csv")
    (tmp_path / "plain.csv.gz").write_text("time,a\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_wide(tmp_path / "plain.csv.gz")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(text(table(9)).encode())[:60])
    with pytest.raises(DataError, match="cannot be read"):
        read_wide(tmp_path / "cut.csv.gz")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_the_bytes_only_a_data_error(tmp_path: Path, data: st.DataObject) -> None:
    lines = table(header="time,a,b_pv,b", row=lambda at: "1,2,3")
    raw = text(lines).encode()
    if data.draw(st.booleans()):
        raw = gzip.compress(raw, mtime=0)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        end = data.draw(st.integers(at, min(len(raw), at + 40)))
        raw = raw[:at] + data.draw(st.binary(max_size=20)) + raw[end:]
    path = tmp_path / ("homes.csv.gz" if raw[:2] == b"\x1f\x8b" else "homes.csv")
    path.write_bytes(raw)
    with contextlib.suppress(DataError):
        read = read_wide(path, SYDNEY, missing_rows=data.draw(st.booleans()))
        assert all(home.load_uwh.min() >= MISSING for home in read.homes)


def test_times_far_apart_are_refused_before_they_take_memory(write: Write) -> None:
    lines = [*table(days=2), *table(days=1, start=datetime(2199, 1, 1))[1:]]
    path = write(text(lines))
    with pytest.raises(DataError, match="rows are missing"):
        read_wide(path)
    lines = [*table(days=2), "2201-01-01 00:00,1"]
    with pytest.raises(DataError, match=r"line 50: time .* years 1970 to 2200"):
        read_wide(write(text(lines)))


def test_a_few_rows_far_apart_cost_nothing(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["time,a", "1970-01-01 00:00,1", "1970-01-01 00:05,1", "2199-12-31 00:00,1"]
    path = write(text(rows))
    # Twenty-four million steps: none of them may become an array.
    monkeypatch.setattr(grid, "np", None)
    with pytest.raises(DataError, match="rows are missing, the first at 1970-01-01 00:10"):
        read_wide(path)
    with pytest.raises(DataError, match=r"gap: 3 rows for .* give at least 5%"):
        read_wide(path, missing_rows=True)


@pytest.mark.parametrize("end", ["x" * 300_000, '"\n",' * 60_000], ids=["line", "quoted"])
def test_a_row_without_an_end_is_not_read(write: Write, end: str) -> None:
    with pytest.raises(DataError, match=r"line 49: .* more than 128000 characters"):
        read_wide(write(text([*table(), end])))
    with pytest.raises(DataError, match="more than 128000 characters"):
        read_wide(write(end))


def test_empty_lines_count(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "ROWS_MAX", 60)
    assert read_wide(write(text([*table(), *[""] * 12]))).days == 2
    with pytest.raises(DataError, match="more than 60 rows"):
        read_wide(write(text([*table(), *[""] * 13])))


def test_limits_are_kept(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(text(table()))
    monkeypatch.setattr(wide, "ROWS_MAX", 20)
    with pytest.raises(DataError, match="more than 20 rows"):
        read_wide(path)
    monkeypatch.setattr(wide, "ROWS_MAX", 1000)
    monkeypatch.setattr(grid, "CELLS_MAX", 47)
    with pytest.raises(DataError, match=r"2 days of 1 columns .* more than 47 values"):
        read_wide(path)
    monkeypatch.setattr(wide, "FILE_BYTES_MAX", 20)
    with pytest.raises(DataError, match="larger than 20 bytes"):
        read_wide(path)


class TestPick:
    """Days with gaps: a on the 4th day, b on the 4th and the 12th, of 40."""

    @pytest.fixture
    def data(self, write: Write) -> wide.WideData:
        def row(at: datetime) -> str:
            day = (at - datetime(2026, 11, 2)).days
            return f"{'' if day == 3 else 1},{'' if day in (3, 11) and at.hour == 6 else 1}"

        return read_wide(write(text(table(days=40, header="time,a,b", row=row))))

    def test_the_earliest_of_the_most_complete_windows(self, data: wide.WideData) -> None:
        picked = pick(data, 10)
        assert picked.first_day == data.first_day + 12
        assert [home.name for home in picked.homes] == ["a", "b"]
        assert picked.left_out == {}

    def test_homes_with_gaps_are_left_out_with_their_reason(self, data: wide.WideData) -> None:
        picked = pick(data, 10, first_day=data.first_day + 5)
        assert [home.name for home in picked.homes] == ["a"]
        assert picked.left_out == {"b": "1 gaps, the first at 2026-11-13 06:00"}

    def test_the_weekday_and_season_asked_for(self, data: wide.WideData) -> None:
        like = civil.day_number(date(2030, 12, 2))  # a Monday
        picked = pick(data, 10, like_day=like)
        assert civil.date_of(picked.first_day) == date(2026, 11, 30)

    def test_too_few_complete_homes(self, data: wide.WideData) -> None:
        with pytest.raises(
            DataError, match=r"0 homes are complete .*'a' has 24 gaps, the first at"
        ):
            pick(data, 10, first_day=data.first_day)
        with pytest.raises(DataError, match="40 days of data, 41 are needed"):
            pick(data, 41)
        with pytest.raises(DataError, match="10 days from 2026-11-01 are asked for"):
            pick(data, 10, first_day=data.first_day - 1)
