"""A home's load model: trained on its own history, chosen by walking forward through it.

`train` holds back the last days, fits every candidate on what is before them, and takes for the
mean the one with the least squared error and for the median the one with the least absolute error
there (a simpler one only if it is better by `MARGIN`); level, lean and intervals are calibrated on
the same days. Then it fits again on all; only the level goes on following the days that come.
Nothing is drawn at random that has no seed: the same history gives the same model, so that a
restarted node forecasts what it forecast before.
"""

from collections.abc import Collection, Mapping
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np

from hems.civil import BoolArray, FloatArray, IntArray
from hems.errors import ConfigError
from hems.forecast import boosted, calibration, features, linear
from hems.forecast.base import WEEK_DAYS, Forecast, Horizon, offsets_of
from hems.forecast.blend import (
    WEIGHT_MONTH,
    WEIGHT_WEEKDAY,
    WEIGHT_YESTERDAY,
    blend,
    filled,
)
from hems.forecast.calibration import Level, Stretch

ModelName: TypeAlias = Literal["auto", "blend", "ridge", "boosted"]
MODELS: Final[tuple[ModelName, ...]] = get_args(ModelName)

TRAIN_DAYS: Final = 365
# 365 days of half hours; of shorter steps as many fewer days, at least `TRAIN_DAYS_MIN`.
TRAIN_STEPS: Final = 17_520
# With less measured, the blend is all there is.
TRAIN_DAYS_MIN: Final = 35
VALID_DAYS: Final = 42
# A season ago a home lived otherwise: rows lose their weight with this memory.
MEMORY_DAYS: Final = 300.0
# The trees have the ridge and the sample in them: few days of chance are no reason to drop them. A
# simpler candidate must be better by this share on the days held back.
MARGIN: Final = 0.01
# Of all quantiles, the one that loses no energy has the least absolute error among the forecasts
# that lose none; for skewed loads it is about this.
ABOVE_LEVEL: Final = 0.65
MEDIAN_SEEDS: Final = (1, 2)
UNIT: Final = boosted.Unit(features.SAMPLE_MEAN, features.FEATURES)


class Fitted(Protocol):
    """A model of one target: features in, energy out."""

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts, shape (...,) of features (..., features). [Wh]"""


class Column(NamedTuple):
    """Forecasts a weighted sum of features, times a factor: what needs no training."""

    weights: FloatArray
    factor: float = 1.0

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts; see `Fitted`."""
        return np.asarray(features[..., : len(self.weights)] @ (self.weights * self.factor))


class Scaled(NamedTuple):
    """Another model's forecast times a factor."""

    model: Fitted
    factor: float

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts; see `Fitted`."""
        return self.model.predict(features) * self.factor


class Average(NamedTuple):
    """The weighted mean of some models."""

    parts: tuple[tuple[float, Fitted], ...]

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts; see `Fitted`."""
        total = sum(weight for weight, _ in self.parts)
        summed = sum(weight * part.predict(features) for weight, part in self.parts)
        return np.asarray(summed / total)


class Pair(NamedTuple):
    """One candidate's model of the mean and of the median."""

    mean: Fitted
    median: Fitted


class Table(NamedTuple):
    """A history of whole civil days as rows to learn from, each issued at its day's midnight.

    `values` (days, steps, features and calendar), `energy_wh` (days, steps); `known` is where there
    is something to forecast from, `use` where moreover the energy was measured.
    """

    values: FloatArray
    energy_wh: FloatArray
    known: BoolArray
    use: BoolArray

    def upto(self, day: int, days: int = TRAIN_DAYS) -> "Table":
        """Return the `days` days before a day."""
        part = slice(max(0, day - days), day)
        return Table(self.values[part], self.energy_wh[part], self.known[part], self.use[part])


class Scores(NamedTuple):
    """A candidate on the validation days: root of the mean square and mean absolute error. [Wh]"""

    rmse_mean_wh: float
    mae_median_wh: float


class Trained(NamedTuple):
    """A home's load model.

    `mean_by` and `median_by` name the candidates chosen; `scores` are all candidates'. `level` is
    that of the last day it knows of (`followed`).
    """

    steps_per_day: int
    mean_by: str
    median_by: str
    mean: Fitted
    median: Fitted
    level: Level
    lean: float
    stretch: Stretch
    scores: dict[str, Scores]

    def forecast(
        self,
        history_wh: FloatArray,
        first_position: int,
        horizon: Horizon,
        fallback_wh: FloatArray | None = None,
    ) -> Forecast:
        """Forecast load; otherwise as `blend`. `first_position` is the history's civil position.

        The last `HISTORY_DAYS` days are enough of a history.
        """
        offsets = offsets_of(horizon)
        origin = np.array([len(history_wh)])
        rows = features.rows(
            history_wh, origin, offsets, self.steps_per_day, first_position % self.steps_per_day
        )
        values = with_calendar(rows.values, first_position + origin, offsets, self.steps_per_day)
        mean, low, median, high = (part[0] for part in self.energies(values))
        known = rows.known[0]
        mean = filled(np.where(known, mean, np.nan), history_wh, fallback_wh)
        low, median, high = (np.where(known, part, mean) for part in (low, median, high))
        return Forecast(mean, np.minimum(low, mean), np.maximum(high, mean), median)

    def energies(self, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return mean, 10 %, 50 % and 90 % quantiles of rows (..., features). [Wh]"""
        median = self.median.predict(values)
        mean = self.mean.predict(values) * self.level.factor
        mean = mean + self.lean * (median - mean)
        low, high = calibration.stretched(
            values[..., features.SAMPLE_LOW],
            median,
            values[..., features.SAMPLE_HIGH],
            self.stretch,
        )
        return mean, low, median, high

    def followed(self, rows: Table) -> "Trained":
        """Return the model at the level of the days after those it knows of. Loads drift."""
        foretold_wh = self.mean.predict(rows.values)
        return self._replace(level=self.level.after(rows.energy_wh, foretold_wh, rows.use))


def train_days(steps_per_day: int) -> int:
    """Return how many days of history a home learns from, at most."""
    return max(TRAIN_DAYS_MIN, min(TRAIN_DAYS, TRAIN_STEPS // steps_per_day))


def table(history_wh: FloatArray, steps_per_day: int, first_day: int) -> Table:
    """Return the rows of a history that begins with a civil day and holds whole ones.

    Raises
    ------
    ConfigError
        It does not.
    """
    if steps_per_day < 1 or history_wh.ndim != 1 or len(history_wh) % steps_per_day:
        raise ConfigError("a model learns from whole civil days")
    days = len(history_wh) // steps_per_day
    origins = np.arange(days, dtype=np.int64) * steps_per_day
    offsets = np.arange(steps_per_day, dtype=np.int64)
    rows = features.rows(history_wh, origins, offsets, steps_per_day)
    values = with_calendar(rows.values, first_day * steps_per_day + origins, offsets, steps_per_day)
    energy_wh = history_wh.reshape(days, steps_per_day)
    return Table(values, energy_wh, rows.known, rows.known & np.isfinite(energy_wh))


def with_calendar(
    values: FloatArray, positions: IntArray, offsets: IntArray, steps_per_day: int
) -> FloatArray:
    """Append the hour of the day and the weekday, which only trees can use."""
    at = positions[:, None] + offsets
    hour = (at % steps_per_day) * (24.0 / steps_per_day)
    weekday = ((at // steps_per_day + 3) % WEEK_DAYS).astype(np.float64)
    return np.concatenate((values, hour[..., None], weekday[..., None]), axis=-1)


def train(rows: Table, model: ModelName = "auto") -> Trained | None:
    """Train on rows; the last day is the newest.

    Returns
    -------
    Trained or None
        None where too little was measured for anything but the blend, or it was asked for.

    Raises
    ------
    ConfigError
        An unknown model, or one whose extra is not installed.
    """
    model = model_of(model)
    measured = np.flatnonzero(rows.use.any(axis=1))
    if model == "blend" or len(measured) < TRAIN_DAYS_MIN:
        return None
    names = _candidates(model)
    days = len(rows.energy_wh)
    # Days of gaps are no test: the last measured ones are.
    held = int(measured[-min(VALID_DAYS, len(measured) // 3)])
    before, after = rows.upto(held, days), rows.upto(days, days - held)
    seen = after.use
    energy_wh, values = after.energy_wh[seen], after.values[seen]
    pairs = _fit(names, before)
    means = {name: pairs[name].mean.predict(values) for name in names}
    medians = {name: pairs[name].median.predict(values) for name in names}
    scores = {
        name: Scores(
            float(np.sqrt(((energy_wh - means[name]) ** 2).mean())),
            float(np.abs(energy_wh - medians[name]).mean()),
        )
        for name in names
    }
    mean_by = _best({name: scores[name].rmse_mean_wh for name in names})
    median_by = _best({name: scores[name].mae_median_wh for name in names})
    level = calibration.level(after.energy_wh, pairs[mean_by].mean.predict(after.values), after.use)
    final = _fit({mean_by, median_by}, rows)
    low, high = (values[:, column] for column in (features.SAMPLE_LOW, features.SAMPLE_HIGH))
    return Trained(
        rows.energy_wh.shape[1],
        mean_by,
        median_by,
        final[mean_by].mean,
        final[median_by].median,
        level,
        calibration.lean(means[mean_by] * level.factor, medians[median_by]),
        calibration.stretch(energy_wh, low, medians[median_by], high),
        scores,
    )


def model_of(name: str) -> ModelName:
    """Return a model's name if it is one. Raises `ConfigError`."""
    for model in MODELS:
        if name == model:
            return model
    raise ConfigError(f"{name!r} is not a forecast model; choose one of {', '.join(MODELS)}")


def load_forecast(
    trained: Trained | None,
    history_wh: FloatArray,
    steps_per_day: int,
    first_position: int,
    horizon: Horizon,
    fallback_wh: FloatArray | None = None,
) -> Forecast:
    """Forecast by a trained model, or by the blend where there is none."""
    if trained is None:
        return blend(history_wh, steps_per_day, horizon, fallback_wh)
    return trained.forecast(history_wh, first_position, horizon, fallback_wh)


def _best(errors: Mapping[str, float]) -> str:
    """Return the last candidate, unless another is better by more than `MARGIN`."""
    *_, last = errors
    return min(errors, key=lambda name: errors[name] * (1 if name == last else 1 + MARGIN))


def _candidates(model: ModelName) -> tuple[str, ...]:
    return ("blend", "ridge", "boosted") if model == "auto" else (model,)


def _fit(names: Collection[str], rows: Table) -> dict[str, Pair]:
    """Fit candidates on all rows; the trees take the linear models in, which are fitted once."""
    pairs = {"blend": Pair(_blend_column(), _column(features.SAMPLE_MEDIAN))}
    x, y = rows.values[rows.use], rows.energy_wh[rows.use]
    age = np.arange(len(rows.use), 0, -1.0)[:, None]
    weights = np.broadcast_to(np.exp(-age / MEMORY_DAYS), rows.use.shape)[rows.use]
    if not {"ridge", "boosted"} & set(names):
        return pairs
    plain = x[:, : features.FEATURES]
    ridge = _Plain(linear.fit_mean(plain, y, weights, features.SAMPLE_MEAN))
    median, above = (
        _Plain(linear.fit_quantile(plain, y, weights, untrained, level))
        for untrained, level in (
            (features.SAMPLE_MEDIAN, 0.5),
            (features.SAMPLE_ABOVE, ABOVE_LEVEL),
        )
    )
    above_at_level = _smeared(above, x, y, weights)
    sample_median = _column(features.SAMPLE_MEDIAN)
    pairs["ridge"] = Pair(
        Average(((2.0, ridge), (1.0, above_at_level))),
        Average(((1.0, median), (1.0, sample_median))),
    )
    if "boosted" in names:
        pairs["boosted"] = _with_trees(x, y, weights, (ridge, above_at_level), median)
    return pairs


def _with_trees(
    x: FloatArray, y: FloatArray, weights: FloatArray, means: tuple[Fitted, Fitted], median: Fitted
) -> Pair:
    """Return equal parts of trees and linear models, which differ most in what they get wrong."""
    # In units of the sample's mean a home's level is no matter: what was learnt in spring holds in
    # summer, and the trees ask for what departs from the usual. Of both, least squares hold the
    # level of a day's peaks, which roots round off.
    plain, in_units = boosted.binned(x), boosted.binned(x, UNIT)
    squares = [boosted.grow(bins, y, weights) for bins in (plain, in_units)]
    roots = [boosted.grow(bins, y, weights, root=True) for bins in (plain, in_units)]
    unbiased = [_smeared(of, x, y, weights) for of in roots]
    medians = [
        boosted.grow(in_units, y, weights, level=0.5, root=True, seed=seed) for seed in MEDIAN_SEEDS
    ]
    return Pair(_equal(*squares, *unbiased, *means), _equal(*medians, median))


def _equal(*parts: Fitted) -> Average:
    return Average(tuple((1.0, part) for part in parts))


def _smeared(of: Fitted, x: FloatArray, y: FloatArray, weights: FloatArray) -> Scaled:
    return Scaled(of, calibration.smearing(y * weights, of.predict(x) * weights))


class _Plain(NamedTuple):
    """A linear model, which takes the features without the calendar."""

    model: linear.Linear

    def predict(self, values: FloatArray) -> FloatArray:
        return self.model.predict(values[..., : features.FEATURES])


def _column(place: int) -> Column:
    return Column(np.eye(features.FEATURES)[place])


def _blend_column() -> Column:
    weights = np.zeros(features.FEATURES)
    for name, weight in (
        ("shape_28", WEIGHT_MONTH),
        ("weekdays_4", WEIGHT_WEEKDAY),
        ("day_1", WEIGHT_YESTERDAY),
    ):
        weights[features.NAMES.index(name)] = weight
    return Column(weights)
