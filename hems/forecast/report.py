"""How good the forecasts are on a file: walk-forward, day-ahead, against the naive forecasts.

At every midnight of the last `TEST_SHARE` of a home's days the day to come is forecast from what
was known. Skill is 1 - error / error of the *7-day naive*, the same time seven days before; both
errors are over the same steps, those where the load and its naive forecast were measured.

The *mean* and the *median* forecast are judged apart: a load is skewed, its median far below its
mean, and the absolute error prefers the median. The energy balance needs the mean.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from hems.civil import BoolArray, FloatArray
from hems.errors import DataError
from hems.forecast import model as models
from hems.forecast.base import HISTORY_DAYS, WEEK_DAYS, Forecast
from hems.forecast.blend import blend, pv_blend, same_time_mean
from hems.forecast.model import ModelName, Table, Trained

TEST_SHARE: Final = 0.3
RETRAIN_DAYS: Final = 28
# A home of fewer days, or with less than this share of its test steps measured, is not judged.
DAYS_MIN: Final = 42
MEASURED_MIN: Final = 0.05
LEVELS: Final = (0.1, 0.5, 0.9)


class TooLittleError(DataError):
    """Too little was measured of a home to judge its forecast."""


class Series(NamedTuple):
    """One home's load (or production) in whole civil days from `first_day`, gaps as NaN. [Wh]"""

    name: str
    energy_wh: FloatArray
    steps_per_day: int
    first_day: int


class Skill(NamedTuple):
    """Of one forecast over the 7-day naive (PV: yesterday), and its bias. Fractions."""

    skill_mae: float
    skill_rmse: float
    bias: float


class HomeReport(NamedTuple):
    """One home's figures.

    `pinball_wh` is the pinball loss per step, the mean of the 10 %, 50 % and 90 % quantiles;
    `pinball_28_wh` that of the 28-day empirical quantiles of the same time. `others` are forecasts
    to compare with. `chosen` counts the models taken, for mean and median. `test` holds what was
    forecast, shape (days, steps).
    """

    name: str
    days: int
    gaps: float
    mean: Skill
    median: Skill
    coverage_80: float
    pinball_wh: float
    pinball_28_wh: float
    others: dict[str, Skill]
    chosen: dict[str, int]
    actual_wh: FloatArray
    test: Forecast


def walk_forward(
    series: Series,
    model: ModelName = "auto",
    retrain_days: int = RETRAIN_DAYS,
) -> HomeReport:
    """Judge the load forecast of one home.

    Trains anew every `retrain_days` days of the test.

    Raises
    ------
    TooLittleError
        Too few days or measurements to judge by.
    """
    steps = series.steps_per_day
    days = len(series.energy_wh) // steps
    if days < DAYS_MIN:
        raise TooLittleError(
            f"{series.name}: {days} days; {DAYS_MIN} are needed to judge a forecast"
        )
    rows = models.table(series.energy_wh, steps, series.first_day)
    first = round(days * (1 - TEST_SHARE))
    actual = rows.energy_wh[first:]
    naive = rows.energy_wh[first - WEEK_DAYS : days - WEEK_DAYS]
    use = np.isfinite(actual) & np.isfinite(naive)
    if use.mean() < MEASURED_MIN:
        raise TooLittleError(
            f"{series.name}: {use.mean():.0%} of the last {days - first} days measured, and seven "
            f"days before as well; {MEASURED_MIN:.0%} are needed to judge a forecast"
        )
    untrained = _daily(series, first, lambda history: blend(history, steps, steps))
    chosen: dict[str, int] = {}
    parts = []
    for start in range(first, days, retrain_days):
        end = min(days, start + retrain_days)
        trained = models.train(rows.upto(start, models.train_days(steps)), model)
        name = "blend" if trained is None else f"{trained.mean_by}/{trained.median_by}"
        chosen[name] = chosen.get(name, 0) + 1
        before = _part(untrained, slice(start - first, end - first))
        parts.append(before if trained is None else _energies(trained, rows, start, end, before))
    test = Forecast(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    others = {
        "yesterday": rows.energy_wh[first - 1 : days - 1],
        "28-day mean": _daily(
            series, first, lambda history: same_time_mean(history, steps, steps, HISTORY_DAYS)
        ).mean_wh,
        "28-day median": _there(untrained.median_wh),
        "blend": untrained.mean_wh,
    }
    return HomeReport(
        series.name,
        days - first,
        float(np.isnan(series.energy_wh).mean()),
        skill(actual, test.mean_wh, naive, use),
        skill(actual, _there(test.median_wh), naive, use),
        float(((actual >= test.low_wh) & (actual <= test.high_wh))[use].mean()),
        pinball(actual, test, use),
        pinball(actual, untrained, use),
        {name: skill(actual, other, naive, use) for name, other in others.items()},
        chosen,
        actual,
        test,
    )


def skill(
    actual_wh: FloatArray, forecast_wh: FloatArray, naive_wh: FloatArray, use: BoolArray
) -> Skill:
    """Return the skill where `use`, and where the forecast itself is known."""
    use = use & np.isfinite(forecast_wh)
    actual, forecast, naive = (part[use] for part in (actual_wh, forecast_wh, naive_wh))
    error, naive_error = forecast - actual, naive - actual

    def ratio(ours: FloatArray, theirs: FloatArray) -> float:
        return float(ours / theirs) if theirs > 0 else float("nan")

    return Skill(
        1 - ratio(np.abs(error).mean(), np.abs(naive_error).mean()),
        1 - ratio(np.sqrt((error**2).mean()), np.sqrt((naive_error**2).mean())),
        ratio(error.mean(), actual.mean()),
    )


def pinball(actual_wh: FloatArray, forecast: Forecast, use: BoolArray) -> float:
    """Return the pinball loss per step, the mean of `LEVELS`. [Wh]"""
    losses = []
    quantiles = (forecast.low_wh, _there(forecast.median_wh), forecast.high_wh)
    for level, quantile in zip(LEVELS, quantiles, strict=True):
        beyond = (actual_wh - quantile)[use]
        losses.append(float(np.maximum(level * beyond, (level - 1) * beyond).mean()))
    return sum(losses) / len(losses)


def pv_skill(series: Series) -> Skill:
    """Return the PV forecast's skill over yesterday. Raises `TooLittleError`."""
    steps = series.steps_per_day
    days = len(series.energy_wh) // steps
    if days < DAYS_MIN:
        raise TooLittleError(
            f"{series.name}: {days} days; {DAYS_MIN} are needed to judge a forecast"
        )
    first = round(days * (1 - TEST_SHARE))
    actual = series.energy_wh.reshape(days, steps)
    test = _daily(series, first, lambda history: pv_blend(history, steps, steps))
    naive = actual[first - 1 : days - 1]
    use = np.isfinite(actual[first:]) & np.isfinite(naive)
    return skill(actual[first:], test.mean_wh, naive, use)


def as_plain(
    homes: list[HomeReport],
    file: str,
    model: str,
    pv: dict[str, Skill],
    left_out: list[str],
) -> dict[str, Any]:
    """Return the report as plain data; see docs/hems.md for its fields."""
    total = {
        "coverage_80": _median([home.coverage_80 for home in homes]),
        "pinball": _median([home.pinball_wh for home in homes]),
        "pinball_ratio": total_of(homes)[1],
        "pinball_28_days": _median([home.pinball_28_wh for home in homes]),
    }
    plain: dict[str, Any] = {
        "file": file,
        "model": model,
        "naive7d": "the same time seven days before",
        "homes": [
            {
                "name": home.name,
                "days": home.days,
                "gaps_fraction": home.gaps,
                "mean": _plain_skill(home.mean),
                "median": _plain_skill(home.median),
                "coverage_80": home.coverage_80,
                "pinball": home.pinball_wh,
                "pinball_28_days": home.pinball_28_wh,
                "chosen": home.chosen,
            }
            for home in homes
        ],
    }
    for kind in ("mean", "median"):
        skills: list[Skill] = [getattr(home, kind) for home in homes]
        worst = min(range(len(homes)), key=lambda place: skills[place].skill_mae)
        plain[kind] = {
            **_plain_skill(median_skill(skills)),
            "worst_home": skills[worst].skill_mae,
            "worst_home_name": homes[worst].name,
            "worst_bias_fraction": max((s.bias for s in skills), key=abs),
            **total,
        }
    plain["pv"] = [
        {
            "name": name,
            "skill_mae_vs_yesterday": of.skill_mae,
            "skill_rmse_vs_yesterday": of.skill_rmse,
            "bias_fraction": of.bias,
        }
        for name, of in pv.items()
    ]
    return {**plain, **total, "left_out": left_out}


def total_of(homes: list[HomeReport]) -> tuple[float, float]:
    """Return the medians of coverage, and of pinball as a share of the 28-day quantiles'."""
    ratios = [home.pinball_wh / home.pinball_28_wh for home in homes if home.pinball_28_wh > 0]
    return _median([home.coverage_80 for home in homes]), _median(ratios) if ratios else 1.0


def median_skill(skills: list[Skill]) -> Skill:
    """Return the median over homes of each figure."""
    return Skill(*(_median(list(values)) for values in zip(*skills, strict=True)))


def _plain_skill(of: Skill) -> dict[str, float]:
    return {
        "skill_mae_vs_naive7d": of.skill_mae,
        "skill_rmse_vs_naive7d": of.skill_rmse,
        "bias_fraction": of.bias,
    }


def _median(values: list[float]) -> float:
    return float(np.median(values))


def _there(values: FloatArray | None) -> FloatArray:
    if values is None:
        raise DataError("this forecast has no median")
    return values


def _part(of: Forecast, days: slice) -> Forecast:
    return Forecast(*(values[days] for values in (*of[:3], _there(of.median_wh))))


def _daily(series: Series, first: int, method: Callable[[FloatArray], Forecast]) -> Forecast:
    """Return a method's forecasts of each test day from the days before it."""
    steps = series.steps_per_day
    days = len(series.energy_wh) // steps

    def each() -> Iterator[Forecast]:
        for day in range(first, days):
            begin = max(0, day - HISTORY_DAYS) * steps
            yield method(series.energy_wh[begin : day * steps])

    return Forecast(*(np.array(part) for part in zip(*each(), strict=True)))


def _energies(trained: Trained, rows: Table, start: int, end: int, untrained: Forecast) -> Forecast:
    """Return a trained model's forecasts, each day's by what was known at its midnight.

    Times of day never seen are the untrained one's.
    """
    parts = []
    for day in range(start, end):
        parts.append(trained.energies(rows.values[day]))
        trained = trained.followed(rows.upto(day + 1, 1))
    known = rows.known[start:end]
    theirs = (untrained.mean_wh, untrained.low_wh, _there(untrained.median_wh), untrained.high_wh)
    mean, low, median, high = (
        np.where(known, np.array(ours), other)
        for ours, other in zip(zip(*parts, strict=True), theirs, strict=True)
    )
    return Forecast(mean, np.minimum(low, mean), np.maximum(high, mean), median)
