"""What a home's past says of a step to come, as numbers a model can weigh.

Every feature is energy per step [Wh], so that what is learnt of them holds for a small home as for
a large one. The heart is a *sample of like steps*: the same time of the last `HISTORY_DAYS` days
and the steps beside it, weighted by how recent they are, with the same weekday counting double. Its
quantiles and its mean need no training and are good forecasts in themselves.

A row is made from what was known at its *origin* alone, the moment the forecast is issued: training
takes the midnights of the past, forecasting takes now.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from hems.civil import BoolArray, FloatArray, IntArray
from hems.errors import ConfigError
from hems.forecast.base import HISTORY_DAYS, WEEK_DAYS

SAMPLE_MEMORY_DAYS: Final = 20.0
SAMPLE_SHIFTS: Final = (0, -1, 1)
SHIFT_WEIGHT: Final = 0.5
WEEKDAY_WEIGHT: Final = 2.0

LEVELS: Final = (0.1, 0.25, 0.5, 0.65, 0.75, 0.9)
# Means of the steps around the same time: within 2 and 6 hours of it some days ago, and within an
# hour over the last days. One step of one day says little of a home whose meals are never on time.
NEAR_DAYS: Final = (1, 2, 7)
NEAR_HOURS: Final = 2
WIDE_DAYS: Final = (1, 2, 3)
WIDE_HOURS: Final = 6
AROUND_DAYS: Final = (3, 7, 14)
AROUND_HOURS: Final = 1
STANDBY_LEVEL: Final = 0.1
PEAK_LEVEL: Final = 0.95
# The features' order; see `Rows`.
NAMES: Final = (
    *(f"sample_{level:g}" for level in LEVELS),
    "sample_mean",
    "day_1",
    "day_2",
    "week_1",
    "days_7",
    "weekdays_4",
    "level_1",
    "level_7",
    "level_28",
    "shape_28",
    *(f"near_{day}" for day in NEAR_DAYS),
    *(f"wide_{day}" for day in WIDE_DAYS),
    *(f"around_{days}" for days in AROUND_DAYS),
    "days_3",
    "level_3",
    "standby_1",
    "standby_7",
    "peak_1",
    "evening",
    "late",
)
SAMPLE_MEAN: Final = NAMES.index("sample_mean")
SAMPLE_LOW: Final = NAMES.index("sample_0.1")
SAMPLE_MEDIAN: Final = NAMES.index("sample_0.5")
SAMPLE_HIGH: Final = NAMES.index("sample_0.9")
SAMPLE_ABOVE: Final = NAMES.index("sample_0.65")
# Of the day before the last midnight: what went on late says who is up, or away.
EVENING_SHARE: Final = 8
LATE_SHARE: Final = 24
FEATURES: Final = len(NAMES)
# Rows made at once: a sample of 84 values for each would else fill the memory of a small machine.
_CHUNK_ROWS: Final = 3_072


class Totals:
    """Running totals of a history, for means over any stretch of it."""

    def __init__(self, history_wh: FloatArray) -> None:
        there = np.isfinite(history_wh)
        self.total = np.concatenate(([0.0], np.cumsum(np.where(there, history_wh, 0.0))))
        self.count = np.concatenate(([0], np.cumsum(there)))

    def mean(self, first: IntArray, last: IntArray) -> FloatArray:
        """Return the mean energy of steps `first` to before `last`, NaN where none is known."""
        last = np.clip(last, 0, len(self.total) - 1)
        first = np.clip(first, 0, last)
        total, count = (of[last] - of[first] for of in (self.total, self.count))
        return _ratio(total, count)

    def around(
        self, origins: IntArray, places: IntArray, days: IntArray, steps_per_day: int, steps: int
    ) -> FloatArray:
        """Return the mean of what is within `steps` of the same time of all of some days before.

        `places` are the steps of the day ahead, counted from the origin; nothing at or after an
        origin is looked at. Shape (origins, steps).
        """
        middle = origins[:, None] + places - days[:, None, None] * steps_per_day
        last = np.minimum(middle + steps + 1, origins[:, None])
        last = np.clip(last, 0, len(self.total) - 1)
        first = np.clip(middle - steps, 0, last)
        total, count = (
            (of[last] - of[first]).sum(axis=0, dtype=np.float64) for of in (self.total, self.count)
        )
        return _ratio(total, count)


class Rows(NamedTuple):
    """Features of some steps.

    `values` has shape (origins, steps, FEATURES); `known` (origins, steps) is False where the
    home was never measured at that time of day within the sample, and `values` are 0. [Wh]
    """

    values: FloatArray
    known: BoolArray


def lagged(
    history_wh: FloatArray,
    origins: IntArray,
    offsets: IntArray,
    steps_per_day: int,
    days: int,
    shift: int = 0,
) -> FloatArray:
    """Return the same time, `shift` steps later, of the days before each step, newest first.

    Parameters
    ----------
    history_wh : float array, shape (steps,)
    origins : int array, shape (origins,)
        Indices into the history; nothing at or after an origin is looked at.
    offsets : int array, shape (steps,)
        Which steps after the origin (0 is the first).

    Returns
    -------
    float array, shape (origins, days, steps)
        NaN where nothing is known.
    """
    place = offsets % steps_per_day + shift - steps_per_day
    places = origins[:, None, None] + place - steps_per_day * np.arange(days)[:, None]
    until = origins[:, None, None]
    # No step beyond those days either, so that they are all a forecast needs of a history.
    there = (places >= np.maximum(until - days * steps_per_day, 0)) & (places < until)
    if len(history_wh) == 0:
        return np.full(places.shape, np.nan)
    return np.where(there, history_wh[np.where(there, places, 0)], np.nan)


def rows(
    history_wh: FloatArray,
    origins: IntArray,
    offsets: IntArray,
    steps_per_day: int,
    first_step: int = 0,
) -> Rows:
    """Return the features of the steps `offsets` after each origin.

    `first_step` is the step of the day the history begins with. Raises `ConfigError`.
    """
    if history_wh.ndim != 1 or steps_per_day < 1:
        raise ConfigError("history is one flat array, with at least one step per day")
    if len(origins) and not 0 <= origins.min() <= origins.max() <= len(history_wh):
        raise ConfigError(f"origins lie within the {len(history_wh)} steps of history")
    shape = (len(origins), len(offsets))
    values = np.zeros((*shape, FEATURES))
    known = np.zeros(shape, np.bool_)
    weights = _weights(offsets // steps_per_day)
    totals = Totals(history_wh)
    for part in _chunks(len(origins), len(offsets)):
        values[part], known[part] = _chunk(
            history_wh, totals, origins[part], offsets, steps_per_day, weights
        )
    midnights = origins - (origins + first_step) % steps_per_day
    for column, share in ((-2, EVENING_SHARE), (-1, LATE_SHARE)):
        level = totals.mean(midnights - max(1, steps_per_day // share), midnights)[:, None]
        known_level = np.where(np.isfinite(level), level, values[..., NAMES.index("level_1")])
        values[..., column] = np.where(known, known_level, 0.0)
    return Rows(values, known)


def _chunks(origins: int, steps: int) -> Iterator[slice]:
    size = max(1, _CHUNK_ROWS // max(1, steps))
    for start in range(0, origins, size):
        yield slice(start, min(origins, start + size))


def _weights(ahead: IntArray) -> FloatArray:
    """Return the weights of a sample, shape (shifts, HISTORY_DAYS, steps)."""
    day = np.arange(HISTORY_DAYS)[:, None]
    recent = np.exp(-day / SAMPLE_MEMORY_DAYS)
    # Row r is r + 1 days before a step of the first day ahead, r + 1 + d before one d days later.
    same_weekday = (day + 1 + ahead) % WEEK_DAYS == 0
    weight = recent * np.where(same_weekday, WEEKDAY_WEIGHT, 1.0)
    shares = np.array([1.0 if shift == 0 else SHIFT_WEIGHT for shift in SAMPLE_SHIFTS])
    result: FloatArray = shares[:, None, None] * weight
    return result


def _chunk(
    history_wh: FloatArray,
    totals: Totals,
    origins: IntArray,
    offsets: IntArray,
    steps_per_day: int,
    weights: FloatArray,
) -> tuple[FloatArray, BoolArray]:
    parts = [
        lagged(history_wh, origins, offsets, steps_per_day, HISTORY_DAYS, shift)
        for shift in SAMPLE_SHIFTS
    ]
    same = parts[0]
    sample = np.concatenate(parts, axis=1)
    weight = np.where(np.isfinite(sample), weights.reshape(1, sample.shape[1], len(offsets)), 0.0)
    known: BoolArray = np.asarray(np.isfinite(same).any(axis=1))
    quantiles = weighted_quantiles(sample, weight, LEVELS)
    mean = _ratio((weight * np.nan_to_num(sample)).sum(axis=1), weight.sum(axis=1))
    week = (WEEK_DAYS - 1 - offsets // steps_per_day) % WEEK_DAYS
    weekdays = np.take_along_axis(
        same, (week + WEEK_DAYS * np.arange(HISTORY_DAYS // WEEK_DAYS)[:, None])[None], axis=1
    )
    levels = [
        totals.mean(origins - days * steps_per_day, origins)
        for days in (1, WEEK_DAYS, HISTORY_DAYS)
    ]
    per_origin = [
        totals.mean(origins - 3 * steps_per_day, origins),
        _recent(history_wh, origins, steps_per_day, STANDBY_LEVEL),
        _recent(history_wh, origins, WEEK_DAYS * steps_per_day, STANDBY_LEVEL),
        _recent(history_wh, origins, steps_per_day, PEAK_LEVEL),
    ]
    columns = [
        *quantiles,
        mean,
        same[:, 0],
        same[:, 1],
        weekdays[:, 0],
        mean_known(same[:, :WEEK_DAYS]),
        mean_known(weekdays),
        *(np.broadcast_to(level[:, None], mean.shape) for level in levels),
        mean_known(same),
        *_arounds(totals, origins, offsets % steps_per_day, steps_per_day),
        mean_known(same[:, :3]),
        *(np.broadcast_to(level[:, None], mean.shape) for level in per_origin),
        mean,  # evening and late, which `rows` fills in
        mean,
    ]
    values = np.stack(columns, axis=-1)
    # What is not known of a lag is what is known of the sample: a ridge then sees no news in it.
    values = np.where(np.isfinite(values), values, mean[..., None])
    return np.where(known[..., None], values, 0.0), known


def _arounds(
    totals: Totals, origins: IntArray, places: IntArray, steps_per_day: int
) -> list[FloatArray]:
    """Return the means around the same time, in the order of `NAMES`."""
    wanted = [
        *((np.array([day]), NEAR_HOURS) for day in NEAR_DAYS),
        *((np.array([day]), WIDE_HOURS) for day in WIDE_DAYS),
        *((np.arange(1, days + 1), AROUND_HOURS) for days in AROUND_DAYS),
    ]
    return [
        totals.around(origins, places, days, steps_per_day, hours * steps_per_day // 24)
        for days, hours in wanted
    ]


def _recent(history_wh: FloatArray, origins: IntArray, steps: int, level: float) -> FloatArray:
    """Return a quantile of the last steps before each origin, NaN where none is known."""
    places = origins[:, None] - 1 - np.arange(steps)
    there = places >= 0
    if len(history_wh) == 0:
        return np.full(len(origins), np.nan)
    sample = np.where(there, history_wh[np.where(there, places, 0)], np.nan)[..., None]
    weight = np.isfinite(sample).astype(np.float64)
    return weighted_quantiles(sample, weight, (level,))[0][:, 0]


def weighted_quantiles(
    sample: FloatArray, weight: FloatArray, levels: tuple[float, ...]
) -> list[FloatArray]:
    """Return quantiles along the second axis, shape (origins, steps) each; NaN without weight."""
    order = np.argsort(sample, axis=1)  # NaN last; their weight is 0
    ordered = np.take_along_axis(sample, order, axis=1)
    below = np.cumsum(np.take_along_axis(weight, order, axis=1), axis=1)
    total = below[:, -1:]
    result = []
    for level in levels:
        at = np.minimum((below < level * total).sum(axis=1, keepdims=True), sample.shape[1] - 1)
        result.append(np.take_along_axis(ordered, at, axis=1)[:, 0])
    return result


def mean_known(values: FloatArray) -> FloatArray:
    """Return the means of what is there along the second axis, NaN where nothing is."""
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0.0).sum(axis=1), there.sum(axis=1))


def _ratio(total: FloatArray, count: FloatArray | IntArray) -> FloatArray:
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
