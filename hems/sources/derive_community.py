"""Make `community_data.py` again from the two measured files it is derived from.

    python -m hems.sources.derive_community NSW_LOAD.csv.gz AUSGRID_12.csv.gz > community_data.py

Load types (15): the seven homes of the Smart Grid Smart City trial with a complete November 2012,
each as its weekday mean and as its weekend mean by hour of the day, and the mean of the seven.
PV types (3): Ausgrid's solar customer 12, gross production per kWp in November 2011, by hour, as
the means of the month's three thirds (days 1-10, 11-20, 21-30). Half hours of exactly zero load
are gaps in these meters and are left out (home ...7554: 18 % of the month).
"""

import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np

from hems import civil
from hems.civil import BoolArray, FloatArray
from hems.sources.wide import HomeSeries, WideData, read_wide

HOMES: Final = ("6414", "7554", "7562", "7936", "8060", "8064", "8250")
NOVEMBER_DAYS: Final = 30
PV_KWP: Final = 1.04
NIGHT_NOISE_W_PER_KWP: Final = 1

_HEADER: Final = '''"""Tables of the built-in community. Made by `derive_community.py`; do not edit.

Load: Smart Grid Smart City customer trial (Australian Government), as carried by the R package
`gravitas`; seven homes in New South Wales, November 2012. PV: Ausgrid solar home data, customer
12, November 2011, through `pierre-haessig/ausgrid-solar-data`; the data belongs to Ausgrid. Hours
are wall-clock hours (Australian Eastern Daylight Time).
"""

from typing import Final
'''


def main(load_path: str, pv_path: str) -> None:
    """Print the module."""
    load = read_wide(Path(load_path))
    homes = [_november(load, _column(load, ending), 2012) for ending in HOMES]
    pv = read_wide(Path(pv_path))
    pv_days = _november(pv, pv.homes[0], 2011, pv=True) / PV_KWP

    first = civil.day_number(date(2012, 11, 1))
    weekend = np.array([civil.weekday(first + day) >= 5 for day in range(NOVEMBER_DAYS)])
    weekday_types = [_by_hour(days[~weekend]) for days in homes]
    weekend_types = [_by_hour(days[weekend]) for days in homes]
    mean_type = np.mean([_by_hour(days) for days in homes], axis=0)
    pv_types = [_by_hour(pv_days[third : third + 10]) for third in (0, 10, 20)]
    day_pv = pv_days.sum(axis=1)

    out = sys.stdout.write
    out(_HEADER)
    out("\n# Mean load by hour of the day. [W]\n")
    out("# Types 0-6: a home's weekdays; 7-13: the same homes' weekends; 14: the mean of all.\n")
    out(
        _table(
            "LOAD_TYPES_W",
            (
                [round(1000 * value) for value in row]
                for row in [*weekday_types, *weekend_types, mean_type]
            ),
        )
    )
    out("\n# Mean production by hour of the day, per kilowatt of peak power. [W/kWp]\n")
    out(_table("PV_TYPES_W_PER_KWP", (_watts(row) for row in pv_types)))
    out("\n# The 30 days' production relative to their mean: the weather to draw days from.\n")
    out(_row("PV_DAY_FACTORS", [round(float(value), 3) for value in day_pv / day_pv.mean()]))
    out("\n# How a home's days and half hours scatter about its profile; medians over the homes.\n")
    for name, value in _scatter(homes, weekend).items():
        out(f"{name}: Final = {value:.2f}\n")


def _column(data: WideData, ending: str) -> HomeSeries:
    return next(home for home in data.homes if home.name.endswith(ending))


def _november(data: WideData, home: HomeSeries, year: int, pv: bool = False) -> FloatArray:
    """Return the half-hourly mean power of November, shape (30, 48), gaps NaN. [kW]"""
    first = civil.day_number(date(year, 11, 1)) - data.first_day
    values = home.pv_uwh if pv else home.load_uwh
    if values is None:
        raise SystemExit(f"{data.name} has no PV column")
    rows = values.reshape(-1, data.steps_per_day)[first : first + NOVEMBER_DAYS]
    kilowatts = rows * (data.steps_per_day / 24) / 1e9
    return np.asarray(kilowatts if pv else np.where(rows > 0, kilowatts, np.nan), float)


def _by_hour(days: FloatArray) -> FloatArray:
    by_step = np.nanmean(days, axis=0)
    result: FloatArray = by_step.reshape(24, -1).mean(axis=1)
    return result


def _scatter(homes: list[FloatArray], weekend: BoolArray) -> dict[str, float]:
    """Return the lognormal scatter of day means, of half hours within days, and its memory."""
    day_sigma, step_sigma, memory = [], [], []
    for days in homes:
        logs = []
        for part in (days[weekend], days[~weekend]):
            level = np.nanmean(part, axis=1)
            day_sigma.append(np.nanstd(np.log(level)))
            logs.append(
                np.log(part)
                - np.log(np.nanmean(part, axis=0))
                - np.log(level / np.nanmean(level))[:, None]
            )
        noise = np.concatenate(logs)
        step_sigma.append(np.nanstd(noise))
        noise = noise - np.nanmean(noise)
        both = np.isfinite(noise[:, 1:] * noise[:, :-1])
        memory.append(np.corrcoef(noise[:, 1:][both], noise[:, :-1][both])[0, 1])
    return {
        "LOAD_DAY_SIGMA": float(np.median(day_sigma)),
        "LOAD_HALF_HOUR_SIGMA": float(np.median(step_sigma)),
        "LOAD_HALF_HOUR_MEMORY": float(np.median(memory)),
    }


def _watts(by_hour: FloatArray) -> list[int]:
    """Round to watts per kWp; what the meter counts at night is its own noise."""
    watts = [round(1000 * value) for value in by_hour]
    return [0 if value <= NIGHT_NOISE_W_PER_KWP else value for value in watts]


def _table(name: str, rows: Iterable[list[int]]) -> str:
    body = "".join(f"    ({', '.join(map(str, row))}),\n" for row in rows)
    return f"{name}: Final = (\n{body})\n"


def _row(name: str, values: list[float]) -> str:
    lines = [values[place : place + 10] for place in range(0, len(values), 10)]
    body = "".join(f"    {', '.join(map(str, line))},\n" for line in lines)
    return f"{name}: Final = (\n{body})\n"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2])
