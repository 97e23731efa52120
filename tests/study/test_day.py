"""Days of tiny communities on the real contracts."""

from functools import cache

import pytest

from study.ce.day import Community, Day
from study.ce.setting import Setting, Types, built_in_types

# One uses 1.2 kW all day; the sun gives 2.4 kW in each hour.
FLAT = Types("flat", ((1_200,) * 24,), ((1_000,) * 24,))
PLAIN = Setting(users=3, share_percent=33, load_percent=100, pv_w=2_400, spread=0.0, hours=(12, 14))


@cache
def lived() -> tuple[Community, Day]:
    community = Community(PLAIN, FLAT)
    return community, community.live()


def test_nothing_is_refused_and_all_is_settled() -> None:
    _, day = lived()
    assert day.refused == {}
    assert len(day.hours) == 2


def test_need_is_what_the_grid_and_the_neighbours_supply() -> None:
    _, day = lived()
    for hour in day.hours:
        assert hour.need_wh + hour.returned_wh == hour.grid_wh + hour.traded_wh
        assert hour.returned_wh <= 2


def test_a_generator_gives_what_it_has_over_and_no_more() -> None:
    community, day = lived()
    generators = day.generators
    assert generators.users == 1
    assert generators.import_wh == generators.grid_wh == 0
    surplus_wh = generators.pv_wh - generators.load_wh
    assert generators.sold_wh + generators.fed_in_wh + day.stored_wh == surplus_wh
    assert generators.sold_wh > 0
    assert day.consumers.bought_wh == generators.sold_wh
    assert len(community.stores) == 1


def test_requests_of_the_same_time_are_served_side_by_side() -> None:
    # Four homes have 1.2 kWh over, four ask for as much at once, and each is enough for one.
    setting = Setting(
        users=8, share_percent=50, load_percent=100, pv_w=2_400, hours=(12, 13),
        settle_minutes=(60, 60),
    )  # fmt: skip
    day = Community(setting, FLAT).live()
    assert day.hours[0].need_wh == 4 * 1_200
    assert day.hours[0].traded_wh >= 2 * 1_200


def test_consumers_use_what_they_need_and_pay_less_than_before() -> None:
    _, day = lived()
    ones = day.consumers
    assert ones.import_wh == ones.load_wh == 2 * 2 * 1_200
    assert ones.paid_micro < ones.gross_micro
    assert day.generators.paid_micro < 0


def test_the_traditional_bill_meters_use_and_generation_apart() -> None:
    _, day = lived()
    # 12 to 14 h costs 27.71 c, and what is generated brings 10 c.
    assert day.consumers.gross_micro == pytest.approx(4.8 * 277_100, abs=2)
    assert day.generators.gross_micro == pytest.approx(2.4 * 277_100 - 4.8 * 100_000, abs=2)


def test_without_generators_the_grid_serves_all() -> None:
    setting = Setting(users=2, share_percent=0, load_percent=100, hours=(0, 1))
    day = Community(setting, built_in_types()).live()
    assert day.trades == 0
    assert day.hours[0].grid_wh == day.hours[0].need_wh > 0
    assert day.consumers.paid_micro == pytest.approx(day.consumers.gross_micro, abs=4)
    assert day.generators.users == 0
