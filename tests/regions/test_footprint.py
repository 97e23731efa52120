"""What regions emitted: of what is anchored, by the main chain's own table."""

from market import client
from market.client.regions import Footprint, allot_footprint, footprints, open_footprint_period
from tests.market.street import INTENSITY
from tests.regions.grid import REGULATOR, SLOT, SLOT_MS, START_MS, Main, Region
from tests.regions.trading import World


def test_grid_energy_of_anchored_slots_is_counted_once_and_by_period() -> None:
    region, other = Region(1), Region(2)
    main = Main([region.sponsor, other.sponsor])
    for one in (region, other):
        main.admit(one)
    opened = open_footprint_period(SLOT + 1, SLOT + 3)
    assert main.ok(REGULATOR, opened).code == "ok"
    main.ok(REGULATOR, allot_footprint(1, [(1, 500_000), (2, 7)]))
    main.ok(REGULATOR, client.post_table("intensities", (SLOT + 2) * SLOT_MS, [[0, 10]]))
    for slot in (SLOT, SLOT + 1, SLOT + 2):
        region.meter(slot, [(500, 0), (0, 200), (300, 0), (0, 0)])
    for checkpoint in region.checkpoints:
        assert main.anchor(region, checkpoint).code == "ok"
    assert main.anchor(region, region.checkpoints[-1]).reason == "already_anchored"
    # 800 Wh from the grid, 200 Wh fed in, each slot; the last one at the new intensity.
    emitted = 800 * (2 * INTENSITY + 10)
    assert footprints(main.query) == [Footprint(1, 3, 2_400, 600, emitted, 0)]
    of_period = footprints(main.query, 1)
    assert of_period == [
        Footprint(1, 2, 1_600, 400, 800 * (INTENSITY + 10), 500_000),
        Footprint(2, 0, 0, 0, 0, 7),
    ]
    assert [one.excess_mg for one in of_period] == [800 * (INTENSITY + 10) - 500_000, 0]


def test_energy_of_other_regions_carries_none() -> None:
    world = World(2)
    seller, buyer = world.regions
    world.trade(SLOT, {1: [(1, "sell", 400, 90_000)], 2: [(1, "buy", 400, 190_000)]})
    world.anchor()
    world.close(SLOT)
    world.show()
    world.meter(
        SLOT, {1: [(0, 400), (0, 0), (0, 0), (0, 0)], 2: [(500, 0), (0, 0), (0, 0), (0, 0)]}
    )
    world.anchor()
    found = {one.region: one for one in footprints(world.main.query)}
    assert (found[seller.number].grid_wh, found[seller.number].emitted_mg) == (0, 0)
    assert (found[buyer.number].grid_wh, found[buyer.number].emitted_mg) == (100, 100 * INTENSITY)


def test_periods_and_quotas_are_the_regulators() -> None:
    region = Region(1)
    main = Main([region.sponsor])
    main.admit(region)
    opening = open_footprint_period(SLOT + 5, SLOT + 6)
    assert main.refusal(region.sponsor, opening).reason == "not_regulator"
    main.ok(REGULATOR, opening)
    again = open_footprint_period(SLOT + 5, SLOT + 9)
    assert main.refusal(REGULATOR, again).reason == "bad_argument"
    for call, reason in (
        (allot_footprint(2, [(1, 5)]), "unknown_period"),
        (allot_footprint(1, [(9, 5)]), "unknown_region"),
        (allot_footprint(1, [(1, 0)]), "bad_argument"),
        (allot_footprint(1, [(1, 10**15), (1, 1)]), "bad_argument"),
        (allot_footprint(1, []), "bad_argument"),
    ):
        assert main.refusal(REGULATOR, call).reason == reason
    past = client.post_table("intensities", START_MS, [[0, 10]])
    assert main.refusal(REGULATOR, past).reason == "too_late"
    for place in range(23):
        main.ok(REGULATOR, open_footprint_period(SLOT + 6 + place, SLOT + 7 + place))
    full = open_footprint_period(SLOT + 40, SLOT + 41)
    assert main.refusal(REGULATOR, full).reason == "too_many_periods"
    main.block(at_ms=(SLOT + 6) * SLOT_MS)
    main.ok(REGULATOR, full)
    periods = main.query("footprint", "periods", {})
    assert (len(periods), periods[0]["period"]) == (24, 2)
