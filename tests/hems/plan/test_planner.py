import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hems.civil import HOUR_MS, FloatArray
from hems.devices import Battery
from hems.devices.needs import Job, Window
from hems.errors import ConfigError
from hems.plan import STEPS_MAX, Limits, Plan, PlanInput, Planner, rule_plan
from hems.plan.given import PRICE_MICRO_PER_KWH_MAX
from hems.plan.program import Program
from hems.plan.solver import Solution, Solver

IDEAL = Battery(
    capacity_wh=2000,
    power_w=1000,
    charge_efficiency=1,
    discharge_efficiency=1,
    soc_min=0,
    soc_end=0,
    wear_micro_per_kwh=0,
    grid_charging=True,
)


def given_of(
    load: list[float],
    pv: list[float],
    buy: list[float],
    sell: float | list[float] = 100_000,
    stored_wh: float = 0.0,
    traded: list[float] | None = None,
    minutes: int = 60,
) -> PlanInput:
    steps = len(load)
    return PlanInput(
        np.full(steps, minutes * 60_000, np.int64),
        np.array(load, float),
        np.array(pv, float),
        np.zeros(steps) if traded is None else np.array(traded, float),
        np.array(buy, float),
        np.broadcast_to(np.array(sell, float), steps),
        stored_wh,
    )


def check_physical(plan: Plan, battery: Battery | None, tolerance_wh: float = 1e-3) -> None:
    given = plan.given
    came = plan.import_wh + plan.discharge_wh + given.pv_wh + given.traded_wh
    went = given.load_wh + plan.charge_wh + plan.export_wh + plan.curtail_wh
    assert np.abs(came - went).max() <= tolerance_wh
    for flow in (plan.charge_wh, plan.discharge_wh, plan.import_wh, plan.export_wh):
        assert (flow >= -tolerance_wh).all()
    assert (plan.curtail_wh >= -tolerance_wh).all()
    if battery is None:
        return
    before = np.append(given.stored_wh, plan.stored_wh[:-1])
    change = plan.charge_wh * battery.charge_ppm / 1e6
    change -= plan.discharge_wh * 1e6 / battery.discharge_ppm
    assert np.abs(before + change - plan.stored_wh).max() <= tolerance_wh
    low = min(battery.min_uwh / 1e6, given.stored_wh)
    high = max(battery.max_uwh / 1e6, given.stored_wh)
    assert plan.stored_wh.min() >= low - tolerance_wh
    assert plan.stored_wh.max() <= high + tolerance_wh
    power = battery.power_limit_w * given.step_ms / HOUR_MS
    assert (plan.charge_wh <= power + tolerance_wh).all()
    assert (plan.discharge_wh <= power + tolerance_wh).all()


def brute_force_micro(given: PlanInput, battery: Battery, grain_wh: int) -> float:
    """The least cost over all actions in multiples of a grain, for a lossless battery."""
    best = float("inf")
    power = battery.power_limit_w
    choices = range(-power, power + 1, grain_wh)
    for actions in itertools.product(choices, repeat=len(given.load_wh)):
        stored = given.stored_wh + np.cumsum(actions)
        if stored.min() < 0 or stored.max() > battery.capacity_wh:
            continue
        net = given.load_wh - given.pv_wh - given.traded_wh + np.array(actions)
        cost = np.maximum(net, 0) @ given.import_micro_per_kwh
        cost -= np.maximum(-net, 0) @ given.export_micro_per_kwh
        best = min(best, cost / 1000)
    return best


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_the_optimum_is_that_of_trying_everything(data: st.DataObject) -> None:
    grain = 500
    draw = st.lists(st.integers(0, 4).map(lambda k: float(k * grain)), min_size=4, max_size=4)
    load, pv = data.draw(draw), data.draw(draw)
    buy = data.draw(st.lists(st.integers(100_000, 600_000), min_size=4, max_size=4))
    given = given_of(load, pv, [float(price) for price in buy], stored_wh=1000)
    plan = Planner(IDEAL).solve(given)
    assert plan.method == "lp"
    # All quantities being multiples of the grain, so is a vertex of the programme.
    assert plan.cost_micro == pytest.approx(brute_force_micro(given, IDEAL, grain), abs=2)


def test_cheap_energy_is_kept_for_the_dear_hour() -> None:
    plan = Planner(IDEAL).solve(given_of([0, 1000], [0, 0], [200_000, 500_000]))
    assert (plan.charge_wh - plan.discharge_wh).tolist() == pytest.approx([1000, -1000])
    assert plan.cost_micro == pytest.approx(200_000, abs=1)


def test_losses_and_wear_must_pay() -> None:
    lossy = Battery(
        power_w=5000, soc_min=0, soc_end=0, grid_charging=True, wear_micro_per_kwh=20_000
    )
    # One kWh out costs 1/0.9025 in, and wear: worth it above 0.2216 + 0.02.
    given = given_of([0, 1000], [0, 0], [200_000, 240_000])
    assert Planner(lossy).solve(given).charge_wh.sum() == pytest.approx(0, abs=1e-6)
    given = given_of([0, 1000], [0, 0], [200_000, 243_000])
    plan = Planner(lossy).solve(given)
    assert plan.charge_wh[0] == pytest.approx(1000 / 0.9025)


def test_without_grid_charging_only_surplus_and_purchases_are_stored() -> None:
    battery = Battery(soc_min=0, soc_end=0)
    given = given_of([500, 1000], [0, 0], [1000, 500_000], sell=0)
    assert Planner(battery).solve(given).charge_wh.sum() == pytest.approx(0, abs=1e-6)
    bought = given._replace(traded_wh=np.array([800.0, 0.0]))
    plan = Planner(battery).solve(bought)
    assert plan.charge_wh[0] == pytest.approx(800)
    assert plan.import_wh[0] == pytest.approx(500)


def test_the_value_is_what_one_more_kwh_would_cost() -> None:
    rng = np.random.default_rng(5)
    battery = Battery()
    planner = Planner(battery)
    hours = np.arange(48) / 2
    tariff = np.where((hours >= 14) & (hours < 20), 541_100.0, 277_100.0)
    for _ in range(5):
        load = rng.gamma(1, 250, 48)
        pv = 1250 * np.maximum(0, np.sin((hours - 6) / 12 * np.pi)) * rng.uniform(0.2, 1)
        given = given_of(list(load), list(pv), list(tariff), stored_wh=1500, minutes=30)
        plan = planner.solve(given)
        check_physical(plan, battery)
        for step in (0, 20, 33):
            more, less = load.copy(), load.copy()
            more[step] += 0.1
            less[step] = max(0.0, less[step] - 0.1)
            up = (planner.solve(given._replace(load_wh=more)).cost_micro - plan.cost_micro) * 1e4
            down = (plan.cost_micro - planner.solve(given._replace(load_wh=less)).cost_micro) * 1e4
            # Left and right slope at a corner, and the wish for energy at the end beside them.
            value = plan.value_micro_per_kwh[step]
            assert min(up, down) - 3_000 <= value <= max(up, down) + 3_000


def test_importing_is_worth_the_tariff_and_exporting_the_feed_in() -> None:
    battery = Battery(capacity_wh=100, power_w=1, soc_min=0, soc_end=0)
    plan = Planner(battery).solve(given_of([1000, 0], [0, 1000], [300_000, 300_000]))
    assert plan.value_micro_per_kwh.tolist() == pytest.approx([300_000, 100_000], abs=2)


def test_without_a_battery_nothing_is_chosen() -> None:
    given = given_of([1000, 200, 300], [0, 700, 300], [300_000] * 3, traded=[400, -100, 0])
    plan = Planner(None).solve(given)
    assert plan.method == "direct"
    check_physical(plan, None)
    assert plan.import_wh.tolist() == [600, 0, 0]
    assert plan.export_wh.tolist() == [0, 400, 0]
    assert plan.value_micro_per_kwh.tolist() == [300_000, 100_000, 200_000]
    assert plan.cost_micro == pytest.approx(180_000 - 40_000)


def test_warm_and_cold_agree_whatever_came_before() -> None:
    rng = np.random.default_rng(2)
    battery = Battery()
    warm = Planner(battery)
    for _ in range(30):
        load, pv = rng.gamma(1, 300, 24), rng.gamma(1, 300, 24)
        tariff = rng.uniform(150_000, 600_000, 24)
        traded = rng.uniform(-300, 300, 24)
        stored = float(rng.uniform(0, 5000))
        given = given_of(list(load), list(pv), list(tariff), stored_wh=stored, traded=list(traded))
        one, other = warm.solve(given), Planner(battery).solve(given)
        assert one.method == other.method == "lp"
        assert one.cost_micro == pytest.approx(other.cost_micro, abs=200)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_every_plan_is_physical(seed: int, capped: bool, charging: bool) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(1, 30))
    battery = Battery(
        capacity_wh=int(rng.integers(500, 10_000)),
        charge_efficiency=float(rng.uniform(0.7, 1)),
        discharge_efficiency=float(rng.uniform(0.7, 1)),
        grid_charging=charging,
    )
    limits = Limits(*(int(w) for w in rng.integers(0, 3000, 2))) if capped else Limits()
    given = PlanInput(
        (rng.integers(1, 13, steps) * 300_000).astype(np.int64),
        rng.gamma(1, 300, steps),
        rng.gamma(1, 300, steps),
        rng.uniform(-500, 500, steps),
        rng.uniform(200_000, 600_000, steps),
        rng.uniform(0, 200_000, steps),
        float(rng.uniform(0, 1) * battery.capacity_wh),
    )
    plan = Planner(battery, limits).solve(given)
    assert plan.method == "lp" or capped
    check_physical(plan, battery)
    rule = rule_plan(given, battery, limits)
    check_physical(rule, battery)
    if not charging:
        own = np.maximum(given.pv_wh - given.load_wh, 0) + np.maximum(given.traded_wh, 0)
        assert (plan.charge_wh <= own + 1e-3).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_no_plan_beats_the_optimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = 24
    battery = Battery(soc_min=0, soc_end=0)
    given = given_of(
        list(rng.gamma(1, 300, steps)),
        list(rng.gamma(1, 300, steps)),
        list(rng.uniform(200_000, 600_000, steps)),
        stored_wh=1000,
    )
    plan = Planner(battery).solve(given)
    assert plan.cost_micro <= rule_plan(given, battery, Limits()).cost_micro + 10


def test_caps_hold_and_what_must_run_runs() -> None:
    given = given_of([2000, 0], [0, 3000], [300_000, 300_000], stored_wh=500)
    battery = Battery(capacity_wh=5000, soc_min=0.1, soc_end=0.1)
    plan = Planner(battery, Limits(import_w=1500, export_w=400)).solve(given)
    check_physical(plan, battery)
    assert plan.import_wh[0] == pytest.approx(2000)  # above the cap: load is not shed
    assert plan.export_wh[1] == pytest.approx(400)
    assert plan.charge_wh[1] == pytest.approx(2500)
    assert plan.curtail_wh[1] == pytest.approx(100)


def test_a_cap_leaves_less_where_trades_pass_the_meter_too() -> None:
    given = given_of([0], [3000], [300_000], traded=[-300])
    plan = Planner(None, Limits(export_w=1000)).solve(given)
    assert plan.export_wh.tolist() == [700]
    assert plan.curtail_wh.tolist() == [2000]


@pytest.mark.parametrize("stored_wh", [0.0, 100.0, 6000.0])
def test_a_state_outside_its_range_still_has_a_plan(stored_wh: float) -> None:
    battery = Battery()
    given = given_of([300] * 4, [0] * 4, [300_000] * 4, stored_wh=stored_wh)
    plan = Planner(battery).solve(given)
    assert plan.method == "lp"
    check_physical(plan, battery)


def test_a_solver_that_gives_up_leaves_the_rule() -> None:
    battery = Battery()
    given = given_of([300] * 48, [500] * 48, [300_000] * 48, stored_wh=2000)
    planner = Planner(battery, time_limit_s=0.0)
    plan = planner.solve(given)
    assert plan.method == "rule"
    check_physical(plan, battery)
    # And is asked again the next time.
    planner._model._time_limit_s = 60.0  # type: ignore[union-attr]
    assert planner.solve(given).method == "lp"


def failing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the solver fail in one of its ways."""
    if kind == "missing":
        monkeypatch.setitem(sys.modules, "highspy", None)
    elif kind == "raises":
        monkeypatch.setattr(Solver, "_run", lambda *_: 1 // 0)
    else:
        whole = Solver._run

        def broken(self: Solver, program: Program, time_limit_s: float) -> Solution | None:
            found = whole(self, program, time_limit_s)
            return found and found._replace(values=found.values * np.nan)

        monkeypatch.setattr(Solver, "_run", broken)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "highspy cannot be loaded"),
        ("raises", "HiGHS failed: ZeroDivisionError"),
        ("no numbers", "an optimum that is no numbers"),
    ],
)
@pytest.mark.parametrize("on_or_off", [False, True])
def test_a_solver_that_fails_leaves_the_rule_and_is_said_once(
    kind: str,
    words: str,
    on_or_off: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    battery = Battery()
    given = given_of([300] * 24, [500] * 12 + [0] * 12, [300_000] * 24, stored_wh=2000)
    if on_or_off:
        room = np.full(24, 1000.0)
        pump = Job("pump", (Window(1500.0, 1500.0, room),), least_w=400)
        given = given._replace(needs=(pump,))
    planner = Planner(battery)
    with monkeypatch.context() as broken:
        failing(kind, broken)
        for _ in range(3):
            plan = planner.solve(given)
            assert plan.method == "rule"
            assert plan.stored_wh.min() >= battery.min_uwh / 1e6 - 1e-3
            if not on_or_off:
                check_physical(plan, battery)
    assert [words in record.getMessage() for record in caplog.records] == [True]
    assert planner.solve(given).method in ("lp", "milp")


def test_a_currency_with_large_numbers_plans_alike() -> None:
    given = given_of([300] * 4, [800, 500, 0, 0], [200_000, 300_000, 500_000, 100_000], 100_000)
    battery = Battery(capacity_wh=2000, wear_micro_per_kwh=0)
    first = Planner(battery).solve(given)
    times = PRICE_MICRO_PER_KWH_MAX / 500_000
    dear = given._replace(
        import_micro_per_kwh=given.import_micro_per_kwh * times,
        export_micro_per_kwh=given.export_micro_per_kwh * times,
    )
    plan = Planner(battery).solve(dear)
    assert plan.method == "lp"
    assert plan.cost_micro == pytest.approx(first.cost_micro * times, rel=1e-6)


def test_what_is_worth_as_much_later_is_done_now() -> None:
    battery = Battery(soc_min=0, soc_end=0)
    given = given_of([500] * 3, [0] * 3, [300_000] * 3, stored_wh=527)
    assert Planner(battery).solve(given).discharge_wh.tolist() == pytest.approx([500, 0.65, 0])


def test_planning_without_a_battery_loads_no_solver() -> None:
    code = (
        "import sys, hems.home; from hems.plan import Planner; Planner(None);"
        "sys.exit('highspy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def bad(**changes: Any) -> PlanInput:
    return given_of([100, 100], [0, 0], [300_000, 300_000])._replace(**changes)


def array(*values: float) -> FloatArray:
    return np.array(values, float)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (bad(load_wh=array(1)), "load_wh must be 2 finite"),
        (bad(load_wh=array(-1, 0)), "load_wh must not be negative"),
        (bad(pv_wh=array(0, -1)), "pv_wh must not be negative"),
        (bad(import_micro_per_kwh=array(1, np.nan)), "import_micro_per_kwh must be 2 finite"),
        (bad(export_micro_per_kwh=array(0, 400_000)), "step 1: export pays 400000"),
        (bad(import_micro_per_kwh=array(2e10, 2e10)), "prices are at most"),
        (bad(step_ms=np.array([0, 1])), "step_ms must be positive"),
        (bad(stored_wh=-1.0), "stored_wh -1.0"),
        (bad(stored_wh=float("nan")), "stored_wh nan"),
        (bad(step_ms=np.zeros(0, np.int64)), "1 to 400 steps, not 0"),
        (bad(step_ms=np.ones(STEPS_MAX + 1, np.int64)), "steps, not 401"),
    ],
)
def test_input_that_cannot_be_planned_is_refused(given: PlanInput, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Planner(Battery()).solve(given)


def test_negative_caps_are_refused() -> None:
    with pytest.raises(ConfigError, match="import_w cap -1"):
        Planner(None, Limits(import_w=-1))
