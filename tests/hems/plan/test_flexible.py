"""Plans with loads that can be moved: each kind against what must come out, and all together."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hems.devices import HOUR_MS, Battery
from hems.devices.needs import Adjust, Heat, Job, Need, Run, Starts, Window
from hems.errors import ConfigError
from hems.plan import Limits, Plan, PlanInput, Planner, rule_plan
from hems.plan.planner import GAP, RELATIVE_GAP
from hems.plan.rule import temperatures_c
from tests.hems.plan.test_planner import IDEAL, check_physical, given_of

DAY = [200_000.0, 400_000.0, 100_000.0, 300_000.0]


def one(need: Need, prices: list[float] = DAY, load_wh: float = 0.0) -> PlanInput:
    steps = len(prices)
    return given_of([load_wh] * steps, [0] * steps, prices, sell=0)._replace(needs=(need,))


def window(energy_wh: float, room: list[float], most_wh: float | None = None) -> Window:
    return Window(energy_wh, energy_wh if most_wh is None else most_wh, np.array(room, float))


def run_of(steps: int, profile: list[float], starts: list[int]) -> Run:
    energy = np.zeros((len(starts), steps))
    for row, start in enumerate(starts):
        energy[row, start : start + len(profile)] = profile
    return Run("washer", (Starts(np.array(starts), energy),))


def test_energy_is_taken_where_it_is_cheapest_in_its_window() -> None:
    plan = Planner(None).solve(one(Job("pump", (window(1500, [1000, 1000, 1000, 0]),))))
    assert plan.method == "lp"
    assert plan.device_wh["pump"].tolist() == pytest.approx([500, 0, 1000, 0])
    assert plan.cost_micro == pytest.approx(500 * 200 + 1000 * 100)
    assert plan.short_wh == {}


def test_what_cannot_be_taken_in_time_is_told_and_all_else_taken() -> None:
    plan = Planner(None).solve(one(Job("car", (window(5000, [1000, 1000, 0, 0]),))))
    assert plan.device_wh["car"].tolist() == pytest.approx([1000, 1000, 0, 0])
    assert plan.short_wh == {"car": pytest.approx(3000)}
    # At five times the dearest energy, for each kWh missed.
    assert plan.penalty_micro == pytest.approx(3 * 5 * 400_000)


def test_a_deadline_is_missed_before_the_import_cap() -> None:
    need = Job("car", (window(3000, [2000, 2000, 0, 0]),))
    plan = Planner(None, Limits(import_w=1000)).solve(one(need, load_wh=400))
    assert plan.import_wh.max() <= 1000 + 1e-6
    assert plan.device_wh["car"].tolist() == pytest.approx([600, 600, 0, 0])


def test_on_or_off_takes_its_least_or_nothing() -> None:
    need = Job("car", (window(1600, [1000] * 4, 2000),), least_w=800)
    plan = Planner(None).solve(one(need))
    assert plan.method == "milp"
    assert plan.device_wh["car"].tolist() == pytest.approx([800, 0, 800, 0])


def test_a_run_once_begun_lasts() -> None:
    prices = [100_000.0, 500_000.0, 100_000.0, 200_000.0]
    need = Job("pump", (window(1000, [1000] * 4, 1500),), least_w=500, run_ms_min=2 * HOUR_MS)
    taken = Planner(None).solve(one(need, prices)).device_wh["pump"]
    assert taken.tolist() == pytest.approx([0, 0, 500, 500])
    # It has been on for an hour of the two: the dear hour cannot be left out.
    begun = need._replace(on_ms=HOUR_MS)
    taken = Planner(None).solve(one(begun, [500_000.0, 500_000.0, 1e5, 1e5])).device_wh["pump"]
    assert taken[0] == pytest.approx(500)


def test_a_programme_runs_as_a_whole_where_it_is_cheapest() -> None:
    plan = Planner(None).solve(one(run_of(4, [1000, 100], [0, 1, 2])))
    assert plan.device_wh["washer"].tolist() == pytest.approx([0, 0, 1000, 100])
    assert plan.method == "milp"


def test_a_house_is_warmed_before_the_dear_hour_and_kept_in_its_band() -> None:
    need = Heat(
        "heat",
        np.full(4, 2000.0),
        0,
        np.full(4, 0.9),
        np.full(4, 0.002),
        np.full(4, 1.5),
        20.0,
        20.0,
        22.0,
        np.full(4, 1e6),
    )
    plan = Planner(None).solve(one(need, [100_000.0, 500_000.0, 500_000.0, 100_000.0]))
    inside = temperatures_c(need, plan.device_wh["heat"])
    assert inside.min() >= 20 - 1e-6
    # As warm as it takes to come through the two dear hours, and no warmer.
    assert inside[:3].tolist() == pytest.approx([(20 - 1.5 - 0.9 * 1.5) / 0.81, 185 / 9, 20])
    assert plan.device_wh["heat"][1:3].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert plan.penalty_micro == pytest.approx(0, abs=1)


def test_discomfort_is_the_square_of_the_deviation_at_its_pieces() -> None:
    need = Adjust("cooler", np.ones(4), 1000, 0, 1000, 100_000.0)
    plan = Planner(None).solve(one(need, [200_000.0] * 4))
    # d/dP of 0.1 (P - 1)² is 0.2 at P = 0: the load gives in to the last piece.
    assert plan.device_wh["cooler"].tolist() == pytest.approx([0, 0, 0, 0], abs=1)
    assert plan.penalty_micro == pytest.approx(4 * 100_000)
    dearer = need._replace(discomfort_micro=200_000.0)
    plan = Planner(None).solve(one(dearer, [200_000.0] * 4))
    # Pieces of 250 W cost 50, 150, 250 and 350 thousandths per kWh: two are worth it.
    assert plan.device_wh["cooler"].tolist() == pytest.approx([500] * 4)
    assert plan.penalty_micro == pytest.approx(4 * 200_000 * 0.25)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_programmes_run_as_trying_all_starts_would_let_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = 6
    needs = (
        run_of(steps, [800, 200], list(range(5))),
        run_of(steps, [300, 300, 900], list(range(4)))._replace(name="dryer"),
    )
    day = given_of(
        list(rng.uniform(0, 500, steps)),
        list(rng.uniform(0, 1500, steps)),
        list(rng.uniform(150_000, 600_000, steps)),
        stored_wh=800,
    )
    plan = Planner(IDEAL).solve(day._replace(needs=needs))
    best = min(
        Planner(IDEAL).solve(day._replace(load_wh=day.load_wh + one_run + other_run)).total_micro
        for one_run, other_run in itertools.product(
            needs[0].starts[0].energy_wh, needs[1].starts[0].energy_wh
        )
    )
    allowed = max(GAP * 1e6, RELATIVE_GAP * abs(best))
    assert best - 5 <= plan.total_micro <= best + allowed + 5


def random_needs(rng: np.random.Generator, steps: int, hours: np.ndarray) -> tuple[Need, ...]:
    found: list[Need] = []
    begin, end = np.sort(rng.integers(0, steps + 1, 2))
    room = np.where((np.arange(steps) >= begin) & (np.arange(steps) < end), 3000 * hours, 0.0)
    energy = float(rng.uniform(100, 6000))
    least = int(rng.choice([0, 900]))
    long_ms = int(rng.choice([0, HOUR_MS])) if least else 0
    most = energy + least * float(hours.max())
    found.append(Job("car", (Window(energy, most, room),), least, long_ms))
    starts = np.sort(rng.choice(steps, min(3, steps), replace=False))
    energies = np.zeros((len(starts), steps))
    for row, start in enumerate(starts):
        energies[row, start] = 700.0
    found.append(Run("washer", (Starts(starts, energies),)))
    keep = np.exp(-hours / 20)
    found.append(
        Heat(
            "heat",
            1500 * hours,
            int(rng.choice([0, 500])),
            keep,
            3.5 / hours / 150 * (1 - keep) * hours,
            (1 - keep) * rng.uniform(-5, 15),
            float(rng.uniform(18, 24)),
            20.0,
            22.0,
            1e6 * hours,
        )
    )
    found.append(Adjust("cooler", hours * (rng.random(steps) < 0.7), 600, 100, 900, 5e5))
    chosen = rng.random(4) < 0.7
    return tuple(need for need, use in zip(found, chosen, strict=True) if use)


def check_devices(plan: Plan, tolerance_wh: float = 0.01) -> None:
    hours = plan.given.step_ms / HOUR_MS
    assert set(plan.device_wh) == {need.name for need in plan.given.needs}
    for need in plan.given.needs:
        taken = plan.device_wh[need.name]
        assert (taken >= -tolerance_wh).all()
        match need:
            case Job():
                assert (taken <= need.windows[0].room_wh + tolerance_wh).all()
                assert taken.sum() <= need.windows[0].most_wh + tolerance_wh
                least = np.minimum(need.least_w * hours, need.windows[0].room_wh)
                off = taken <= tolerance_wh
                assert (off | (taken >= least - tolerance_wh)).all()
            case Run():
                rows = [np.zeros(len(hours)), *need.starts[0].energy_wh]
                assert any(np.allclose(taken, row, atol=tolerance_wh) for row in rows)
            case Heat():
                assert (taken <= need.room_wh + tolerance_wh).all()
                off = taken <= tolerance_wh
                assert (off | (taken >= need.least_w * hours - tolerance_wh)).all()
            case Adjust():
                assert (taken >= need.least_w * need.hours - tolerance_wh).all()
                assert (taken <= need.most_w * need.hours + tolerance_wh).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_any_home_has_a_physical_plan_that_the_rule_does_not_beat(seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(2, 17))
    step_ms = (rng.integers(1, 5, steps) * 900_000).astype(np.int64)
    batteries = tuple(
        Battery(
            capacity_wh=int(rng.integers(500, 9000)),
            charge_power_w=int(rng.integers(300, 4000)),
            discharge_power_w=int(rng.integers(300, 4000)),
            charge_efficiency=float(rng.uniform(0.7, 1)),
            grid_charging=bool(rng.random() < 0.5),
        )
        for _ in range(rng.integers(0, 4))
    )
    contents = [float(rng.uniform(0, battery.capacity_wh)) for battery in batteries] or [0.0]
    # Now and then the grid pays for taking energy.
    paid = 250_000.0 * (rng.random() < 0.2)
    limits = Limits(*(int(w) if rng.random() < 0.4 else None for w in rng.integers(500, 5000, 2)))
    day = PlanInput(
        step_ms,
        rng.gamma(1, 300, steps),
        rng.gamma(1, 500, steps),
        rng.uniform(-300, 300, steps) * (rng.random(steps) < 0.5),
        rng.uniform(150_000, 600_000, steps) - paid,
        rng.uniform(0, 150_000, steps) - paid,
        contents[0],
        float(rng.uniform(0, 200_000)) if rng.random() < 0.3 else 0.0,
        tuple(contents[1:]),
        random_needs(rng, steps, step_ms / HOUR_MS),
    )
    first = batteries[0] if batteries else None
    planner = Planner(first, limits, more_batteries=batteries[1:])
    plan = planner.solve(day)
    rule = rule_plan(day, first, limits, planner.batteries[1:])
    for found in (plan, rule):
        flexible = sum(found.device_wh.values(), np.zeros(len(day.load_wh)))
        loaded = found._replace(given=day._replace(load_wh=day.load_wh + flexible))
        check_physical(loaded, None)
        check_devices(found)
        assert (
            (found.charge_wh <= 1e-3) | (found.discharge_wh <= 1e-3) | (len(batteries) > 1)
        ).all()
        for battery, part, before in zip(
            batteries, found.batteries, contents, strict=bool(batteries)
        ):
            assert (part.charge_wh <= battery.charge_limit_w * step_ms / HOUR_MS + 1e-3).all()
            assert (part.discharge_wh <= battery.discharge_limit_w * step_ms / HOUR_MS + 1e-3).all()
            assert part.stored_wh.min() >= min(battery.min_uwh / 1e6, before) - 1e-3
            assert part.stored_wh.max() <= max(battery.max_uwh / 1e6, before) + 1e-3
    # Its own gap, and what acting early may cost.
    assert plan.total_micro <= rule.total_micro + max(GAP * 1e6, 1e-3 * abs(rule.total_micro)) + 100


def test_more_batteries_share_what_may_be_stored_without_the_grid() -> None:
    first = Battery(soc_min=0, soc_end=0)
    second = Battery(soc_min=0, soc_end=0, capacity_wh=1000, power_w=1000)
    day = given_of([0, 3000], [2800, 0], [300_000, 500_000], sell=0)
    plan = Planner(first, more_batteries=(second,)).solve(day._replace(more_stored_wh=(0.0,)))
    assert plan.charge_wh[0] == pytest.approx(2800, abs=1)
    assert [len(part.charge_wh) for part in plan.batteries] == [2, 2]
    assert sum(part.charge_wh[0] for part in plan.batteries) == pytest.approx(2800, abs=1)
    none = day._replace(pv_wh=np.zeros(2), more_stored_wh=(0.0,))
    assert Planner(first, more_batteries=(second,)).solve(none).charge_wh.sum() == 0


def test_a_grid_that_pays_for_taking_is_not_fed_by_a_battery_in_a_circle() -> None:
    battery = Battery(soc_min=0, soc_end=0, grid_charging=True, wear_micro_per_kwh=0)
    day = given_of([500] * 3, [0] * 3, [-200_000.0] * 3, sell=-300_000, stored_wh=3000)
    plan = Planner(battery).solve(day)
    assert (np.minimum(plan.charge_wh, plan.discharge_wh) <= 1e-6).all()


def test_stored_energy_may_be_worth_something_at_the_end() -> None:
    battery = Battery(soc_min=0, soc_end=0, wear_micro_per_kwh=0)
    day = given_of([0], [1000], [300_000], sell=100_000)
    assert Planner(battery).solve(day).charge_wh[0] == pytest.approx(0, abs=1e-3)
    kept = day._replace(end_value_micro_per_kwh=120_000.0)
    plan = Planner(battery).solve(kept)
    assert plan.charge_wh[0] == pytest.approx(1000)
    assert plan.cost_micro == pytest.approx(-0.95 * 120_000)


def test_choices_are_kept_where_only_the_trade_differs() -> None:
    planner = Planner(IDEAL)
    day = one(run_of(4, [1000, 100], [0, 1, 2]))
    plan = planner.solve(day)
    # Nothing would run in the first hour again, though it had become the cheapest.
    cheap = day._replace(import_micro_per_kwh=np.array([1000.0, 400_000, 100_000, 300_000]))
    kept = planner.solve(cheap, keep_choices=True)
    assert kept.device_wh["washer"].tolist() == plan.device_wh["washer"].tolist()
    assert planner.solve(cheap).device_wh["washer"][0] == pytest.approx(1000)


def test_needs_that_cannot_be_are_refused() -> None:
    good = Job("car", (window(100, [100] * 4),))
    with pytest.raises(ConfigError, match="two devices of one name"):
        Planner(None).solve(one(good)._replace(needs=(good, good)))
    with pytest.raises(ConfigError, match="'car': 4 finite numbers"):
        Planner(None).solve(one(Job("car", (window(100, [100]),))))
    with pytest.raises(ConfigError, match="'car': energies must not be negative"):
        Planner(None).solve(one(Job("car", (window(100, [-1, 0, 0, 0]),))))
    with pytest.raises(ConfigError, match="the first one is"):
        Planner(None, more_batteries=(IDEAL,))
    with pytest.raises(ConfigError, match="0 states for 1 batteries"):
        Planner(IDEAL, more_batteries=(IDEAL,)).solve(given_of([1], [0], [1000.0], sell=0))
