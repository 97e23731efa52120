import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.control import SELF_CONSUMPTION, Flows, Intent, check_balance, follow
from hems.devices import HOUR_MS, Battery
from hems.errors import ConfigError, InvariantError
from hems.plan import Limits

BATTERY = Battery(power_w=2000, charge_efficiency=1, discharge_efficiency=1)
HALF_UWH = 2_500_000_000


def run(load: int, pv: int, traded: int, intent: Intent, limits: Limits = Limits()) -> Flows:  # noqa: B008
    return follow(BATTERY, HALF_UWH, HOUR_MS, load, pv, traded, intent, limits)


def test_planned_to_be_balanced_the_battery_takes_it_all() -> None:
    assert run(900, 0, 0, SELF_CONSUMPTION).discharge_wh == 900
    assert run(0, 900, 0, SELF_CONSUMPTION).charge_wh == 900
    assert run(500, 0, 300, SELF_CONSUMPTION).discharge_wh == 200


def test_planned_to_import_the_grid_gives_more_but_surplus_is_kept() -> None:
    importing = Intent(action_wh=0, grid_wh=500, curtails=False)
    flows = run(900, 0, 0, importing)
    assert (flows.import_wh, flows.discharge_wh) == (900, 0)
    flows = run(0, 300, 0, importing)
    assert (flows.export_wh, flows.charge_wh) == (0, 300)


def test_planned_to_export_the_grid_takes_more_but_nothing_is_imported() -> None:
    exporting = Intent(action_wh=0, grid_wh=-500, curtails=False)
    flows = run(0, 900, 0, exporting)
    assert (flows.export_wh, flows.charge_wh) == (900, 0)
    flows = run(400, 0, 0, exporting)
    assert (flows.import_wh, flows.discharge_wh) == (0, 400)


def test_what_was_sold_comes_before_what_was_planned() -> None:
    charging = Intent(action_wh=500, grid_wh=-100, curtails=False)
    flows = run(0, 600, -400, charging)
    assert (flows.charge_wh, flows.export_wh) == (200, 400)
    importing = Intent(action_wh=0, grid_wh=300, curtails=False)
    assert run(200, 0, -400, importing).export_wh == 400


def test_caps_are_kept_by_the_battery_and_then_by_curtailing() -> None:
    flows = run(0, 3000, 0, Intent(0, -3000, curtails=False), Limits(export_w=500))
    assert (flows.charge_wh, flows.export_wh, flows.curtail_wh) == (2000, 500, 500)
    flows = run(3000, 0, 0, Intent(0, 3000, curtails=False), Limits(import_w=500))
    assert (flows.discharge_wh, flows.import_wh) == (2000, 1000)
    flows = run(0, 3000, -700, Intent(0, -300, curtails=False), Limits(export_w=500))
    assert flows.export_wh == 500


def test_what_is_planned_to_be_curtailed_is() -> None:
    flows = run(0, 900, -400, Intent(0, 0, curtails=True))
    assert (flows.charge_wh, flows.export_wh) == (500, 400)
    full = follow(BATTERY, 5_000_000_000, HOUR_MS, 0, 900, -400, Intent(0, 0, curtails=True))
    assert (full.curtail_wh, full.export_wh) == (500, 400)


@given(
    st.booleans(),
    st.integers(0, 5_000_000_000),
    st.integers(0, 20_000),
    st.integers(0, 20_000),
    st.integers(-20_000, 20_000),
    st.tuples(st.integers(-9000, 9000), st.integers(-9000, 9000), st.booleans()),
    st.tuples(*[st.one_of(st.none(), st.integers(0, 10_000))] * 2),
    st.integers(5, 60),
    st.booleans(),
)
def test_energy_balances_to_the_watt_hour_whatever_happens(
    stores: bool,
    stored: int,
    load: int,
    pv: int,
    traded: int,
    intent: tuple[int, int, bool],
    caps: tuple[int | None, int | None],
    minutes: int,
    charging: bool,
) -> None:
    battery = Battery(grid_charging=charging) if stores else None
    limits = Limits(*caps)
    step_ms = minutes * 60_000
    flows = follow(battery, stored, step_ms, load, pv, traded, Intent(*intent), limits)
    came = flows.import_wh + flows.pv_wh + flows.discharge_wh
    went = flows.load_wh + flows.charge_wh + flows.export_wh + flows.curtail_wh
    assert came == went
    assert min(flows[:8]) >= 0
    assert flows.curtail_wh <= pv
    assert (flows.load_wh, flows.pv_wh) == (load, pv)
    if battery is None:
        assert flows.charge_wh == flows.discharge_wh == 0
        assert flows.stored_uwh == stored
        return
    change = battery.step(stored, flows.charge_wh - flows.discharge_wh, step_ms)
    assert flows.stored_uwh == change
    assert min(stored, battery.min_uwh) <= flows.stored_uwh <= max(stored, battery.max_uwh)
    if not charging:
        assert flows.charge_wh <= max(0, pv - load) + max(0, traded)
    # A home that sold falls short only with its battery at its limit.
    if traded < 0 and flows.export_wh - flows.import_wh < -traded and limits == Limits():
        assert flows.discharge_wh == battery.discharge_max_wh(stored, step_ms)


def test_each_battery_takes_its_part_of_the_plan_before_what_is_lacking() -> None:
    more = [(BATTERY, HALF_UWH)]
    for planned_wh, pv_wh, charged_wh in ((600, 600, (0, 600)), (600, 1000, (400, 600))):
        intent = Intent(planned_wh, 0, False, (planned_wh,))
        found = follow(BATTERY, HALF_UWH, HOUR_MS, 0, pv_wh, 0, intent, more=more)
        contents = (found.stored_uwh, *found.more_stored_uwh)
        assert tuple((uwh - HALF_UWH) // 1_000_000 for uwh in contents) == charged_wh
    # Less than planned: the first one's part comes first.
    found = follow(BATTERY, HALF_UWH, HOUR_MS, 0, 500, 0, Intent(600, 0, False, (200,)), more=more)
    assert (found.stored_uwh - HALF_UWH) // 1_000_000 == 400


def test_impossible_inputs_are_refused() -> None:
    with pytest.raises(ConfigError, match="must not be negative"):
        run(-1, 0, 0, SELF_CONSUMPTION)
    with pytest.raises(ConfigError, match="must not be negative"):
        run(0, -1, 0, SELF_CONSUMPTION)


def test_a_balance_that_does_not_close_is_a_bug() -> None:
    with pytest.raises(InvariantError, match="1 Wh came in and 0 Wh went out"):
        check_balance(Flows(0, 0, 0, 0, 0, 1, 0, 0))
    with pytest.raises(InvariantError):
        check_balance(Flows(0, 0, 0, 0, 0, -1, -1, 0))
