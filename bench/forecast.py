"""How good the forecast is: day-ahead, walk-forward over the last 30 % of each home.

    uv run python -m bench.forecast [--data LOAD.csv.gz] [--pv PV.csv.gz] [--city FOLDER]

Every midnight the next day is forecast from what was known; errors are over the steps measured.
Skill = 1 - error / error of the naive forecast (load: the same time seven days before; PV:
yesterday). Then, at every step of those days, the next eight steps are forecast with what today has
shown (`hems.intraday`); skill is over the day-ahead forecast of the same steps, without it.
Without arguments the files are looked for in ../shared/data beside the repository.
"""

import argparse
import csv
import gzip
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.machine import describe
from hems.civil import FloatArray, IntArray
from hems.errors import DataError
from hems.forecast import HISTORY_DAYS, Forecast, blend, same_time_mean
from hems.intraday import persist_load, persist_pv
from hems.sources.wide import MISSING, WideData, read_wide

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LOAD_FILE = SHARED / "nsw_smart_grid_smart_city_load_2012-2014.csv.gz"
PV_FILE = SHARED / "ausgrid_customer12_load_pv_2011-2012.csv.gz"
CITY_FOLDER = SHARED / "citylearn_2022"
CITY_HOMES = (1, 4, 5)
TEST_SHARE = 0.3
LEADS = 8

Correction = Callable[[Forecast, FloatArray, int, int], Forecast]


class Score(NamedTuple):
    """Errors over the test days. Fractions, but for `ms`, CPU per forecast."""

    skill_mae: float
    skill_rmse: float
    bias: float
    coverage_80: float
    ms: float


def walk_forward(
    series: FloatArray,
    steps_per_day: int,
    method: Callable[[FloatArray, int, int], Forecast],
    naive_days: int,
) -> Score:
    """Score a method on a series of civil days, shape (steps,), NaN where unknown. [Wh]"""
    days = len(series) // steps_per_day
    first = max(naive_days, round(days * (1 - TEST_SHARE)))
    actual, forecast, naive, low, high = ([] for _ in range(5))
    spent = 0.0
    for day in range(first, days):
        now = day * steps_per_day
        begin = time.process_time()
        got = method(
            series[max(0, now - HISTORY_DAYS * steps_per_day) : now], steps_per_day, steps_per_day
        )
        spent += time.process_time() - begin
        actual.append(series[now : now + steps_per_day])
        before = now - naive_days * steps_per_day
        naive.append(series[before : before + steps_per_day])
        forecast.append(got.mean_wh)
        low.append(got.low_wh)
        high.append(got.high_wh)
    a, f, n, lo, hi = (np.concatenate(part) for part in (actual, forecast, naive, low, high))
    use = np.isfinite(a) & np.isfinite(n)
    a, f, n, lo, hi = (part[use] for part in (a, f, n, lo, hi))
    return Score(
        1 - np.abs(a - f).mean() / np.abs(a - n).mean(),
        1 - np.sqrt(((a - f) ** 2).mean() / ((a - n) ** 2).mean()),
        (f.mean() - a.mean()) / a.mean(),
        float(((a >= lo) & (a <= hi)).mean()),
        1000 * spent / (days - first),
    )


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
        rows.append((series[now : now + LEADS], *before, *after))
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


def city_pv(folder: Path, home: int) -> FloatArray:
    """Return a CityLearn building's hourly production, whole days. [Wh per kWp]"""
    with gzip.open(folder / f"Building_{home}.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    first = next(place for place, row in enumerate(rows) if row["hour"] == "1")
    values = np.array([float(row["solar_generation"]) for row in rows[first:]])
    return values[: len(values) // 24 * 24]


def watt_hours(grid_uwh: IntArray) -> FloatArray:
    """Return a file's column with NaN for gaps. [Wh]"""
    return np.where(grid_uwh == MISSING, np.nan, grid_uwh / 1e6)


def measured_days(values: FloatArray, steps_per_day: int) -> FloatArray:
    """Cut whole days without any measurement off both ends."""
    there = np.flatnonzero(np.isfinite(values).reshape(-1, steps_per_day).any(axis=1))
    return values[there[0] * steps_per_day : (there[-1] + 1) * steps_per_day]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--pv", type=Path, default=PV_FILE)
    parser.add_argument("--city", type=Path, default=CITY_FOLDER)
    arguments = parser.parse_args()
    try:
        load = read_wide(arguments.data, missing_rows=True)
        pv = read_wide(arguments.pv, missing_rows=True)
    except DataError as error:
        raise SystemExit(f"{error}\ngive a load file with --data and a PV file with --pv") from None
    print(describe())
    head = f"{'':16} skill MAE  skill RMSE   bias   80 % interval holds   CPU ms"
    print(f"load, mean forecast (blend), against the 7-day naive: {arguments.data.name}\n{head}")
    scores = []
    for home in load.homes:
        values = measured_days(watt_hours(home.load_uwh), load.steps_per_day)
        scores.append(walk_forward(values, load.steps_per_day, blend, 7))
        show(home.name, scores[-1])
    show("median", Score(*np.median(scores, axis=0)))
    print(f"PV, mean forecast (7-day mean), against yesterday: {arguments.pv.name}\n{head}")
    for home in pv.homes:
        if home.pv_uwh is not None:
            values = measured_days(watt_hours(home.pv_uwh), pv.steps_per_day)
            show(home.name, walk_forward(values, pv.steps_per_day, same_time_mean, 1))
    show_intraday(load, pv, arguments.city)


def show_intraday(load: WideData, pv: WideData, city: Path) -> None:
    """Print the tables of the correction by what today has shown."""
    print(f"intraday, leads 1 to {LEADS} steps, over the day-ahead forecast: {load.name} (30 min)")
    scores = []
    for home in load.homes:
        values = measured_days(watt_hours(home.load_uwh), load.steps_per_day)
        scores.append(step_forward(values, load.steps_per_day, blend, persist_load))
    show_leads(
        "load, median home", Intraday(*(np.median(s, axis=0) for s in zip(*scores, strict=True)))
    )
    show_leads(
        "load, worst home", Intraday(*(np.min(s, axis=0) for s in zip(*scores, strict=True)))
    )
    for home in pv.homes:
        if home.pv_uwh is not None:
            values = measured_days(watt_hours(home.pv_uwh), pv.steps_per_day)
            score = step_forward(values, pv.steps_per_day, same_time_mean, persist_pv)
            show_leads(f"PV, {pv.name} (30 min)", score)
    if not city.is_dir():
        print(f"no folder {city}; give CityLearn's with --city for PV of another place")
        return
    for home in CITY_HOMES:
        score = step_forward(city_pv(city, home), 24, same_time_mean, persist_pv)
        show_leads(f"PV, CityLearn building {home} (60 min)", score)


def show_leads(name: str, score: Intraday) -> None:
    """Print a score, a line for each figure, a column for each lead."""
    print(f"{name}; {score.ms:.2f} ms")
    for what, values in score._asdict().items():
        if what != "ms":
            print(f"  {what:20}" + "".join(f"{value:8.3f}" for value in values))


def show(name: str, score: Score) -> None:
    """Print one line."""
    print(
        f"{name:16} {score.skill_mae:9.3f} {score.skill_rmse:11.3f} {score.bias:+8.1%}"
        f" {score.coverage_80:16.1%} {score.ms:13.2f}"
    )


if __name__ == "__main__":
    main()
