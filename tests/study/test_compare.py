"""One community under many rules: what a street lives, the optimum, and the table of all cases."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hems.devices import Battery
from market import carbon
from study.compare.day import Kpis, configs_of, run_case
from study.compare.optimum import Stored, least_cost
from study.compare.quotas import open_quotas, trade_quotas
from study.compare.run import Plan, reached, run
from study.compare.setting import CASES, Setting, cases_of
from study.compare.street import Street
from study.errors import InvariantError, SettingError

SMALL = Setting(homes=3, slot_minutes=60)
LOSSLESS = Battery(
    capacity_wh=1_000,
    power_w=1_000,
    charge_efficiency=1.0,
    discharge_efficiency=1.0,
    soc_min=0.0,
    soc_end=0.0,
    grid_charging=True,
)


@cache
def lived(mechanism: str, agent: str = "mpc") -> Kpis:
    return run_case(Setting(homes=3, slot_minutes=60, mechanism=mechanism, agent=agent))


# -- the optimum


def test_the_optimum_of_two_slots_by_hand() -> None:
    """1 kWh over, then 1 kWh lacking: stored for nothing, or sold at 0.1 and bought back at 0.5."""
    net, tariff = np.array([-1.0, 1.0]), np.array([0.2, 0.5])
    assert least_cost(net, tariff, 0.1, [], 1.0) == pytest.approx(0.5 - 0.1)
    pv = np.array([1.0, 0.0])
    store = Stored(LOSSLESS, 0.0, 0.0, pv)
    assert least_cost(net, tariff, 0.1, [store], 1.0) == pytest.approx(0.0)
    # What it must hold at the end is bought, at the cheaper hour.
    full = Stored(LOSSLESS, 0.0, 1_000.0, pv)
    assert least_cost(net, tariff, 0.1, [full], 1.0) == pytest.approx(0.5)
    lossy = Stored(Battery(capacity_wh=1_000, power_w=1_000, soc_min=0.0), 0.0, 0.0, pv)
    given = 0.95 * 0.95
    assert least_cost(net, tariff, 0.1, [lossy], 1.0) == pytest.approx(0.5 * (1 - given))


def test_without_charging_from_the_grid_a_battery_takes_its_own_sun_only() -> None:
    net, tariff, dark = np.array([0.0, 1.0]), np.array([0.2, 0.5]), np.zeros(2)
    store = Stored(LOSSLESS, 0.0, 0.0, dark)
    assert least_cost(net, tariff, 0.1, [store], 1.0) == pytest.approx(0.2)
    own = Stored(
        Battery(capacity_wh=1_000, power_w=1_000, soc_min=0.0, grid_charging=False), 0.0, 0.0, dark
    )
    assert least_cost(net, tariff, 0.1, [own], 1.0) == pytest.approx(0.5)


def test_a_day_that_cannot_have_been_has_no_optimum() -> None:
    filled = Stored(LOSSLESS, 0.0, 1_000.0, np.zeros(1))
    with pytest.raises(InvariantError, match="no solution"):
        least_cost(np.zeros(1), np.ones(1), 0.1, [filled], 0.5)


# -- streets


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["high_low", "uniform", "request_offer", "sharing"])
def test_every_mechanism_trades_and_saves(mechanism: str) -> None:
    alone, kpis = lived("none"), lived(mechanism)
    assert kpis.refused == {}
    assert kpis.load_wh == alone.load_wh
    assert (alone.traded_wh, alone.volatility) == (0, 0)
    assert alone.paid_micro == alone.alone_micro
    assert kpis.traded_wh > 0
    assert kpis.least_micro <= kpis.paid_micro < kpis.alone_micro
    assert 0 < reached(kpis, alone) < 1
    assert kpis.grid_wh < alone.grid_wh
    assert kpis.carbon_mg == pytest.approx(680 * kpis.grid_wh, rel=1e-6)


def test_the_homes_are_the_same_in_every_case() -> None:
    plain = configs_of(SMALL)
    other = configs_of(Setting(homes=3, agent="ce", grid_charging=True, mechanism="uniform"))
    assert [one.source for one in plain] == [one.source for one in other]
    assert [one.agent for one in other] == ["ce"] * 3
    assert [one.battery.grid_charging for one in other if one.battery] == [True, True]


@pytest.mark.slow
def test_quotas_are_traded_and_what_is_beyond_them_is_paid() -> None:
    street = Street(configs_of(SMALL), "high_low", 60)
    open_quotas(street, 1, 3_000)
    street.live(1)
    before = {report.home: report for report in carbon.reports(street.chain.query, 1)}
    after = {report.home: report for report in trade_quotas(street)}
    assert street.chain.refused == {}
    spare = sum(max(0, one.allotted_mg - one.emitted_mg) for one in before.values())
    lack = sum(max(0, one.emitted_mg - one.allotted_mg) for one in before.values())
    assert lack > 0
    assert spare > 0
    bought = sum(one.bought_mg for one in after.values())
    assert bought == sum(one.sold_mg for one in after.values()) == min(spare, lack)
    assert sum(one.paid_micro for one in after.values()) == pytest.approx(lack - bought, abs=3)


# -- the whole


@pytest.mark.slow
def test_the_table_has_every_case_and_what_it_is_held_against(tmp_path: Path) -> None:
    plan = Plan(cases_of("uniform; no market"), Setting(homes=2, slot_minutes=60), 1)
    files = run(out=tmp_path / "out", plan=plan, jobs=1, tell=lambda _: None)
    assert {"compare.csv", "compare.md", "compare.svg"} <= set(files)
    text = (tmp_path / "out" / "compare.md").read_text()
    none = next(line for line in text.splitlines() if line.startswith("| no market |"))
    assert none.endswith("| 0 (0 to 0) |")
    assert "| uniform, mpc |" in text
    assert "2 homes" in text
    rows = (tmp_path / "out" / "compare.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == [
        "case",
        "no market",
        '"uniform',
        '"no market',
    ]


def test_cases_that_there_are_not_are_refused() -> None:
    with pytest.raises(SettingError, match="there are: no market; request_offer"):
        cases_of("barter")
    assert cases_of("all") == CASES
    for case in CASES:
        Plan((case,), SMALL, 1).settings()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"homes": 1}, "2 to 500"),
        ({"days": 0}, "1 to 28"),
        ({"mechanism": "barter"}, "one of none, request_offer"),
        ({"agent": "gambler"}, "one of mpc, ce"),
        ({"quota_g": -1}, "0 to 1,000,000"),
        ({"slot_minutes": 7}, "divisor of 60"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, int | str], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        Setting(**changes).check()  # type: ignore[arg-type]
