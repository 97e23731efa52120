"""Files of measurements in wide format: time first, then a column or two per home.

    time,home_1,home_1_pv,home_2            kWh per step
    2012-11-01 00:00,0.425,0,0.058

- Labels are the starts of steps on the local wall clock, `YYYY-MM-DD HH:MM[:SS]` (`T` instead of
  the blank is fine), ascending, in steps of 5 to 60 minutes that divide a day.
- `NAME` is a home's load, `NAME_pv` its production. A name that ends in `_kw` is mean kW over the
  step instead of kWh in it; `pv` or `pv_kw` alone belongs to the only home of the file.
- Empty cells are gaps. A load column with more than `ZERO_SHARE_MAX` zeros has gaps written as
  zeros (a home's standby is never nothing); they are taken as missing. Missing rows are refused
  unless `missing_rows` asks to take them as gaps too. A first or last day that is not whole is
  left out.
- Files that follow the clock through daylight saving have an hour twice a year that is missing
  or doubled; files that do not, have 24 hours each day. Both are read: a missing hour is a gap of
  that day unless the zone says it never was, the readings of a doubled hour are averaged.

Files end in `.csv` or `.csv.gz`. Anything else is refused with one `DataError`.
"""

import csv
import gzip
import math
import zlib
from array import array
from collections.abc import Iterator
from datetime import datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np

from hems import civil
from hems.civil import DAY_MS, WEEK_DAYS, BoolArray, IntArray
from hems.errors import DataError

FILE_BYTES_MAX: Final = 256 * 1_048_576
ROWS_MAX: Final = 1_100_000
COLUMNS_MAX: Final = 2_000
LINE_CHARS_MAX: Final = 64 * COLUMNS_MAX
CELLS_MAX: Final = 50_000_000
YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2200
STEP_MINUTES_MIN: Final = 5
STEP_MINUTES_MAX: Final = 60
ZERO_SHARE_MAX: Final = 0.01
# A house connection of 63 A, three phases, is 43 kW: more than this is a wrong unit, not a home.
POWER_KW_MAX: Final = 100.0
MISSING: Final = -1
# Where missing rows are taken as gaps: of a file with fewer rows than this, nothing can be learnt.
ROWS_SHARE_MIN: Final = 0.05

_UWH_PER_KWH: Final = 1_000_000_000
_PV: Final = "_pv"
# Two hours of 5-minute steps: a repeated hour twice.
_REPEATED_ROWS_MAX: Final = 24
_KW: Final = "_kw"
# No clock was ever put forward by more than a day (Samoa, 2011), and daylight saving on top.
_SKIPPED_MINUTES_MAX: Final = 25 * 60


class HomeSeries(NamedTuple):
    """One home's columns on the file's civil grid, gaps as `MISSING`. [micro-watt-hours]

    `pv_uwh` is None when the file has no production of this home.
    """

    name: str
    load_uwh: IntArray
    pv_uwh: IntArray | None
    zeros_dropped: int

    def known(self) -> BoolArray:
        """Return which steps have every column of this home."""
        known: BoolArray = self.load_uwh != MISSING
        return known if self.pv_uwh is None else known & (self.pv_uwh != MISSING)


class WideData(NamedTuple):
    """A file that was read: whole civil days from `first_day`, `steps_per_day` steps each."""

    name: str
    first_day: int
    days: int
    steps_per_day: int
    homes: tuple[HomeSeries, ...]


class Picked(NamedTuple):
    """The homes that are complete in a window of whole days, and why the others are not."""

    first_day: int
    days: int
    homes: tuple[HomeSeries, ...]
    left_out: dict[str, str]


class _Column(NamedTuple):
    title: str
    home: str
    is_pv: bool
    is_kw: bool


def read_wide(
    path: Path, zone: tzinfo | None = None, only: str | None = None, missing_rows: bool = False
) -> WideData:
    """Read a file of measurements.

    Parameters
    ----------
    path : Path
    zone : tzinfo, optional
        Of the labels; needed only for files that follow daylight saving.
    only : str, optional
        Keep one home, by name; the others are checked in form and not held in memory.
    missing_rows : bool
        Take missing rows as gaps instead of refusing the file.

    Raises
    ------
    DataError
        Names the file, the line and the column, what is wrong there and what would be right.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DataError(f"{path}: larger than {FILE_BYTES_MAX} bytes; cut it to what is needed")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            return _Reader(path, zone, missing_rows).read(file, only)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8; give a .csv or .csv.gz file") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read: {reason}") from None


class _Reader:
    """Reads one file; holds the place for the error texts."""

    def __init__(self, path: Path, zone: tzinfo | None, missing_rows: bool) -> None:
        self.path = path
        self.zone = zone
        self.missing_rows = missing_rows
        self.line = 1
        self._row_chars = 0

    def read(self, file: IO[str], only: str | None) -> WideData:
        rows = csv.reader(self._lines(file))
        header = next(rows, None)
        if header is None:
            raise DataError(f"{self.path}: empty; the first line names the columns")
        columns = self._columns(header)
        kept = [place for place, column in enumerate(columns) if only in (None, column.home)]
        if not kept:
            names = ", ".join(dict.fromkeys(column.home for column in columns))
            raise DataError(f"{self.path}: no home {only!r}; the file has {names[:200]}")
        minutes, values = self._values(rows, columns, kept)
        step = self._step_minutes(minutes)
        return self._gridded(minutes, step, [columns[place] for place in kept], values)

    def _lines(self, file: IO[str]) -> Iterator[str]:
        """Yield the lines; a row is never held in memory, however long a file makes it."""
        while line := file.readline(LINE_CHARS_MAX + 1):
            self._row_chars += len(line)
            if self._row_chars > LINE_CHARS_MAX:
                raise self._error(f"this row or the next has more than {LINE_CHARS_MAX} characters")
            yield line

    def _error(self, what: str, column: str | None = None) -> DataError:
        where = f"line {self.line}" + (f", column {column!r}" if column else "")
        return DataError(f"{self.path}: {where}: {what}")

    def _columns(self, header: list[str]) -> list[_Column]:
        titles = [title.strip() for title in header]
        if len(titles) < 2 or len(titles) > COLUMNS_MAX:
            raise self._error(f"a time and 1 to {COLUMNS_MAX - 1} homes, not {len(titles)} columns")
        columns = []
        seen = {titles[0]}
        for place, title in enumerate(titles[1:], start=2):
            if not title:
                raise self._error(f"column {place} has no name")
            if title in seen:
                raise self._error("two columns have this name", title)
            seen.add(title)
            stem, is_kw = (title[: -len(_KW)], True) if title.endswith(_KW) else (title, False)
            is_pv = stem == "pv" or stem.endswith(_PV)
            columns.append(_Column(title, stem[: -len(_PV)] if is_pv else stem, is_pv, is_kw))
        loads = dict.fromkeys(column.home for column in columns if not column.is_pv)
        if not loads:
            raise self._error("no load column; name a home's load NAME and its production NAME_pv")
        for place, column in enumerate(columns):
            if column.is_pv and column.home not in loads:
                if column.home == "" and len(loads) == 1:
                    columns[place] = column._replace(home=next(iter(loads)))
                    continue
                raise self._error(
                    f"production of an unknown home; its load column {column.home!r} is missing",
                    column.title,
                )
        names = [(column.home, column.is_pv) for column in columns]
        if len(set(names)) != len(names):
            raise self._error("a home has its load or its production in two columns")
        return columns

    def _values(
        self, rows: Iterator[list[str]], columns: list[_Column], kept: list[int]
    ) -> tuple[list[int], list["array[float]"]]:
        minutes: list[int] = []
        values: list[array[float]] = [array("d") for _ in kept]
        kept_at = dict(zip(kept, values, strict=True))
        self._row_chars = 0
        for row in rows:
            self.line += 1
            self._row_chars = 0
            # Empty lines count: a compressed file can hold any number of them.
            if self.line > ROWS_MAX + 1:
                raise self._error(f"more than {ROWS_MAX} rows")
            if not row:
                continue
            if len(row) != len(columns) + 1:
                raise self._error(f"{len(row)} fields, the header has {len(columns) + 1}")
            minutes.append(self._minute(row[0], minutes))
            for place, column in enumerate(columns):
                text = row[place + 1].strip()
                number = self._number(text, column) if text else math.nan
                if place in kept_at:
                    kept_at[place].append(number)
        return minutes, values

    def _minute(self, text: str, before: list[int]) -> int:
        """Return a label as minutes since 1970-01-01 on the wall clock."""
        try:
            label = datetime.fromisoformat(text.strip())
        except ValueError:
            raise self._error(f"time {text[:40]!r} is not YYYY-MM-DD HH:MM[:SS]") from None
        if not YEAR_MIN <= label.year <= YEAR_MAX:
            raise self._error(f"time {text!r}: years {YEAR_MIN} to {YEAR_MAX} can be read")
        if label.tzinfo is not None or label.second or label.microsecond:
            raise self._error(f"time {text!r}: give local wall-clock time in whole minutes")
        minute = civil.day_number(label.date()) * 1440 + label.hour * 60 + label.minute
        if before and minute <= before[-1] and not self._repeated(label, minute, before):
            what = "duplicate time" if minute == before[-1] else "times must ascend;"
            raise self._error(f"{what} {text!r}")
        return minute

    def _repeated(self, label: datetime, minute: int, before: list[int]) -> bool:
        """Tell whether this is the second time that clocks showed this label."""
        if self.zone is None or before[-_REPEATED_ROWS_MAX:].count(minute) > 1:
            return False
        first = label.replace(tzinfo=self.zone, fold=0).utcoffset()
        second = label.replace(tzinfo=self.zone, fold=1).utcoffset()
        return first is not None and second is not None and first > second

    def _number(self, text: str, column: _Column) -> float:
        try:
            number = float(text)
        except ValueError:
            raise self._error(f"{text[:40]!r} is not a number", column.title) from None
        if math.isnan(number):
            return number
        if number < 0:
            raise self._error(
                f"negative energy {text}; load and production are both positive", column.title
            )
        if number > POWER_KW_MAX:
            unit = "kW" if column.is_kw else "kWh"
            raise self._error(f"{text} {unit} in one step; is the unit {unit}?", column.title)
        return number

    def _step_minutes(self, minutes: list[int]) -> int:
        if len(minutes) < 2:
            raise DataError(f"{self.path}: {len(minutes)} rows of data; two days are needed")
        step = min(b - a for a, b in pairwise(minutes) if b > a)
        if not STEP_MINUTES_MIN <= step <= STEP_MINUTES_MAX or 1440 % step:
            raise DataError(
                f"{self.path}: a step of {step} minutes; steps of {STEP_MINUTES_MIN} to "
                f"{STEP_MINUTES_MAX} minutes that divide a day can be read"
            )
        for place, minute in enumerate(minutes):
            if minute % step:
                raise DataError(
                    f"{self.path}: line {place + 2}: irregular step: the file's steps are {step} "
                    f"minutes from midnight, {_label(minute)} is not one"
                )
        return step

    def _gridded(
        self, minutes: list[int], step: int, columns: list[_Column], values: list["array[float]"]
    ) -> WideData:
        steps_per_day = 1440 // step
        # Whole days only: what comes before the first midnight or after the last is left out.
        first_day = -(-min(minutes) // 1440)
        days = (max(minutes) + step) // 1440 - first_day
        if days * steps_per_day * len(columns) > CELLS_MAX:
            raise DataError(
                f"{self.path}: {days} days of {len(columns)} columns from the first to the last "
                f"row; more than {CELLS_MAX} values"
            )
        if days < 1:
            raise DataError(f"{self.path}: not one whole day of data")
        self._refuse_long_gaps(minutes, step, days * steps_per_day)
        place = np.array(minutes, np.int64) // step - first_day * steps_per_day
        inside = (place >= 0) & (place < days * steps_per_day)
        place = place[inside]
        count = np.bincount(place, minlength=days * steps_per_day)
        skipped = self._skipped(first_day, days, steps_per_day)
        if not self.missing_rows:
            self._refuse_missing(count, skipped, first_day * steps_per_day, step)
        load: dict[str, tuple[IntArray, int]] = {}
        pv: dict[str, IntArray] = {}
        for column, numbers in zip(columns, values, strict=True):
            hours = step / 60 if column.is_kw else 1.0
            summed = np.zeros(len(count))
            np.add.at(summed, place, np.frombuffer(numbers)[inside])
            # NaN marks a gap, from 0/0 for a missing row as from an empty cell.
            with np.errstate(invalid="ignore"):
                mean = summed / count * (hours * _UWH_PER_KWH)
            grid = np.where(np.isnan(mean), MISSING, np.rint(np.nan_to_num(mean))).astype(np.int64)
            for at in skipped:
                # No clock showed this hour; whoever replays it elsewhere gets its predecessor.
                if grid[at] == MISSING and at:
                    grid[at] = grid[at - 1]
            if column.is_pv:
                pv[column.home] = grid
            else:
                load[column.home] = _without_zeros(grid)
        homes = tuple(
            HomeSeries(name, grid, pv.get(name), dropped) for name, (grid, dropped) in load.items()
        )
        return WideData(str(self.path), first_day, days, steps_per_day, homes)

    def _refuse_long_gaps(self, minutes: list[int], step: int, steps: int) -> None:
        """Refuse a file that is mostly gap, before there are arrays of its length."""
        if self.missing_rows:
            if len(minutes) < ROWS_SHARE_MIN * steps:
                raise DataError(
                    f"{self.path}: gap: {len(minutes)} rows for {steps} steps of {step} minutes; "
                    f"give at least {ROWS_SHARE_MIN:.0%} of them"
                )
            return
        for before, after in pairwise(minutes):
            if after - before > _SKIPPED_MINUTES_MAX:
                raise DataError(
                    f"{self.path}: gap: {(after - before) // step - 1} rows are missing, the first "
                    f"at {_label(before + step)}; give every {step} minutes a row"
                )

    def _refuse_missing(
        self, count: IntArray, skipped: list[int], first_step: int, step: int
    ) -> None:
        absent = count == 0
        absent[skipped] = False
        missing = np.flatnonzero(absent)
        if len(missing):
            raise DataError(
                f"{self.path}: gap: {len(missing)} rows are missing, the first at "
                f"{_label((first_step + int(missing[0])) * step)}; give every {step} minutes a row"
            )

    def _skipped(self, first_day: int, days: int, steps_per_day: int) -> list[int]:
        """Return the steps that no clock of the zone showed, ascending."""
        if self.zone is None:
            return []
        step_ms = DAY_MS // steps_per_day
        skipped = []
        for day in range(days):
            start = civil.day_start_ms(first_day + day, self.zone)
            length_ms = civil.day_start_ms(first_day + day + 1, self.zone) - start
            if length_ms >= DAY_MS:
                continue
            seen = civil.positions(start, length_ms // step_ms, step_ms, self.zone)
            hidden = set(range(steps_per_day)) - set((seen % steps_per_day).tolist())
            skipped += sorted(day * steps_per_day + step for step in hidden)
        return skipped


def pick(
    data: WideData,
    days: int,
    homes_min: int = 1,
    first_day: int | None = None,
    like_day: int | None = None,
) -> Picked:
    """Choose the homes without a gap in a window of whole days.

    The window begins on `first_day`; else it is one of those in which most homes are complete,
    the earliest, or, given `like_day`, one on the same day of the week nearest to the same time
    of the year.

    Raises
    ------
    DataError
        Fewer than `homes_min` homes are complete in it, or the file is shorter than the window.
    """
    if days > data.days:
        raise DataError(f"{data.name}: {data.days} days of data, {days} are needed")
    if first_day is None:
        start = _best_start(data, days, like_day)
    else:
        start = first_day - data.first_day
        if not 0 <= start <= data.days - days:
            raise DataError(
                f"{data.name}: {days} days from {civil.date_of(first_day)} are asked for, the file "
                f"has {civil.date_of(data.first_day)} to "
                f"{civil.date_of(data.first_day + data.days - 1)}"
            )
    kept, left_out = [], {}
    low, high = start * data.steps_per_day, (start + days) * data.steps_per_day
    for home in data.homes:
        missing = np.flatnonzero(~home.known()[low:high])
        if len(missing) == 0:
            kept.append(home)
            continue
        step = data.first_day * data.steps_per_day + low + int(missing[0])
        zeros = " (zeros taken as gaps)" if home.zeros_dropped else ""
        at = _label(step * (1440 // data.steps_per_day))
        left_out[home.name] = f"{len(missing)} gaps{zeros}, the first at {at}"
    if len(kept) < homes_min:
        name, reason = next(iter(left_out.items()), ("none", "no other homes"))
        raise DataError(
            f"{data.name}: {len(kept)} homes are complete in the {days} days from "
            f"{civil.date_of(data.first_day + start)}, {homes_min} are needed; "
            f"{name!r} has {reason}"
        )
    return Picked(data.first_day + start, days, tuple(kept), left_out)


def free_starts(data: WideData, home: HomeSeries, days: int) -> IntArray:
    """Return the day offsets from which a home has no gap for some days, ascending."""
    gaps = _totals((~home.known()).reshape(-1, data.steps_per_day).sum(axis=1))
    free: IntArray = np.flatnonzero(gaps[days:] == gaps[: len(gaps) - days])
    return free


def _best_start(data: WideData, days: int, like_day: int | None) -> int:
    complete = np.zeros(data.days - days + 1, np.int64)
    for home in data.homes:
        complete[free_starts(data, home, days)] += 1
    starts = np.arange(len(complete))
    if like_day is None:
        return int(np.argmax(complete))
    on_weekday = (data.first_day + starts - like_day) % WEEK_DAYS == 0
    if on_weekday.any():
        complete[~on_weekday] = -1
    # The year is taken as 365.25 days: a day more or less is no other season.
    apart = np.abs((data.first_day + starts - like_day + 182.625) % 365.25 - 182.625)
    best = np.flatnonzero(complete == complete.max())
    return int(best[np.argmin(apart[best])])


def _without_zeros(grid: IntArray) -> tuple[IntArray, int]:
    """Mark zeros as missing where they are too many to be a home's load."""
    zeros = grid == 0
    dropped = int(zeros.sum())
    if dropped <= ZERO_SHARE_MAX * max(1, int((grid != MISSING).sum())):
        return grid, 0
    return np.where(zeros, MISSING, grid), dropped


def _label(minute: int) -> str:
    day, rest = divmod(minute, 1440)
    return f"{civil.date_of(day)} {rest // 60:02d}:{rest % 60:02d}"


def _totals(values: IntArray) -> IntArray:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))
