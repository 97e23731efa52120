"""Types of files of measurements."""

from datetime import date, timedelta
from pathlib import Path

import pytest

from study.ce.data import types_of
from study.ce.setting import built_in_types
from study.errors import DataError


def written(path: Path, homes: int, days: int, pv: bool = False) -> Path:
    """Homes that use 0.1 kWh an hour more each than the one before, and twice that on weekends."""
    names = [f"home_{number}" for number in range(1, homes + 1)]
    lines = ["time," + ",".join(names) + (",home_1_pv" if pv else "")]
    for day in range(days):
        today = date(2012, 11, 5) + timedelta(days=day)
        double = 2 if today.weekday() >= 5 else 1
        for hour in range(24):
            use = [f"{number * double / 10:.1f}" for number in range(1, homes + 1)]
            sun = [f"{(2.0 if hour == 12 else 0.5) if 6 <= hour < 18 else 0.0}"] if pv else []
            lines.append(f"{today} {hour:02}:00," + ",".join([*use, *sun]))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_each_home_is_two_types_and_all_are_one_more(tmp_path: Path) -> None:
    types = types_of(written(tmp_path / "homes.csv", 7, 14), "Australia/Sydney")
    assert [profile[0] for profile in types.load_w] == [
        *(100 * n for n in range(1, 8)),
        *(200 * n for n in range(1, 8)),
        600,
    ]
    assert types.pv_w_per_kwp == built_in_types().pv_w_per_kwp
    assert types.name == "homes.csv, PV built-in"


def test_production_is_of_a_kilowatt_of_the_highest_step(tmp_path: Path) -> None:
    types = types_of(written(tmp_path / "homes.csv", 7, 14, pv=True), "Australia/Sydney")
    assert len(types.pv_w_per_kwp) == 3
    assert types.pv_w_per_kwp[0][12] == 1_000
    assert types.pv_w_per_kwp[0][6] == 250
    assert types.pv_w_per_kwp[0][0] == 0


@pytest.mark.parametrize(
    ("homes", "days", "said"), [(6, 14, "takes 7 homes"), (8, 6, "have fewer days")]
)
def test_too_few_homes_or_days_are_refused(
    tmp_path: Path, homes: int, days: int, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        types_of(written(tmp_path / "homes.csv", homes, days), "Australia/Sydney")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        types_of(tmp_path / "none.csv", "Australia/Sydney")
