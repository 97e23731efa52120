"""What a node tells of regions: the main chain's word where it keeps it, else its region's own."""

import asyncio
from typing import Any

import msgspec
import pytest

from consensus.light import SignedHeaders
from market.app import Application
from market.client import regions
from market.client.finality import RECORDS_KEPT, finality_of_slot
from node.api.regions import Regions
from node.api.views import Views
from node.cli.market import print_explained
from node.errors import ControlError
from tests.market.street import Street, params
from tests.regions.grid import BOND, ESCROW, SLOT, Main, Region


@pytest.fixture(scope="module")
def both() -> tuple[Region, Main]:
    region = Region(1)
    main = Main([region.sponsor])
    main.admit(region)
    region.trade(SLOT, [(1, "sell", 900, 90_000), (2, "buy", 500, 160_000)])
    region.meter(SLOT, [(0, 880), (500, 0), (0, 0), (0, 0)])
    for checkpoint in region.checkpoints:
        assert main.anchor(region, checkpoint).code == "ok"
    return region, main


async def nowhere(epoch: int, height: int) -> SignedHeaders:
    return ()


def told(own: Application, main: Application | None, name: str, **question: Any) -> Any:
    return asyncio.run(Regions(own, main, None, nowhere).table()[name](question))  # type: ignore[arg-type]


def test_the_main_chain_is_asked_where_it_is_kept(both: tuple[Region, Main]) -> None:
    region, main = both
    (row,) = told(region.app, main.app, "regions")
    assert (row["number"], row["status"], row["anchored"]) == (1, "live", len(region.checkpoints))
    assert (row["audited"], row["newest_slot"]) == (0, SLOT)
    found = told(region.app, main.app, "region")
    assert found["authorities"] == [one.public.hex() for one in region.seated]
    assert (found["funds"]["escrow_micro"], found["funds"]["bond_micro"]) == (ESCROW, BOND)
    assert found["inside"]["closed"] == len(region.checkpoints)
    # The region has not been shown what is anchored.
    assert found["inside"]["anchored"] == 0
    # The main chain's own nodes keep no region.
    assert told(main.app, main.app, "regions") == [row]
    with pytest.raises(ControlError, match="number is that of a region"):
        told(main.app, main.app, "region")


def test_a_home_tells_what_its_region_knows(both: tuple[Region, Main]) -> None:
    region, _ = both
    (row,) = told(region.app, None, "regions")
    assert (row["number"], row["closed"]) == (1, len(region.checkpoints))
    assert told(region.app, None, "region", number=1) == row
    with pytest.raises(ControlError, match="keeps region 1 only"):
        told(region.app, None, "region", number=2)
    with pytest.raises(ControlError, match="ask an authority of the region"):
        told(region.app, None, "checkpoint_proof", number=1)
    with pytest.raises(ControlError, match="is no region of a main chain"):
        told(Street(params()).app, None, "regions")


def test_bad_numbers_are_refused(both: tuple[Region, Main]) -> None:
    region, main = both
    for bad in (0, -1, 10**10, "1", 1.0, True):
        with pytest.raises(ControlError, match="number is that of a region"):
            told(region.app, main.app, "region", number=bad)
        with pytest.raises(ControlError, match=r"number is (a whole number|.*, allowed are 1 to)"):
            told(region.app, main.app, "checkpoint_proof", number=bad)


def test_a_slot_is_as_final_as_the_chain_asked_knows(
    both: tuple[Region, Main], capsys: pytest.CaptureFixture[str]
) -> None:
    region, main = both
    assert Views(region.app, main.app).finality(SLOT) == "anchored"
    assert Views(region.app, main.app).finality(SLOT + 1) == "regional"
    # Each trade says it: of its slot, and of the order that it filled.
    views = Views(region.app, main.app)
    assert views.trades({"slot": SLOT})["finality"] == "anchored"
    order = views.order(f"{SLOT}-1", SLOT, 1)
    assert order is not None
    assert (order["finality"], len(order["trades"])) == ("anchored", 1)
    print_explained({"id": "ab", "status": "pending", "order": msgspec.to_builtins(order)})
    assert "500 of 900 Wh traded, final: anchored" in capsys.readouterr().out
    assert Views(Street(params()).app).finality(SLOT) is None
    # By the region itself: as soon as it has been shown.
    assert Views(region.app).finality(SLOT) == "regional"
    assert main.head is not None
    region.ok(region.home_keys[0], regions.follow(main.signed_header(main.head)))
    region.ok(region.home_keys[0], main.anchored(1))
    assert Views(region.app).finality(SLOT) == "anchored"


def test_a_slot_stays_anchored_when_its_record_is_forgotten() -> None:
    """A home keeps slots longer than records, 64 of which are soon closed."""
    region = Region(1, homes=1)
    main = Main([region.sponsor])
    main.admit(region)
    for slot in (SLOT, SLOT + 2):
        region.meter(slot, [(100, 0)])
    settling = len(region.checkpoints)
    while len(region.checkpoints) < settling + RECORDS_KEPT - 1:
        region.block(at_ms=region.time_ms + 60_000)
    assert finality_of_slot(region.query, None, 1, SLOT) == "regional"
    posted = main.block([region.post(checkpoint) for checkpoint in region.checkpoints])
    assert {receipt.code for receipt in posted.result.receipts} == {"ok"}
    assert main.head is not None
    region.ok(region.home_keys[0], regions.follow(main.signed_header(main.head)))
    region.ok(region.home_keys[0], main.anchored(1))
    kept = region.query("export", "record", {"number": settling - 1})
    assert kept is None
    levels = [finality_of_slot(region.query, None, 1, SLOT + step) for step in (0, 1, 2, 3)]
    assert levels == ["anchored", "regional", "anchored", "regional"]


def test_what_is_sent_to_the_main_chain_is_explained_there(both: tuple[Region, Main]) -> None:
    """It has no homes whose names an account could have."""
    region, main = both
    assert Views(main.app).name_of(region.sponsor.address) == region.sponsor.address
    account = Views(main.app).account({"account": region.sponsor.address})
    assert (account["home"], account["account"].held_micro) == (None, BOND + ESCROW)
