"""CityLearn's buildings: `Building_N.csv[.gz]`, hourly load and production per kWp of real homes.

    month,hour,day_type,...,non_shiftable_load,...,solar_generation       kWh; Wh per kWp

Hours are 1 to 24 (24 is the last of the day), `day_type` is 1 for Monday to 7 for Sunday (8 a
holiday). The year is not in the file: the first since `FIRST_YEAR` whose weekdays and length of
February agree is taken. Load is `non_shiftable_load` with what its hot water, cooling and heating
take (`dhw_demand`, `cooling_demand`, `heating_demand`, here as electricity; 0 in the homes of
2022). Production is that of 1 kWp.
"""

import csv
import gzip
import math
import zlib
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from hems import civil
from hems.errors import DataError, InvariantError
from hems.sensors import POWER_KW_MAX
from hems.sources import grid
from hems.sources.grid import FILE_BYTES_MAX, Column, HomeSeries, WideData

FIRST_YEAR: Final = 2016
ROWS_MAX: Final = 100_000
FILES_MAX: Final = 1_000
# Of one kWp in one hour; no sun gives as much.
PV_WH_MAX: Final = 3_000
_YEARS: Final = 28
_LOADS: Final = ("non_shiftable_load", "dhw_demand", "cooling_demand", "heating_demand")
_PV: Final = "solar_generation"
_NEEDED: Final = ("month", "hour", "day_type", "non_shiftable_load")


def is_citylearn(titles: Sequence[str]) -> bool:
    """Tell whether these are the columns of a building."""
    return all(title in titles for title in _NEEDED)


def name_of(path: Path) -> str:
    """Return the building's name, which is the file's."""
    return path.name.partition(".")[0]


def read_citylearn(path: Path, only: str | None = None) -> WideData:
    """Read one building; errors as in `wide.read_wide`."""
    if only not in (None, name_of(path)):
        raise DataError(f"{path}: no home {only!r}; the file has {name_of(path)}")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DataError(f"{path}: larger than {FILE_BYTES_MAX} bytes; cut it to what is needed")
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            return _read(path, csv.DictReader(grid.lines_of(path, file)))
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8; give a .csv or .csv.gz file") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: cannot be read: {reason}") from None


def read_folder(path: Path, only: str | None = None) -> WideData:
    """Read a folder's `Building_*.csv[.gz]`, which must all cover the same days."""
    files = sorted([*path.glob("Building_*.csv"), *path.glob("Building_*.csv.gz")], key=_place)
    if only is not None:
        files = [file for file in files if name_of(file) == only]
    if not files or len(files) > FILES_MAX:
        what = f"home {only!r}" if only is not None else "Building_*.csv"
        raise DataError(f"{path}: {len(files)} files of {what}; 1 to {FILES_MAX} can be read")
    homes: list[HomeSeries] = []
    first: WideData | None = None
    for file in files:
        data = read_citylearn(file)
        first = first or data
        if (data.first_day, data.days) != (first.first_day, first.days):
            raise DataError(f"{file}: other days than {first.name}; give homes of the same days")
        homes += data.homes
    if first is None:
        raise InvariantError(f"{path}: no file was read")
    return first._replace(name=str(path), homes=tuple(homes))


def _place(path: Path) -> tuple[int, str]:
    return len(name_of(path)), path.name


def _read(path: Path, rows: "csv.DictReader[str]") -> WideData:
    hours: list[tuple[int, int, int]] = []
    load: list[float] = []
    pv: list[float] = []
    has_pv = _PV in (rows.fieldnames or ())
    loads = [title for title in _LOADS if title in (rows.fieldnames or ())]
    for line, row in enumerate(rows, start=2):
        if line > ROWS_MAX + 1:
            raise DataError(f"{path}: more than {ROWS_MAX} rows")
        month, hour, kind = (_whole(path, line, row, title) for title in _NEEDED[:3])
        hours.append((month, hour, kind))
        parts = [_number(path, line, row, title) for title in loads]
        load.append(sum(part for part in parts if not math.isnan(part)))
        if math.isnan(parts[0]):
            load[-1] = math.nan
        if load[-1] > POWER_KW_MAX:
            raise DataError(f"{path}: line {line}: {load[-1]:g} kWh in one hour; is the unit kWh?")
        made_wh = _number(path, line, row, _PV) if has_pv else math.nan
        if made_wh > PV_WH_MAX:
            raise DataError(
                f"{path}: line {line}: {made_wh:g} of one kWp in one hour; is the unit Wh?"
            )
        pv.append(made_wh / 1000)
    if len(hours) < 48:
        raise DataError(f"{path}: {len(hours)} rows of data; two days are needed")
    first_minute = _first_minute(path, hours)
    minutes = [first_minute + 60 * place for place in range(len(hours))]
    columns = [Column(name_of(path), False, False, minutes, np.array(load))]
    if has_pv:
        columns.append(Column(name_of(path), True, False, minutes, np.array(pv)))
    return grid.lay_out(path, columns, 60, None, missing_rows=True)._replace(pv_per_kwp=True)


def _first_minute(path: Path, hours: list[tuple[int, int, int]]) -> int:
    """Return the civil minute of the first row: its year and day are found by those that follow."""
    month, hour, _ = hours[0]
    if not 1 <= hour <= 24 or not 1 <= month <= 12:
        raise DataError(
            f"{path}: line 2: month {month}, hour {hour}; months are 1 to 12, hours 1 to 24"
        )
    # How many days of the first month there are says on which day the file begins.
    leap = [FIRST_YEAR + n for n in range(_YEARS)]
    days_shown = 0
    place = 0
    while place < len(hours) and hours[place][0] == month:
        days_shown += hours[place][1] == 24
        place += 1
    line = 2
    for year in leap:
        following = date(year + month // 12, month % 12 + 1, 1)
        first = following - timedelta(days=days_shown)
        if place == len(hours):
            first = date(year, month, 1)
        wrong = _disagrees(hours, first)
        if wrong is None:
            return civil.day_number(first) * 1440 + (hour - 1) * 60
        line = max(line, wrong + 2)
    raise DataError(
        f"{path}: line {line}: month {hours[line - 2][0]}, hour {hours[line - 2][1]}, day type "
        f"{hours[line - 2][2]} is not the hour after the line before in any year; give every hour "
        "a row, in order"
    )


def _disagrees(hours: list[tuple[int, int, int]], first: date) -> int | None:
    """Return the first row that cannot be, if the file begins on this date."""
    day, hour = first, hours[0][1]
    for place, (month, shown, kind) in enumerate(hours):
        if (month, shown) != (day.month, hour) or kind not in (day.isoweekday(), 8):
            return place
        hour += 1
        if hour > 24:
            day, hour = day + timedelta(days=1), 1
    return None


def _whole(path: Path, line: int, row: dict[str, str], title: str) -> int:
    try:
        return int(row[title])
    except (TypeError, ValueError):
        raise DataError(
            f"{path}: line {line}, column {title!r}: {str(row[title])[:40]!r} is not a whole number"
        ) from None


def _number(path: Path, line: int, row: dict[str, str], title: str) -> float:
    text = (row[title] or "").strip()
    try:
        number = float(text) if text else math.nan
    except ValueError:
        raise DataError(
            f"{path}: line {line}, column {title!r}: {text[:40]!r} is not a number"
        ) from None
    if number < 0 or math.isinf(number):
        raise DataError(f"{path}: line {line}, column {title!r}: {text} cannot be")
    return number
