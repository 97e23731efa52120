"""How good the forecast is: day-ahead, walk-forward over the last 30 % of each home.

    uv run python -m bench.forecast [--data LOAD.csv.gz] [--pv PV.csv.gz]
        [--city FOLDER] [--models ridge,boosted] [--retrain-days N] [--day-ahead | --intraday]

Every midnight the next day is forecast from what was known; errors are over the steps measured.
Skill = 1 - error / error of the naive forecast (load: the same time seven days before; PV:
yesterday); `hems.forecast.report` defines it all. Then, at every step of those days, the next eight
steps are forecast with what today has shown (`hems.intraday`); skill is over the day-ahead forecast
of the same steps, without it. Without arguments the files are looked for in ../shared/data beside
the repository, and the models are all there are.
"""

import argparse
import csv
import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.figures import Said, command, figure
from hems.civil import FloatArray
from hems.errors import DataError
from hems.forecast import HISTORY_DAYS, Forecast, blend, model, pv_blend
from hems.forecast.data import read_series, without_nothing
from hems.forecast.report import (
    RETRAIN_DAYS,
    Series,
    Skill,
    median_skill,
    pv_skill,
    total_of,
    walk_forward,
)
from hems.intraday import persist_load, persist_pv

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LOAD_FILE = SHARED / "nsw_smart_grid_smart_city_load_2012-2014.csv.gz"
PV_FILE = SHARED / "ausgrid_customer12_load_pv_2011-2012.csv.gz"
CITY_FOLDER = SHARED / "citylearn_2022"
CITY_HOMES = (1, 4, 5)
CITY_LOADS = tuple(range(1, 9))
# The files give month and weekday only; the first of August that is a Monday: 2016.
CITY_FIRST_DAY = 17_014
TEST_SHARE = 0.3
LEADS = 8

Correction = Callable[[Forecast, FloatArray, int, int], Forecast]


class Intraday(NamedTuple):
    """What the correction brings at each lead, shape (LEADS,), over the day-ahead forecast."""

    skill_mae: FloatArray
    skill_rmse: FloatArray
    bias: FloatArray
    coverage_80: FloatArray
    coverage_80_before: FloatArray
    ms: float


def step_forward(
    series: FloatArray,
    steps_per_day: int,
    method: Callable[[FloatArray, int, int], Forecast],
    correction: Correction,
) -> Intraday:
    """Score a correction at every step of the test days; dark steps do not count."""
    steps = len(series)
    first = round(steps // steps_per_day * (1 - TEST_SHARE)) * steps_per_day
    rows, spent = [], 0.0
    for now in range(first, steps - LEADS):
        history = series[max(0, now - HISTORY_DAYS * steps_per_day) : now]
        before = method(history, steps_per_day, LEADS)
        begin = time.process_time()
        after = correction(before, history, steps_per_day, LEADS)
        spent += time.process_time() - begin
        rows.append((series[now : now + LEADS], *before[:3], *after[:3]))
    actual, mean, low, high, moved, moved_low, moved_high = np.array(rows).transpose(1, 0, 2)
    dark = (actual == 0) & (mean == 0)
    a, f, g = (np.where(dark, np.nan, part) for part in (actual, mean, moved))
    off = np.isnan(a)

    def held(lo: FloatArray, hi: FloatArray) -> FloatArray:
        return np.nanmean(np.where(off, np.nan, (a >= lo) & (a <= hi)), axis=0)

    return Intraday(
        1 - np.nanmean(np.abs(a - g), axis=0) / np.nanmean(np.abs(a - f), axis=0),
        1 - np.sqrt(np.nanmean((a - g) ** 2, axis=0) / np.nanmean((a - f) ** 2, axis=0)),
        np.nanmean(g - a, axis=0) / np.nanmean(a, axis=0),
        held(moved_low, moved_high),
        held(low, high),
        1000 * spent / len(rows),
    )


def city_column(folder: Path, home: int, column: str) -> FloatArray:
    """Return a column of a CityLearn building, hourly, whole days. [kWh; PV: Wh per kWp]"""
    with gzip.open(folder / f"Building_{home}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    first = next(place for place, row in enumerate(rows) if row["hour"] == "1")
    values = np.array([float(row[column]) for row in rows[first:]])
    return values[: len(values) // 24 * 24]


def city_loads(folder: Path) -> list[Series]:
    """Return the loads of the CityLearn buildings. [Wh]"""
    series = []
    for home in CITY_LOADS:
        load_wh = 1000 * city_column(folder, home, "non_shiftable_load")
        series.append(Series(f"building {home}", without_nothing(load_wh, 24), 24, CITY_FIRST_DAY))
    return series


def city_productions(folder: Path) -> list[Series]:
    """Return the production of 1 kWp on each of the CityLearn buildings. [Wh]"""
    return [
        Series(
            f"building {home}",
            city_column(folder, home, "solar_generation"),
            24,
            CITY_FIRST_DAY,
        )
        for home in CITY_LOADS
    ]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--pv", type=Path, default=PV_FILE)
    parser.add_argument("--city", type=Path, default=CITY_FOLDER)
    parser.add_argument("--models", default=",".join(model.MODELS))
    parser.add_argument("--zone", default="Australia/Sydney")
    parser.add_argument("--retrain-days", type=int, default=RETRAIN_DAYS)
    parser.add_argument("--homes", type=int, default=0, help="of the load file; 0: all")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--day-ahead", action="store_true")
    only.add_argument("--intraday", action="store_true")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Forecast."""
    try:
        loads, _ = read_series(given.data, given.zone)
        _, productions = read_series(given.pv, given.zone)
    except DataError as error:
        raise SystemExit(f"{error}\ngive a load file with --data and a PV file with --pv") from None
    loads = loads[: given.homes or None]
    if not given.intraday:
        for name in given.models.split(","):
            yield from of_load(given.data.name, loads, name, given.retrain_days)
            if given.city.is_dir():
                city = city_loads(given.city)
                yield from of_load("CityLearn 2022", city, name, given.retrain_days)
        yield from of_pv(given.pv.name, productions)
        if given.city.is_dir():
            yield from of_pv("CityLearn 2022", city_productions(given.city))
    if not given.day_ahead:
        yield from intraday(loads, productions, given.city)


def of_load(
    file: str, loads: list[Series], name: model.ModelName, retrain_days: int
) -> Iterator[Said]:
    """Yield the walk-forward table of a model."""
    yield f"load, {name}, day-ahead against the 7-day naive, trained every {retrain_days} d: {file}"
    yield (
        f"{'':16} mean MAE   RMSE    bias   median MAE   80 % holds   pinball / 28 days   CPU s/fit"
    )
    homes, spent = [], []
    for series in loads:
        begin = time.process_time()
        homes.append(walk_forward(series, name, retrain_days))
        fits = sum(homes[-1].chosen.values())
        spent.append((time.process_time() - begin) / fits)
        home = homes[-1]
        ratio = home.pinball_wh / home.pinball_28_wh
        yield row(home.name, home.mean, home.median, (home.coverage_80, ratio, spent[-1]))
    means, medians = ([getattr(home, of) for home in homes] for of in ("mean", "median"))
    whole = (*total_of(homes), float(np.median(spent)))
    yield row("median home", median_skill(means), median_skill(medians), whole)
    title = f"load, {name}, {file}"
    skills = [float(of.skill_mae) for of in means]
    yield figure(f"{title}, skill (MAE) by home", "", skills, better="higher")
    yield figure(f"{title}, a fit", "s", spent)


def of_pv(file: str, productions: list[Series]) -> Iterator[Said]:
    """Yield the PV forecast's skill over yesterday."""
    skills = [pv_skill(series) for series in productions]
    yield f"PV, day-ahead against yesterday: {file}\n{'':16}      MAE   RMSE    bias"
    for name, of in (
        *((series.name, of) for series, of in zip(productions, skills, strict=True)),
        ("median home", median_skill(skills)),
    ):
        yield f"{name:16} {of.skill_mae:8.3f} {of.skill_rmse:6.3f} {of.bias:+7.1%}"
    by_home = [float(of.skill_mae) for of in skills]
    yield figure(f"PV, {file}, skill (MAE) by home", "", by_home, better="higher")


def row(name: str, mean: Skill, median: Skill, rest: tuple[float, float, float]) -> str:
    """Return one line."""
    coverage, ratio, seconds = rest
    return (
        f"{name:16} {mean.skill_mae:8.3f} {mean.skill_rmse:6.3f} {mean.bias:+7.1%}"
        f" {median.skill_mae:12.3f} {coverage:12.1%} {ratio:19.3f} {seconds:11.2f}"
    )


def intraday(loads: list[Series], productions: list[Series], city: Path) -> Iterator[Said]:
    """Yield the tables of the correction by what today has shown."""
    yield f"intraday, leads 1 to {LEADS} steps, over the day-ahead forecast"
    scores = [
        step_forward(series.energy_wh, series.steps_per_day, blend, persist_load)
        for series in loads
    ]
    middle = Intraday(*(np.median(s, axis=0) for s in zip(*scores, strict=True)))
    yield from of_leads("load, median home", middle)
    worst = Intraday(*(np.min(s, axis=0) for s in zip(*scores, strict=True)))
    yield from of_leads("load, worst home", worst)
    for series in productions:
        score = step_forward(series.energy_wh, series.steps_per_day, pv_blend, persist_pv)
        yield from of_leads(f"PV, {series.name} ({1440 // series.steps_per_day} min)", score)
    if not city.is_dir():
        yield f"no folder {city}; give CityLearn's with --city for homes of another place"
        return
    for home in CITY_HOMES:
        pv = city_column(city, home, "solar_generation")
        score = step_forward(pv, 24, pv_blend, persist_pv)
        yield from of_leads(f"PV, CityLearn building {home} (60 min)", score)


def of_leads(name: str, score: Intraday) -> Iterator[Said]:
    """Yield a score, a line for each quantity, a column for each lead."""
    yield name
    for what, values in score._asdict().items():
        if what != "ms":
            yield f"  {what:20}" + "".join(f"{value:8.3f}" for value in values)
    by_lead = [float(value) for value in score.skill_mae]
    yield figure(f"intraday, {name}, skill (MAE) by lead", "", by_lead, better="higher")
    yield figure(f"intraday, {name}, a correction", "ms", float(score.ms))


if __name__ == "__main__":
    command(__doc__, options, figures)
