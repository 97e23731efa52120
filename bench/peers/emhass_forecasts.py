"""EMHASS's load forecasts beside ours: the same homes, the same days, time and error of each.

    uv run python -m bench.peers.emhass_forecasts [--data LOAD.csv.gz] [--homes 10] [--days 56]

At each midnight of the last days of every home the day to come is forecast from what was known.
Ours is the home's own choice (`auto`). EMHASS 0.18.7 runs in an environment of its own, made from
the package index the first time: `naive` repeats the day before, `typical` takes the mean of the
same weekdays of the month (here of the home's own past; as delivered, of a data set of its own),
`mlforecaster` learns from a day of lags. Who learns does so every 28 days, from a year at most.
Errors are over the steps where the load, and that of a week before, were measured; the skill is
over the latter, as in `bench.forecast`.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.figures import Said, command, figure
from bench.forecast import LOAD_FILE
from bench.peers.environment import ask, python_of
from hems import civil
from hems.civil import BoolArray, FloatArray
from hems.errors import DataError
from hems.forecast.data import read_series
from hems.forecast.report import RETRAIN_DAYS, TEST_SHARE, Series, skill, walk_forward

PACKAGES: Final = ("emhass==0.18.7",)
PYTHON: Final = "3.11"
MODELS: Final = ("KNeighborsRegressor", "LinearRegression")
WEEK_DAYS: Final = 7
OURS: Final = "ours"


class Judged(NamedTuple):
    """One home's days: what was, what a week before, and where both are known. (days, steps)"""

    actual_wh: FloatArray
    naive_wh: FloatArray
    use: BoolArray


def question(series: Series, first: int, days: int) -> dict[str, object]:
    """Return a home as EMHASS is asked for it."""
    steps = series.steps_per_day
    load_w = series.energy_wh[: (first + days) * steps] * steps / 24
    return {
        "steps_per_day": steps,
        "begins": civil.date_of(series.first_day).isoformat(),
        "first_day": first,
        "days": days,
        "retrain_days": RETRAIN_DAYS,
        "models": MODELS,
        "load_w": [None if np.isnan(value) else float(value) for value in load_w],
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--zone", default="Australia/Sydney")
    parser.add_argument("--homes", type=int, default=10)
    parser.add_argument("--days", type=int, default=56)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Forecast by both."""
    try:
        homes = read_series(given.data, given.zone)[0][: given.homes]
    except DataError as error:
        raise SystemExit(f"{error}\ngive a load file with --data") from None
    python = python_of(PACKAGES, PYTHON)
    mae: dict[str, list[float]] = {}
    rmse: dict[str, list[float]] = {}
    cpu_ms: dict[str, list[float]] = {}
    for series in homes:
        judged, forecasts, spent_s = _of_home(python, series, given.days)
        for name, forecast in forecasts.items():
            one = skill(judged.actual_wh, forecast, judged.naive_wh, judged.use)
            mae.setdefault(name, []).append(one.skill_mae)
            rmse.setdefault(name, []).append(one.skill_rmse)
            cpu_ms.setdefault(name, []).append(1_000 * spent_s[name] / len(forecast))
        yield f"{series.name}: {judged.use.mean():.0%} of {len(judged.use)} days judged"
    for name in mae:
        yield figure(f"{name}, skill (MAE) by home", "", mae[name], better="higher")
        yield figure(f"{name}, skill (RMSE) by home", "", rmse[name], better="higher")
        over = None if name == OURS else (OURS, cpu_ms[OURS])
        yield figure(f"{name}, a day's forecast with its training", "ms", cpu_ms[name], over=over)


def _of_home(
    python: Path, series: Series, days: int
) -> tuple[Judged, dict[str, FloatArray], dict[str, float]]:
    """Return what is judged, forecasts by name, shape (days, steps) [Wh], and CPU seconds."""
    steps = series.steps_per_day
    there = len(series.energy_wh) // steps
    tested = there - round(there * (1 - TEST_SHARE))
    days = min(days, tested)
    begin = time.process_time()
    ours = walk_forward(series)
    # It forecasts all the days tested; the training is every 28 of them, too.
    spent = {OURS: (time.process_time() - begin) * days / tested}
    first = there - tested
    rows = series.energy_wh[: there * steps].reshape(there, steps)
    actual, naive = rows[first : first + days], rows[first - WEEK_DAYS : first + days - WEEK_DAYS]
    judged = Judged(actual, naive, np.isfinite(actual) & np.isfinite(naive))
    forecasts = {OURS: ours.test.mean_wh[:days]}
    found = ask(python, "emhass_forecasts", question(series, first, days))
    for name, method in found["methods"].items():
        title = f"EMHASS {found['version']}, {name}"
        forecasts[title] = np.array(method["rows"]) * 24 / steps
        spent[title] = method["cpu_s"]
    return judged, forecasts, spent


if __name__ == "__main__":
    command(__doc__, options, figures)
