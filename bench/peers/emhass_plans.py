"""EMHASS's plans beside ours: the same days, the same battery, time and cost of each.

    uv run python -m bench.peers.emhass_plans [--days 20]

Days as in `bench.plan` (48 half hours, a time-of-use tariff, 5 kW of PV), charging from the grid
and discharging into it allowed, one thread each. EMHASS 0.18.7 plans in an environment of its own,
made from the package index the first time; its planner and ours are kept between days. It is asked
for the exact optimum (gap 0) and at its default gap of 1 %.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from bench.figures import Said, command, figure
from bench.peers.environment import ask, python_of
from bench.plan import random_day
from hems.devices import Battery
from hems.plan import PlanInput, Planner

PACKAGES: Final = ("emhass==0.18.7",)
PYTHON: Final = "3.11"
DAYS: Final = 20
GAPS: Final = (0.0, 0.01)


def question(days: list[PlanInput], battery: Battery, gap: float) -> dict[str, Any]:
    """Return the days as EMHASS is asked for them."""
    return {
        "gap": gap,
        "battery": {
            "capacity_wh": battery.capacity_wh,
            "power_w": battery.power_limit_w,
            "charge_efficiency": battery.charge_efficiency,
            "discharge_efficiency": battery.discharge_efficiency,
            "soc_min": battery.soc_min,
            "soc_max": battery.soc_max,
            "soc_end": battery.soc_end,
            "wear": battery.wear_micro_per_kwh / 1e6,
        },
        "days": [
            {
                "load_w": list(day.load_wh * 2),
                "pv_w": list(day.pv_wh * 2),
                "import": list(day.import_micro_per_kwh / 1e6),
                "export": list(day.export_micro_per_kwh / 1e6),
                "soc": day.stored_wh / battery.capacity_wh,
            }
            for day in days
        ],
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--days", type=int, default=DAYS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Plan the days by both."""
    python = python_of(PACKAGES, PYTHON)
    battery = Battery(grid_charging=True)
    rng = np.random.default_rng(0)
    days = [random_day(rng) for _ in range(given.days)]
    warm = Planner(battery)
    warm.solve(days[0])
    costs, times = [], []
    for day in days:
        begin = time.process_time()
        costs.append(warm.solve(day).cost_micro / 1e6)
        times.append(1000 * (time.process_time() - begin))
    yield figure("ours, warm, a plan", "ms", times)
    yield figure("ours, cost of a day", "dollars", costs)
    for gap in GAPS:
        found = ask(python, "emhass_plans", question(days, battery, gap))
        name = f"EMHASS {found['version']}, gap {100 * gap:g} %"
        theirs = [day["cpu_ms"] for day in found["days"]]
        yield figure(f"{name}, a plan", "ms", theirs, over=("ours", times))
        paid = [day["cost"] for day in found["days"]]
        yield figure(f"{name}, cost of a day", "dollars", paid, over=("ours", costs))
        more = [100 * (b - a) / abs(a) for a, b in zip(costs, paid, strict=True)]
        yield figure(f"{name}, dearer by", "%", more, better="neither")


if __name__ == "__main__":
    command(__doc__, options, figures)
