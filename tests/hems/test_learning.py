from datetime import date
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hems import civil
from hems.civil import DAY_MS
from hems.config import ConstantHome, ForecastSettings, HomeConfig, ReplayHome
from hems.devices.loads import HeatPump
from hems.errors import ConfigError
from hems.forecast import boosted
from hems.home import HomeEnergyManager, MarketView
from hems.learning import HomeWeather
from tests.hems.forecast.homes import home

ZONE = "Australia/Adelaide"  # a half-hour zone with daylight saving
STEP_MS = 3_600_000
FIRST = date(2024, 7, 1)
DAYS = 130


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> HomeConfig:
    folder: Path = tmp_path_factory.mktemp("homes")
    values = home(DAYS, weekend=3.0).reshape(DAYS, 24) / 1000
    values[60, 5:9] = np.nan
    first = civil.day_number(FIRST)
    lines = ["time,home"]
    for day in range(DAYS):
        for hour, value in enumerate(values[day]):
            cell = "" if np.isnan(value) else f"{value:.4f}"
            lines.append(f"{civil.date_of(first + day)} {hour:02d}:00,{cell}")
    (folder / "home.csv").write_text("\n".join([*lines, ""]))
    source = ReplayHome(
        path=str(folder / "home.csv"), home="home", data_date=FIRST, market_date=FIRST
    )
    return HomeConfig(source=source, zone=ZONE)


def market() -> MarketView:
    return MarketView(lambda ms: 300_000, 100_000)


def at(day: int, hour: int) -> int:
    zone = civil.zone_of(ZONE)
    return civil.day_start_ms(civil.day_number(FIRST) + day, zone) + hour * STEP_MS


def test_a_node_restarted_at_noon_forecasts_what_it_forecast(
    config: HomeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boosted, "TREES", 12)
    kept, restarted = HomeEnergyManager(config), None
    start_ms = at(120, 0)
    for hour in range(13):
        slot_ms = start_ms + hour * STEP_MS
        if hour == 12:
            restarted = HomeEnergyManager(config, kept.state)
        told = kept.plan_slot(slot_ms, STEP_MS, market())
        if restarted is not None:
            again = restarted.plan_slot(slot_ms, STEP_MS, market())
            for ours, theirs in zip(told.load, again.load, strict=True):
                assert ours is not None
                assert theirs is not None
                assert np.array_equal(ours, theirs)
        kept.deliver(slot_ms, STEP_MS, market())


def test_the_level_of_a_day_is_that_of_a_node_restarted(config: HomeConfig) -> None:
    ridge = msgspec.structs.replace(config, forecast=ForecastSettings(model="ridge"))
    kept = HomeEnergyManager(ridge)._foresight._load_model
    levels = []
    for day in (113, 114, 117):
        trained = kept.at(at(day, 12), STEP_MS)
        again = HomeEnergyManager(ridge)._foresight._load_model.at(at(day, 0), STEP_MS)
        assert trained is not None
        assert again is not None
        assert trained.level == again.level
        levels.append(trained.level.factor)
    assert len(set(levels)) == len(levels)


def test_the_home_learns_its_weekends(config: HomeConfig) -> None:
    # The blend gives weekends a quarter of their due; a Saturday must be seen coming.
    saturday = next(
        day for day in range(110, 120) if civil.weekday(civil.day_number(FIRST) + day) == 5
    )

    def evening_wh(model: str) -> float:
        settings = msgspec.convert({"model": model}, ForecastSettings)
        manager = HomeEnergyManager(msgspec.structs.replace(config, forecast=settings))
        plan = manager.plan_slot(at(saturday, 0), STEP_MS, market())
        return float(plan.load.mean_wh[17:22].sum())

    assert evening_wh("ridge") > 1.1 * evening_wh("blend")


def test_training_crosses_the_change_of_clocks(config: HomeConfig) -> None:
    # Adelaide's clocks went forward on 6 October 2024, day 97.
    manager = HomeEnergyManager(config)
    for day in (96, 97, 98):
        whole = manager._foresight._load_model._history(civil.day_number(FIRST) + day, 60, STEP_MS)
        assert whole.shape == (60 * 24,)
        expected = home(DAYS, weekend=3.0)[(day - 1) * 24 : day * 24]
        skipped = 2 if day == 98 else None
        for hour in range(24):
            if hour == skipped:
                assert np.isnan(whole[-24 + hour])
            else:
                assert whole[-24 + hour] == pytest.approx(expected[hour], abs=1)


def test_the_built_in_community_is_not_learnt() -> None:
    from hems import neighbourhood

    manager = HomeEnergyManager(neighbourhood.built_in(1).homes[0])
    assert manager._foresight._load_model.at(20_000 * DAY_MS, STEP_MS) is None


def test_clouds_foretold_darken_the_afternoon(tmp_path: Path) -> None:
    from hems import neighbourhood

    base = neighbourhood.built_in(1).homes[0]
    zone = civil.zone_of(base.zone)
    start_ms = civil.day_start_ms(20_000, zone)
    bare = HomeEnergyManager(base)
    past = bare.source.window(start_ms - 40 * DAY_MS, start_ms, STEP_MS).pv_wh
    first = 20_000 - 40
    lines = ["time,irradiance_w_m2"]
    for step, wh in enumerate([*past, *(past[-24:] // 10)]):
        lines.append(f"{civil.date_of(first + step // 24)} {step % 24:02d}:00,{wh / 5:.1f}")
    (tmp_path / "weather.csv").write_text("\n".join([*lines, ""]))
    settings = ForecastSettings(weather=str(tmp_path / "weather.csv"))
    told = HomeEnergyManager(msgspec.structs.replace(base, forecast=settings))
    with_it = told.plan_slot(start_ms, STEP_MS, market()).pv.mean_wh
    assert with_it.sum() == pytest.approx(past[-24:].sum() / 10, rel=0.1)
    assert bare.plan_slot(start_ms, STEP_MS, market()).pv.mean_wh.sum() > 3 * with_it.sum()


def test_a_cold_snap_foretold_heats_more(tmp_path: Path) -> None:
    start_ms = civil.day_start_ms(20_000, civil.zone_of("Australia/Sydney"))
    # Freezing until noon; of the afternoon nothing is told, and the settings' curve stands.
    lines = [f"{civil.date_of(20_000)} {hour:02d}:00,-8" for hour in range(12)]
    (tmp_path / "cold.csv").write_text("\n".join(["time,temperature_c", *lines, ""]))
    plain = HomeConfig(source=ConstantHome(load_w=300), devices={"heat": HeatPump()})
    cold = ForecastSettings(weather=str(tmp_path / "cold.csv"))
    told = msgspec.structs.replace(plain, forecast=cold)
    plans = [HomeEnergyManager(of).plan_slot(start_ms, STEP_MS, market()) for of in (plain, told)]
    usual, more = (np.array(one.plan.device_wh["heat"]) for one in plans)
    assert more[:12].sum() > 1.5 * usual[:12].sum()
    weather = HomeWeather(cold, civil.zone_of("Australia/Sydney"))
    edges = start_ms + STEP_MS * np.array([0, 1, 3, 11, 13, 14])
    assert np.array_equal(weather.outdoor_c(edges), [-8, -8, -8, np.nan, np.nan], equal_nan=True)
    nothing = HomeWeather(ForecastSettings(), civil.zone_of("UTC"))
    assert np.isnan(nothing.outdoor_c(edges)).all()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="train_days 3"):
        ForecastSettings(train_days=3)
    with pytest.raises(ConfigError, match="retrain_days 0"):
        ForecastSettings(retrain_days=0)
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'oracle'"):
        msgspec.convert({"model": "oracle"}, ForecastSettings)
