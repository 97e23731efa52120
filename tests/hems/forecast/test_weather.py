from datetime import date
from pathlib import Path

import numpy as np
import pytest

from hems import civil
from hems.errors import ConfigError, DataError
from hems.forecast import weather
from hems.forecast.blend import pv_blend

STEPS = 24
ZONE = civil.zone_of("Australia/Sydney")
HOURS = np.arange(STEPS)
BELL = np.maximum(0.0, np.sin((HOURS - 6) / 12 * np.pi)) * 900
# A roof that looks west.
YIELD = np.where(HOURS < 12, 1.0, 3.0)


def cloudy(days: int) -> np.ndarray:
    sky = np.random.default_rng(2).uniform(0.2, 1.0, days)
    return np.outer(sky, BELL).ravel()


def test_a_dark_day_to_come_is_forecast_dark() -> None:
    light = cloudy(29)
    made = (light.reshape(-1, STEPS) * YIELD).ravel()
    light[28 * STEPS :] = BELL * 0.1
    plain = pv_blend(made[: 28 * STEPS], STEPS, STEPS)
    moved = weather.pv_by_irradiance(
        plain, made[: 28 * STEPS], light[: 28 * STEPS], light[28 * STEPS :], STEPS, STEPS
    )
    assert np.allclose(moved.mean_wh, BELL * 0.1 * YIELD, atol=1e-6)
    assert (moved.low_wh <= moved.mean_wh).all()
    assert (moved.mean_wh <= moved.high_wh).all()


def test_where_the_weather_is_unknown_the_forecast_stands() -> None:
    light = cloudy(28)
    made = light * 2
    plain = pv_blend(made, STEPS, STEPS)
    ahead = np.full(STEPS, np.nan)
    ahead[12] = 100.0
    moved = weather.pv_by_irradiance(plain, made, light, ahead, STEPS, STEPS)
    assert moved.mean_wh[12] == pytest.approx(200)
    others = HOURS != 12
    assert np.array_equal(moved.mean_wh[others], plain.mean_wh[others])
    unknown = weather.pv_by_irradiance(plain, made, np.full(len(made), np.nan), BELL, STEPS, STEPS)
    assert np.array_equal(unknown.mean_wh, plain.mean_wh)


def test_weather_is_used_where_it_helps() -> None:
    light = cloudy(28)
    made = light * 2
    assert weather.helps(made, light, STEPS)
    elsewhere = np.random.default_rng(9).permutation(light.reshape(-1, STEPS)).ravel()
    assert not weather.helps(made, elsewhere, STEPS)
    assert not weather.helps(np.zeros(0), np.zeros(0), STEPS)


def test_a_file_is_read_on_the_homes_clock(tmp_path: Path) -> None:
    file = tmp_path / "weather.csv"
    rows = [f"2024-01-01 {hour:02d}:00,{10 * hour},{hour - 5}" for hour in range(24) if hour != 3]
    file.write_text("\n".join(["time,irradiance_w_m2,temperature_c", *rows, ""]))
    read = weather.FileWeather(file, ZONE)
    midnight_ms = civil.day_start_ms(civil.day_number(date(2024, 1, 1)), ZONE)
    got = read.window(midnight_ms - 3_600_000, 10, 1_800_000)
    assert np.isnan(got.irradiance_w_m2[:2]).all()
    assert got.irradiance_w_m2[2:8].tolist() == [0, 0, 10, 10, 20, 20]
    assert np.isnan(got.irradiance_w_m2[8:]).all()
    assert got.temperature_c[4] == -4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("when,sun\n", "line 1: columns"),
        ("time,irradiance_w_m2\n2024-01-01 00:00,5\n", "1 rows of weather"),
        ("time,irradiance_w_m2\n2024-01-01 00:00,5\nyesterday,5\n", "line 3: time 'yesterday'"),
        ("time,irradiance_w_m2\n2024-01-01 01:00,5\n2024-01-01 00:00,5\n", "must ascend"),
        ("time,irradiance_w_m2\n2024-01-01 00:00,5\n2024-01-01 01:00,9000\n", "0 to 1500 can be"),
        ("time,temperature_c\n2024-01-01 00:00,5\n2024-01-01 01:00,warm\n", "not a number"),
        ("time,temperature_c\n2024-01-01 00:00,5\n2024-01-01 01:00,5,6\n", "3 fields"),
        ("time,temperature_c\n2024-01-01 00:00,5\n2024-01-01 00:07,5\n", "step of 7 minutes"),
        (
            "time,temperature_c\n2024-01-01 00:00,5\n2024-01-01 00:30,5\n2224-01-01 00:30,5\n",
            "3 of them there",
        ),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "weather.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=says):
        weather.FileWeather(file, ZONE)


def test_a_missing_file_and_an_impossible_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        weather.FileWeather(tmp_path / "none.csv", ZONE)
    with pytest.raises(ConfigError, match="latitude 133"):
        weather.Location(133.0, 20.0)


def test_the_clear_sky_is_brightest_at_noon() -> None:
    pytest.importorskip("pvlib", reason="needs the extra `solar`")
    sky = weather.ClearSky(weather.Location(-33.9, 151.2))
    midnight_ms = civil.day_start_ms(20_000, ZONE)
    light = sky.window(midnight_ms, 24, 3_600_000).irradiance_w_m2
    assert 10 <= int(np.argmax(light)) <= 13
    assert light[0] == 0
    assert light.max() > 500
