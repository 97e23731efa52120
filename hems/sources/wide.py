"""Files of measurements in wide format: time first, then a column or two per home.

    time,home_1,home_1_pv,home_2            kWh per step
    2012-11-01 00:00,0.425,0,0.058

- Labels are the starts of steps on the local wall clock, `YYYY-MM-DD HH:MM[:SS]` (`T` instead of
  the blank is fine), ascending, in steps of 5 to 60 minutes that divide a day.
- `NAME` is a home's load, `NAME_pv` its production. A name that ends in `_kw` is mean kW over the
  step instead of kWh in it; `pv` or `pv_kw` alone belongs to the only home of the file.
- Empty cells are gaps. So are zeros where a load has too many (`sensors.zero_gaps`). Missing rows
  are refused unless `missing_rows` asks to take them as gaps too. A first or last day that is not
  whole is left out.
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
from pathlib import Path
from typing import IO, Final, NamedTuple

from hems.errors import DataError
from hems.sensors import POWER_KW_MAX
from hems.sources import grid
from hems.sources.grid import COLUMNS_MAX, FILE_BYTES_MAX, MISSING, Column, HomeSeries, WideData

# What a reader of files also needs.
__all__ = ["MISSING", "HomeSeries", "WideData", "read_wide"]

ROWS_MAX: Final = 1_100_000
LINE_CHARS_MAX: Final = 64 * COLUMNS_MAX

_PV: Final = "_pv"
_KW: Final = "_kw"


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


def from_rows(
    path: Path,
    rows: Iterator[list[str]],
    zone: tzinfo | None,
    only: str | None,
    missing_rows: bool,
) -> WideData:
    """Read rows of text, the header first; otherwise as `read_wide`."""
    return _Reader(path, zone, missing_rows).read_rows(rows, only)


class _Reader:
    """Reads one file; holds the place for the error texts."""

    def __init__(self, path: Path, zone: tzinfo | None, missing_rows: bool) -> None:
        self.path = path
        self.zone = zone
        self.missing_rows = missing_rows
        self.line = 1
        self._row_chars = 0

    def read(self, file: IO[str], only: str | None) -> WideData:
        return self.read_rows(csv.reader(self._lines(file)), only)

    def read_rows(self, rows: Iterator[list[str]], only: str | None) -> WideData:
        header = next(rows, None)
        if header is None:
            raise DataError(f"{self.path}: empty; the first line names the columns")
        columns = self._columns(header)
        kept = [place for place, column in enumerate(columns) if only in (None, column.home)]
        if not kept:
            names = ", ".join(dict.fromkeys(column.home for column in columns))
            raise DataError(f"{self.path}: no home {only!r}; the file has {names[:200]}")
        minutes, values = self._values(rows, columns, kept)
        step = grid.step_minutes(self.path, [minutes])
        laid = [
            Column(
                columns[place].home, columns[place].is_pv, columns[place].is_kw, minutes, numbers
            )
            for place, numbers in zip(kept, values, strict=True)
        ]
        return grid.lay_out(self.path, laid, step, self.zone, self.missing_rows)

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
            raise self._error(
                f"the first line names a column `time` and one for each of 1 to {COLUMNS_MAX - 1} "
                f"homes, with a comma between; here are {len(titles)} columns"
            )
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
        wrong = grid.check_label(label)
        if wrong:
            raise self._error(f"time {text!r}: {wrong}")
        minute = grid.minute_of(label)
        if not grid.follows(minute, before, self.zone):
            what = "duplicate time" if minute == before[-1] else "times must ascend;"
            raise self._error(f"{what} {text!r}")
        return minute

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
