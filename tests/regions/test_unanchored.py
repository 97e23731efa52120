"""How long a region trades without its main chain, and that it returns; on both engines."""

import msgspec
import pytest

from market import client
from market.errors import ParamsError
from tests.market.vm.cpython import CPythonEngine
from tests.regions.grid import BLOCK_MS, SLOT, SLOT_MS, Region
from tests.regions.trading import World

LIMIT_MS = 4 * SLOT_MS
SUNNY = [(1, "sell", 900, 90_000), (3, "buy", 300, 150_000)]
SUNNY_READ = [(0, 880), (0, 0), (310, 0), (40, 0)]
DARK = [(1, "buy", 500, 160_000), (2, "sell", 200, 120_000)]
DARK_READ = [(510, 0), (0, 150), (75, 0), (0, 0)]


def shown(world: World, region: Region) -> None:
    """Show a region by the main chain's last block what of it is anchored."""
    main = world.main
    main.block()
    assert main.head is not None
    region.ok(region.home_keys[0], client.regions.follow(main.signed_header(main.head)))
    region.ok(region.home_keys[0], main.anchored(region.number))


def names_of(region: Region, first: int = 0) -> list[str]:
    found = [event.name for block in region.blocks[first:] for event in block.result.events]
    return [name for name in found if name.startswith("trading_")]


def test_a_region_trades_for_so_long_without_the_main_chain_and_returns() -> None:
    world = World(twin=CPythonEngine, unanchored_max_ms=LIMIT_MS)
    sunny, dark = world.regions
    for slot in (SLOT, SLOT + 2):
        world.trade(slot, {1: SUNNY, 2: DARK})
        world.meter(slot, {1: SUNNY_READ, 2: DARK_READ})
        world.anchor()
        for region in world.regions:
            shown(world, region)
    assert sunny.query("export", "anchored", {})["time_ms"] == anchored_ms(world, sunny)
    # The main chain is away. An order of before the limit stands for a slot after it.
    last_ms = anchored_ms(world, sunny) + LIMIT_MS
    late = last_ms // SLOT_MS + 2
    sunny.ok(sunny.home_keys[0], client.post_order(late, "sell", 400, 90_000))
    sunny.ok(sunny.home_keys[2], client.post_order(late, "buy", 300, 150_000))
    buy = client.post_order(late + 1, "buy", 100, 150_000)
    (receipt,) = sunny.block([(sunny.home_keys[1], buy)], at_ms=last_ms).result.receipts
    assert (receipt.code, names_of(sunny)) == ("ok", [])
    refused = sunny.refusal(sunny.home_keys[1], buy)
    assert names_of(sunny) == ["trading_suspended"]
    assert (refused.reason, sunny.query("export", "is_suspended", {})) == ("unanchored", True)
    # What stood is cleared at its gate; what that leaves is offered to nobody.
    offered = len(sunny.offers)
    sunny.block(at_ms=late * SLOT_MS - SLOT_MS // 3)
    assert client.slot_summary(sunny.query, late).traded_wh == 300
    assert sunny.query("export", "offered", {"slot": late}) is None
    # And settled; records are closed as ever, and the slot without trades is the grid's.
    closed = len(sunny.checkpoints)
    sunny.meter(late, [(0, 400), (0, 0), (300, 0), (0, 0)])
    sunny.meter(late + 1, [(0, 0), (100, 0), (0, 0), (0, 0)])
    bills = client.bills_of_slot(sunny.query, late + 1)
    assert [(bill.bought_wh, bill.grid_wh) for bill in bills][1] == (0, 100)
    assert len(sunny.checkpoints) > closed
    # The main chain is back: it takes all of it; once that is shown, the region trades again.
    world.anchor()
    shown(world, sunny)
    assert names_of(sunny) == ["trading_suspended"]
    sunny.block()
    assert names_of(sunny) == ["trading_suspended", "trading_resumed"]
    slot = sunny.time_ms // SLOT_MS + 2
    sunny.trade(slot, SUNNY)
    assert len(sunny.offers) > offered
    # Nobody else was in its way.
    assert names_of(dark) == []
    dark.meter(late, DARK_READ)
    world.anchor()
    world.close(slot)
    world.show()
    world.check()


def anchored_ms(world: World, region: Region) -> int:
    """Return when the record was closed that is anchored last."""
    found: int = world.main.query("anchor", "last", {"region": region.number})["header_ms"]
    return found


def test_who_is_never_let_in_trades_for_so_long_too() -> None:
    region = Region(1, unanchored_max_ms=LIMIT_MS, twin=CPythonEngine())
    began_ms = region.time_ms
    region.trade(SLOT, SUNNY)
    region.block(at_ms=began_ms + LIMIT_MS - BLOCK_MS)
    slot = region.time_ms // SLOT_MS + 2
    order = client.post_order(slot, "buy", 100, 150_000)
    region.ok(region.home_keys[1], order)
    assert region.refusal(region.home_keys[1], order).reason == "unanchored"
    # Whoever has an order takes it back as ever.
    region.ok(region.home_keys[1], client.withdraw_order(f"{slot}-1"))


def test_the_limit_lets_a_region_close_a_record_first() -> None:
    member = Region(1, homes=1).app.params.region
    assert member is not None
    for bad in (0, 2 * member.checkpoint_ms - 1, 91 * 24 * 3_600_000, True):
        with pytest.raises(ParamsError, match=r"region\.unanchored_max_ms must be an integer from"):
            msgspec.structs.replace(member, unanchored_max_ms=bad).check()
