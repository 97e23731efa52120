"""What a plan costs: 48 half hours, one battery, CPU time of one thread.

    uv run python -m bench.plan [--rounds 200]

Baselines: `cold` (a new solver for every plan) for the warm figures, and the rule-based plan. Then
a home with a car, a dishwasher and a washing machine, which are on or off.
`bench.peers.emhass_plans` has EMHASS plan such days.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from bench.figures import Said, command, figure
from hems import civil
from hems.bid import value_curve
from hems.devices import Battery
from hems.devices.flexible import FlexibleLoads
from hems.devices.loads import Appliance, Car, Load
from hems.plan import Limits, PlanInput, Planner, rule_plan

STEPS = 48
HALF_HOUR_MS = 30 * civil.MINUTE_MS
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


def flexible(rounds: int) -> Iterator[Said]:
    """Measure a plan with devices that are on or off."""
    planner = Planner(Battery())
    planner.solve(flexible_day(np.random.default_rng(1)))
    better: list[float] = []

    def work(day: PlanInput) -> None:
        plan = planner.solve(day)
        better.append(plan.total_micro)

    times = measure(work, rounds, flexible_day)
    rng = np.random.default_rng(0)
    days = [flexible_day(rng) for _ in range(rounds)]
    rules = [rule_plan(day, Battery(), Limits()).total_micro / 1e6 for day in days]
    yield figure("with a car and two machines, on or off", "ms", times)
    yield figure("the same, p99", "ms", float(np.quantile(times, 0.99)), aim=50)
    of = "mean cost of such a day"
    base = "the rule's", statistics.fmean(rules)
    yield figure(of, "dollars", statistics.fmean(better) / 1e6, over=base)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--rounds", type=int, default=200)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure."""
    rounds = given.rounds
    battery = Battery()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    warm = Planner(battery)
    warm.solve(random_day(np.random.default_rng(1)))
    added_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024
    cases: dict[str, tuple[Callable[[PlanInput], object], float | None]] = {
        "cold: build and solve": (lambda day: Planner(battery).solve(day), 3.0),
        "warm: new load, PV, state": (warm.solve, 0.5),
        "order curve of a slot (warm)": (lambda day: value_curve(warm, day, 1), None),
        "rule instead of optimum": (lambda day: rule_plan(day, battery, Limits()), None),
    }
    yield figure("memory of the solver and its first plan", "MiB", added_mib)
    yield f"{STEPS} steps, one battery:"
    cold: list[float] = []
    for name, (work, aim) in cases.items():
        times = measure(work, rounds)
        yield figure(name, "ms", times, over=("cold", cold) if cold else None, aim=aim)
        cold = cold or times
    rng = np.random.default_rng(0)
    days = [random_day(rng) for _ in range(rounds)]
    # Without a wish for the end both may empty the battery, and their costs compare.
    battery = Battery(soc_end=0.1)
    warm = Planner(battery)
    optimum = statistics.fmean(warm.solve(day).cost_micro / 1e6 for day in days)
    rule = statistics.fmean(rule_plan(day, battery, Limits()).cost_micro / 1e6 for day in days)
    yield figure("mean cost of a day", "dollars", optimum, over=("the rule's", rule))
    yield from flexible(rounds)


if __name__ == "__main__":
    command(__doc__, options, figures)
