"""Random homes whose meters lie at random: the plan stays possible, physics exact, memory small."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hems.civil import DAY_MS, HOUR_MS, MINUTE_MS
from hems.config import CommunityHome, HomeConfig
from hems.delivery import Delivery
from hems.devices import Battery
from hems.errors import ConfigError
from hems.home import HomeEnergyManager, MarketView
from hems.plan import Plan
from hems.sensors import KINDS
from hems.sources.base import Measurements, check_window
from hems.state import COMMITMENTS_MAX, HomeState

START_MS = 20_400 * DAY_MS
FAULTS = ("spike", "unit", "negative", "lost", "stuck", "zero", "night", "huge")


class Lying:
    """A home that is drawn, with some of its readings replaced by what no meter should say."""

    def __init__(self, seed: int, share: float, faults: list[str]) -> None:
        self.seed, self.share, self.faults = seed, share, faults

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        steps = check_window(start_ms, end_ms, step_ms)
        first = start_ms // step_ms
        hour = (start_ms + step_ms * np.arange(steps)) % DAY_MS / HOUR_MS
        level = step_ms / HOUR_MS
        load = np.empty(steps)
        pv = np.empty(steps)
        known = np.ones(steps, np.bool_)
        for place in range(steps):
            chance = np.random.default_rng((self.seed, first + place))
            draw = chance.random(4)
            load[place] = 1_200 * level * draw[0] ** 3 + 60 * level
            pv[place] = 4_000 * level * max(0.0, np.sin((hour[place] - 6) / 12 * np.pi)) * draw[1]
            if draw[2] < self.share and self.faults:
                fault = self.faults[int(draw[3] * len(self.faults))]
                load[place], pv[place], known[place] = _lie(fault, load[place], pv[place])
        return Measurements(np.rint(load).astype(np.int64), np.rint(pv).astype(np.int64), known)


def _lie(fault: str, load: float, pv: float) -> tuple[float, float, bool]:
    if fault == "lost":
        return 0.0, 0.0, False
    return {
        "spike": (load * 40, pv * 3, True),
        "unit": (load * 1_000, pv * 1_000, True),
        "negative": (-load, -pv, True),
        "stuck": (777.0, 333.0, True),
        "zero": (0.0, 0.0, True),
        "night": (load, 500.0, True),
        "huge": (1e15, 1e15, True),
    }[fault]


batteries = st.none() | st.builds(
    Battery,
    capacity_wh=st.integers(500, 20_000),
    power_w=st.none() | st.integers(100, 9_000),
    charge_efficiency=st.floats(0.7, 1.0),
    discharge_efficiency=st.floats(0.7, 1.0),
    soc_min=st.floats(0.0, 0.2),
    soc_end=st.floats(0.2, 0.9),
    soc_max=st.floats(0.9, 1.0),
    grid_charging=st.booleans(),
)
homes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**30),
        "share": st.sampled_from([0.0, 0.02, 0.3, 1.0]),
        "faults": st.lists(st.sampled_from(FAULTS), max_size=4),
        "battery": batteries,
        "import_cap_w": st.none() | st.integers(500, 20_000),
        "export_cap_w": st.none() | st.integers(0, 20_000),
        "feed_in": st.integers(0, 150_000),
        "slot_minutes": st.sampled_from([30, 60]),
        "trades": st.lists(st.integers(-900, 900), min_size=4, max_size=4),
        "soc": st.floats(-1, 100),
    }
)


def tariff(at_ms: int) -> int:
    return 541_100 if 14 <= at_ms // HOUR_MS % 24 < 20 else 177_000


def check_plan(home: HomeEnergyManager, plan: Plan) -> None:
    given = plan.given
    came = plan.import_wh + given.pv_wh + plan.discharge_wh + given.traded_wh
    went = given.load_wh + plan.charge_wh + plan.export_wh + plan.curtail_wh
    assert np.abs(came - went).max() < 1
    for flow in (plan.import_wh, plan.export_wh, plan.charge_wh, plan.discharge_wh):
        assert flow.min() > -1e-3
    battery = home.config.battery
    if battery is not None:
        hours = given.step_ms / HOUR_MS
        assert (plan.charge_wh <= battery.power_limit_w * hours + 1e-3).all()
        assert (plan.discharge_wh <= battery.power_limit_w * hours + 1e-3).all()
        high = max(battery.max_uwh / 1e6, given.stored_wh)
        assert plan.stored_wh.max() <= high + 1e-3
        assert plan.stored_wh.min() >= min(battery.min_uwh / 1e6, given.stored_wh) - 1e-3


def check_delivery(home: HomeEnergyManager, before_uwh: int, one: Delivery) -> None:
    came = one.import_wh + one.pv_wh + one.discharge_wh
    assert came == one.load_wh + one.charge_wh + one.export_wh + one.curtail_wh
    assert min(one.load_wh, one.pv_wh, one.import_wh, one.export_wh, one.curtail_wh) >= 0
    assert max(one.load_wh, one.pv_wh) <= 100_000 * one.slot_ms / HOUR_MS
    battery = home.config.battery
    if battery is None:
        assert one.charge_wh == one.discharge_wh == 0
        return
    assert one.charge_wh == 0 or one.discharge_wh == 0
    assert max(one.charge_wh, one.discharge_wh) <= battery.power_limit_w * one.slot_ms / HOUR_MS
    into = one.charge_wh * battery.charge_ppm
    out = one.discharge_wh * 1e12 / battery.discharge_ppm
    assert abs(home.state.stored_uwh - before_uwh - into + out) <= 1
    assert min(battery.min_uwh, before_uwh) <= home.state.stored_uwh <= battery.max_uwh


def live(drawn: dict[str, Any], slots: int) -> HomeEnergyManager:
    """Let a home plan, trade and live through some slots, and check all that must hold."""
    config = HomeConfig(
        source=CommunityHome(home=0),
        zone="UTC",
        battery=drawn["battery"],
        import_cap_w=drawn["import_cap_w"],
        export_cap_w=drawn["export_cap_w"],
    )
    source = Lying(drawn["seed"], drawn["share"], drawn["faults"])
    home = HomeEnergyManager(config, source=source)
    market = MarketView(tariff, drawn["feed_in"], None, 50_000)
    slot_ms = drawn["slot_minutes"] * MINUTE_MS
    for slot in range(slots):
        at_ms = START_MS + 12 * HOUR_MS + slot * slot_ms
        planned = home.plan_slot(at_ms, slot_ms, market)
        check_plan(home, planned.plan)
        assert all(order.energy_wh > 0 for order in planned.orders)
        home.commit(at_ms, drawn["trades"][slot % 4])
        before = home.state.stored_uwh
        check_delivery(home, before, home.deliver(at_ms, slot_ms, market))
        home.report_soc(drawn["soc"], slot_ms)
        assert home.soc is None or 0 <= home.soc <= 1
    assert len(home.state.committed_wh) <= COMMITMENTS_MAX
    assert HomeState.from_plain(home.state.to_plain()) == home.state
    assert len(home.faults) <= 2 * len(KINDS)
    return home


@settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(homes)
def test_a_home_whose_meters_lie_stays_physical(drawn: dict[str, Any]) -> None:
    live(drawn, 3)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(homes)
def test_many_homes_whose_meters_lie_stay_physical(drawn: dict[str, Any]) -> None:
    live(drawn, 12)


def test_what_is_wrong_can_be_asked_for() -> None:
    drawn = {
        "seed": 5,
        "share": 0.02,
        "faults": ["unit"],
        "battery": Battery(),
        "import_cap_w": None,
        "export_cap_w": None,
        "feed_in": 100_000,
        "slot_minutes": 60,
        "trades": [0],
        "soc": 55.0,
    }
    home = live({**drawn, "trades": [0] * 4}, 2)
    assert home.faults["load_unit"] > 3
    assert home.faults["battery_soc"] == 2


def test_a_battery_corrects_what_was_reckoned() -> None:
    home = HomeEnergyManager(
        HomeConfig(source=CommunityHome(home=0), battery=Battery()), source=Lying(1, 0.0, [])
    )
    assert home.soc == 0.2
    assert home.report_soc(0.26, 15 * MINUTE_MS)
    assert home.soc == pytest.approx(0.26)
    assert not home.report_soc(0.9, 15 * MINUTE_MS)
    assert home.soc == pytest.approx(0.26)
    without = HomeEnergyManager(HomeConfig(source=CommunityHome(home=0)), source=Lying(1, 0.0, []))
    assert not without.report_soc(0.5, 1)


def test_each_of_several_batteries_reports_for_itself() -> None:
    shed = Battery(capacity_wh=2_000, discharge_power_w=500)
    config = HomeConfig(
        source=CommunityHome(home=0), battery=Battery(), more_batteries={"shed": shed}
    )
    home = HomeEnergyManager(config, source=Lying(1, 0.0, []))
    before = home.state.stored_uwh
    assert home.report_soc(0.3, 60 * MINUTE_MS, "shed")
    assert home.state.batteries == {"shed": 600_000_000}
    # A shed's plug cannot fill a battery in a minute.
    assert not home.report_soc(1.0, MINUTE_MS, "shed")
    assert (home.state.batteries["shed"], home.faults) == (600_000_000, {"shed_soc": 1})
    assert home.state.stored_uwh == before
    with pytest.raises(ConfigError, match="'roof' is not a battery of this home; it has shed"):
        home.report_soc(0.5, MINUTE_MS, "roof")
