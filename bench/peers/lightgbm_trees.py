"""Our trees beside LightGBM's, on the same rows of each home.

    uv run --extra forecast python -m bench.peers.lightgbm_trees [--data LOAD.csv.gz] [--homes N]

Both learn from the year before the last 30 % of each home's days, and forecast the next `DAYS` of
them at midnight: the mean (square loss) and the median (absolute loss). LightGBM has the settings
the homes had with it before (150 trees of 15 leaves).
"""

import argparse
import importlib.metadata
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.figures import Said, command, figure
from bench.forecast import LOAD_FILE
from hems.civil import FloatArray
from hems.forecast import boosted, model
from hems.forecast.data import read_series
from hems.forecast.report import TEST_SHARE

DAYS = 112
TREES = 150
PARAMETERS = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


def ours(x: FloatArray, y: FloatArray, median: bool, ahead: FloatArray) -> FloatArray:
    """Forecast by our trees."""
    level = 0.5 if median else None
    return boosted.grow(boosted.binned(x), y, np.ones(len(y)), level).predict(ahead)


def theirs(x: FloatArray, y: FloatArray, median: bool, ahead: FloatArray) -> FloatArray:
    """Forecast by LightGBM's."""
    import lightgbm

    objective = {**PARAMETERS, "objective": "l1" if median else "l2"}
    trees = lightgbm.train(objective, lightgbm.Dataset(x, label=y), TREES)
    return np.maximum(np.asarray(trees.predict(ahead, num_threads=1)), 0.0)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--zone", default="Australia/Sydney")
    parser.add_argument("--homes", type=int, default=10)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Let both learn from each home."""
    try:
        version = importlib.metadata.version("lightgbm")
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit("LightGBM is not there: uv run --extra forecast python -m ...") from None
    yield f"LightGBM {version}; errors of our trees over LightGBM's, and CPU seconds of a fit"
    ways: dict[str, Callable[[FloatArray, FloatArray, bool, FloatArray], FloatArray]]
    ways = {"ours": ours, "lightgbm": theirs}
    rows = []
    for series in read_series(given.data, given.zone)[0][: given.homes]:
        table = model.table(series.energy_wh, series.steps_per_day, series.first_day)
        first = round(len(table.use) * (1 - TEST_SHARE))
        past, to_come = table.upto(first), slice(first, first + DAYS)
        x, y = past.values[past.use], past.energy_wh[past.use]
        use = table.use[to_come]
        ahead, actual = table.values[to_come][use], table.energy_wh[to_come][use]
        row = []
        for median in (False, True):
            errors, seconds = {}, {}
            for name, way in ways.items():
                begin = time.process_time()
                error = way(x, y, median, ahead) - actual
                seconds[name] = time.process_time() - begin
                errors[name] = np.abs(error).mean() if median else np.sqrt((error**2).mean())
            row += [errors["ours"] / errors["lightgbm"], seconds["ours"], seconds["lightgbm"]]
        rows.append(row)
        yield show(series.name, row)
    for place, what in ((0, "mean RMSE"), (3, "median MAE")):
        error, mine, other = zip(*(row[place : place + 3] for row in rows), strict=True)
        yield figure(f"{what}, ours over LightGBM's", "", error)
        yield figure(f"{what}, a fit", "s", mine, over=("LightGBM's", other))


def show(name: str, row: list[float]) -> str:
    """Return one line."""
    return (
        f"{name:16} mean RMSE {row[0]:.4f} ({row[1]:.2f} s, {row[2]:.2f} s)"
        f"   median MAE {row[3]:.4f} ({row[4]:.2f} s, {row[5]:.2f} s)"
    )


if __name__ == "__main__":
    command(__doc__, options, figures)
