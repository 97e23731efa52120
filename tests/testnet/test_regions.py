"""Several regions and their main chain are made to fit each other."""

from pathlib import Path

import pytest

from node.config import load_config
from node.genesis import Genesis, read_genesis
from node.membership.joining import capability
from node.setup import CONFIG_NAME, DATA_NAME, GENESIS_NAME, MAIN_GENESIS_NAME, MAIN_NAME, WAL_NAME
from node.tiers import check_main
from testnet.regions import create, neutral_names, regions_of
from testnet.street import (
    StreetError,
    StreetPlan,
    home_names,
    neighbourhood_of,
    open_street,
)


def test_homes_are_spread_over_regions_in_their_order() -> None:
    plan = StreetPlan(homes=14, regions=3)
    plan.check()
    assert [group.number for group in regions_of(plan)] == [1, 2, 3]
    assert [len(group.names) for group in regions_of(plan)] == [5, 5, 4]
    assert [name for group in regions_of(plan) for name in group.names][5:7] == [
        "home-06",
        "home-07",
    ]
    assert neutral_names(plan) == ["neutral-01"]
    assert neutral_names(StreetPlan(homes=8, regions=2)) == ["neutral-01", "neutral-02"]
    assert neutral_names(StreetPlan()) == []


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (StreetPlan(homes=11, regions=3), "4 authorities of 3 homes of a region"),
        (StreetPlan(homes=12, regions=0), "0 regions: one machine holds 1 to"),
        (StreetPlan(homes=68, regions=17), "17 regions"),
        (StreetPlan(homes=60, regions=2, authorities=25), "4 to 24 are needed"),
        (StreetPlan(homes=9, regions=2, speculators=1), "1 speculators: 0 to 0"),
    ],
)
def test_what_cannot_be_is_named(plan: StreetPlan, words: str) -> None:
    with pytest.raises(StreetError, match=words):
        plan.check()


def test_in_each_region_some_have_a_roof_and_some_have_none() -> None:
    # The founders of the Compose file's regions: they trade before anybody joins.
    plan = StreetPlan(homes=12, regions=3)
    homes = dict(zip(home_names(plan.homes), neighbourhood_of(plan).homes, strict=True))
    for group in regions_of(plan):
        roofs = [capability(homes[name]).export_cap_w > 0 for name in group.names]
        assert any(roofs)
        assert not all(roofs)


def test_regions_and_their_main_chain_name_each_other(tmp_path: Path) -> None:
    directory = tmp_path / "grid"
    plan = StreetPlan(homes=9, regions=2, synthetic=True)
    made = create(directory, plan)
    again = open_street(directory)
    assert again is not None
    assert (again.plan, again.names) == (plan, made.names)
    main = read_genesis(made.home("neutral-01") / GENESIS_NAME)
    seats: list[Genesis] = []
    for group in regions_of(plan):
        genesis = read_genesis(made.home(group.names[0]) / GENESIS_NAME)
        seats.append(genesis)
        check_main(genesis, main, directory)
        assert genesis.market.region is not None
        assert genesis.market.region.region == group.number
        assert [home.name for home in genesis.market.homes] == group.names
        assert genesis.authorities[0] in main.authorities
        for place, name in enumerate(group.names):
            config = load_config(made.home(name) / CONFIG_NAME, {})
            keeps_main = place < plan.authorities
            assert (config.main is not None) == keeps_main
            assert (made.home(name) / MAIN_GENESIS_NAME).exists() == keeps_main
            wal = made.home(name) / DATA_NAME / MAIN_NAME / WAL_NAME
            assert wal.exists() == keeps_main
            if config.main is not None:
                assert len(config.main.bootstrap) == 4 - (place == 0)
                assert config.main.listen != config.network.listen
    assert len({genesis.chain_id for genesis in (*seats, main)}) == 3
    assert len(main.authorities) == 4
    neutral = load_config(made.home("neutral-02") / CONFIG_NAME, {})
    assert (neutral.home, neutral.main) == (None, None)
    with pytest.raises(StreetError, match="which is not a street's"):
        create(directory, plan)
