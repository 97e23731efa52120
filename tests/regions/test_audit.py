"""Who audits a region's records, by when, and what an accusation takes; on both engines."""

import hashlib

from consensus.authorities import AuthoritySet
from market.client import regions
from tests.market.vm.cpython import CPythonEngine
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import MAIN_KEYS, REGULATOR, Main, key
from wire.keys import SigningKey

SLOT = 2_000
AUDIT_MS = 60_000
BOND = 500_000


def grid(count: int = 3, **rules: object) -> tuple[Main, list[Captured]]:
    """A main chain that has let some regions in."""
    there = [Captured(number) for number in range(1, count + 1)]
    rules = {"audit_ms": AUDIT_MS, "accuser_bond_micro": BOND} | rules
    main = Main([region.sponsor for region in there], twin=CPythonEngine(), **rules)
    for region in there:
        main.admit(region)
    return main, there


def keys_of(there: list[Captured]) -> dict[str, SigningKey]:
    return {one.address: one for region in there for one in region.seated}


def duty_of(main: Main, region: int = 1) -> dict[str, object] | None:
    found: dict[str, object] | None = main.query("audit", "status", {"region": region})["duty"]
    return found


def test_auditors_of_other_regions_are_drawn_a_block_after_the_anchoring() -> None:
    main, there = grid()
    region = there[0]
    record = region.first(slot_totals(SLOT))
    assert main.anchor(region, region.checkpoint(record)).code == "ok"
    assert duty_of(main) is None
    # There is reason for a block, a block interval later if no other comes.
    assert main.app.next_deadline_ms(main.time_ms) == main.time_ms + 1_000
    block = main.block()
    assert [event.name for event in block.result.events] == ["auditors_drawn"]
    duty = duty_of(main)
    assert duty is not None
    assert (duty["number"], duty["from_height"], duty["to_height"]) == (1, 1, 10)
    assert duty["record_hash"] == record.hash
    drawn = duty["drawn"]
    assert isinstance(drawn, list)
    assert len(set(drawn)) == 3
    others = keys_of(there[1:])
    assert set(drawn) <= set(others)
    for address in drawn:
        (found,) = main.query("audit", "duties", {"address": address})
        assert (found["region"], found["number"]) == (1, 1)
        assert found["answer_by_ms"] == main.time_ms + AUDIT_MS
    assert main.query("audit", "duties", {"address": region.seated[0].address}) == []
    assert main.app.next_deadline_ms(main.time_ms) > main.time_ms + 1_000


def test_the_draw_hangs_on_the_parent_block_alone() -> None:
    """The same state draws others under another parent, and each seat is drawn sometimes."""
    main, there = grid()
    region = there[0]
    assert main.anchor(region, region.checkpoint(region.first())).code == "ok"
    seen: set[str] = set()
    draws = set()
    for number in range(60):
        env = main.env()._replace(parent_hash=hashlib.sha256(bytes([number])).digest())
        results = [app.execute(env, []) for app in (main.app, main.app)]
        assert results[0].state_root == results[1].state_root
        (event,) = results[0].events
        seen |= set(event.data["addresses"])
        draws.add(tuple(event.data["addresses"]))
    assert len(draws) > 40
    assert seen == set(keys_of(there[1:]))


def test_enough_answers_audit_a_record_and_all_before_it() -> None:
    main, there = grid()
    region, others = there[0], keys_of(there)
    first = region.first(slot_totals(SLOT))
    second = region.after(first, slot_totals(SLOT + 1))
    assert main.anchor(region, region.checkpoint(first)).code == "ok"
    main.block()
    # Another one comes before the first is audited.
    assert main.anchor(region, region.checkpoint(second)).code == "ok"
    duty = duty_of(main)
    assert duty is not None
    drawn = [others[address] for address in duty["drawn"]]
    stranger = next(one for one in others.values() if one not in drawn)

    def refused(one: SigningKey, number: int) -> str:
        return main.refusal(one, regions.audit_ok(1, number)).reason

    assert refused(stranger, 1) == "not_auditor"
    assert refused(drawn[0], 2) == "no_duty"
    main.ok(drawn[0], regions.audit_ok(1, 1))
    assert refused(drawn[0], 1) == "already_audited"
    assert main.query("audit", "status", {"region": 1})["number"] == 0
    receipt = main.ok(drawn[1], regions.audit_ok(1, 1))
    assert [event.name for event in receipt.events] == ["audited"]
    status = main.query("audit", "status", {"region": 1})
    assert (status["number"], status["to_height"], status["redrawn"]) == (1, 10, 0)
    assert refused(drawn[2], 1) in ("no_duty", "not_auditor")
    # The next audit begins where this one ended.
    main.block()
    duty = duty_of(main)
    assert duty is not None
    assert (duty["number"], duty["from_height"], duty["to_height"]) == (2, 11, 20)


def test_who_does_not_answer_is_counted_and_others_are_drawn_for_all_that_is_anchored() -> None:
    main, there = grid()
    region, others = there[0], keys_of(there)
    first = region.first()
    main.anchor(region, region.checkpoint(first))
    main.block()
    before = duty_of(main)
    assert before is not None
    main.ok(others[before["drawn"][0]], regions.audit_ok(1, 1))
    main.anchor(region, region.checkpoint(region.after(first)))
    late_ms = main.time_ms + AUDIT_MS
    main.block(at_ms=late_ms + 1)
    after = duty_of(main)
    assert after is not None
    assert (after["number"], after["from_height"], after["draws"]) == (2, 1, 2)
    assert after["content"] == []
    assert main.query("audit", "status", {"region": 1})["redrawn"] == 1
    missed = {
        name.removeprefix("audit/missed/")
        for name, _ in main.app.state_items()
        if name.startswith("audit/missed/")
    }
    assert missed == set(before["drawn"][1:])
    for address in after["drawn"][:2]:
        main.ok(others[address], regions.audit_ok(1, 2))
    assert main.query("audit", "status", {"region": 1})["to_height"] == 20


def test_where_there_is_no_other_region_the_main_chain_s_authorities_audit() -> None:
    main, (region,) = grid(1)
    main.anchor(region, region.checkpoint(region.first()))
    main.block()
    duty = duty_of(main)
    assert duty is not None
    assert set(duty["drawn"]) <= {one.address for one in MAIN_KEYS}
    # A region that stopped meanwhile is not audited any more.
    main.ok(MAIN_KEYS[0], regions.report_conflict(1, 0, region.conflict(11)))
    main.block(at_ms=main.time_ms + AUDIT_MS + 1)
    assert duty_of(main) is None


def test_sets_are_kept_for_audits_that_are_late() -> None:
    main, there = grid()
    region, others = there[0], keys_of(there)
    sender = region.seated[0]
    record = region.first()
    main.anchor(region, region.checkpoint(record))
    main.block()
    sets = [region.set]
    for epoch in range(1, 4):
        following = AuthoritySet(epoch, region.set.publics)
        height = record.to_height + 5
        main.ok(sender, regions.rotate(1, region.rotation(height, following, sets[-1])))
        sets.append(following)
        record = region.after(record)
        found = region.checkpoint(record, authorities=following)
        assert main.anchor(region, found).code == "ok"

    def is_kept(epoch: int) -> bool:
        call = regions.accuse(1, epoch, 5, b"proof")
        sponsor = there[1].sponsor
        receipt = main.app.execute(main.env(), [main.call(sponsor, call)]).receipts[0]
        assert receipt.reason in ("", "stale_set")
        return receipt.code == "ok"

    assert [is_kept(epoch) for epoch in range(4)] == [True] * 4
    duty = duty_of(main)
    assert duty is not None
    for address in duty["drawn"][:2]:
        main.ok(others[address], regions.audit_ok(1, 1))
    main.block()
    duty = duty_of(main)
    assert duty is not None
    assert (duty["number"], duty["epoch"]) == (4, 3)
    for address in duty["drawn"][:2]:
        main.ok(others[address], regions.audit_ok(1, 4))
    assert [is_kept(epoch) for epoch in range(4)] == [False] * 3 + [True]


def test_an_accusation_takes_a_bond_and_its_proof_in_time() -> None:
    main, there = grid()
    region, accuser = there[0], there[1].sponsor
    main.anchor(region, region.checkpoint(region.first()))
    main.block()
    proof = bytes(range(250)) * 30
    assert main.refusal(accuser, regions.judge()).reason == "no_case"
    shown = regions.evidence(proof)
    assert main.refusal(accuser, shown[0]).reason == "no_case"
    call = regions.accuse(1, 0, 5, proof)
    for name, value in {"digest": "XY" * 32, "size": 0, "height": 0, "epoch": -1}.items():
        bad = call._replace(args=call.args | {name: value})
        assert main.refusal(accuser, bad).reason == "bad_argument"
    assert main.refusal(accuser, regions.accuse(7, 0, 5, proof)).reason == "unknown_region"
    before = main.query("ledger", "balance", {"address": accuser.address})
    main.ok(accuser, call)
    held = main.query("ledger", "balance", {"address": accuser.address})
    assert held["held_micro"] == before["held_micro"] + BOND
    assert main.refusal(accuser, call).reason == "case_open"
    assert [len(part.args["data"]) for part in shown] == [7_000, 7_000, 1_000]
    for part in shown[:2]:
        main.ok(accuser, part)
    beyond = shown[0]._replace(args={"index": 3, "data": "00"})
    assert main.refusal(accuser, beyond).reason == "bad_argument"
    short = shown[2]._replace(args={"index": 2, "data": "00"})
    assert main.refusal(accuser, short).reason == "bad_argument"
    # Not shown in time: the bond is lost, and nothing of the case is left.
    block = main.block(at_ms=main.time_ms + AUDIT_MS + 1)
    refused = [event for event in block.result.events if event.name == "accusation_refused"]
    assert [event.data["code"] for event in refused] == ["not_shown"]
    after = main.query("ledger", "balance", {"address": accuser.address})
    assert after["held_micro"] == before["held_micro"]
    assert after["balance_micro"] == before["balance_micro"] - BOND
    assert main.query("ledger", "balance", {"address": REGULATOR.address})["balance_micro"] == BOND
    left = [name for name, _ in main.app.state_items() if name.startswith("audit/part/")]
    assert left == []
    assert main.query("audit", "case_of", {"address": accuser.address}) is None
    # Who is drawn for the region puts up nothing, and needs no money.
    duty = duty_of(main)
    assert duty is not None
    drawn = keys_of(there)[duty["drawn"][0]]
    main.ok(drawn, call)
    assert main.query("audit", "case_of", {"address": drawn.address})["bond_micro"] == 0
    assert main.send(key("stranger"), call).reason == "stranger"
