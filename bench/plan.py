"""What a plan costs: 48 half hours, one battery, CPU time of one thread.

    uv run python -m bench.plan [--rounds 200] [--emhass]

Baselines: `cold` (a new solver for every plan) for the warm figures, and the rule-based plan. Then
a home with a car, a dishwasher and a washing machine, which are on or off. `--emhass` plans the
same days with EMHASS (in an environment of its own, made from the package index the first time)
and compares costs and time.
"""

import argparse
import json
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe
from hems import civil
from hems.bid import value_curve
from hems.devices import Battery
from hems.devices.flexible import FlexibleLoads
from hems.devices.loads import Appliance, Car, Load
from hems.plan import Limits, PlanInput, Planner, rule_plan

STEPS = 48
HALF_HOUR_MS = 30 * civil.MINUTE_MS
EMHASS = "emhass==0.18.7"
EMHASS_PYTHON = "3.11"
EMHASS_DAYS = 20
LOADS: dict[str, Load] = {
    "car": Car(power_min_w=1_380),
    "dishwasher": Appliance(
        profile_w=(1_900, 150, 100, 1_800, 100, 50), earliest="19:00", deadline="07:00"
    ),
    "washer": Appliance(
        profile_w=(2_000, 2_000, 200, 200, 300, 500), earliest="08:00", deadline="18:00"
    ),
}


def random_day(rng: np.random.Generator) -> PlanInput:
    """Return a day of one home: time-of-use tariff, 5 kW of PV under some weather."""
    hours = np.arange(STEPS) / 2
    tariff = np.select(
        [hours < 7, hours < 14, hours < 20, hours < 22],
        [177_000.0, 277_100.0, 541_100.0, 277_100.0],
        177_000.0,
    )
    sun = np.maximum(0, np.sin((hours - 5.5) / 13 * np.pi)) * (hours > 5.5) * (hours < 18.5)
    return PlanInput(
        np.full(STEPS, 1_800_000, np.int64),
        500 * (0.3 + 0.5 * rng.gamma(1, 1, STEPS)),
        2500 * sun * rng.uniform(0.3, 1),
        np.zeros(STEPS),
        tariff,
        np.full(STEPS, 100_000.0),
        float(rng.uniform(500, 5000)),
    )


def flexible_day(rng: np.random.Generator) -> PlanInput:
    """Return a day as planned at some hour of it, with the movable loads as they are then."""
    zone = civil.zone_of("Australia/Sydney")
    hour = int(rng.integers(0, STEPS))
    edges_ms = civil.day_start_ms(20_777, zone) + HALF_HOUR_MS * (hour + np.arange(STEPS + 1))
    day = random_day(rng)
    outlook = FlexibleLoads(LOADS, zone).outlook({}, edges_ms)
    return day._replace(
        load_wh=np.roll(day.load_wh, -hour),
        pv_wh=np.roll(day.pv_wh, -hour),
        import_micro_per_kwh=np.roll(day.import_micro_per_kwh, -hour),
        needs=outlook.needs,
    )


def measure(
    work: Callable[[PlanInput], object],
    rounds: int,
    make: Callable[[np.random.Generator], PlanInput] = random_day,
) -> list[float]:
    """Return CPU milliseconds of each round, a new day each."""
    rng = np.random.default_rng(0)
    times = []
    for _ in range(rounds):
        day = make(rng)
        begin = time.process_time()
        work(day)
        times.append(1000 * (time.process_time() - begin))
    return times


def print_flexible(rounds: int) -> None:
    """Print what a plan with devices that are on or off costs."""
    planner = Planner(Battery())
    planner.solve(flexible_day(np.random.default_rng(1)))
    better: list[float] = []

    def work(day: PlanInput) -> None:
        plan = planner.solve(day)
        better.append(plan.total_micro)

    times = measure(work, rounds, flexible_day)
    rng = np.random.default_rng(0)
    days = [flexible_day(rng) for _ in range(rounds)]
    rules = [rule_plan(day, Battery(), Limits()).total_micro for day in days]
    print(
        f"car, dishwasher and washing machine, on or off: median {statistics.median(times):.1f} ms,"
        f" p99 {np.quantile(times, 0.99):.1f}, {min(times):.1f}..{max(times):.1f}"
    )
    print(
        f"mean cost of such a day: plan {statistics.fmean(better) / 1e6:.4f}, "
        f"rule {statistics.fmean(rules) / 1e6:.4f}"
    )


def emhass_python() -> Path:
    """Return the Python of EMHASS's own environment; make it if there is none."""
    home = Path(tempfile.gettempdir()) / f"commonwatt-{EMHASS.replace('==', '-')}"
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.exists():
        print(f"making an environment for {EMHASS} in {home}", flush=True)
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", EMHASS_PYTHON, home], check=True)
        subprocess.run(["uv", "pip", "install", "-q", "--python", python, EMHASS], check=True)
        done.touch()
    return python


def emhass(days: list[PlanInput], battery: Battery, gap: float) -> dict[str, Any]:
    """Return what EMHASS makes of the days."""
    asked = {
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
    script = Path(__file__).parent / "peers" / "emhass_plan.py"
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "days.json"
        file.write_text(json.dumps(asked))
        command = [emhass_python(), script, file, str(gap)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def print_emhass() -> None:
    """Print EMHASS's plans of the same days beside ours, at its gap 0 and its default of 1 %."""
    battery = Battery(grid_charging=True)
    rng = np.random.default_rng(0)
    days = [random_day(rng) for _ in range(EMHASS_DAYS)]
    warm = Planner(battery)
    warm.solve(days[0])
    costs, times = [], []
    for day in days:
        begin = time.process_time()
        costs.append(warm.solve(day).cost_micro / 1e6)
        times.append(1000 * (time.process_time() - begin))
    ours = statistics.median(times)
    print(f"{EMHASS_DAYS} days, charging from the grid allowed, one thread each")
    print(f"{'':32} median ms    min..max      ratio   worst day costs more by")
    print(f"{'Commonwatt, warm':32} {ours:9.2f} {min(times):7.2f}..{max(times):<8.2f} {1:8.0f}")
    for gap in (0.0, 0.01):
        found = emhass(days, battery, gap)
        theirs = [day["cpu_ms"] for day in found["days"]]
        more = [day["cost"] - cost for day, cost in zip(found["days"], costs, strict=True)]
        share = max(abs(m) / abs(c) for m, c in zip(more, costs, strict=True))
        name = f"EMHASS {found['version']}, gap {gap:g}"
        print(
            f"{name:32} {statistics.median(theirs):9.2f}"
            f" {min(theirs):7.2f}..{max(theirs):<8.2f} {statistics.median(theirs) / ours:8.0f}"
            f"   {max(more):.2e} (of a day's cost, either way: {100 * share:.2g} %)"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--emhass", action="store_true")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    battery = Battery()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warm = Planner(battery)
    warm.solve(random_day(np.random.default_rng(1)))
    added_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024

    cases = {
        "cold: build and solve": lambda day: Planner(battery).solve(day),
        "warm: new load, PV, state": warm.solve,
        "order curve of a slot (warm)": lambda day: value_curve(warm, day, 1),
        "rule instead of optimum": lambda day: rule_plan(day, battery, Limits()),
    }
    print(describe())
    print(f"the solver and its first plan add {added_mib:.0f} MiB to the process")
    print(f"{'48 steps, one battery':32} median ms    min..max      ratio to cold")
    base = 0.0
    for name, work in cases.items():
        times = measure(work, rounds)
        median = statistics.median(times)
        base = base or median
        print(f"{name:32} {median:9.2f} {min(times):7.2f}..{max(times):<8.2f} {median / base:8.2f}")
    rng = np.random.default_rng(0)
    days = [random_day(rng) for _ in range(rounds)]
    # Without a wish for the end both may empty the battery, and their costs compare.
    battery = Battery(soc_end=0.1)
    warm = Planner(battery)
    optimum = sum(warm.solve(day).cost_micro for day in days)
    rule = sum(rule_plan(day, battery, Limits()).cost_micro for day in days)
    print(
        f"mean cost of a day: optimum {optimum / rounds / 1e6:.4f}, rule {rule / rounds / 1e6:.4f}"
    )
    print_flexible(rounds)
    if arguments.emhass:
        print_emhass()


if __name__ == "__main__":
    main()
