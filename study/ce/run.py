"""The whole CE study: its cells, then tables, drawings and checks of the figures asked for."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from market import contracts
from study.ce.day import Day, run_day
from study.ce.figures import (
    Plan,
    assumptions,
    checks_of,
    drawing_of,
    figures_of,
    table_of,
)
from study.ce.setting import AUTHORITIES_MIN, Setting, Types
from study.cells import Progress, Results, run_cells, write
from study.errors import SettingError
from study.plots import draw, need_matplotlib
from study.stats import Check, checks_table
from study.tables import markdown, write_table

# Changes whenever the same setting gives another day.
MODEL = "2"
CONSENSUS: Final = {"one": 0, "full": AUTHORITIES_MIN}


def authorities_of(consensus: str) -> int:
    """Read `--consensus`. Raises `SettingError`."""
    if consensus not in CONSENSUS:
        raise SettingError(f"consensus {consensus!r}: one of {', '.join(CONSENSUS)}")
    return CONSENSUS[consensus]


def digest_of(types: Types) -> str:
    """Return what names a set of types."""
    return f"{types.name} {hashlib.sha256(msgspec.json.encode(types)).hexdigest()[:16]}"


def run(
    *,
    out: Path,
    figure: str,
    base: Mapping[str, Any],
    seeds: int,
    types: Types,
    jobs: int,
    plots: bool,
    tell: Callable[[Progress], None],
) -> tuple[list[str], list[Check]]:
    """Make figures; return the names of the files written, and the checks.

    Raises
    ------
    StudyError
        Something asked for is impossible, or `out` cannot be used.
    """
    plan = Plan(figures_of(figure), Setting(**base).check(), seeds)
    settings = plan.settings()
    if plots:
        need_matplotlib()
    about = {
        "study": "ce-sdt",
        "model": MODEL,
        "data": digest_of(types),
        "contracts": contracts.fingerprint()[:16],
    }
    results: Results[Setting, Day] = Results(out, about, Day)
    days = run_cells(results, settings, partial(run_day, types=types), jobs, tell)
    written, checks = [], []
    for number in plan.figures:
        name = f"figure-{number}"
        written += write_table(out, name, table_of(number, plan, days))
        if plots:
            written += draw(out, name, drawing_of(number, plan, days, types))
        write(out / f"{name}.txt", (assumptions(plan, types, number) + "\n").encode())
        written.append(f"{name}.txt")
        checks += checks_of(number, plan, days)
    rows = checks_table(checks)
    written += write_table(out, "checks", rows)
    write(out / "checks.md", markdown(rows).encode())
    return [*written, "checks.md"], checks
