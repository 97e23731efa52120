"""What the main chain takes as a checkpoint, and what it refuses (M1 to M12), on both engines."""

from typing import Any

import msgspec

from consensus.authorities import AuthoritySet
from consensus.checkpoint import (
    CHECKPOINT_BYTES_MAX,
    SLOTS_PER_CHECKPOINT_MAX,
    Checkpoint,
    Record,
)
from market.app import Application
from market.client import regions
from node.regions.certifier import natives
from node.regions.checkpoints import posted
from tests.market.vm.cpython import CPythonEngine
from tests.regions.forge import NO_HASH, Captured, slot_totals
from tests.regions.grid import BOND, HALT_MS, MAIN_KEYS, Main, key
from wire.codec import encode

SLOT = 2_000


def grid(seats: int = 4) -> tuple[Main, Captured]:
    """A main chain that has let one region in, and what its authorities may sign."""
    region = Captured(1, seats)
    main = Main([region.sponsor], twin=CPythonEngine())
    main.admit(region)
    return main, region


def refused(main: Main, region: Captured, checkpoint: Checkpoint, epoch: int | None = None) -> str:
    return main.refusal(*region.post(checkpoint, epoch)).reason


def anchored(main: Main, region: Captured, record: Record, **more: Any) -> Record:
    receipt = main.anchor(region, region.checkpoint(record, **more))
    assert receipt.code == "ok", receipt
    return record


def test_a_region_is_anchored_record_by_record() -> None:
    main, region = grid()
    first = anchored(main, region, region.first(slot_totals(SLOT), slot_totals(SLOT + 1)))
    # Heights without a slot settled are anchored too; slots may come in any order.
    second = anchored(main, region, region.after(first))
    third = anchored(
        main, region, region.after(second, slot_totals(SLOT + 4), slot_totals(SLOT + 3))
    )
    last = main.query("anchor", "last", {"region": 1})
    assert (last["number"], last["to_height"], last["record_hash"]) == (3, 30, third.hash)
    assert last["newest_slot"] == SLOT + 4
    assert last["anchored_height"] == main.height
    settled = [
        main.query("anchor", "settled_by", {"region": 1, "slot": SLOT + step}) for step in range(5)
    ]
    assert settled == [1, 1, None, 3, 3]
    root = main.query("anchor", "root_of", {"region": 1, "number": 2})
    assert root[2] == 20
    assert main.query("anchor", "lasts", {}) == [last]


def test_anybody_of_the_region_may_post_and_exactly_one_is_accepted() -> None:
    main, region = grid()
    found = region.checkpoint(region.first(slot_totals(SLOT)))
    others = region.checkpoint(region.first(slot_totals(SLOT)), signers=region.seated[1:])
    data = [posted(found), posted(others)]
    calls = [
        (one, regions.checkpoint(1, 0, data[place % 2])) for place, one in enumerate(region.seated)
    ]
    receipts = main.block(calls).result.receipts
    assert [(r.code, r.reason) for r in receipts] == [("ok", "")] + [
        ("revert", "already_anchored")
    ] * 3
    stranger = main.send(key("stranger"), regions.checkpoint(1, 0, data[0]))
    assert (stranger.code, stranger.reason) == ("rejected", "stranger")


def test_what_needs_no_history_is_refused_by_the_certificate() -> None:
    """M1 to M5."""
    main, region = grid()
    record = region.first(slot_totals(SLOT))
    good = region.checkpoint(record)
    sender, seats = region.seated[0], region.seated

    def post(data: str, epoch: int = 0, number: int = 1) -> str:
        return main.refusal(sender, regions.checkpoint(number, epoch, data)).reason

    assert post("00" * (CHECKPOINT_BYTES_MAX + 1)) == "oversized"
    assert post(posted(good)[:-2]) == "malformed"
    assert post("no hexadecimal") == "malformed"
    assert post(posted(good).upper()) == "malformed"
    assert post(posted(good), number=2) == "unknown_region"
    assert post(posted(good), epoch=1) == "stale_set"
    assert refused(main, region, region.checkpoint(record, chain_id="other")) == "wrong_chain"
    assert refused(main, region, region.checkpoint(record, version=9)) == "wrong_chain"
    # Too few, and one that signs twice.
    few = region.checkpoint(record, signers=seats[:2])
    assert refused(main, region, few) == "bad_certificate"
    twice = good.certificate.signatures[:2] + good.certificate.signatures[1:2]
    for bitmap in (0b111, 0b011):
        certificate = msgspec.structs.replace(good.certificate, bitmap=bitmap, signatures=twice)
        shown = msgspec.structs.replace(good, certificate=certificate)
        assert refused(main, region, shown) == "bad_certificate"
    # Another set, in its own name and in that of the registered one.
    others = AuthoritySet(0, tuple(key(f"other {n}").public for n in range(4)))
    foreign = Captured(2)
    foreign.chain_id = region.chain_id
    assert refused(main, region, foreign.checkpoint(record)) == "stale_set"
    assert others.hash != region.set.hash
    claimed = foreign.checkpoint(record, authorities_hash=region.set.hash)
    assert refused(main, region, claimed) == "bad_certificate"
    # A certificate of another block, and a record that the header does not prove.
    other = region.checkpoint(record, tx_root=b"\x05" * 32)
    mixed = msgspec.structs.replace(good, certificate=other.certificate)
    assert refused(main, region, mixed) == "bad_certificate"
    richer = msgspec.structs.replace(record, minted_micro=9_000_000)
    swapped = msgspec.structs.replace(good, record=encode(richer))
    assert refused(main, region, swapped) == "not_proven"
    moved = msgspec.structs.replace(record, to_height=11)
    assert (
        refused(main, region, msgspec.structs.replace(good, record=encode(moved))) == "not_proven"
    )
    assert main.anchor(region, good).code == "ok"


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "of another region": ({"region": 2}, "wrong_chain"),
    "a number left out": ({"number": 3}, "gap"),
    "a height left out": ({"from_height": 12, "to_height": 20}, "gap"),
    "a height twice": ({"from_height": 10, "to_height": 20}, "gap"),
    "backwards": ({"to_height": 9}, "gap"),
    "on another past": ({"previous": "cd" * 32}, "fork"),
    "mail undone": ({"outbox_count": 2}, "went_back"),
    "claims undone": ({"inbox_count": 1}, "went_back"),
    "money unminted": ({"minted_micro": 4_999_999}, "went_back"),
    "money back": ({"redeemed_micro": 999_999}, "went_back"),
    "another outbox": ({"outbox_head": "ef" * 32}, "fork"),
    "another inbox": ({"inbox_head": "ef" * 32}, "fork"),
    "a negative balance": ({"redeemed_micro": 5_000_001}, "negative"),
}
WRONG_SLOTS: dict[str, tuple[tuple[dict[str, int], ...], str]] = {
    "settled before": (({"slot": SLOT},), "settled_twice"),
    "settled long before": (({"slot": 0},), "settled_twice"),
    "twice at once": (({"slot": SLOT + 1}, {"slot": SLOT + 1}), "settled_twice"),
    "energy from nowhere": (({"slot": SLOT + 1, "grid_wh": 299},), "unbalanced"),
    "energy to nowhere": (({"slot": SLOT + 1, "fed_in_wh": 99},), "unbalanced"),
    "money from nowhere": (({"slot": SLOT + 1, "net_micro": 52_699},), "unbalanced"),
    "a fee kept": (({"slot": SLOT + 1, "fees_micro": 201},), "unbalanced"),
    "beyond all slots": (({"slot": 10**9 + 1},), "unbalanced"),
}


def test_what_does_not_follow_is_refused() -> None:
    """M6 to M12, signed by every authority of the region."""
    main, region = grid()
    full = {"outbox_count": 3, "inbox_count": 2}
    # The window of slots reaches back 8,000: slot 0 must be outside.
    first = anchored(main, region, region.first(slot_totals(SLOT), slot_totals(8_005), **full))
    found = {
        name: refused(main, region, region.checkpoint(region.after(first, **changes)))
        for name, (changes, _) in WRONG.items()
    }
    found |= {
        name: refused(
            main,
            region,
            region.checkpoint(region.after(first, *(slot_totals(**row) for row in rows))),
        )
        for name, (rows, _) in WRONG_SLOTS.items()
    }
    assert found == {name: code for name, (_, code) in (WRONG | WRONG_SLOTS).items()}
    # Time does not go back either, and what is anchored cannot be anchored otherwise.
    late = region.checkpoint(region.after(first), time_ms=1)
    assert refused(main, region, late) == "gap"
    again = msgspec.structs.replace(first, minted_micro=6_000_000)
    assert refused(main, region, region.checkpoint(again)) == "fork"
    anchored(main, region, region.after(first, slot_totals(SLOT + 1)))


def test_the_largest_checkpoint_fits_a_transaction() -> None:
    main, region = grid(seats=24)
    big = 2**62
    rows = [
        slot_totals(
            SLOT + step, homes=5_000, import_wh=big, export_wh=big, grid_wh=big, fed_in_wh=big,
            grid_micro=big, feed_in_micro=big, penalty_micro=2**40, fees_micro=2**40,
            net_micro=2**41,
        )
        for step in range(SLOTS_PER_CHECKPOINT_MAX)
    ]  # fmt: skip
    record = region.first(
        *rows, outbox_count=big, inbox_count=big, minted_micro=big, redeemed_micro=big
    )
    found = region.checkpoint(record, time_ms=2**52)
    # A state of a million keys has paths of about 25 nodes.
    room = CHECKPOINT_BYTES_MAX - len(encode(found)) - 25 * 34
    assert room > 64, room
    assert main.anchor(region, found).code == "ok"
    five = [slot_totals(SLOT + step) for step in range(10, 15)]
    assert refused(main, region, region.checkpoint(region.after(record, *five))) == "malformed"


def test_sets_rotate_with_the_regions_own_certificates() -> None:
    main, region = grid()
    newcomer = key("newcomer")
    region.seated.append(newcomer)
    second = AuthoritySet(1, (*region.set.publics[1:], newcomer.public))
    third = AuthoritySet(2, second.publics)
    first = anchored(main, region, region.first(slot_totals(SLOT)))
    sender = region.seated[0]

    def rotate(data: str) -> str:
        return main.refusal(sender, regions.rotate(1, data)).reason

    # Not signed by the known set, not the last of its epoch, a set that is none of ours.
    assert rotate(region.rotation(15, third, second)) == "bad_certificate"
    assert rotate(region.rotation(15, region.set, region.set)) in (
        "bad_certificate",
        "not_the_last",
    )
    assert rotate("00") == "malformed"
    small = AuthoritySet(1, region.set.publics[:3])
    assert rotate(region.rotation(15, small, region.set)) == "bad_set"
    assert (
        main.send(sender, regions.rotate(1, region.rotation(15, second, region.set))).code == "ok"
    )
    # Heights 11 to 15 are of epoch 0, those above of epoch 1.
    beyond = region.after(first, to_height=16)
    assert refused(main, region, region.checkpoint(beyond)) == "stale_set"
    early = region.after(first, to_height=15)
    assert refused(main, region, region.checkpoint(early, authorities=second)) == "stale_set"
    ahead = region.after(first, to_height=20)
    assert refused(main, region, region.checkpoint(ahead, authorities=second), 0) == "stale_set"
    anchored(main, region, ahead, authorities=second)
    # The first set is forgotten with the first checkpoint of the next epoch.
    after = region.after(ahead)
    assert refused(main, region, region.checkpoint(after)) == "stale_set"
    # A newcomer may post, and rotation goes on from where it is.
    assert rotate(region.rotation(15, third, second)) == "not_the_last"
    receipt = main.send(newcomer, regions.rotate(1, region.rotation(40, third, second)))
    assert receipt.code == "ok", receipt
    assert main.query("regions", "show", {"region": 1})["epoch"] == 2
    anchored(main, region, after, authorities=second)


def test_a_region_does_not_show_sets_without_end() -> None:
    main, region = grid()
    sets = [AuthoritySet(epoch, region.set.publics) for epoch in range(70)]
    for epoch in range(64):
        data = region.rotation(5 * (epoch + 1), sets[epoch + 1], sets[epoch])
        assert main.send(region.seated[0], regions.rotate(1, data)).code == "ok"
    data = region.rotation(5 * 65, sets[65], sets[64])
    assert main.refusal(region.seated[0], regions.rotate(1, data)).reason == "too_far_ahead"


def test_a_region_that_nobody_audits_goes_on() -> None:
    main, region = grid()
    sets = [AuthoritySet(epoch, region.set.publics) for epoch in range(72)]
    record = None
    for epoch in range(70):
        end = 5 * (epoch + 1)
        data = region.rotation(end, sets[epoch + 1], sets[epoch])
        assert main.send(region.seated[0], regions.rotate(1, data)).code == "ok"
        record = region.after(record, to_height=end) if record else region.first(to_height=end)
        anchored(main, region, record, authorities=sets[epoch])
    base = 1_000_000_000
    names = [f"regions/set/{base + 1}/{base + epoch}" for epoch in range(71)]
    kept = [main.app.value(name) is not None for name in names]
    # 32 epochs before the last anchored one, 69.
    assert kept == [False] * 37 + [True] * 34


def test_two_certified_blocks_at_one_height_freeze_the_region() -> None:
    main, region = grid()
    first = anchored(main, region, region.first(slot_totals(SLOT)))
    reporter = MAIN_KEYS[0]

    def report(data: str, epoch: int = 0) -> str:
        return main.refusal(reporter, regions.report_conflict(1, epoch, data)).reason

    assert report(region.conflict(11, region.seated[:2])) == "no_evidence"
    assert report("00") == "no_evidence"
    assert report(region.conflict(11), epoch=3) == "stale_set"
    before = main.query("ledger", "balance", {"address": region.sponsor.address})
    receipt = main.send(reporter, regions.report_conflict(1, 0, region.conflict(11)))
    assert [event.name for event in receipt.events] == ["bond_forfeited", "region_status"]
    assert main.query("regions", "show", {"region": 1})["status"] == "frozen"
    after = main.query("ledger", "balance", {"address": region.sponsor.address})
    assert after["held_micro"] == before["held_micro"] - BOND
    assert after["balance_micro"] == before["balance_micro"]
    # Nothing of it is taken any more, and nobody gets at its money.
    assert refused(main, region, region.checkpoint(region.after(first))) == "wrong_status"
    assert report(region.conflict(11)) == "wrong_status"
    for call in (regions.withdraw(1, 1), regions.leave(1), regions.deposit(1, 1)):
        assert main.refusal(region.sponsor, call).reason == "wrong_status"
    data = region.rotation(15, AuthoritySet(1, region.set.publics), region.set)
    assert main.refusal(region.seated[0], regions.rotate(1, data)).reason == "wrong_status"


def test_a_region_that_never_posts_is_halted_too() -> None:
    main, region = grid()
    block = main.block(at_ms=main.time_ms + HALT_MS + 1)
    assert [event.data["status"] for event in block.result.events] == ["halted"]
    anchored(main, region, region.first())
    assert main.query("regions", "show", {"region": 1})["status"] == "live"


def test_a_restarted_main_chain_takes_checkpoints_as_before() -> None:
    main, region = grid()
    first = anchored(main, region, region.first(slot_totals(SLOT)))
    again = Application(main.app.params, None, main.app.founding, natives())
    again.load(main.app.state_items(), main.height)
    tx = main.call(*region.post(region.checkpoint(region.after(first, slot_totals(SLOT + 1)))))
    results = [app.execute(main.env(), [tx]) for app in (main.app, again)]
    assert [result.receipts[0].code for result in results] == ["ok", "ok"]
    assert results[0].state_root == results[1].state_root


def test_a_silent_region_is_halted_and_back_with_its_next_checkpoint() -> None:
    main, region = grid()
    first = anchored(main, region, region.first(slot_totals(SLOT)))
    silent_ms = main.time_ms
    main.block(at_ms=silent_ms + HALT_MS)
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    block = main.block(at_ms=silent_ms + HALT_MS + 1)
    assert [event.data["status"] for event in block.result.events] == ["halted"]
    assert main.block().result.events == ()
    anchored(main, region, region.after(first, previous=first.hash))
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    assert first.previous == NO_HASH
