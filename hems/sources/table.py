"""Files of measurements in long format: one row per home and step.

    time,home,load,pv                       kWh per step
    2012-11-01 00:00,north,0.425,0
    2012-11-01 00:00,south,0.058,

`load` or `load_kw`, `pv` or `pv_kw` (mean kW); further columns are left alone. Times are as in the
wide format, ascending within a home; homes may come in any order and need not cover the same days:
what a home has no row for is its gap.
"""

import csv
import gzip
import math
import zlib
from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from hems.errors import DataError
from hems.sensors import POWER_KW_MAX
from hems.sources import grid
from hems.sources.grid import COLUMNS_MAX, FILE_BYTES_MAX, Column, WideData

ROWS_MAX: Final = 5_000_000
_TIMES: Final = ("time", "local_time", "timestamp")


class Titles(NamedTuple):
    """Where a long table has what; None: it does not."""

    time: int
    home: int
    load: int
    pv: int | None
    load_is_kw: bool
    pv_is_kw: bool


class _Home:
    """The rows of one home as they come."""

    def __init__(self) -> None:
        self.minutes: list[int] = []
        self.load: array[float] = array("d")
        self.pv: array[float] = array("d")


def is_long(titles: Sequence[str]) -> bool:
    """Tell whether these are the columns of a long table."""
    return "home" in titles and ("load" in titles or "load_kw" in titles)


def titles_of(path: Path, titles: Sequence[str]) -> Titles:
    """Return where the columns are. Raises `DataError`."""
    if len(set(titles)) != len(titles):
        raise DataError(f"{path}: line 1: two columns have the same name")
    time = next((titles.index(name) for name in _TIMES if name in titles), None)
    if time is None:
        raise DataError(f"{path}: line 1: no column {' or '.join(map(repr, _TIMES))}")
    for one in ("load", "pv"):
        if one in titles and f"{one}_kw" in titles:
            raise DataError(f"{path}: line 1: {one} in kWh and in kW; give one of them")
    load_is_kw, pv_is_kw = "load" not in titles, "pv_kw" in titles
    pv = "pv_kw" if pv_is_kw else "pv"
    return Titles(
        time,
        titles.index("home"),
        titles.index("load_kw" if load_is_kw else "load"),
        titles.index(pv) if pv in titles else None,
        load_is_kw,
        pv_is_kw,
    )


def read_long(path: Path, zone: tzinfo | None = None, only: str | None = None) -> WideData:
    """Read a long CSV file; parameters and errors as in `wide.read_wide`."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DataError(f"{path}: larger than {FILE_BYTES_MAX} bytes; cut it to what is needed")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(grid.lines_of(path, file))
            at = titles_of(path, [title.strip() for title in next(rows)])
            return from_rows(path, at, rows, zone, only)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8; give a .csv or .csv.gz file") from None
    except (OSError, EOFError, zlib.error, csv.Error, StopIteration) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read: {reason}") from None


def from_rows(
    path: Path,
    at: Titles,
    rows: Iterable[Sequence[str]],
    zone: tzinfo | None,
    only: str | None,
) -> WideData:
    """Return the measurements of long rows of text. Raises `DataError`."""
    homes: dict[str, _Home] = {}
    last = max(at.time, at.home, at.load, at.pv or 0)
    for line, row in enumerate(rows, start=2):
        if line > ROWS_MAX + 1:
            raise DataError(f"{path}: more than {ROWS_MAX} rows")
        if not row:
            continue
        if len(row) <= last:
            raise DataError(f"{path}: line {line}: {len(row)} fields; the header has more")
        name = row[at.home].strip()
        if not name:
            raise DataError(f"{path}: line {line}: a row without a home")
        home = homes.get(name)
        if home is None:
            if len(homes) >= COLUMNS_MAX // 2:
                raise DataError(f"{path}: line {line}: more than {COLUMNS_MAX // 2} homes")
            home = homes[name] = _Home()
        if only in (None, name):
            home.minutes.append(_minute(path, line, row[at.time], home.minutes, zone))
            home.load.append(_number(path, line, row[at.load], "load"))
            home.pv.append(_number(path, line, row[at.pv], "pv") if at.pv is not None else math.nan)
    kept = {name: home for name, home in homes.items() if only in (None, name)}
    if not kept:
        raise DataError(
            f"{path}: no home {only!r}; the file has {', '.join(homes)[:200]}"
            if homes
            else f"{path}: no rows of data"
        )
    step = grid.step_minutes(path, [home.minutes for home in kept.values()])
    columns = []
    for name, home in kept.items():
        columns.append(Column(name, False, at.load_is_kw, home.minutes, home.load))
        # A home without a single reading of production has none.
        if np.isfinite(home.pv).any():
            columns.append(Column(name, True, at.pv_is_kw, home.minutes, home.pv))
    return grid.lay_out(path, columns, step, zone, missing_rows=True)


def _minute(path: Path, line: int, text: str, before: list[int], zone: tzinfo | None) -> int:
    try:
        label = datetime.fromisoformat(text.strip())
    except ValueError:
        raise DataError(
            f"{path}: line {line}: time {text[:40]!r} is not YYYY-MM-DD HH:MM[:SS]"
        ) from None
    wrong = grid.check_label(label)
    if wrong:
        raise DataError(f"{path}: line {line}: time {text.strip()!r}: {wrong}")
    minute = grid.minute_of(label)
    if not grid.follows(minute, before, zone):
        what = "duplicate time" if minute == before[-1] else "times of a home must ascend;"
        raise DataError(f"{path}: line {line}: {what} {text.strip()!r}")
    return minute


def _number(path: Path, line: int, value: str, column: str) -> float:
    text = value.strip()
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        raise DataError(
            f"{path}: line {line}, column {column!r}: {text[:40]!r} is not a number"
        ) from None
    if number < 0:
        raise DataError(
            f"{path}: line {line}, column {column!r}: negative energy {text}; "
            "load and production are both positive"
        )
    if number > POWER_KW_MAX:
        raise DataError(
            f"{path}: line {line}, column {column!r}: {text[:40]} in one step; is the unit right?"
        )
    return number
