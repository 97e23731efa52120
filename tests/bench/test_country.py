"""A country on paper, and the exponents of what grows."""

import pytest

from bench.country import RegionCost, exponent, plan, regions_max

COST = RegionCost(
    homes=500, region_s=0.9, region_bytes=200_000, memory_mib=40, main_s=0.009, main_bytes=10_000
)


def test_a_country_is_its_regions_and_one_main_chain() -> None:
    found = plan(COST, homes=10_000)
    assert found.regions == 20
    assert found.region_share == pytest.approx(0.9 / 900)
    assert found.main_share == pytest.approx(20 * 0.009 / 900)
    assert found.region_gib_a_year == pytest.approx(200_000 * 35_040 / 2**30)
    assert found.main_tib_a_year == pytest.approx(20 * 10_000 * 35_040 / 2**40)
    assert found.main_mb_s == pytest.approx(20 * 10_000 / 900 / 1e6)


def test_homes_left_over_are_a_region_too() -> None:
    assert plan(COST, homes=501).regions == 2


def test_shorter_slots_cost_more_a_year_by_as_much() -> None:
    usual, short = plan(COST), plan(COST, slot_s=300)
    assert short.region_gib_a_year == pytest.approx(3 * usual.region_gib_a_year)
    assert short.main_share == pytest.approx(3 * usual.main_share)


def test_a_country_without_homes_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        plan(COST, homes=0)


def test_one_main_chain_carries_what_keeps_half_a_core_busy() -> None:
    assert regions_max(COST) == 50_000


def test_an_exponent_is_that_of_the_growth() -> None:
    sizes = [10.0, 100.0, 1_000.0]
    assert exponent(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx(1.5)
    assert exponent(sizes, [7.0, 7.0, 7.0]) == pytest.approx(0)


@pytest.mark.parametrize(
    ("sizes", "costs"), [([10.0], [1.0]), ([10.0, 10.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 1.0])]
)
def test_what_has_no_exponent_is_refused(sizes: list[float], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="two different sizes"):
        exponent(sizes, costs)
