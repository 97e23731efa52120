"""Measurements of many homes on one civil grid, however their file is written.

Every format (`hems.sources.formats`) ends here: labels on the local wall clock become whole civil
days of equal steps, units become micro-watt-hours, gaps become `MISSING`.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, tzinfo
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, NamedTuple

import numpy as np

from hems import civil, sensors
from hems.civil import DAY_MS, MINUTE_MS, WEEK_DAYS, BoolArray, FloatArray, IntArray
from hems.errors import DataError

FILE_BYTES_MAX: Final = 256 * 1_048_576
COLUMNS_MAX: Final = 2_000
# Of a long table or a CityLearn building; a wide one has a limit of its own.
LINE_CHARS_MAX: Final = 10_000
CELLS_MAX: Final = 50_000_000
YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2200
STEP_MINUTES_MIN: Final = 5
STEP_MINUTES_MAX: Final = 60
MISSING: Final = -1
# Where missing rows are taken as gaps: of a file with fewer rows than this, nothing can be learnt.
ROWS_SHARE_MIN: Final = 0.05

_UWH_PER_KWH: Final = 1_000_000_000
# Two hours of 5-minute steps: a repeated hour twice.
_REPEATED_ROWS_MAX: Final = 24
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
    """A file that was read: whole civil days from `first_day`, `steps_per_day` steps each.

    `pv_per_kwp`: its production is that of 1 kWp, to be scaled to the array a home has.
    """

    name: str
    first_day: int
    days: int
    steps_per_day: int
    homes: tuple[HomeSeries, ...]
    pv_per_kwp: bool = False


class Picked(NamedTuple):
    """The homes that are complete in a window of whole days, and why the others are not."""

    first_day: int
    days: int
    homes: tuple[HomeSeries, ...]
    left_out: dict[str, str]


class Column(NamedTuple):
    """Load or production of a home as a file has it.

    `minutes` are the labels (civil); `values` kWh in the step or mean kW, NaN for gaps.
    """

    home: str
    is_pv: bool
    is_kw: bool
    minutes: Sequence[int]
    values: "array[float] | FloatArray"


def lines_of(path: Path, file: IO[str]) -> Iterator[str]:
    """Yield the lines of a table of few columns; none may be longer than `LINE_CHARS_MAX`."""
    while line := file.readline(LINE_CHARS_MAX + 1):
        if len(line) > LINE_CHARS_MAX:
            raise DataError(f"{path}: a line of more than {LINE_CHARS_MAX} characters")
        yield line


def minute_of(label: datetime) -> int:
    """Return a wall-clock label as minutes since 1970-01-01."""
    return civil.day_number(label.date()) * 1440 + label.hour * 60 + label.minute


def follows(minute: int, before: Sequence[int], zone: tzinfo | None) -> bool:
    """Tell whether a label may come after the ones before: later, or an hour that clocks repeat."""
    if not before or minute > before[-1]:
        return True
    if zone is None or list(before[-_REPEATED_ROWS_MAX:]).count(minute) > 1:
        return False
    day, rest = divmod(minute, 1440)
    label = datetime.combine(civil.date_of(day), datetime.min.time()).replace(
        hour=rest // 60, minute=rest % 60, tzinfo=zone
    )
    first, second = label.utcoffset(), label.replace(fold=1).utcoffset()
    return first is not None and second is not None and first > second


def check_label(label: datetime) -> str | None:
    """Return what is wrong with a time, or None."""
    if not YEAR_MIN <= label.year <= YEAR_MAX:
        return f"years {YEAR_MIN} to {YEAR_MAX} can be read"
    if label.tzinfo is not None or label.second or label.microsecond:
        return "give local wall-clock time in whole minutes"
    return None


def step_minutes(path: Path, labels: Iterable[Sequence[int]]) -> int:
    """Return the step of a file from the labels of its series. Raises `DataError`."""
    series = list(labels)
    rows = max(len(minutes) for minutes in series)
    if rows < 2:
        raise DataError(f"{path}: {rows} rows of data; two days are needed")
    step = min(min((b - a for a, b in pairwise(m) if b > a), default=1440) for m in series)
    if not STEP_MINUTES_MIN <= step <= STEP_MINUTES_MAX or 1440 % step:
        raise DataError(
            f"{path}: a step of {step} minutes; steps of {STEP_MINUTES_MIN} to "
            f"{STEP_MINUTES_MAX} minutes that divide a day can be read"
        )
    return step


def lay_out(
    path: Path, columns: Sequence[Column], step: int, zone: tzinfo | None, missing_rows: bool
) -> WideData:
    """Lay columns on whole civil days. What comes before the first midnight is left out.

    Without `missing_rows` all columns must have a row for every step but those no clock showed.

    Raises `DataError`.
    """
    steps_per_day = 1440 // step
    first_day = -(-min(min(c.minutes) for c in columns if len(c.minutes)) // 1440)
    days = (max(max(c.minutes) for c in columns if len(c.minutes)) + step) // 1440 - first_day
    if days * steps_per_day * len(columns) > CELLS_MAX:
        raise DataError(
            f"{path}: {days} days of {len(columns)} columns from the first to the last "
            f"row; more than {CELLS_MAX} values"
        )
    if days < 1:
        raise DataError(f"{path}: not one whole day of data")
    # One label list may serve many columns; none becomes an array before it is known to be dense.
    series = list({id(column.minutes): column.minutes for column in columns}.values())
    for minutes in series:
        _refuse_irregular(path, minutes, step, name_lines=len(series) == 1)
    _refuse_long_gaps(path, max(series, key=len), step, days * steps_per_day, missing_rows)
    skipped = _skipped(first_day, days, steps_per_day, zone)
    load: dict[str, tuple[IntArray, int]] = {}
    pv: dict[str, IntArray] = {}
    for column in columns:
        place = np.array(column.minutes, np.int64) // step - first_day * steps_per_day
        inside = (place >= 0) & (place < days * steps_per_day)
        place = place[inside]
        count = np.bincount(place, minlength=days * steps_per_day)
        if not missing_rows:
            _refuse_missing(path, count, skipped, first_day * steps_per_day, step)
        grid = _grid_of(column, step, place, inside, count, skipped)
        if column.is_pv:
            pv[column.home] = grid
        else:
            load[column.home] = _without_zeros(grid, step * MINUTE_MS)
    homes = tuple(
        HomeSeries(name, grid, pv.get(name), dropped) for name, (grid, dropped) in load.items()
    )
    return WideData(str(path), first_day, days, steps_per_day, homes)


def _grid_of(
    column: Column,
    step: int,
    place: IntArray,
    inside: BoolArray,
    count: IntArray,
    skipped: list[int],
) -> IntArray:
    hours = step / 60 if column.is_kw else 1.0
    summed = np.zeros(len(count))
    np.add.at(summed, place, np.frombuffer(column.values)[inside])
    # NaN marks a gap, from 0/0 for a missing row as from an empty cell.
    with np.errstate(invalid="ignore"):
        mean = summed / count * (hours * _UWH_PER_KWH)
    grid = np.where(np.isnan(mean), MISSING, np.rint(np.nan_to_num(mean))).astype(np.int64)
    for at in skipped:
        # No clock showed this hour; whoever replays it elsewhere gets its predecessor.
        if grid[at] == MISSING and at:
            grid[at] = grid[at - 1]
    return grid


def _refuse_irregular(path: Path, minutes: Sequence[int], step: int, name_lines: bool) -> None:
    for place, minute in enumerate(minutes):
        if minute % step:
            where = f"line {place + 2}: " if name_lines else ""
            raise DataError(
                f"{path}: {where}irregular step: the file's steps are {step} minutes from "
                f"midnight, {label_of(minute)} is not one"
            )


def _refuse_long_gaps(
    path: Path, minutes: Sequence[int], step: int, steps: int, missing_rows: bool
) -> None:
    """Refuse a file that is mostly gap."""
    if missing_rows:
        if len(minutes) < ROWS_SHARE_MIN * steps:
            raise DataError(
                f"{path}: gap: {len(minutes)} rows for {steps} steps of {step} minutes; "
                f"give at least {ROWS_SHARE_MIN:.0%} of them"
            )
        return
    for before, after in pairwise(minutes):
        if after - before > _SKIPPED_MINUTES_MAX:
            raise DataError(
                f"{path}: gap: {(after - before) // step - 1} rows are missing, the first "
                f"at {label_of(before + step)}; give every {step} minutes a row"
            )


def _refuse_missing(
    path: Path, count: IntArray, skipped: list[int], first_step: int, step: int
) -> None:
    absent = count == 0
    absent[skipped] = False
    missing = np.flatnonzero(absent)
    if len(missing):
        raise DataError(
            f"{path}: gap: {len(missing)} rows are missing, the first at "
            f"{label_of((first_step + int(missing[0])) * step)}; give every {step} minutes a row"
        )


def _skipped(first_day: int, days: int, steps_per_day: int, zone: tzinfo | None) -> list[int]:
    """Return the steps that no clock of the zone showed, ascending."""
    if zone is None:
        return []
    step_ms = DAY_MS // steps_per_day
    skipped = []
    for day in range(days):
        start = civil.day_start_ms(first_day + day, zone)
        length_ms = civil.day_start_ms(first_day + day + 1, zone) - start
        if length_ms >= DAY_MS:
            continue
        seen = civil.positions(start, length_ms // step_ms, step_ms, zone)
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
        at = label_of(step * (1440 // data.steps_per_day))
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


def _without_zeros(grid: IntArray, step_ms: int) -> tuple[IntArray, int]:
    """Mark as missing what is no home's load but a meter's gap (`sensors.zero_gaps`)."""
    gaps = sensors.zero_gaps(np.where(grid == MISSING, np.nan, grid / 1e6), step_ms)
    return np.where(gaps, MISSING, grid), int(gaps.sum())


def label_of(minute: int) -> str:
    """Return a civil minute as text."""
    day, rest = divmod(minute, 1440)
    return f"{civil.date_of(day)} {rest // 60:02d}:{rest % 60:02d}"


def _totals(values: IntArray) -> IntArray:
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(values)))
