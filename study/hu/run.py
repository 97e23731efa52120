"""The whole Hu study: its runs, then tables, drawings and checks."""

from collections.abc import Callable
from pathlib import Path

from market import contracts
from study.cells import Progress, Results, run_cells, write
from study.hu.figures import Plan, assumptions, checks_of, drawing_of, figures_of, table_of
from study.hu.market import Course, Setting, run_market
from study.plots import draw, need_matplotlib
from study.stats import Check, checks_table
from study.tables import markdown, write_table

# Changes whenever the same setting gives another course.
MODEL = "2"


def run(
    *,
    out: Path,
    figure: str,
    base: Setting,
    seeds: int,
    jobs: int,
    plots: bool,
    tell: Callable[[Progress], None],
) -> tuple[list[str], list[Check]]:
    """Make figures; return the names of the files written, and the checks. Raises `StudyError`."""
    plan = Plan(figures_of(figure), base.check(), seeds)
    if plots:
        need_matplotlib()
    about = {"study": "huang", "model": MODEL, "contracts": contracts.fingerprint()[:16]}
    results: Results[Setting, Course] = Results(out, about, Course)
    courses = run_cells(results, plan.settings(), run_market, jobs, tell)
    written, checks = [], []
    for number in plan.figures:
        name = f"figure-{number}"
        written += write_table(out, name, table_of(plan, courses))
        if plots:
            written += draw(out, name, drawing_of(number, plan, courses))
        write(out / f"{name}.txt", (assumptions(plan) + "\n").encode())
        written.append(f"{name}.txt")
        checks += checks_of(number, plan, courses)
    rows = checks_table(checks)
    written += write_table(out, "checks", rows)
    write(out / "checks.md", markdown(rows).encode())
    return [*written, "checks.md"], checks
