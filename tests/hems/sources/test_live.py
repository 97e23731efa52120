from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hems.civil import DAY_MS, HOUR_MS, MINUTE_MS
from hems.config import CommunityHome, HomeConfig, LiveHome, open_source
from hems.devices import Battery
from hems.devices.loads import Car, HeatPump
from hems.errors import ConfigError, DataError
from hems.home import HomeEnergyManager, MarketView
from hems.sources.live import BIN_MS, KEPT_DAYS, LiveSource
from hems.state import HomeState
from tests.hems.forecast.homes import home as example_home

START_MS = 20_000 * DAY_MS
STEP_MS = 15 * MINUTE_MS
STALE_MS = 5 * MINUTE_MS


def live(path: Path, has_pv: bool = False) -> LiveSource:
    return LiveSource(path / "measured.db", has_pv, STALE_MS)


def steady(source: LiveSource, minutes: range, power_w: float = 1_200.0) -> None:
    for minute in minutes:
        source.heard_power("load", START_MS + minute * MINUTE_MS, power_w)


def test_a_power_becomes_the_energy_of_its_time(tmp_path: Path) -> None:
    source = live(tmp_path)
    for minute in range(31):
        source.heard_power("load", START_MS + minute * MINUTE_MS, 600.0 if minute < 15 else 1_200.0)
    found = source.window(START_MS, START_MS + 2 * STEP_MS, STEP_MS)
    assert found.known.tolist() == [True, True]
    assert found.load_wh.tolist() == [150, 300]
    assert found.pv_wh.tolist() == [0, 0]


def test_the_last_power_holds_to_the_end_of_a_slot_and_is_not_counted_twice(tmp_path: Path) -> None:
    source = live(tmp_path)
    steady(source, range(15))
    # The slot ends at minute 15; the next reading comes two minutes later.
    assert source.window(START_MS, START_MS + STEP_MS, STEP_MS).load_wh.tolist() == [300]
    steady(source, range(17, 31))
    both = source.window(START_MS, START_MS + 2 * STEP_MS, STEP_MS)
    assert both.load_wh.tolist() == [300, 300]


def test_a_silent_meter_is_not_known(tmp_path: Path) -> None:
    source = live(tmp_path)
    steady(source, range(5))
    # The last holds for five minutes: nine of fifteen are covered.
    found = source.window(START_MS, START_MS + STEP_MS, STEP_MS)
    assert (found.known.tolist(), found.load_wh.tolist()) == ([False], [0])
    assert source.is_stale("load", START_MS + STEP_MS)
    assert not source.is_stale("load", START_MS + 5 * MINUTE_MS)
    assert source.is_stale("pv", START_MS)


def test_a_register_is_read_between_its_readings(tmp_path: Path) -> None:
    source = live(tmp_path)
    for minute in range(-1, 32, 2):
        source.heard_counter("load", START_MS + minute * MINUTE_MS, 1_000_000 + 20.0 * minute)
    found = source.window(START_MS, START_MS + 2 * STEP_MS, STEP_MS)
    assert found.load_wh.tolist() == [300, 300]
    last = source.last("load")
    assert last is not None
    assert last.power_w == pytest.approx(1_200)


@pytest.mark.parametrize(
    ("readings", "fault", "expected"),
    [
        ([(0, 900), (5, 950), (10, 20), (15, 60)], "reset", [50, None, 40]),
        ([(0, 0), (5, 50), (10, 9e6), (15, 9e6 + 40)], "jump", [50, None, 40]),
        ([(0, 0), (5, 50), (3, 55), (10, 90), (15, 95)], "clock", [50, 40, 5]),
        ([(0, 0), (5, 50), (11, 90), (15, 95)], "silence", [50, None, None]),
        ([(0, 0), (5, 50), (10, -1), (15, 95)], "negative", [50, None, None]),
    ],
)
def test_what_is_no_energy_of_a_register_is_not_known(
    tmp_path: Path, readings: list[tuple[int, float]], fault: str, expected: list[int | None]
) -> None:
    source = live(tmp_path)
    for minute, counter_wh in readings:
        source.heard_counter("load", START_MS + minute * MINUTE_MS, counter_wh)
    found = source.window(START_MS, START_MS + 3 * BIN_MS, BIN_MS)
    steps = zip(found.known.tolist(), found.load_wh.tolist(), strict=True)
    assert [wh if known else None for known, wh in steps] == expected
    silent = {"load_silence": 1} if fault == "negative" else {}
    assert source.faults.counts == {f"load_{fault}": 1} | silent


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 500)), min_size=1, max_size=40))
def test_what_a_register_grew_by_is_the_energy(parts: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as directory, closing(live(Path(directory))) as source:
        at, wh = 0, 0
        source.heard_counter("load", START_MS, 0.0)
        for minutes, used in parts:
            at, wh = at + minutes, wh + used
            source.heard_counter("load", START_MS + at * MINUTE_MS, float(wh))
        source.heard_counter("load", START_MS + (at + 5) * MINUTE_MS, float(wh))
        steps = -(-at // 5)
        found = source.window(START_MS, START_MS + steps * BIN_MS, BIN_MS)
        assert found.known.all()
        assert found.load_wh.sum() == pytest.approx(wh, abs=steps / 2 + 1e-6)


def test_a_register_is_waited_for_until_it_is_stale(tmp_path: Path) -> None:
    source, end_ms = live(tmp_path), START_MS + STEP_MS
    source.heard_power("load", START_MS, 500.0)
    assert not source.awaits(end_ms, end_ms)
    source.heard_counter("pv", end_ms - MINUTE_MS, 7.0)
    assert source.awaits(end_ms, end_ms + 4 * MINUTE_MS)
    assert not source.awaits(end_ms, end_ms + 4 * MINUTE_MS + 1)
    source.heard_counter("pv", end_ms, 8.0)
    assert not source.awaits(end_ms, end_ms)


def test_a_time_to_come_is_not_counted_again_when_it_is_there(tmp_path: Path) -> None:
    source = live(tmp_path)
    steady(source, range(14))
    asked = source.window(START_MS, START_MS + 2 * STEP_MS, STEP_MS)
    assert asked.known.tolist() == [True, False]
    steady(source, range(14, 31))
    found = source.window(START_MS, START_MS + 2 * STEP_MS, STEP_MS)
    assert found.load_wh.tolist() == [300, 300]


@pytest.mark.parametrize("power_w", [float("nan"), float("inf"), -5.0, 1e9])
def test_what_no_home_takes_is_not_used(tmp_path: Path, power_w: float) -> None:
    source = live(tmp_path)
    source.heard_power("load", START_MS, power_w)
    assert source.faults.counts == {"load_negative" if power_w < 0 else "load_unit": 1}
    assert source.last("load") is None


def test_load_without_production_is_not_known_where_there_should_be_some(tmp_path: Path) -> None:
    source = live(tmp_path, has_pv=True)
    steady(source, range(16))
    assert not source.window(START_MS, START_MS + STEP_MS, STEP_MS).known.any()
    for minute in range(16, 32):
        source.heard_power("pv", START_MS + minute * MINUTE_MS, 2_400.0)
    steady(source, range(16, 32))
    found = source.window(START_MS + STEP_MS, START_MS + 2 * STEP_MS, STEP_MS)
    assert (found.load_wh.tolist(), found.pv_wh.tolist()) == ([300], [600])


def test_what_was_heard_outlives_the_daemon_and_is_forgotten_in_time(tmp_path: Path) -> None:
    source = live(tmp_path)
    steady(source, range(31))
    source.close()
    source = live(tmp_path)
    assert source.window(START_MS, START_MS + 2 * STEP_MS, STEP_MS).load_wh.tolist() == [300, 300]
    # It goes on in the middle of a bin.
    steady(source, range(31, 46))
    found = source.window(START_MS + 2 * STEP_MS, START_MS + 3 * STEP_MS, STEP_MS)
    assert found.load_wh.tolist() == [300]
    later_ms = START_MS + (KEPT_DAYS + 1) * DAY_MS
    for bin_number in range(8):
        source.heard_power("load", later_ms + bin_number * BIN_MS, 100.0)
    assert not source.window(START_MS, START_MS + STEP_MS, STEP_MS).known.any()


def test_windows_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source = live(tmp_path)
    for start_ms, step_ms in ((START_MS, 6 * MINUTE_MS), (START_MS + MINUTE_MS, STEP_MS)):
        with pytest.raises(ConfigError, match="5 minutes"):
            source.window(start_ms, start_ms + 10 * step_ms, step_ms)
    with pytest.raises(DataError, match="cannot hold measurements"):
        LiveSource(tmp_path / "no" / "measured.db", False, STALE_MS)


def test_a_home_plans_and_reads_its_meter_by_it(tmp_path: Path) -> None:
    source = live(tmp_path)
    for hour, energy_wh in enumerate(example_home(40)):
        for at_ms in range(0, HOUR_MS, BIN_MS):
            source.heard_power("load", START_MS + hour * HOUR_MS + at_ms, float(energy_wh))
    now_ms = START_MS + 40 * DAY_MS
    config = HomeConfig(source=LiveHome(), zone="UTC")
    manager = HomeEnergyManager(config, source=source)
    plan = manager.plan_slot(now_ms, STEP_MS, MarketView(lambda ms: 300_000, 100_000))
    usual_wh = example_home(40).reshape(40, 24)[:, 0].mean() / 4
    assert plan.load.mean_wh[0] == pytest.approx(usual_wh, rel=0.5)
    for minute in range(16):
        source.heard_power("load", now_ms + minute * MINUTE_MS, 800.0)
    delivery = manager.deliver(now_ms, STEP_MS, MarketView(lambda ms: 300_000, 100_000))
    assert (delivery.known, delivery.import_wh, delivery.export_wh) == (True, 200, 0)
    assert np.all(plan.load.low_wh <= plan.load.mean_wh)


def test_a_battery_takes_and_gives_what_its_meter_says(tmp_path: Path) -> None:
    source = live(tmp_path)
    battery = Battery(capacity_wh=5_000, power_w=2_000, soc_end=0.5, charge_efficiency=0.9)
    config = HomeConfig(source=LiveHome(), zone="UTC", battery=battery)
    state = HomeState(2_500_000_000, START_MS)
    home = HomeEnergyManager(config, state, source, source.battery_wh)
    powers = [1_200.0, -600.0, 0.0]
    for minute in range(46):
        source.heard_power("load", START_MS + minute * MINUTE_MS, 800.0)
        power_w = powers[min(minute // 15, 2)]
        source.heard_power("battery", START_MS + minute * MINUTE_MS, power_w)
    view = MarketView(lambda ms: 300_000, 100_000)
    found = [home.deliver(START_MS + slot * STEP_MS, STEP_MS, view) for slot in range(3)]
    # The plan has other ideas; what is billed is what was measured.
    assert [(d.charge_wh, d.discharge_wh) for d in found] == [(300, 0), (0, 150), (0, 0)]
    assert [d.import_wh for d in found] == [500, 50, 200]
    stored_wh = 2_500 + 300 * 0.9 - 150 / 0.95
    assert home.state.stored_uwh / 1e6 == pytest.approx(stored_wh, abs=0.01)
    assert home.report_soc(0.5, STEP_MS)
    assert home.soc == 0.5
    # A battery that is not heard does what it is asked to, as far as anybody knows.
    assert source.battery_wh(START_MS + 8 * STEP_MS, START_MS + 9 * STEP_MS) is None


@pytest.mark.parametrize("in_load", [False, True])
def test_a_car_takes_what_its_meter_says_within_the_load_or_beside_it(
    tmp_path: Path, in_load: bool
) -> None:
    path = tmp_path / "measured.db"
    source = LiveSource(path, False, STALE_MS, None, ["car"], ["car"] if in_load else [])
    car = Car(capacity_wh=40_000, power_w=7_000, arrive="00:00", leave="06:00")
    battery = Battery(capacity_wh=5_000, power_w=2_000)
    for config in (
        HomeConfig(source=LiveHome(), zone="UTC", devices={"car": car}),
        HomeConfig(source=LiveHome(), zone="UTC", devices={"car": car}, battery=battery),
    ):
        home = HomeEnergyManager(
            config, HomeState(0, START_MS), source, source.battery_wh, source.taken_wh
        )
        home.plug("car", True, 10_000)
        for minute in range(31):
            if config.battery is None:
                source.heard_power("load", START_MS + minute * MINUTE_MS, 4_000.0)
                if minute <= 15:
                    source.heard_power("car", START_MS + minute * MINUTE_MS, 3_200.0)
            else:
                source.heard_power("battery", START_MS + minute * MINUTE_MS, 0.0)
        view = MarketView(lambda ms: 300_000, 100_000)
        first, second = (home.deliver(START_MS + n * STEP_MS, STEP_MS, view) for n in range(2))
        assert (first.known, first.device_wh) == (True, {"car": 800})
        assert first.import_wh == (1_000 if in_load else 1_800)
        assert home.state.devices["car"].stored_uwh == 10_000_000_000 + 800 * car.charge_ppm
        # Where the car is not heard it is thought to take nothing: the load's meter has all.
        assert (second.known, second.device_wh) == (True, {"car": 0})
        assert second.import_wh == 1_000


def test_how_full_a_battery_is_holds_for_a_while(tmp_path: Path) -> None:
    source = live(tmp_path)
    assert source.soc(START_MS) is None
    source.heard_soc(START_MS, 0.62)
    for later_ms, soc in enumerate((-0.01, 1.01, float("nan")), start=1):
        source.heard_soc(START_MS + later_ms, soc)
    assert source.soc(START_MS + STALE_MS) == 0.62
    assert source.soc(START_MS + STALE_MS + 1) is None
    assert source.faults.counts == {"battery_soc": 3}
    source.heard_power("battery", START_MS, -1e9)
    assert source.last("battery") is None


def test_what_is_not_steered_is_not_promised() -> None:
    with pytest.raises(ConfigError, match="one battery is steered"):
        HomeConfig(source=LiveHome(), battery=Battery(), more_batteries={"shed": Battery()})
    HomeConfig(source=LiveHome(), battery=Battery())
    with pytest.raises(ConfigError, match=r"'heat' is of the kind heat_pump; .* car, appliance"):
        HomeConfig(source=LiveHome(), devices={"heat": HeatPump()})
    with pytest.raises(ConfigError, match="take another name"):
        HomeConfig(source=LiveHome(), devices={"battery": Car()})
    with pytest.raises(ConfigError, match="only a running node"):
        open_source(LiveHome(), ZoneInfo("UTC"))
    HomeConfig(source=CommunityHome(home=0), battery=Battery())
