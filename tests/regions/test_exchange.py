"""Trade across regions: offered, cleared, claimed or refunded; every rule of X1 to X10 once."""

import asyncio
from typing import Any

import msgspec
import pytest

from consensus.authorities import AuthoritySet
from consensus.light import SignedHeader, SignedHeaders
from market import client
from market.client import regions
from market.errors import ParamsError
from market.tiers import ExchangeRules, ExportRules
from market.vm import merkle
from node.api.regions import Regions
from node.api.views import Views
from node.cli.market import print_trades
from node.home.trading import contracted_wh
from node.regions.exchange import (
    ENDS_AT_ONCE_MAX,
    ends_due,
    make_offers,
    offers_due,
    still_open,
)
from tests.market.street import TARIFF
from tests.market.vm.cpython import CPythonEngine
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import (
    BOND,
    ESCROW,
    MAIN_ID,
    MAIN_KEYS,
    SLOT,
    SLOT_MS,
    Main,
    Region,
    certify,
)
from tests.regions.trading import World
from wire.codec import Plain, encode

# Region 1 has sun to spare, region 2 lacks it.
SUNNY = [(1, "sell", 900, 90_000), (2, "sell", 400, 110_000), (3, "buy", 300, 150_000)]
DARK = [(1, "buy", 500, 250_000), (2, "buy", 200, 130_000), (3, "buy", 300, 100_000)]
SUNNY_READ = [(0, 900), (0, 400), (300, 0), (0, 0)]
DARK_READ = [(500, 0), (200, 0), (300, 0), (0, 0)]
FEE = 20_000


def traded(world: World, slot: int = SLOT) -> None:
    """Trade at home, and have what is left cleared on the main chain."""
    world.trade(slot, {1: SUNNY, 2: DARK})
    world.anchor()
    world.close(slot)


def sold_in(world: World, slots: int) -> Any:
    """Return what a node that keeps both chains tells of the last slots."""
    table = Regions(world.regions[0].app, world.main.app, None, no_headers).table()
    return asyncio.run(table["flows"]({"slots": slots}))  # type: ignore[arg-type]


async def no_headers(epoch: int, height: int) -> SignedHeaders:
    return ()


def test_what_one_region_lacks_another_sells() -> None:
    world = World(twin=CPythonEngine)
    sunny, dark = world.regions
    traded(world)
    # 600 Wh are left at 90, 400 at 110; the bid at the tariff is lifted by the grid no more.
    assert sunny.query("export", "offered", {"slot": SLOT})["steps"] == [
        [1, 600, 90_000],
        [1, 400, 110_000],
    ]
    assert dark.query("export", "offered", {"slot": SLOT})["steps"] == [
        [0, 500, TARIFF],
        [0, 200, 130_000],
        [0, 300, 100_000],
    ]
    cleared = world.main.query("exchange", "cleared", {"slot": SLOT})
    # (90 + 200 - 20) / 2 for 500, (90 + 130 - 20) / 2 for 100, (110 + 130 - 20) / 2 for 100.
    cost = 67_500 + 10_000 + 11_000
    assert cleared["flows"] == [[2, 1, 700, cost, 700 * FEE // 1000]]
    assert sold_in(world, 1) == {
        "first_slot": SLOT,
        "last_slot": SLOT,
        "flows": [
            {
                "seller": 1,
                "buyer": 2,
                "energy_wh": 700,
                "cost_micro": cost,
                "fee_micro": 700 * FEE // 1000,
            }
        ],
    }
    world.check()
    world.show()
    world.check()
    # The homes plan with it: 300 are sold at home, 600 elsewhere.
    assert contracted_wh(sunny.query, sunny.app.params, SLOT, 1) == -900
    assert contracted_wh(dark.query, dark.app.params, SLOT, 2) == 200
    world.meter(SLOT, {1: SUNNY_READ, 2: DARK_READ})
    world.check()
    bills = client.bills_of_slot(dark.query, SLOT)
    assert [(bill.bought_wh, bill.grid_wh) for bill in bills[:3]] == [(500, 0), (200, 0), (0, 300)]
    assert bills[0].trades_cost_micro + bills[0].fees_micro == 67_500 + 10_000
    assert bills[0].carbon_mg == 0
    bills = client.bills_of_slot(sunny.query, SLOT)
    assert [(bill.sold_wh, bill.fed_in_wh) for bill in bills[:2]] == [(900, 0), (100, 300)]
    assert all(bill.total_micro <= bill.grid_only_micro for bill in bills)
    # What was sold is due until it is anchored that the seller's homes were settled with it.
    funds = world.main.query("regions", "funds", {"region": 1})
    assert funds == {"escrow_micro": ESCROW, "bond_micro": BOND, "due_micro": cost}
    world.anchor()
    funds = world.main.query("regions", "funds", {"region": 1})
    assert funds == {"escrow_micro": ESCROW + cost, "bond_micro": BOND, "due_micro": 0}
    world.check()


def test_who_looks_at_an_order_sees_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    sunny, dark = world.regions
    traded(world)
    views = Views(dark.app)
    waiting = views.order(f"{SLOT}-2", SLOT, 2)
    assert waiting is not None
    assert (waiting["residual_wh"], waiting["elsewhere"]) == (200, [])
    world.show()
    found = views.order(f"{SLOT}-2", SLOT, 2)
    assert found is not None
    assert found["residual_wh"] == 0
    (row,) = found["elsewhere"]
    assert (row["home_name"], row["bought_wh"], row["cost_micro"]) == ("home 2", 200, 21_000)
    everybody = views.trades({"slot": SLOT, "home": None})
    one = Views(sunny.app).trades({"slot": SLOT, "home": "home 2"})
    for shown in (everybody, one):
        print_trades(msgspec.to_builtins(shown))
    said = [line.split() for line in capsys.readouterr().out.splitlines() if "other" in line]
    assert [line[:5] for line in said] == [
        ["home", "1", "other", "regions", "500"],
        ["home", "2", "other", "regions", "200"],
        ["other", "regions", "home", "2", "100"],
    ]


def test_nothing_is_offered_that_would_harm_its_owner() -> None:
    """X1 and X2: what is left, within the region's own limits."""
    rules = ExportRules(energy_max_wh=1_000, sell_min_micro_per_kwh=100_000)
    region = Region(1, homes=8, exports=rules)
    extra = {"green": True}
    one = region.home_keys
    calls = [
        (one[0], client.post_order(SLOT, "sell", 300, 90_000)),
        (one[1], client.post_order(SLOT, "sell", 800, 120_000)),
        (one[2], client.post_order(SLOT, "buy", 400, 80_000, **extra)),
        (one[3], client.post_order(SLOT, "buy", 400, 70_000, partner=1)),
        (one[4], client.post_order(SLOT, "buy", 400, 60_000)),
    ]
    assert {r.code for r in region.block(calls).result.receipts} == {"ok"}
    region.block(at_ms=SLOT * SLOT_MS - SLOT_MS // 3)
    offered = region.query("export", "offered", {"slot": SLOT})
    # The dear one is cut to the limit; who names a partner, or wants it green, trades at home only.
    assert offered["steps"] == [[1, 300, 100_000], [1, 700, 120_000], [0, 400, 60_000]]
    with pytest.raises(ParamsError, match="what is left of orders is exported"):
        Region(1, exports=rules, mechanism="sharing")


def test_many_prices_make_a_ladder_of_eight() -> None:
    region = Region(1, homes=12, exports=ExportRules())
    region.trade(SLOT, [(home, "sell", 100, 90_000 + 1_000 * home) for home in range(1, 13)])
    steps = region.query("export", "offered", {"slot": SLOT})["steps"]
    assert len(steps) == 8
    assert sum(step[1] for step in steps) == 1_200
    # A step's limit is its worst order's: nobody sells for less than was asked.
    assert [step[2] for step in steps] == [
        92_000, 93_000, 95_000, 96_000, 98_000, 99_000, 101_000, 102_000
    ]  # fmt: skip


def test_prices_beyond_the_exchanges_are_brought_within() -> None:
    dear = {"price_max_micro_per_kwh": 10**9, "tariffs": ((0, ((0, 10**9),)),)}
    region = Region(1, exports=ExportRules(), balance_micro=10**9, **dear)
    region.trade(SLOT, [(1, "buy", 300, 10**9), (2, "sell", 200, 2 * 10**8)])
    # The neighbour's ask is taken at home; what the grid would lift is bid at the most there is.
    assert region.query("export", "offered", {"slot": SLOT})["steps"] == [[0, 100, 10**8]]
    limited = ExportRules(buy_max_micro_per_kwh=120_000)
    region = Region(1, exports=limited)
    region.trade(SLOT, [(1, "buy", 300, 250_000), (2, "buy", 200, 110_000)])
    steps = region.query("export", "offered", {"slot": SLOT})["steps"]
    assert steps == [[0, 300, 120_000], [0, 200, 110_000]]


def test_lines_within_the_region_bound_what_leaves_it() -> None:
    # A quarter of an hour: 500 Wh at the substation, 300 Wh to the second and the third home.
    lines = ((1, 0, 2_000), (2, 1, 1_200))
    region = Region(1, exports=ExportRules(), lines=lines, line_of=(1, 2, 2, 2))
    orders = [(1, "sell", 400, 90_000), (2, "sell", 900, 95_000), (3, "buy", 700, 250_000)]
    region.trade(SLOT, [*orders, (4, "buy", 500, 85_000)])
    # At home the first sells 300, which fill the second line downwards, and the second 300.
    # Of the 700 that are left, 500 get through the first line; what is bid cannot be brought.
    assert region.query("export", "offered", {"slot": SLOT})["steps"] == [
        [1, 100, 90_000],
        [1, 400, 95_000],
    ]


def test_lines_and_escrow_bound_the_trade() -> None:
    """X5: two zones, a line of 800 W: 200 Wh a slot; the third region pays what it has."""
    rules = ExchangeRules(
        zones=(0, 1, 0),
        fees=((10_000, 30_000), (30_000, 10_000)),
        capacities_w=((1_000_000, 800), (800, 1_000_000)),
    )
    world = World(3, exchange=rules, twin=CPythonEngine)
    poor = world.regions[2]
    world.main.ok(poor.sponsor, regions.withdraw(3, ESCROW - 20_000))
    world.trade(SLOT, {1: SUNNY, 2: DARK, 3: [(1, "buy", 400, 190_000)]})
    world.anchor()
    world.close(SLOT)
    flows = world.main.query("exchange", "cleared", {"slot": SLOT})["flows"]
    bought = {row[0]: row for row in flows}
    assert bought[2][2] == 200
    # 100 Wh at (90 + 180) / 2 and 10 of fee a kWh, 35 at (110 + 180) / 2 and 10: 19.925 of the 20.
    assert bought[3][2:] == [135, 18_575, 1_350]
    funds = world.main.query("regions", "funds", {"region": 3})
    assert 0 <= funds["escrow_micro"] == 20_000 - 18_575 - 1_350


def test_a_region_that_is_not_there_is_not_waited_for() -> None:
    """X4 and X8: its offer comes too late; it is shown that nothing came of it."""
    world = World(3, twin=CPythonEngine)
    sunny, dark, halted = world.regions
    world.trade(SLOT, {1: SUNNY, 2: DARK, 3: DARK})
    world.anchor(sunny, dark)
    world.close(SLOT)
    world.show(sunny, dark)
    world.check()
    for checkpoint in halted.checkpoints:
        assert world.main.anchor(halted, checkpoint).code == "ok"
    assert still_open(halted.offers, world.main.app) == []
    assert offers_due(halted.offers, world.main.app) == []
    late = halted.offers[0].call()
    assert world.main.refusal(halted.seated[0], late).reason == "too_late"
    calls = world.due(halted)
    assert [call.entry for _, call in calls] == ["follow", "refund"]
    world.show(halted)
    assert world.status(halted, SLOT) == "refunded"
    halted.block()
    assert halted.refusal(*calls[1]).reason == "already_refunded"
    world.meter(SLOT, {1: SUNNY_READ, 2: DARK_READ, 3: DARK_READ})
    world.check()
    assert client.slot_summary(halted.query, SLOT).grid_wh == 1_000


def test_each_result_is_shown_once_and_only_as_it_is() -> None:
    """X6 and X7."""
    world = World(twin=CPythonEngine)
    sunny, dark = world.regions
    world.trade(SLOT, {1: SUNNY, 2: DARK})
    world.anchor()
    member = dark.home_keys[0]
    main = world.main

    def refused(call: regions.Call) -> str:
        return dark.refusal(member, call).reason

    def refund() -> regions.Call:
        key = regions.result_key(2, SLOT)
        window = main.app.value(regions.WINDOW_KEY)
        assert window is not None
        proofs = [encode(main.app.prove(name)) for name in (regions.WINDOW_KEY, key)]
        return regions.refund(main.height, SLOT, window, *proofs)

    def follow() -> None:
        assert main.head is not None
        dark.ok(member, regions.follow(main.signed_header(main.head)))

    # Nothing can be refunded while it may still be traded.
    follow()
    assert refused(refund()) == "too_early"
    world.close(SLOT)
    (_, shown), (_, claim) = world.due(dark)
    assert refused(claim) == "unknown_header"
    dark.ok(member, shown)
    # It was traded: there is no proof that it was not.
    assert refused(refund()) == "not_proven"
    others = ends_due(sunny.app, main.app, main.signed_header(main.blocks[-1]))[1]
    assert refused(others) == "not_proven"
    for changed in ({"value": encode({"rows": []}).hex()}, {"proof": "00"}, {"slot": SLOT + 1}):
        reason = refused(claim._replace(args=claim.args | changed))
        assert reason in ("not_proven", "unknown_offer")
    dark.ok(member, claim)
    dark.block()
    assert refused(claim) == "already_claimed"
    assert refused(refund()) == "already_claimed"
    world.check()


@pytest.mark.parametrize(
    ("rows", "number", "reason"),
    [
        ([[0, 500, 67_500, 10_000, 1]], 2, "fork"),
        ([[0, 501, 67_500, 10_000, 1]], 1, "bad_result"),
        ([[0, 500, 90_001, 10_000, 1]], 1, "bad_result"),
        ([[0, 500, 67_500, -1, 1]], 1, "bad_result"),
        ([[0, 0, 0, 0, 0]], 1, "bad_result"),
        ([[9, 500, 67_500, 10_000, 1]], 1, "bad_result"),
        ([[-1, 500, 67_500, 10_000, 1]], 1, "bad_result"),
        ([[0, 100, 13_500, 2_000, 1], [0, 100, 13_500, 2_000, 1]], 1, "bad_result"),
        ([[0, 500, 90_000, 10_000, 1]], 1, ""),
        # The fourth step is an ask of 200 Wh at 240.
        ([[3, 200, 47_998, 0, 1]], 1, "bad_result"),
        ([[3, 200, 48_000, 1, 1]], 1, "bad_result"),
        ([[3, 200, 47_998, 0, 3]], 1, ""),
    ],
)
def test_a_main_chain_that_lies_is_not_believed(
    rows: list[list[int]], number: int, reason: str
) -> None:
    """X6: no home trades beyond what it asked or bid, whatever the main chain has signed."""
    region = Region(2, exports=ExportRules())
    region.trade(SLOT, [*DARK, (4, "sell", 200, 240_000)])
    offered = region.query("export", "offered", {"slot": SLOT})["steps"]
    assert offered[0] == [1, 200, 240_000]
    liar = Captured(9)
    liar.chain_id, liar.seated = MAIN_ID, list(MAIN_KEYS)
    liar.set = AuthoritySet(0, tuple(one.public for one in MAIN_KEYS))
    name = regions.result_key(2, SLOT)
    # Asks come before bids in the ladder; the cases count the other way round.
    moved = [[(step + 1) % 4 if 0 <= step < 4 else step, *row] for step, *row in rows]
    value = encode({"region": 2, "slot": SLOT, "number": number, "rows": moved})
    liar.others[name] = value
    tree = merkle.update(None, liar.others)
    head = liar.header(5, merkle.root_of(tree))
    shown = SignedHeader(head, certify(head, liar.quorum(liar.set), liar.set))
    member = region.home_keys[0]
    region.ok(member, regions.follow(encode(shown).hex()))
    call = regions.claim(5, SLOT, value, encode(merkle.prove(tree, name)))
    if reason:
        assert region.refusal(member, call).reason == reason
    else:
        region.ok(member, call)


def test_what_is_shown_too_late_is_the_regulators() -> None:
    """X9: a slot is settled when its window is over; no home pays for what is shown after."""
    world = World(twin=CPythonEngine)
    sunny, dark = world.regions
    traded(world)
    world.show(sunny)
    world.meter(SLOT, {1: SUNNY_READ, 2: DARK_READ})
    # All meters of the second region are read, and what came of its offer is waited for.
    assert client.slot_summary(dark.query, SLOT).status == "cleared"
    assert client.slot_summary(sunny.query, SLOT).status == "settled"
    dark.block(at_ms=(SLOT + 3) * SLOT_MS)
    assert client.slot_summary(dark.query, SLOT).status == "settled"
    assert client.slot_summary(dark.query, SLOT).imported_wh == 0
    world.check()
    before = [client.account(dark.query, one.address) for one in dark.home_keys]
    world.show(dark)
    assert [client.account(dark.query, one.address) for one in dark.home_keys] == before
    shown = dark.query("export", "traded", {})
    assert (shown["imported_wh"], shown["covered_imported_wh"]) == (0, 700)
    world.check()
    # The main chain takes a slot as traded, or as not, and nothing between.
    world.anchor()
    world.check()


@pytest.mark.parametrize(
    ("shown_at_ms", "given_wh", "kept"),
    [
        (SLOT * SLOT_MS - 60_000, 300, [[False], [False]]),
        (SLOT * SLOT_MS + 60_000, 300, [[True], []]),
        (SLOT * SLOT_MS + 60_000, 200, [[False], []]),
    ],
    ids=["known", "unforeseen", "short at home too"],
)
def test_what_was_learned_during_delivery_is_no_promise(
    shown_at_ms: int, given_wh: int, kept: list[list[bool]]
) -> None:
    """X10: of what is sold to others, only what a home knew of counts as kept or not."""
    world = World(twin=CPythonEngine)
    sunny = world.regions[0]
    traded(world)
    for region in world.regions:
        region.block(at_ms=shown_at_ms)
    world.show()
    read = [(0, given_wh), (0, 0), (300, 0), (0, 0)]
    world.meter(SLOT, {1: read, 2: DARK_READ})
    found = [client.record(sunny.query, home).history for home in (1, 2)]
    assert [[was_kept for _, was_kept in history] for history in found] == kept
    # It is billed all the same, and the buyer's region has what it paid for.
    bills = client.bills_of_slot(sunny.query, SLOT)
    assert [(bill.sold_wh, bill.shortfall_wh) for bill in bills[:2]] == [
        (900, 900 - given_wh),
        (100, 100),
    ]
    world.check()


@pytest.mark.slow
def test_a_main_chain_that_was_away_for_a_day_is_told_all_of_it() -> None:
    """max_unanchored of consensus.md: regions go on for 24 h, and nothing of it is lost."""
    world = World(balance_micro=10**9)
    slots = range(SLOT, SLOT + 96, 4)
    for slot in slots:
        world.trade(slot, {1: SUNNY, 2: DARK})
        world.meter(slot, {1: SUNNY_READ, 2: DARK_READ})
    for region in world.regions:
        region.block(at_ms=(slots[-1] + 4) * SLOT_MS)
        assert world.main.query("anchor", "last", {"region": region.number})["number"] == 0
    world.main.block(at_ms=world.regions[0].time_ms)
    shown = world.main.query("regions", "regions", {"first": 1, "count": 2})
    assert [row["status"] for row in shown] == ["halted"] * 2
    world.anchor()
    world.show()
    world.anchor()
    for region in world.regions:
        last = world.main.query("anchor", "last", {"region": region.number})
        assert last["number"] == len(region.checkpoints) > 64
        assert world.main.query("regions", "show", {"region": region.number})["status"] == "live"
        for slot in slots:
            asked = {"region": region.number, "slot": slot}
            assert world.main.query("anchor", "settled_by", asked) is not None
            assert client.slot_summary(region.query, slot).imported_wh == 0
            assert world.status(region, slot) == "refunded"
    world.check()


def test_many_ends_are_shown_some_at_a_time() -> None:
    """The main chain was away for a while; what homes still wait for comes first."""
    world = World(1, history_min=256)
    (region,) = world.regions
    last = SLOT + 2 * ENDS_AT_ONCE_MAX
    for slot in range(SLOT, last + 1, 2):
        region.trade(slot, SUNNY)
    world.close(last)
    calls = [call for _, call in world.due(region)]
    assert [call.entry for call in calls] == ["follow"] + ["refund"] * ENDS_AT_ONCE_MAX
    slots = [call.args["slot"] for call in calls[1:]]
    statuses = [world.status(region, slot) for slot in slots]
    assert statuses == sorted(statuses, reverse=True)
    assert {"open", "late"} == set(statuses)
    world.show(region)
    assert {world.status(region, slot) for slot in range(SLOT, last + 1, 2)} == {"refunded"}
    world.check()


def test_what_is_waited_for_makes_no_blocks() -> None:
    world = World()
    dark = world.regions[1]
    traded(world)
    dark.meter(SLOT, DARK_READ)
    window_ms = (SLOT + 3) * SLOT_MS
    at_once_ms = dark.time_ms + 1
    assert dark.app.next_deadline_ms(dark.time_ms) > at_once_ms
    world.show(dark)
    at_once_ms = dark.time_ms + 1
    assert dark.app.next_deadline_ms(dark.time_ms) == at_once_ms < window_ms


GOOD = ["out", 1, 1, SLOT, SLOT_MS, [[1, 500, 90_000], [0, 100, 80_000]], "00" * 32]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (GOOD, ""),
        ({"steps": []}, "malformed"),
        (GOOD[:6], "malformed"),
        ([*GOOD[:5], 7, GOOD[6]], "malformed"),
        ([*GOOD[:5], [], GOOD[6]], "malformed"),
        ([*GOOD[:5], [[1, 500, 90_000]] * 17, GOOD[6]], "malformed"),
        ([*GOOD[:5], [[1, 500]], GOOD[6]], "malformed"),
        ([*GOOD[:5], [[1, 500, [2]]], GOOD[6]], "malformed"),
        ([*GOOD[:5], [[2, 500, 90_000]], GOOD[6]], "malformed"),
        ([*GOOD[:5], [[1, 0, 90_000]], GOOD[6]], "malformed"),
        ([*GOOD[:5], [[1, 500, -1]], GOOD[6]], "malformed"),
        ([*GOOD[:5], [[1, 500, 80_000], [0, 100, 80_000]], GOOD[6]], "malformed"),
        (["out", 2, *GOOD[2:]], "malformed"),
        (["out", 1, 2, *GOOD[3:]], "malformed"),
        (["out", 1, 1, -1, *GOOD[4:]], "malformed"),
        (["out", 1, 1, "now", *GOOD[4:]], "malformed"),
        (["out", 1, 1, SLOT, SLOT_MS * 2, *GOOD[5:]], "wrong_slot"),
        (["out", 1, 1, SLOT + 500, *GOOD[4:]], "slot_too_far"),
        (["out", 1, 1, SLOT - 500, *GOOD[4:]], "too_late"),
    ],
)
def test_a_captured_region_offers_nothing_that_is_no_offer(entry: Plain, reason: str) -> None:
    """X3."""
    region = Captured(1)
    main = Main([region.sponsor], exchange=ExchangeRules())
    main.admit(region)
    checkpoint, offer = region.offering(entry, SLOT)
    assert main.refusal(region.seated[0], offer.call()).reason == "unknown_checkpoint"
    assert main.anchor(region, checkpoint).code == "ok"
    if reason:
        assert main.refusal(region.seated[0], offer.call()).reason == reason
        return
    main.ok(region.seated[0], offer.call())
    assert main.refusal(region.seated[1], offer.call()).reason == "already_offered"
    other = msgspec.structs.replace(offer, value=encode([*GOOD[:6], "11" * 32]))
    assert main.refusal(region.seated[0], other.call()).reason == "not_proven"


def test_who_is_frozen_or_gone_does_not_trade() -> None:
    region, gone = Captured(1), Captured(2)
    main = Main([region.sponsor, gone.sponsor], exchange=ExchangeRules(), twin=CPythonEngine())
    for one in (region, gone):
        main.admit(one)
    checkpoint, offer = region.offering(GOOD, SLOT)
    there = ["out", 2, 1, SLOT, SLOT_MS, [[0, 500, 150_000]], "00" * 32]
    other_checkpoint, other = gone.offering(there, SLOT)
    assert main.anchor(region, checkpoint).code == "ok"
    assert main.anchor(gone, other_checkpoint).code == "ok"
    main.ok(region.seated[0], offer.call())
    main.ok(gone.seated[0], other.call())
    # It has offered, and is frozen before the exchange closes.
    main.ok(MAIN_KEYS[0], regions.report_conflict(2, 0, gone.conflict(5)))
    assert main.refusal(gone.seated[0], other.call()).reason == "wrong_status"
    main.block(at_ms=SLOT * SLOT_MS)
    for number in (1, 2):
        result = main.query("exchange", "result", {"region": number, "slot": SLOT})
        assert result["rows"] == []


def test_without_an_exchange_nothing_is_offered() -> None:
    region = Captured(1)
    main = Main([region.sponsor])
    main.admit(region)
    checkpoint, offer = region.offering(GOOD, SLOT)
    assert main.anchor(region, checkpoint).code == "ok"
    assert main.refusal(region.seated[0], offer.call()).reason == "no_exchange"
    assert main.query("exchange", "cleared", {"slot": SLOT}) is None


def test_a_slot_is_settled_with_what_the_exchange_made_of_it() -> None:
    """M13."""
    region = Captured(1)
    main = Main([region.sponsor], exchange=ExchangeRules(), twin=CPythonEngine())
    main.admit(region)
    claimed = slot_totals(SLOT, imported_wh=50, import_wh=950, paid_micro=100, net_micro=52_800)
    record = region.first(claimed)
    assert main.refusal(*region.post(region.checkpoint(record))).reason == "not_traded"
    plain = region.first(slot_totals(SLOT))
    assert main.anchor(region, region.checkpoint(plain)).code == "ok"


def test_results_are_forgotten_after_a_while_and_refunds_with_them() -> None:
    world = World()
    dark = world.regions[1]
    traded(world)
    world.close(SLOT + 673)
    assert world.main.query("exchange", "window", {})[0] > SLOT
    assert world.main.query("exchange", "result", {"region": 2, "slot": SLOT}) is None
    funds = world.main.query("regions", "funds", {"region": 1})
    assert (funds["due_micro"], funds["escrow_micro"]) == (0, ESCROW + 88_500)
    assert world.due(dark) == []
    member = dark.home_keys[0]
    main = world.main
    assert main.head is not None
    dark.ok(member, regions.follow(main.signed_header(main.head)))
    window = main.app.value(regions.WINDOW_KEY)
    assert window is not None
    key = regions.result_key(2, SLOT)
    proofs = [encode(main.app.prove(name)) for name in (regions.WINDOW_KEY, key)]
    call = regions.refund(main.height, SLOT, window, *proofs)
    assert dark.refusal(member, call).reason == "too_late"


def test_offers_are_made_of_the_very_block() -> None:
    region = Region(1, exports=ExportRules())
    region.trade(SLOT, SUNNY)
    assert region.head is not None
    made = make_offers(region.app, region.head.header)
    assert made == tuple(region.offers)
    assert [(offer.number, offer.slot, offer.checkpoint) for offer in made] == [(1, SLOT, 2)]
    assert make_offers(region.app, region.blocks[0].header) == ()
    region.block()
    assert make_offers(region.app, region.head.header) == ()
    # The next checkpoint proves it as well.
    region.block(at_ms=region.time_ms + 60_000)
    (again,) = make_offers(region.app, region.head.header)
    assert (again.number, again.slot, again.checkpoint) == (1, SLOT, 3)
    assert again.value == made[0].value
    main = Main([region.sponsor], exchange=ExchangeRules())
    main.admit(region)
    assert offers_due(region.offers, main.app) == []
    assert main.anchor(region, region.checkpoints[0]).code == "ok"
    assert main.anchor(region, region.checkpoints[1]).code == "ok"
    assert offers_due(region.offers, main.app) == [made[0].call()]
    assert main.anchor(region, region.checkpoints[2]).code == "ok"
    assert offers_due(region.offers, main.app) == [again.call()]
    main.ok(region.seated[0], again.call())
    assert offers_due(region.offers, main.app) == []


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (ExchangeRules(fees=((1, 2),)), "1 zones want"),
        (ExchangeRules(trade_price="high"), "must be one of"),
        (ExchangeRules(zones=(1,)), "a zone"),
        (ExchangeRules(capacities_w=((-1,),)), "capacities_w"),
        (ExchangeRules(fees=()), "how many zones"),
    ],
)
def test_rules_that_cannot_be_meant(rules: ExchangeRules, said: str) -> None:
    with pytest.raises(ParamsError, match=said):
        rules.check()


def crowded(region: Region, orders: int, side: int) -> None:
    """Put so many orders, to buy 5 Wh or to sell 8, into the book, as if they had been posted."""
    state = region.app._state
    energy_wh, price = (8, 90_000) if side else (5, 150_000)
    rows: dict[int, list[list[int]]] = {}
    for number in range(1, orders + 1):
        home = number % 4 + 1
        rows.setdefault(home, []).append([number, home, side, energy_wh, price + number, 0, 0])
    round_now = region.query("market", "round", {"slot": SLOT})
    round_now.update(posted=orders)
    writes = {f"market/orders/{SLOT}/{home}": encode(own) for home, own in rows.items()}
    writes |= {f"market/home/{home}": encode({"open": orders, "history": []}) for home in rows}
    state.apply({**writes, f"market/slot/{SLOT}": encode(round_now), "market/open": encode([SLOT])})


@pytest.mark.slow
def test_a_crowd_is_offered_claimed_and_settled_within_the_caps() -> None:
    """20,000 orders: a claim is a transaction, and does not grow with them."""
    few: dict[str, set[int]] = {}
    for orders in (4, 20_000):
        world = World()
        for side, region in enumerate(reversed(world.regions)):
            crowded(region, orders, side)
            region.block(at_ms=SLOT * SLOT_MS - SLOT_MS // 3)
            assert region.query("export", "offered", {"slot": SLOT})["status"] == "open"
        world.anchor()
        world.close(SLOT)
        for region in world.regions:
            for sender, call in world.due(region):
                few.setdefault(call.entry, set()).add(region.ok(sender, call).gas // 1_000)
            region.block(at_ms=(SLOT + 3) * SLOT_MS)
            found = client.slot_summary(region.query, SLOT)
            assert found.status == "settled"
            assert found.imported_wh + found.exported_wh == 5 * orders
    assert max(few["claim"]) - min(few["claim"]) <= 2, few
