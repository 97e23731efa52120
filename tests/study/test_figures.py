"""What CE's figures need, show, and must show."""

import math

import pytest
from msgspec import structs

from study.ce.day import ClassSum, Day, Hour
from study.ce.figures import FIGURES, Plan, assumptions, checks_of, figures_of, table_of
from study.ce.setting import Setting, built_in_types
from study.errors import SettingError
from study.stats import checks_table, correlation
from study.tables import markdown

PLAN = Plan(FIGURES, Setting(users=20), 2)


def class_of(users: int, paid: float) -> ClassSum:
    zeros = dict.fromkeys(ClassSum.__struct_fields__, 0)
    gross = 1_000_000 * users
    return ClassSum(
        **{**zeros, "users": users, "load_wh": 24_000 * users, "gross_micro": gross,
           "paid_micro": round(paid * gross)}
    )  # fmt: skip


def day_of(setting: Setting) -> Day:
    """A day in which the need falls with the share, and the midday's grid supply with the users."""
    need = 1_000 * setting.users - 5 * setting.share_percent * setting.users
    grid = 0 if setting.share_percent > 50 else 2_000
    hour = Hour(need, need - grid, grid, 100, 0, 0)
    others = setting.users - setting.generators
    return Day((hour,) * 24, class_of(others, 0.6), class_of(setting.generators, 0.2),
               0, 1, 1, 1, {})  # fmt: skip


DAYS = {setting: day_of(setting) for setting in PLAN.settings()}


def test_communities_that_figures_share_are_lived_once() -> None:
    assert PLAN.sizes() == [5, 10, 20, 40, 80]
    # Five sizes and eight shares have the base in common.
    assert len(PLAN.settings()) == 2 * (5 + 8 - 1)


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_has_its_table(figure: int) -> None:
    table = table_of(figure, PLAN, DAYS)
    assert len(table.rows) == {5: 48, 10: 16}.get(figure, 48 * (5 if figure < 8 else 8))
    assert all(len(row) == len(table.titles) for row in table.rows)
    assert "Types: built-in" in assumptions(PLAN, built_in_types(), figure)


def test_costs_come_with_what_no_price_could_change() -> None:
    setting = PLAN.seeded(share_percent=50)[0]
    ones = class_of(10, 0.6)
    ones = structs.replace(ones, trades_micro=3_000_000, bought_wh=20_000)
    twos = structs.replace(class_of(10, 0.2), pv_wh=140_000)
    day = structs.replace(DAYS[setting], consumers=ones, generators=twos)
    table = table_of(10, Plan((10,), PLAN.base, 2), DAYS | {setting: day})
    row = dict(zip(table.titles, next(r for r in table.rows if r[:2] == [50, 1]), strict=True))
    # 20 kWh at 10 c instead of 3 dollars, of 10; 480 - 140 kWh at 17.7 c, of 20.
    assert row["consumers_at_feed_in"] == 0.5
    assert row["all_at_least"] == 3.009


def test_checks_hold_where_they_should_and_miss_where_not() -> None:
    checks = [check for figure in FIGURES for check in checks_of(figure, PLAN, DAYS)]
    verdicts = {(check.figure, check.statement): check.inside for check in checks}
    missed = {statement for (figure, statement), inside in verdicts.items() if not inside}
    assert missed == {
        "cost of Ω¹ at 30 %, of the traditional bill",
        "cost of Ω¹ at 70 %, of the traditional bill",
        "cost of Ω² at 70 %, of the traditional bill",
        "traditional bill of Ω² over Ω¹'s (what loads are scaled by)",
    }
    text = markdown(checks_table(checks))
    assert text.count("| miss |") == len([check for check in checks if not check.inside])


BROKEN = {
    5: {"traded_wh": 1_000_000},
    6: {"need_wh": 10**9},
    7: {"grid_wh": 10**9},
    8: {"need_wh": 10**9},
    9: {"grid_wh": 10**9, "fed_in_wh": 0},
}


@pytest.mark.parametrize("figure", BROKEN)
def test_each_figures_checks_miss_where_one_community_breaks_them(figure: int) -> None:
    """The largest community, or those with the largest shares, of each seed."""
    days = dict(DAYS)
    for setting in PLAN.of(figure):
        largest = setting.users == 80 if figure in (6, 7) else setting.share_percent == 80
        if largest or figure == 5 or (figure == 9 and setting.share_percent > 50):
            hour = structs.replace(days[setting].hours[0], **BROKEN[figure])
            days[setting] = structs.replace(days[setting], hours=(hour,) * 24)
    before = checks_of(figure, PLAN, DAYS)
    assert all(check.inside for check in before)
    assert not any(check.inside for check in checks_of(figure, PLAN, days))


def test_unknown_figures_are_refused() -> None:
    for text in ("4", "11", "five", "", "5,,6"):
        with pytest.raises(SettingError, match="figures 5 to 10"):
            figures_of(text)
    assert figures_of("9,5") == (9, 5)
    assert figures_of("all") == FIGURES


def test_correlation_of_what_does_not_change_is_none() -> None:
    assert correlation([1.0, 1.0], [1.0, 2.0]) == 0
    assert math.isclose(correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]), 1)
