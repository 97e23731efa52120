"""Hu's figures 8 and 9: what is drawn, and what must show."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from study.errors import SettingError
from study.hu.market import PRODUCERS, Course, Cycle, Setting
from study.plots import Drawing, Line
from study.stats import Check, correlation
from study.tables import Table

FIGURES: Final = (8, 9)
OPENING_HOURS: Final = 4
SETTLED_HOUR: Final = 9
NOON: Final = (10, 14)
INF: Final = float("inf")
FIRST_PRICE: Final = "first price, of the dearest ask sold, USD per kWh (what demand is set by)"

Courses = Mapping[Setting, Course]


class Plan(msgspec.Struct, frozen=True):
    """What is asked for."""

    figures: tuple[int, ...]
    base: Setting
    seeds: int

    def settings(self) -> list[Setting]:
        """Return the runs, one for each seed."""
        return [msgspec.structs.replace(self.base, seed=seed) for seed in range(1, self.seeds + 1)]


def figures_of(text: str) -> tuple[int, ...]:
    """Read `--figure`. Raises `SettingError`."""
    if text == "all":
        return FIGURES
    if text not in ("8", "9", "8,9", "9,8"):
        raise SettingError(f"figure {text!r}: Huang has results in figures 8 and 9")
    return tuple(int(word) for word in text.split(","))


def table_of(plan: Plan, courses: Courses) -> Table:
    """Return all cycles of all runs; both figures show them."""
    titles = ("seed", "hour", "demand_wh", "traded_wh", "price_micro_per_kwh")
    rows = [
        [one.seed, round(hour, 4), cycle.demand_wh, cycle.traded_wh, round(cycle.price, 1)]
        for one in plan.settings()
        for hour, cycle in zip(_hours(plan), courses[one].cycles, strict=True)
    ]
    return Table(titles, rows)


def drawing_of(figure: int, plan: Plan, courses: Courses) -> Drawing:
    """Return a figure as lines: means over the seeds, and from the lowest to the highest."""
    if figure == 8:
        lines = [
            _line("traded", plan, courses, lambda cycle: cycle.traded_wh / 1000),
            _line("demand", plan, courses, lambda cycle: cycle.demand_wh / 1000, dashed=True),
        ]
        title, label = "Hu figure 8: total sales", "kWh per cycle"
    else:
        lines = [_line("mean price", plan, courses, lambda cycle: cycle.price / 1e6)]
        title, label = "Hu figure 9: trading price", "USD per kWh"
    return Drawing(title, "hours", label, lines, assumptions(plan), steps=True)


def assumptions(plan: Plan) -> str:
    """Return what both figures rest on."""
    base = plan.base
    supply = sum(row[0] for row in PRODUCERS) / 1000
    return (
        f"Tables 2 and 3 of the paper ({supply} kWh of supply in a cycle, portions divided by "
        f"1.02); {plan.seeds} seeds: lines are means, shades reach from the lowest to the highest. "
        f"Cycles of {base.cycle_minutes} minutes. Figure 7's demand is not in the text: it is the "
        f"day of the built-in community's mean home, its highest hour at {base.peak_wh / 1000} kWh "
        f"per cycle (8.55: the dearest ask sold in the first cycle is then 0.024). "
        f"Producers {base.mode}, Δp 0.001 USD, Δq {base.step_wh} Wh, ξ 0.0001 USD; P_regulator "
        f"{base.regulator_micro_per_kwh / 1e6} USD per kWh; trades at the ask "
        f"(high-low matching)."
    )


def checks_of(figure: int, plan: Plan, courses: Courses) -> list[Check]:
    """Return what a figure must show (docs/results.md), of each seed. Two days and more have it."""
    runs = [courses[one].cycles for one in plan.settings()]
    per_hour = 60 // plan.base.cycle_minutes
    opening, later = OPENING_HOURS * per_hour, SETTLED_HOUR * per_hour

    def each(value: Callable[[Sequence[Cycle]], float]) -> tuple[float, ...]:
        return tuple(map(value, runs))

    if figure == 8:
        sold = each(
            lambda run: (
                sum(c.traded_wh for c in run[:opening]) / sum(c.demand_wh for c in run[:opening])
            )
        )
        follows = each(
            lambda run: correlation(
                [c.traded_wh for c in run[later:]], [c.demand_wh for c in run[later:]]
            )
        )
        return [
            Check("Hu 8", "traded of the demand, first 4 hours", "1", sold, 0.99, INF),
            Check(
                "Hu 8", "correlation of traded and demand after 9 h", "follows", follows, 0.9, INF
            ),
        ]
    start, end = (hour * per_hour for hour in NOON)
    prices = each(
        lambda run: correlation([c.price for c in run[later:]], [c.demand_wh for c in run[later:]])
    )
    peaks = each(lambda run: max(c.price for c in run[start:end]) / 1e6)
    highest = each(lambda run: max(c.high_micro_per_kwh for c in run) / 1e6)
    first = each(lambda run: run[0].high_micro_per_kwh / 1e6)
    return [
        Check("Hu 9", FIRST_PRICE, "0.024", first, 0.0235, 0.0245, 4),
        Check("Hu 9", "highest price ever", "<= 0.056", highest, 0, 0.056, 4),
        Check("Hu 9", "highest mean price from 10 to 14 h", "0.046", peaks, 0.041, 0.051, 4),
        Check("Hu 9", "correlation of price and demand after 9 h", "follows", prices, 0.7, INF),
    ]


def _hours(plan: Plan) -> list[float]:
    return [cycle * plan.base.cycle_minutes / 60 for cycle in range(plan.base.cycles)]


def _line(
    name: str,
    plan: Plan,
    courses: Courses,
    value: Callable[[Cycle], float],
    dashed: bool = False,
) -> Line:
    runs = [list(map(value, courses[one].cycles)) for one in plan.settings()]
    groups = list(zip(*runs, strict=True))
    means = [statistics.fmean(group) for group in groups]
    return Line(name, _hours(plan), means, list(map(min, groups)), list(map(max, groups)), dashed)
