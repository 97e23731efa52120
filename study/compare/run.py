"""The whole comparison: its cells, then a table of all cases, and a drawing of what they cost."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from hems.forecast.plots import bars_svg
from market import contracts
from study.cells import Progress, Results, run_cells, write
from study.compare.day import Kpis, run_case
from study.compare.setting import ALONE, Case, Setting
from study.tables import Table, markdown, write_table

# Changes whenever the same setting gives another day.
MODEL: Final = "2"
NAME: Final = "compare"


class Measure(NamedTuple):
    """A column of the table: its title, its value, and how it is shown."""

    title: str
    value: Callable[[Kpis], float]
    digits: int = 2


def _micro(name: str) -> Callable[[Kpis], float]:
    return lambda kpis: getattr(kpis, name) / kpis.homes / 1e6


MEASURES: Final = (
    Measure("with PV: bill", _micro("sunny_micro")),
    Measure("without: bill", _micro("other_micro")),
    Measure("all: bill", _micro("paid_micro")),
    Measure("social optimum", _micro("least_micro")),
    Measure("self-sufficiency %", lambda k: 100 * k.self_sufficiency, 1),
    Measure("self-consumption %", lambda k: 100 * k.self_consumption, 1),
    Measure("peak W", lambda k: k.peak_w / k.homes, 0),
    Measure("CO2 kg", lambda k: k.carbon_mg / 1e6 / k.homes, 2),
    Measure("traded kWh", lambda k: k.traded_wh / 1e3 / k.homes, 2),
    Measure("price c", lambda k: k.price_micro_per_kwh / 1e4, 1),
    Measure("volatility", lambda k: k.volatility, 2),
    Measure("penalties", _micro("penalty_micro"), 3),
)


class Plan(NamedTuple):
    """What is asked for."""

    cases: Sequence[Case]
    base: Setting
    seeds: int

    def of(self, case: Case) -> list[Setting]:
        """Return a case's settings, one for each seed. Raises `SettingError`."""
        changes: dict[str, Any] = dict(case.changes)
        return [
            msgspec.structs.replace(self.base, seed=seed, **changes).check()
            for seed in range(1, self.seeds + 1)
        ]

    def alone(self, setting: Setting) -> Setting:
        """Return the setting in which the same homes trade nothing."""
        return msgspec.structs.replace(setting, mechanism=ALONE, agent="mpc", quota_g=0)

    def settings(self) -> list[Setting]:
        """Return all, and what they are held against."""
        found = [setting for case in self.cases for setting in self.of(case)]
        return list(dict.fromkeys([*found, *map(self.alone, found)]))


def run(
    *,
    out: Path,
    plan: Plan,
    jobs: int,
    tell: Callable[[Progress], None],
    executor: Executor | None = None,
) -> list[str]:
    """Compare; return the names of the files written. Raises `StudyError`."""
    about = {"study": NAME, "model": MODEL, "contracts": contracts.fingerprint()[:16]}
    results: Results[Setting, Kpis] = Results(out, about, Kpis)
    found = run_cells(results, plan.settings(), run_case, jobs, tell, executor)
    written = write_table(out, NAME, _every(plan, found))
    text = f"{markdown(_means(plan, found))}\n{assumptions(plan)}\n"
    write(out / f"{NAME}.md", text.encode())
    write(out / f"{NAME}.svg", _drawn(plan, found).encode())
    return [*written, f"{NAME}.md", f"{NAME}.svg"]


def reached(kpis: Kpis, alone: Kpis) -> float:
    """Return how much of what could be saved by acting together was saved.

    A case's distance from the optimum of its own day is held against that of the same homes without
    a market: how full batteries end differs, and with it the optimum.
    """
    return 1 - (kpis.paid_micro - kpis.least_micro) / (alone.paid_micro - alone.least_micro)


def _every(plan: Plan, found: Mapping[Setting, Kpis]) -> Table:
    titles = ("case", "seed", *Kpis.__struct_fields__[:-1], "reached")
    rows = []
    for case in plan.cases:
        for one in plan.of(case):
            kpis = found[one]
            values = [getattr(kpis, name) for name in Kpis.__struct_fields__[:-1]]
            share = reached(kpis, found[plan.alone(one)])
            rows.append([case.name, one.seed, *values, round(share, 4)])
    return Table(titles, rows)


def _means(plan: Plan, found: Mapping[Setting, Kpis]) -> Table:
    """Per home, means over the seeds; the share of the possible with its range."""
    titles = ("case", *(measure.title for measure in MEASURES), "of what is possible %")
    rows = []
    for case in plan.cases:
        every = [found[one] for one in plan.of(case)]
        shown = [
            f"{statistics.fmean(map(measure.value, every)):.{measure.digits}f}"
            for measure in MEASURES
        ]
        shares = [100 * reached(found[one], found[plan.alone(one)]) for one in plan.of(case)]
        span = f"{statistics.fmean(shares):.0f} ({min(shares):.0f} to {max(shares):.0f})"
        rows.append([case.name, *shown, span])
    return Table(titles, rows)


def _drawn(plan: Plan, found: Mapping[Setting, Kpis]) -> str:
    names = [case.name.replace(", ", ",\n") for case in plan.cases]
    series = {
        title: [statistics.fmean(value(found[one]) for one in plan.of(case)) for case in plan.cases]
        for title, value in (
            ("paid", _micro("paid_micro")),
            ("social optimum", _micro("least_micro")),
        )
    }
    title = "What a home pays, dollars, and what it could at least"
    return bars_svg(title, names, series, lambda value: f"{value:.2f}")


def assumptions(plan: Plan) -> str:
    """Return what the comparison rests on, for under it."""
    base = plan.base
    return (
        f"{base.homes} homes of the built-in community, six of ten with 5 kW of PV and 5 kWh; "
        f"{base.days} day(s) from 20 November 2026 in slots of {base.slot_minutes} minutes; "
        f"{plan.seeds} seeds. Figures per home, means over the seeds. CE table 2's tariff, 10 c "
        "of feed-in, 680 g of CO2 per kWh of the grid; homes forecast and plan, batteries lose "
        "5 % each way, and a seller's shortfall pays tariff and 5 c. The social optimum knows the "
        "whole day; batteries end as full as they did. The last column is the part of the way "
        "from the same homes without a market to the optimum."
    )
