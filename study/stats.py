"""Means and spreads over seeds, and what is inside a band."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from study.tables import Table


class Check(NamedTuple):
    """One statement of a paper, held against ours.

    values : ours, one for each seed. low, high : the band that the mean must lie in.
    """

    figure: str
    statement: str
    paper: str
    values: tuple[float, ...]
    low: float
    high: float
    digits: int = 3

    @property
    def mean(self) -> float:
        """Ours."""
        return statistics.fmean(self.values)

    @property
    def inside(self) -> bool:
        """Whether it holds."""
        return self.low <= self.mean <= self.high


def checks_table(checks: Sequence[Check]) -> Table:
    """Return checks as rows: paper, ours (mean, spread), the band, and inside it or a miss."""
    titles = ("figure", "check", "paper", "ours", "deviation", "lowest", "highest", "runs", "band",
              "verdict")  # fmt: skip
    return Table(titles, [_row(check) for check in checks])


def _row(check: Check) -> list[str | int]:
    def show(value: float) -> str:
        return f"{value:.{check.digits}f}"

    values = check.values
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return [
        check.figure,
        check.statement,
        check.paper,
        show(check.mean),
        show(deviation),
        show(min(values)),
        show(max(values)),
        len(values),
        _band(check, show),
        "inside" if check.inside else "miss",
    ]


def _band(check: Check, show: Callable[[float], str]) -> str:
    if math.isinf(check.low):
        return f"<= {show(check.high)}"
    if math.isinf(check.high):
        return f">= {show(check.low)}"
    return f"{show(check.low)} to {show(check.high)}"


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Return Pearson's correlation; 0 where one of them does not change."""
    if len(a) < 2 or len(set(a)) == 1 or len(set(b)) == 1:
        return 0.0
    return statistics.correlation(a, b)
