"""Huang's case: its tables, and agents that learn on the real contracts."""

import msgspec
import pytest

from study.errors import SettingError
from study.hu.figures import FIRST_PRICE, Plan, checks_of, figures_of, table_of
from study.hu.market import CONSUMERS, PORTIONS, PRODUCERS, Cycle, Market, Setting, mode_of

SHORT = Setting(cycle_minutes=60, peak_wh=5_000)


# Hu tables 2 and 3 as printed: kWh or portion, cost or value, initial price [USD per kWh].
TABLE_2 = """
1.6 0.016 0.017
0.4 0.017 0.018
0.6 0.018 0.019
0.4 0.024 0.025
1.0 0.028 0.029
3.0 0.021 0.022
0.2 0.023 0.024
"""
TABLE_3 = """
0.1 0.048 0.047
0.16 0.052 0.051
0.3 0.056 0.055
0.08 0.053 0.052
0.06 0.046 0.045
0.2 0.051 0.050
0.12 0.052 0.051
"""


def printed(table: str, scale: int) -> list[tuple[int, int, int]]:
    """Rows of a printed table: the first column times a scale, the others in micro-USD."""
    rows = [[float(cell) for cell in line.split()] for line in table.split("\n") if line]
    return [(round(a * scale), round(b * 1e6), round(c * 1e6)) for a, b, c in rows]


def test_the_tables_are_the_papers() -> None:
    assert list(PRODUCERS) == printed(TABLE_2, 1_000)
    assert list(CONSUMERS) == printed(TABLE_3, 100)
    assert sum(supply_wh for supply_wh, _, _ in PRODUCERS) == 7_200
    assert PORTIONS == 102


def test_at_first_all_demand_is_traded_from_the_cheapest_up_at_what_they_ask() -> None:
    market = Market(SHORT)
    first = market._cycle(0)
    demand_wh = sum(SHORT.demand_wh(0) * portion // PORTIONS for portion, _, _ in CONSUMERS)
    assert first.traded_wh == demand_wh
    left_wh, cost = demand_wh, 0
    for supply_wh, _, price in sorted(PRODUCERS, key=lambda row: row[2]):
        taken_wh = min(left_wh, supply_wh)
        left_wh, cost = left_wh - taken_wh, cost + taken_wh * price // 1_000
    # Each trade's cost is rounded down by itself.
    assert cost - 14 <= first.traded_micro <= cost
    # And the agents learn of it: those who sold all ask for more.
    second = market._cycle(1)
    assert second.price > first.price
    assert market.chain.refused == {}


def test_the_demand_makes_the_papers_first_price_the_dearest_that_sells() -> None:
    left_wh = sum(Setting().demand_wh(0) * portion // PORTIONS for portion, _, _ in CONSUMERS)
    sold = []
    for supply_wh, _, price in sorted(PRODUCERS, key=lambda row: row[2]):
        if left_wh > 0:
            sold.append(price)
        left_wh -= supply_wh
    assert sold[-1] == 24_000


def test_each_cycle_is_settled_by_its_meters() -> None:
    market = Market(SHORT)
    for cycle in range(4):
        market._cycle(cycle)
    summary = market.chain.query("settlement", "summary", {"slot": market.first})
    assert isinstance(summary, dict)
    assert summary["status"] == "settled"
    assert summary["readings"] == 14
    assert summary["defaults"] == 0


def test_demand_is_the_mean_homes_day() -> None:
    demand = [SHORT.demand_wh(cycle) for cycle in range(48)]
    assert max(demand) == 5_000
    assert demand[:24] == demand[24:]


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"days": 0}, "1 to 31"), ({"cycle_minutes": 7}, "divide 60"), ({"peak_wh": 0}, "at least 1")],
)
def test_what_cannot_be_is_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        msgspec.structs.replace(Setting(), **changes).check()


def test_unknown_modes_and_figures_are_refused() -> None:
    with pytest.raises(SettingError, match="literal, hill_climb"):
        mode_of("loud")
    with pytest.raises(SettingError, match="figures 8 and 9"):
        figures_of("7")


def made(price: float) -> Cycle:
    return Cycle(1_000, 1_000, round(price * 1e6), round(price * 1e6))


def test_checks_tell_inside_from_miss() -> None:
    from study.hu.market import Course

    plan = Plan((9,), msgspec.structs.replace(Setting(), cycle_minutes=60), 1)
    (one,) = plan.settings()
    prices = [0.024] * 10 + [0.046] * 4 + [0.03] * 34
    course = Course(tuple(made(price) for price in prices), 1, 1, {})
    verdicts = {check.statement: check.inside for check in checks_of(9, plan, {one: course})}
    assert verdicts == {
        FIRST_PRICE: True,
        "highest price ever": True,
        "highest mean price from 10 to 14 h": True,
        "correlation of price and demand after 9 h": False,
    }
    assert len(table_of(plan, {one: course}).rows) == 48


@pytest.mark.parametrize(
    ("early", "late", "missed"),
    [
        (1.0, 1.0, set()),
        (0.98, 1.0, {"traded of the demand, first 4 hours"}),
        (1.0, -1.0, {"correlation of traded and demand after 9 h"}),
    ],
)
def test_what_is_traded_must_be_the_demand_and_then_follow_it(
    early: float, late: float, missed: set[str]
) -> None:
    from study.hu.market import Course

    plan = Plan((8,), msgspec.structs.replace(Setting(), cycle_minutes=60), 1)
    (one,) = plan.settings()
    cycles = []
    for hour in range(48):
        demand = 3_000 + 100 * (hour % 24)
        traded = early * demand if hour < 4 else 3_000 + late * 90 * (hour % 24)
        cycles.append(Cycle(demand, round(traded), 1, 1))
    course = Course(tuple(cycles), 1, 1, {})
    checks = checks_of(8, plan, {one: course})
    assert {check.statement for check in checks if not check.inside} == missed
    assert len(checks) == 2
