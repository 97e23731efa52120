"""Weather as a forecaster would have it, and PV from it.

A `Weather` is asked for a window of market time and answers per step; what it does not know is NaN.
The file-based one reads what a service delivered; a service of one's own needs one method. Without
any, a location and the extra `solar` give the clear sky's course over the home, which keeps the
ends of the day right when days grow longer.
"""

import csv
import gzip
import math
import zlib
from array import array
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from hems import civil
from hems.civil import MINUTE_MS, BoolArray, FloatArray, IntArray
from hems.errors import ConfigError, DataError
from hems.forecast.base import HISTORY_DAYS, Forecast, Horizon, offsets_of, same_time
from hems.forecast.blend import pv_blend

ROWS_MAX: Final = 500_000
LINE_CHARS_MAX: Final = 4_096
# So many times its rows a file may be long, by its first and last time; short ones may be sparser.
SPARSE_MAX: Final = 10
SPARSE_STEPS: Final = 20_000
IRRADIANCE_W_M2_MAX: Final = 1_500.0
TEMPERATURE_C_MAX: Final = 70.0
STEP_MINUTES_MAX: Final = 60
# Below this irradiance the sun is on the horizon and says nothing of the roof.
FAINT_W_M2: Final = 10.0
# A time of day needs this many days with light to have a yield of its own.
DAYS_SEEN_MIN: Final = 3
# How many of the last days tell whether the irradiance is of any use here.
CHECK_DAYS: Final = 14


class Location(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a home is. [degrees, north and east positive; metres]"""

    latitude: float
    longitude: float
    altitude_m: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("latitude", 90.0), ("longitude", 180.0)):
            if not -most <= getattr(self, name) <= most:
                raise ConfigError(f"{name} {getattr(self, name)}: -{most:g} to {most:g} degrees")
        if not -500 <= self.altitude_m <= 9_000:
            raise ConfigError(f"altitude_m {self.altitude_m}: -500 to 9000 metres")


class Conditions(NamedTuple):
    """Weather per step: global irradiance [W/m²] and air temperature [°C], NaN where unknown."""

    irradiance_w_m2: FloatArray
    temperature_c: FloatArray


class Weather(Protocol):
    """Where a home's weather comes from."""

    def window(self, start_ms: int, steps: int, step_ms: int) -> Conditions:
        """Return the means over steps that follow `start_ms` (UTC): measured or forecast."""


class FileWeather:
    """Weather of a CSV file: `time,irradiance_w_m2,temperature_c`, either column may be missing.

    Times are starts of equal steps on the home's wall clock, `YYYY-MM-DD HH:MM`, ascending; empty
    cells are unknown. Files end in `.csv` or `.csv.gz`.

    Raises
    ------
    DataError
        Names the file, the line and the column, what is wrong and what would be right.
    """

    def __init__(self, path: Path, zone: tzinfo) -> None:
        self._path = path
        self._zone = zone
        try:
            opener = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
                self._first, self._step_minutes, self._columns = self._read(file)
        except UnicodeDecodeError:
            raise DataError(f"{path}: not text in UTF-8; give a .csv or .csv.gz file") from None
        except (OSError, EOFError, zlib.error, csv.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"{path}: cannot be read: {reason}") from None

    def knows(self, name: str) -> bool:
        """Tell whether the file has any value of a column."""
        return bool(np.isfinite(self._columns[name]).any())

    def window(self, start_ms: int, steps: int, step_ms: int) -> Conditions:
        """Return the file's values at the middle of each step; see `Weather`."""
        positions = civil.positions(start_ms + step_ms // 2, steps, step_ms, self._zone)
        minutes = positions * (step_ms // MINUTE_MS) + (step_ms // MINUTE_MS) // 2
        return self._at(minutes)

    def day(self, day: int, steps: int) -> Conditions:
        """Return the values at the middles of a civil day's equal steps."""
        length = 1440 // steps
        return self._at(day * 1440 + length * np.arange(steps, dtype=np.int64) + length // 2)

    def _at(self, minutes: IntArray) -> Conditions:
        """Return the values at minutes of civil time."""
        places = minutes // self._step_minutes - self._first
        there = (places >= 0) & (places < len(self._columns["irradiance_w_m2"]))
        at = np.where(there, places, 0)
        return Conditions(
            *(np.where(there, self._columns[name][at], np.nan) for name in Conditions._fields)
        )

    def _read(self, file: IO[str]) -> tuple[int, int, dict[str, FloatArray]]:
        titles = [title.strip() for title in file.readline(LINE_CHARS_MAX).split(",")]
        unknown = set(titles[1:]) - set(Conditions._fields)
        if len(titles) < 2 or unknown or len(set(titles)) != len(titles):
            raise DataError(
                f"{self._path}: line 1: columns {titles[:9]}; give time, irradiance_w_m2 and "
                "temperature_c, or one of the two"
            )
        minutes = array("q")
        values = {name: array("d") for name in Conditions._fields}
        for number, row in enumerate(
            csv.reader(iter(lambda: file.readline(LINE_CHARS_MAX), "")), 2
        ):
            if number > ROWS_MAX + 1:
                raise DataError(f"{self._path}: more than {ROWS_MAX} rows")
            if not row:
                continue
            if len(row) != len(titles):
                raise self._error(number, f"{len(row)} fields, the header has {len(titles)}")
            minutes.append(self._minute(number, row[0], minutes))
            cells = dict(zip(titles[1:], row[1:], strict=True))
            for name, column in values.items():
                column.append(self._number(number, name, cells.get(name, "")))
        if len(minutes) < 2:
            raise DataError(f"{self._path}: {len(minutes)} rows of weather; two are needed")
        steps = np.diff(minutes)
        step = int(steps.min())
        if not 1 <= step <= STEP_MINUTES_MAX or 1440 % step or (np.array(minutes) % step).any():
            raise DataError(
                f"{self._path}: a step of {step} minutes; equal steps of up to "
                f"{STEP_MINUTES_MAX} minutes that divide a day, counted from midnight, can be read"
            )
        first = minutes[0] // step
        places = np.array(minutes, np.int64) // step - first
        if places[-1] >= max(SPARSE_STEPS, SPARSE_MAX * len(minutes)):
            raise DataError(
                f"{self._path}: {places[-1]} steps from first to last row, {len(minutes)} of them "
                f"there; give a file with at least one in {SPARSE_MAX}"
            )
        columns = {}
        for name, column in values.items():
            grid = np.full(int(places[-1]) + 1, np.nan)
            grid[places] = np.frombuffer(column)
            columns[name] = grid
        return first, step, columns

    def _error(self, line: int, what: str) -> DataError:
        return DataError(f"{self._path}: line {line}: {what}")

    def _minute(self, line: int, text: str, before: "array[int]") -> int:
        try:
            label = datetime.fromisoformat(text.strip())
        except ValueError:
            raise self._error(line, f"time {text[:40]!r} is not YYYY-MM-DD HH:MM") from None
        if label.tzinfo is not None:
            raise self._error(line, f"time {text!r}: give local wall-clock time")
        minute = civil.day_number(label.date()) * 1440 + label.hour * 60 + label.minute
        if before and minute <= before[-1]:
            raise self._error(line, f"time {text!r}: times must ascend")
        return minute

    def _number(self, line: int, name: str, text: str) -> float:
        try:
            number = float(text) if text.strip() else math.nan
        except ValueError:
            raise self._error(line, f"{name}: {text[:40]!r} is not a number") from None
        least, most = (
            (0.0, IRRADIANCE_W_M2_MAX)
            if name == "irradiance_w_m2"
            else (-TEMPERATURE_C_MAX, TEMPERATURE_C_MAX)
        )
        if not (math.isnan(number) or least <= number <= most):
            raise self._error(line, f"{name} {number:g}: {least:g} to {most:g} can be")
        return number


class ClearSky:
    """The clear sky over a location, from `pvlib` (extra `solar`); knows no temperature.

    Raises
    ------
    ConfigError
        The extra is not installed.
    """

    def __init__(self, location: Location) -> None:
        try:
            import pandas
            from pvlib.location import Location as PvlibLocation
        except ImportError as error:
            raise ConfigError(
                f"the clear sky needs pvlib ({error}); install commonwatt[solar] or leave out "
                "[home.forecast] location"
            ) from None
        self._index: Any = pandas.DatetimeIndex
        self._place: Any = PvlibLocation(
            location.latitude, location.longitude, altitude=location.altitude_m
        )

    def window(self, start_ms: int, steps: int, step_ms: int) -> Conditions:
        """Return the clear sky's global irradiance at the middle of each step; see `Weather`."""
        middles = start_ms + step_ms // 2 + step_ms * np.arange(steps)
        times = [datetime.fromtimestamp(int(at) / 1000, UTC) for at in middles]
        sky = self._place.get_clearsky(self._index(times), model="haurwitz")
        return Conditions(np.asarray(sky["ghi"], np.float64), np.full(steps, np.nan))


def pv_by_irradiance(
    day_ahead: Forecast,
    history_wh: FloatArray,
    past_w_m2: FloatArray,
    ahead_w_m2: FloatArray,
    steps_per_day: int,
    horizon: Horizon,
) -> Forecast:
    """Correct a PV forecast by the irradiance to come.

    The roof's yield at a time of day is what it made there in the last 28 days over the irradiance
    it had; the course of the yield over the day is the roof's direction and its shadows. With the
    clear sky as irradiance, yield includes the usual cloud.

    Parameters
    ----------
    day_ahead : Forecast
        Without weather; it stands where the irradiance is unknown, or the yield.
    history_wh, past_w_m2 : float array, shape (steps,)
        Civil steps up to the forecast's beginning, NaN where unknown.
    ahead_w_m2 : float array, shape (horizon,)
    """
    offsets = offsets_of(horizon)
    if past_w_m2.shape != history_wh.shape or ahead_w_m2.shape != offsets.shape:
        raise ConfigError(
            f"irradiance of shapes {past_w_m2.shape} and {ahead_w_m2.shape}, for "
            f"{history_wh.shape} of history and {offsets.shape} ahead"
        )
    made = same_time(history_wh, steps_per_day, horizon, HISTORY_DAYS)
    light = same_time(past_w_m2, steps_per_day, horizon, HISTORY_DAYS)
    use = np.isfinite(made) & (np.nan_to_num(light) > FAINT_W_M2)
    made, light = np.where(use, made, 0.0), np.where(use, light, 0.0)
    total = light.sum(axis=0)
    known = (use.sum(axis=0) >= DAYS_SEEN_MIN) & np.isfinite(ahead_w_m2)
    per_light = np.divide(made.sum(axis=0), total, out=np.zeros(len(offsets)), where=total > 0)
    mean = np.where(known, per_light * np.nan_to_num(ahead_w_m2), day_ahead.mean_wh)
    # What is left unexplained on those days, as quantiles of the error at that time of day.
    errors = np.where(use, made - per_light * light, np.nan)
    low, high = (
        np.where(known, mean + _quantile(errors, use, level), other)
        for level, other in ((0.1, day_ahead.low_wh), (0.9, day_ahead.high_wh))
    )
    low = np.clip(low, 0.0, mean)
    median = None if day_ahead.median_wh is None else np.where(known, mean, day_ahead.median_wh)
    return Forecast(mean, low, np.maximum(high, mean), median)


def helps(history_wh: FloatArray, past_w_m2: FloatArray, steps_per_day: int) -> bool:
    """Tell whether the irradiance made the PV forecasts of the last days better (square error).

    A weather service for another place, or a file of another year, makes them worse.
    """
    without, with_it = 0.0, 0.0
    for day in range(CHECK_DAYS, 0, -1):
        cut = len(history_wh) - day * steps_per_day
        if cut < DAYS_SEEN_MIN * steps_per_day:
            continue
        before, actual = history_wh[:cut], history_wh[cut : cut + steps_per_day]
        light = past_w_m2[cut : cut + steps_per_day]
        plain = pv_blend(before, steps_per_day, steps_per_day)
        moved = pv_by_irradiance(
            plain, before, past_w_m2[:cut], light, steps_per_day, steps_per_day
        )
        use = np.isfinite(actual)
        without += float(((plain.mean_wh - actual)[use] ** 2).sum())
        with_it += float(((moved.mean_wh - actual)[use] ** 2).sum())
    return with_it < without


def _quantile(errors: FloatArray, use: BoolArray, level: float) -> FloatArray:
    ordered = np.sort(errors, axis=0)  # NaN last
    count = use.sum(axis=0)
    at = np.floor(level * np.maximum(count - 1, 0) + 0.5).astype(np.int64)
    found = np.take_along_axis(ordered, at[None], axis=0)[0]
    return np.where(count > 0, found, 0.0)
