"""What a plan costs: 48 half hours, one battery, CPU time of one thread.

    uv run python -m bench.plan [--rounds 200]

Baselines: `cold` (a new solver for every plan) for the warm figures, and the rule-based plan.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from bench.machine import describe
from hems.bid import value_curve
from hems.devices import Battery
from hems.plan import Limits, PlanInput, Planner, rule_plan

STEPS = 48


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


def measure(work: Callable[[PlanInput], object], rounds: int) -> list[float]:
    """Return CPU milliseconds of each round, a new day each."""
    rng = np.random.default_rng(0)
    times = []
    for _ in range(rounds):
        day = random_day(rng)
        begin = time.process_time()
        work(day)
        times.append(1000 * (time.process_time() - begin))
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
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


if __name__ == "__main__":
    main()
