from datetime import date
from pathlib import Path

import numpy as np
import pytest

from hems import civil
from hems.civil import DAY_MS, HOUR_MS, MINUTE_MS
from hems.config import CommunityHome, ReplayHome, open_source
from hems.devices import PvArray
from hems.errors import ConfigError, DataError

ZONE = civil.zone_of("Australia/Sydney")
FIRST = date(2024, 3, 4)
ARRAY = PvArray(area_m2=20, efficiency=0.2, rating_w=2_000)


@pytest.fixture
def home(tmp_path: Path) -> ReplayHome:
    """Three days of 1 kWh an hour; the sun stands for two of them, from 10 to 12."""
    rows = [(f"2024-03-{4 + day:02d}", hour) for day in range(3) for hour in range(24)]
    load = ["time,home", *(f"{day} {hour:02d}:00,1" for day, hour in rows)]
    sky = ["time,irradiance_w_m2"]
    for day, hour in rows[:48]:
        for half, light in enumerate({10: (250, 1000), 11: (800, "")}.get(hour, (0, 0))):
            sky.append(f"{day} {hour:02d}:{30 * half:02d},{light}")
    (tmp_path / "home.csv").write_text("\n".join([*load, ""]))
    (tmp_path / "sky.csv").write_text("\n".join([*sky, ""]))
    return ReplayHome(
        path=str(tmp_path / "home.csv"),
        home="home",
        data_date=FIRST,
        market_date=date(2026, 7, 6),
        array=ARRAY,
        irradiance=str(tmp_path / "sky.csv"),
    )


def test_production_is_that_of_the_array_under_the_files_sun(home: ReplayHome) -> None:
    # The file's days are moved, and its sun with them: from summer time to winter time.
    start_ms = civil.day_start_ms(civil.day_number(date(2026, 7, 6)), ZONE)
    day = open_source(home, ZONE).window(start_ms, start_ms + DAY_MS, HOUR_MS)
    # 20 m² of 20 %: half an hour at 250 W/m² is 500 Wh, then the inverter's 2 kW for another.
    assert day.pv_wh[10] == 500 + 1_000
    assert not day.known[11]  # half of it was not measured
    assert day.pv_wh[~np.isin(np.arange(24), (10, 11))].sum() == 0
    quarters = open_source(home, ZONE).window(start_ms, start_ms + DAY_MS, 15 * MINUTE_MS)
    assert quarters.pv_wh.sum() == 1_500


def test_where_the_sun_was_not_measured_nothing_is_known(home: ReplayHome) -> None:
    third = civil.day_start_ms(civil.day_number(date(2026, 7, 8)), ZONE)
    assert not open_source(home, ZONE).window(third, third + DAY_MS, HOUR_MS).known.any()


def test_what_cannot_be_is_refused(home: ReplayHome, tmp_path: Path) -> None:
    def other(**changed: object) -> ReplayHome:
        fields = {name: getattr(home, name) for name in home.__struct_fields__}
        return ReplayHome(**{**fields, **changed})

    with pytest.raises(ConfigError, match="give both"):
        other(irradiance=None)
    with pytest.raises(ConfigError, match="leave out pv"):
        other(pv=CommunityHome(home=0))
    warm = tmp_path / "warm.csv"
    warm.write_text("time,temperature_c\n2024-03-04 00:00,20\n2024-03-04 01:00,20\n")
    with pytest.raises(DataError, match="no irradiance_w_m2"):
        open_source(other(irradiance=str(warm)), ZONE)
