"""Regions with homes under one main chain: what their meters said is what is anchored."""

from itertools import pairwise

from consensus.checkpoint import Checkpoint, Record, SlotTotals
from consensus.light import ends_epoch
from market import client
from market.client import regions
from market.vm import merkle
from node.regions.checkpoints import make_checkpoint
from tests.market.vm.cpython import CPythonEngine
from tests.regions.grid import HALT_MS, SLOT, SLOT_MS, Main, Region
from wire.codec import decode, encode

REGIONS = 3
# Orders and readings of a slot, by region: the first has sun to spare, the others lack it.
ORDERS = {
    1: [(1, "sell", 900, 90_000), (2, "sell", 400, 110_000), (3, "buy", 300, 150_000)],
    2: [(1, "buy", 500, 160_000), (2, "sell", 200, 120_000)],
    3: [(1, "buy", 350, 250_000), (4, "buy", 100, 100_000)],
}
READINGS = {
    1: [(0, 880), (0, 420), (310, 0), (40, 0)],
    2: [(510, 0), (0, 150), (75, 0), (0, 0)],
    3: [(340, 0), (20, 0), (0, 0), (90, 0)],
}


def record_of(checkpoint: Checkpoint) -> Record:
    return decode(checkpoint.record, Record, 2_000)


def trade(region: Region, slot: int) -> None:
    region.trade(slot, [(h, side, wh + slot % 7, p) for h, side, wh, p in ORDERS[region.number]])


def settle(region: Region, slot: int) -> None:
    region.meter(slot, READINGS[region.number])


def post(main: Main, region: Region, sent: dict[int, int]) -> None:
    """Anchor in order whatever the region has closed since."""
    for checkpoint in region.checkpoints[sent.get(region.number, 0) :]:
        receipt = main.anchor(region, checkpoint)
        assert receipt.code == "ok", receipt
        sent[region.number] = sent.get(region.number, 0) + 1


def check_region(main: Main, region: Region) -> list[int]:
    """Add up the region's bills again, and hold the sums against what is anchored."""
    last = main.query("anchor", "last", {"region": region.number})
    anchored = [record_of(found) for found in region.checkpoints[: last["number"]]]
    assert (last["to_height"], last["record_hash"]) == (anchored[-1].to_height, anchored[-1].hash)
    assert anchored[0].from_height == 1
    for before, after in pairwise(anchored):
        assert (after.from_height, after.previous) == (before.to_height + 1, before.hash)
    rows = [row for record in anchored for row in record.slots]
    assert len({row.slot for row in rows}) == len(rows)
    for row in rows:
        check_slot(region, row)
        asked = {"region": region.number, "slot": row.slot}
        assert main.query("anchor", "settled_by", asked) is not None
    return sorted(row.slot for row in rows)


def check_slot(region: Region, row: SlotTotals) -> None:
    bills = client.bills_of_slot(region.query, row.slot)
    assert row.homes == len(bills)
    for name, total in (
        ("import_wh", sum(bill.import_wh for bill in bills)),
        ("export_wh", sum(bill.export_wh for bill in bills)),
        ("grid_wh", sum(bill.grid_wh for bill in bills)),
        ("fed_in_wh", sum(bill.fed_in_wh for bill in bills)),
        ("grid_micro", sum(bill.grid_cost_micro for bill in bills)),
        ("feed_in_micro", sum(bill.feed_in_income_micro for bill in bills)),
        ("penalty_micro", sum(bill.penalty_micro for bill in bills)),
        ("fees_micro", sum(bill.fees_micro for bill in bills)),
        ("net_micro", sum(bill.total_micro for bill in bills)),
    ):
        assert getattr(row, name) == total, name
    assert row.import_wh - row.export_wh == row.grid_wh - row.fed_in_wh
    # A home's bill is provable from the anchored root alone.
    folder = f"settlement/bill/{row.slot}/"
    found = {k: v for k, v in region.app.state_items() if k.startswith(folder)}
    tree = merkle.update(None, found)
    assert merkle.root_of(tree).hex() == row.settlement_root
    name, value = sorted(found.items())[1]
    assert merkle.verify(bytes.fromhex(row.settlement_root), name, value, merkle.prove(tree, name))


def test_three_regions_one_of_which_halts_and_the_main_chain_too() -> None:
    there = [Region(number) for number in range(1, REGIONS + 1)]
    main = Main([region.sponsor for region in there], twin=CPythonEngine())
    for region in there:
        main.admit(region)
    sent: dict[int, int] = {}
    slots = [SLOT + 2 * step for step in range(5)]
    for step, slot in enumerate(slots):
        for region in there:
            # Region 2 stops after the gate of the third slot and is back for the last.
            if region.number != 2 or step in (0, 1, 4):
                trade(region, slot)
                settle(region, slot)
            elif step == 2:
                trade(region, slot)
        # The main chain stops for the second slot; regions go on.
        if step == 1:
            continue
        main.block(at_ms=(slot + 1) * SLOT_MS + 5_000)
        for region in there:
            post(main, region, sent)
            check_region(main, region)
        shown = main.query("regions", "regions", {"first": 1, "count": 3})
        halted = [row["number"] for row in shown if row["status"] == "halted"]
        silent_ms = main.time_ms - main.query("anchor", "last", {"region": 2})["anchored_ms"]
        assert halted == ([2] if silent_ms > HALT_MS else []), (step, silent_ms)
    # Region 2's third slot was settled by its rules once its window was over, the meters unread.
    assert check_region(main, there[1]) == [slots[place] for place in (0, 1, 2, 4)]
    for place in (0, 2):
        assert check_region(main, there[place]) == slots
    bills = client.bills_of_slot(there[1].query, slots[2])
    assert [bill.read for bill in bills] == [False] * 4
    for region in there:
        last = main.query("anchor", "last", {"region": region.number})
        accounts = client.money(region.query)
        assert (last["minted_micro"], last["redeemed_micro"]) == (
            accounts.minted_micro,
            accounts.redeemed_micro,
        )


def test_a_region_of_short_epochs_shows_each_of_its_sets() -> None:
    region = Region(1, epoch_blocks=4, twin=CPythonEngine())
    main = Main([region.sponsor])
    main.admit(region)
    for step in range(3):
        trade(region, SLOT + 2 * step)
        settle(region, SLOT + 2 * step)
    closed = {found.header.height: found for found in region.checkpoints}
    rotations = 0
    for block in region.blocks:
        if block.header.height in closed:
            assert main.anchor(region, closed[block.header.height]).code == "ok"
        if ends_epoch(block.header):
            data = region.signed_header(block)
            receipt = main.send(region.seated[1], regions.rotate(1, data))
            assert receipt.code == "ok", receipt
            rotations += 1
    assert rotations == 3
    assert check_region(main, region) == [SLOT, SLOT + 2, SLOT + 4]


def test_a_record_is_closed_by_rule_and_at_the_latest_after_a_while() -> None:
    region = Region(1)
    region.block()
    assert [record_of(found).to_height for found in region.checkpoints] == [1]
    region.block(at_ms=region.time_ms + 59_999)
    assert len(region.checkpoints) == 1
    block = region.block()
    record = record_of(region.checkpoints[-1])
    assert (record.from_height, record.to_height, record.slots) == (2, 3, ())
    assert [event.name for event in block.result.events] == ["checkpoint_closed"]
    # One is made of the very block, and of no other.
    assert make_checkpoint(region.app, block.header, block.certificate) == region.checkpoints[-1]
    earlier = region.blocks[0]
    assert make_checkpoint(region.app, earlier.header, earlier.certificate) is None
    later = region.block()
    assert make_checkpoint(region.app, later.header, later.certificate) is None
    assert region.query("export", "closed", {})["number"] == 2
    assert encode(region.query("export", "record", {"number": 2})) == encode(record)


def test_old_records_are_forgotten() -> None:
    region = Region(1, homes=1)
    for _ in range(66):
        region.block(at_ms=region.time_ms + 60_000)
    kept = [name for name, _ in region.app.state_items() if name.startswith("export/checkpoint/")]
    assert len(kept) == 64
    assert region.query("export", "record", {"number": 2}) is None
    assert region.query("export", "record", {"number": 3}) is not None
