"""Communities: drawn the same again, and those that cannot be are refused."""

import msgspec
import pytest

from study.ce.setting import Setting, Types, built_in_types, draw_users
from study.errors import SettingError
from study.money import FEED_IN_MICRO_PER_KWH, TARIFF_BANDS
from testnet import street

TYPES = built_in_types()


def test_the_built_in_types_are_as_many_as_the_papers() -> None:
    assert len(TYPES.load_w) == 15
    assert len(TYPES.pv_w_per_kwp) == 3


def test_the_same_seed_draws_the_same_users() -> None:
    assert draw_users(Setting(users=9), TYPES) == draw_users(Setting(users=9), TYPES)
    assert draw_users(Setting(users=9), TYPES) != draw_users(Setting(users=9, seed=2), TYPES)


def test_a_user_is_the_same_in_a_larger_community() -> None:
    few = draw_users(Setting(users=9, share_percent=0), TYPES)
    many = draw_users(Setting(users=20, share_percent=0), TYPES)
    assert many[:9] == few


def test_intervals_fill_the_day_with_the_energy_of_the_profile() -> None:
    for user in draw_users(Setting(users=20, share_percent=50, load_percent=100), TYPES):
        edges = [interval.start for interval in user.intervals] + [1_440]
        assert edges[0] == 0
        assert [interval.end for interval in user.intervals] == edges[1:]
        lengths = [interval.end - interval.start for interval in user.intervals]
        assert all(45 <= length <= 75 for length in lengths[:-1])
        assert user.load_wh == sum(TYPES.load_w[user.load_type])
        sun_w = [watts * 5 for watts in TYPES.pv_w_per_kwp[user.pv_type]]
        assert user.pv_wh == (sum(sun_w) if user.generates else 0)


def test_the_share_is_of_the_users() -> None:
    users = draw_users(Setting(users=60), TYPES)
    assert sum(user.generates for user in users) == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"users": 1}, "2 to 2000"),
        ({"users": 5_000}, "2 to 2000"),
        ({"share_percent": 101}, "0 to 100"),
        ({"share_percent": -1}, "0 to 100"),
        ({"users": 3, "share_percent": 10}, "is nobody: at least 17 %"),
        ({"load_percent": 0}, "1 to 10,000"),
        ({"settle_minutes": (75, 45)}, "in order"),
        ({"settle_minutes": (5, 45)}, "at least twice"),
        ({"block_minutes": 7}, "divisor of 60"),
        ({"storage_wh": -1}, "not negative"),
        ({"spread": 1.0}, "below 1"),
        ({"hours": (5, 5)}, "in order"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_be_right(
    changes: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        msgspec.structs.replace(Setting(), **changes).check()


def test_the_defaults_are_the_papers_tables_1_and_2() -> None:
    usual = Setting()
    assert (usual.hours, usual.users, usual.share_percent) == ((0, 24), 60, 20)
    assert (usual.pv_w, usual.storage_wh, usual.settle_minutes) == (5_000, 5_000, (45, 75))
    # Cents per kWh from an hour on, as printed; 10 c for what is fed in.
    printed = [(0, 17.7), (7, 27.71), (14, 54.11), (20, 27.71), (22, 17.7)]
    bands = tuple((60 * hour, round(cents * 10_000)) for hour, cents in printed)
    assert bands == TARIFF_BANDS == street.TARIFF_BANDS
    assert FEED_IN_MICRO_PER_KWH == street.FEED_IN_MICRO_PER_KWH == 100_000


def test_an_interval_over_an_hours_border_takes_of_each_hour_its_part() -> None:
    """CE 14, piecewise: P * ST / 60 of each hour that the interval touches."""
    hourly = (600, 1_200, 3_000, *(0,) * 21)
    types = Types("steps", (hourly,), ((100, 400, 0, *(0,) * 21),))
    setting = Setting(
        users=2, share_percent=50, load_percent=100, pv_w=2_000, settle_minutes=(50, 50)
    )
    for user in draw_users(setting, types):
        first, second, third = user.intervals[:3]
        assert [first.load_wh, second.load_wh] == [
            600 * 50 // 60,
            600 * 10 // 60 + 1_200 * 40 // 60,
        ]
        assert (third.start, third.end, third.load_wh) == (100, 150, 1_200 * 20 // 60 + 1_500)
        # The sun of 2 kWp: 200 W, then 800 W.
        sun = [166, 34 + 533, 267] if user.generates else [0, 0, 0]
        assert [interval.pv_wh for interval in user.intervals[:3]] == sun
