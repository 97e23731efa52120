"""A block that does not follow is proven so, by anybody; an honest one never is."""

import hashlib
import random
from typing import Any

import msgspec
import pytest

from consensus.authorities import AuthoritySet
from consensus.messages import Block, Certificate, header_hash, tx_root
from market import client, stateless
from market.client import Call, regions
from market.client.finality import finality_of_record, finality_of_slot
from market.errors import Revert
from market.tiers import ExportRules
from market.vm import witness
from market.vm.journal import State
from market.vm.witness import WitnessState
from node.errors import BadBlock, BadSnapshot
from node.regions.auditor import Duty, Follower, audit
from node.regions.certifier import natives
from node.regions.replay import FraudProof, Verdict, executed, judge, maker_of, prove
from tests.market.vm.cpython import CPythonEngine
from tests.regions.cheat import CHEATS, Cheating
from tests.regions.grid import SLOT, SLOT_MS, Certified, Chain, Main, Region, certify
from wire.codec import encode
from wire.keys import SigningKey

ORDERS = [(1, "sell", 900, 90_000), (2, "sell", 400, 110_000), (3, "buy", 300, 150_000)]
READINGS = [(0, 880), (0, 420), (310, 0), (40, 0)]


def set_of(chain: Chain, epoch: int = 0) -> AuthoritySet:
    return AuthoritySet(epoch, tuple(chain.keys))


def judged(chain: Chain, proof: FraudProof, **changes: Any) -> Verdict:
    """Have a proof judged by somebody who knows the set of its block's epoch and nothing else."""
    shown = msgspec.structs.replace(proof, **changes)
    header = shown.block.header
    authorities = set_of(chain, header.epoch)
    return judge(encode(shown), authorities, chain.chain_id, header.height, natives())


def pairs(blocks: list[Certified]) -> list[tuple[Block, Certificate]]:
    return [(block.block, block.certificate) for block in blocks]


def trade(region: Region, slot: int = SLOT) -> None:
    region.trade(slot, ORDERS)
    region.meter(slot, READINGS)


def caught(region: Region) -> FraudProof:
    """Follow a region from its genesis until a block does not follow."""
    follower = Follower(region.genesis)
    for block in region.blocks:
        proof = follower.take(block.block, block.certificate)
        if proof is not None:
            return proof
    raise AssertionError("every block follows")


@pytest.mark.parametrize("name", CHEATS)
def test_a_captured_region_is_convicted_by_the_block_in_which_it_cheated(name: str) -> None:
    region = Cheating(1)
    trade(region)
    region.cheat(CHEATS[name])
    trade(region, SLOT + 2)
    assert region.cheated_at
    proof = caught(region)
    assert proof.block.header.height == region.cheated_at
    verdict = judged(region, proof)
    assert (verdict.fraud, verdict.code) == (True, "roots")
    assert "state_root" in verdict.reason


def test_a_transaction_that_nobody_signed_convicts() -> None:
    region = Region(1)
    region.block()
    thief, victim = region.home_keys[:2]
    call = Call("ledger", "transfer", {"address": thief.address, "amount_micro": 5_000})
    tx = region.call(victim, call)
    forged = tx._replace(raw=tx.raw[:-1] + bytes([tx.raw[-1] ^ 1]))
    parent = region.blocks[-1]
    block, result = region.maker.build(
        parent.header, parent.certificate, 0, region.time_ms + 1_000, [forged]
    )
    assert result.receipts[0].code == "ok"
    certificate = certify(block.header, region.seated[:3], set_of(region))
    region.blocks.append(Certified(block, certificate, result))
    verdict = judged(region, caught(region))
    assert (verdict.fraud, verdict.code) == (True, "transaction")


def random_region(seed: int, blocks: int) -> tuple[Region, list[Verdict]]:
    """Let a region trade at random; prove each of its honest blocks, as a slanderer would."""
    dice = random.Random(seed)
    exports = ExportRules() if seed % 2 else None
    region = Region(1, epoch_blocks=7, keep_slots=2, history_min=3, exports=exports)
    follower = Follower(region.genesis)
    verdicts = []
    slot, nonce = SLOT, 0
    while region.height < blocks:
        calls: list[tuple[SigningKey, Call]] = []
        for home in region.home_keys:
            if dice.random() < 0.7:
                side, price = dice.choice([("buy", 150_000), ("sell", 90_000)])
                order = client.post_order(slot + dice.randrange(2), side, 100 + nonce, price)
                calls.append((home, order))
            nonce += 1
        for meter in region.meters:
            if dice.random() < 0.6:
                calls.append((meter, client.post_reading(slot - 1, dice.randrange(500), 0, nonce)))
        step_ms = dice.choice([1_000, 60_000, SLOT_MS // 3, SLOT_MS])
        if region.height % 5 == 4:
            # Whatever the meters have said, a slot is settled some time.
            step_ms = 4 * SLOT_MS
        block = region.block(calls, at_ms=region.time_ms + step_ms)
        slot = region.time_ms // SLOT_MS + 1
        parent = follower.head
        proof = prove(region.genesis, follower._app, parent, block.block, block.certificate)
        verdicts.append(judged(region, proof))
        assert follower.take(block.block, block.certificate) is None
    return region, verdicts


def test_no_honest_block_convicts() -> None:
    region, verdicts = random_region(seed=1, blocks=10)
    assert {(verdict.fraud, verdict.code) for verdict in verdicts} == {(False, "follows")}
    # There was something to be wrong about.
    settled = [event for block in region.blocks for event in block.result.events]
    assert any(event.name == "slot_settled" for event in settled)
    assert any(event.name == "checkpoint_closed" for event in settled)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2])
def test_no_honest_block_convicts_over_many(seed: int) -> None:
    _, verdicts = random_region(seed, blocks=60)
    assert {(verdict.fraud, verdict.code) for verdict in verdicts} == {(False, "follows")}


def test_only_the_main_chain_judges() -> None:
    """A region that could would be another machine than the one that replays its blocks."""
    region = Region(1)
    assert "fraud" not in region.app.natives
    assert "fraud" in Main([region.sponsor]).app.natives
    assert set(natives()) - set(region.app.natives) == {"fraud"}


def test_what_is_no_proof_is_told_without_executing_it() -> None:
    region = Cheating(1)
    region.cheat(CHEATS["money from nowhere"])
    trade(region)
    proof = caught(region)
    block, height = proof.block, proof.block.header.height
    other = certify(region.first, region.seated[:3], set_of(region))

    def refused(data: bytes, authorities: AuthoritySet | None = None, at: int = height) -> str:
        with pytest.raises(Revert) as found:
            judge(data, authorities or set_of(region), region.chain_id, at, natives())
        assert len(found.value.message.split()) > 3
        return found.value.reason

    def changed(**changes: Any) -> bytes:
        return encode(msgspec.structs.replace(proof, **changes))

    assert refused(b"") == "malformed"
    assert refused(encode(proof)[:-1]) == "malformed"
    assert refused(encode(proof), at=height + 1) == "wrong_chain"
    assert refused(encode(proof), set_of(region, 1)) == "stale_set"
    assert refused(changed(certificate=other)) == "bad_certificate"
    few = certify(block.header, region.seated[:2], set_of(region))
    assert refused(changed(certificate=few)) == "bad_certificate"
    assert refused(changed(parent=region.first)) == "not_proven"
    body = msgspec.structs.replace(block, txs=(b"another",))
    assert tx_root(body.txs) != block.header.tx_root
    assert refused(changed(block=body)) == "not_proven"


def test_what_does_not_show_enough_proves_nothing() -> None:
    region = Cheating(1)
    trade(region)
    region.cheat(CHEATS["a wrong bill"])
    trade(region, SLOT + 2)
    proof = caught(region)
    before = Follower(region.genesis)
    for block in region.blocks[: proof.parent.height - 1]:
        before.take(block.block, block.certificate)
    early = prove(region.genesis, before._app, before.head, proof.block, proof.certificate)
    cases: dict[str, tuple[Any, str]] = {
        "another state's": (early.witness, "not_proven"),
        "nothing": (b"\0", "not_proven"),
        "cut off": (proof.witness[:-1], "not_proven"),
        "something after it": (proof.witness + b"\0", "not_proven"),
        "only its root": (b"\1" + proof.parent.state_root, "incomplete"),
        "the empty root": (b"\1" + bytes(32), "not_proven"),
    }
    for name, (shown, code) in cases.items():
        verdict = judged(region, proof, witness=shown)
        assert (name, verdict.fraud, verdict.code) == (name, False, code)
    # Another genesis than the state's, and one that is no region's.
    market = region.genesis.market
    rich = msgspec.structs.replace(market, penalty_micro_per_kwh=1)
    alone = msgspec.structs.replace(market, region=None)
    for params, code in ((rich, "unreadable"), (alone, "malformed")):
        genesis = msgspec.structs.replace(region.genesis, market=params)
        verdict = judged(region, proof, genesis=genesis)
        assert (verdict.fraud, verdict.code) == (False, code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stateless, "REPLAY_GAS_MAX", 1_000)
        verdict = judged(region, proof)
        assert (verdict.fraud, verdict.code) == (False, "too_heavy")
    assert judged(region, proof).fraud


def slandered(hidden_count: int) -> list[Verdict]:
    """Judge an honest block, of whose witness something is hidden each time, or a folder's key."""
    region = Region(1)
    trade(region)
    follower = Follower(region.genesis)
    settled = next(
        place
        for place, block in enumerate(region.blocks)
        if any(event.name == "slot_settled" for event in block.result.events)
    )
    for block in region.blocks[:settled]:
        follower.take(block.block, block.certificate)
    app, honest = follower._app, region.blocks[settled]
    whole = prove(region.genesis, app, follower.head, honest.block, honest.certificate)
    recorder, state = stateless.recording(app)
    executed(maker_of(region.genesis, recorder), honest.block, follower.head)
    base = app.loaded()
    # Trades are read by listing their folder, and not by their names.
    listed = sorted(key for key in state.touched if key.startswith("market/trades/"))
    others = sorted(state.touched & base.state.items.keys())
    others = [key for key in others if not key.startswith("vm/")]
    hidden = [listed[0], *random.Random(5).sample(others, hidden_count)]
    verdicts = []
    for key in hidden:
        shown = witness.write(base.state, base.tree, state.touched - {key}, {})
        verdicts.append(judged(region, msgspec.structs.replace(whole, witness=shown)))
    return verdicts


def test_hiding_what_an_honest_block_reads_convicts_nobody() -> None:
    assert {verdict.code for verdict in slandered(6)} == {"incomplete"}


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["absence", "folders"])
def test_without_the_rule_hiding_convicts(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A5 taken out: what is not shown is taken for absent."""
    if rule == "absence":
        monkeypatch.setattr(witness, "_check_absent", lambda *_: None)
    else:
        monkeypatch.setattr(WitnessState, "keys_under", State.keys_under)
    verdicts = slandered(6)
    assert any((verdict.fraud, verdict.code) == (True, "roots") for verdict in verdicts)


def duty_over(region: Region, number: int = 1) -> Duty:
    checkpoint = region.checkpoints[number - 1]
    header = checkpoint.header
    record = region.query("export", "record", {"number": number})
    value = region.app.value(f"export/checkpoint/{1_000_000_000 + number}")
    assert value == encode(record)
    record_hash = hashlib.sha256(value).hexdigest()
    return Duty(1, number, 0, 1, header.height, record_hash, header_hash(header).hex(), 0)


def test_an_audit_follows_the_blocks_to_the_record() -> None:
    region = Region(1)
    trade(region)
    trade(region, SLOT + 2)
    number = len(region.checkpoints)
    duty = duty_over(region, number)
    assert audit(Follower(region.genesis), pairs(region.blocks), duty) == (None, "")
    # From a state on the way, too.
    middle = region.blocks[2]
    other = Region(1)
    trade(other)
    follower = Follower(region.genesis)
    with pytest.raises(BadSnapshot, match="state root"):
        follower.jump(middle.header, other.app.state_items())
    assert follower.height == 0
    short = audit(follower, pairs(region.blocks[:3]), duty)
    assert short.proof is None
    assert "blocks up to 3" in short.problem
    assert audit(follower, pairs(region.blocks[3:]), duty) == (None, "")
    # What is anchored must be this very chain.
    for wrong in (
        duty._replace(block_hash="00" * 32),
        duty._replace(record_hash="00" * 32),
        duty._replace(number=number + 1),
    ):
        found = audit(Follower(region.genesis), pairs(region.blocks), wrong)
        assert found.proof is None
        assert "another one" in found.problem


def test_data_that_nobody_certified_convict_nobody() -> None:
    region = Region(1)
    trade(region)
    blocks = pairs(region.blocks)
    follower = Follower(region.genesis)
    (first, good), (second, later) = blocks[:2]
    with pytest.raises(BadBlock, match="not the one after"):
        follower.take(second, later)
    with pytest.raises(BadBlock, match="another block's certificate"):
        follower.take(first, later)
    few = certify(first.header, region.seated[:2], set_of(region))
    with pytest.raises(BadBlock):
        follower.take(first, few)
    body = msgspec.structs.replace(first, txs=(b"another",))
    with pytest.raises(BadBlock, match="tx_root"):
        follower.take(body, good)
    assert follower.height == 0
    assert follower.take(first, good) is None


def accused(main: Main, one: SigningKey, proof: FraudProof) -> Any:
    """Accuse region 1, show the whole proof and have it judged; returns the receipt."""
    data, header = encode(proof), proof.block.header
    main.ok(one, regions.accuse(1, header.epoch, header.height, data))
    parts = regions.evidence(data)
    assert main.refusal(one, regions.judge()).reason == "not_shown"
    for part in reversed(parts):
        main.ok(one, part)
    return main.ok(one, regions.judge())


def test_a_slot_is_final_by_its_region_then_anchored_then_audited() -> None:
    region, neighbour = Region(1), Region(2)
    main = Main([region.sponsor, neighbour.sponsor], auditors=2)
    main.admit(region)
    main.admit(neighbour)
    trade(region)

    def level(slot: int = SLOT) -> str:
        return finality_of_slot(region.query, main.query, 1, slot)

    assert level() == "regional"
    posted = main.block([region.post(checkpoint) for checkpoint in region.checkpoints])
    assert {receipt.code for receipt in posted.result.receipts} == {"ok"}
    assert level() == "anchored"
    # The region knows as soon as it is shown.
    assert finality_of_slot(region.query, None, 1, SLOT) == "regional"
    region.ok(region.seated[0], regions.follow(main.signed_header(main.head)))
    region.ok(region.seated[0], main.anchored(1))
    assert finality_of_slot(region.query, None, 1, SLOT) == "anchored"
    main.block()
    by_address = {one.address: one for one in neighbour.seated}
    duty = main.query("audit", "status", {"region": 1})["duty"]
    for address in duty["drawn"]:
        main.ok(by_address[address], regions.audit_ok(1, duty["number"]))
    assert level() == "audited"
    assert level(SLOT + 1) == "regional"
    assert finality_of_record(0, 5, 5) == "regional"


def test_proven_fraud_freezes_a_region_and_takes_its_bond() -> None:
    region, neighbour = Cheating(1), Region(2)
    main = Main([region.sponsor, neighbour.sponsor], twin=CPythonEngine(), auditors=2)
    main.admit(region)
    main.admit(neighbour)
    region.cheat(CHEATS["money from nowhere"])
    trade(region)
    for checkpoint in region.checkpoints:
        assert main.anchor(region, checkpoint).code == "ok"
    main.block()
    (auditor, _) = main.query("audit", "status", {"region": 1})["duty"]["drawn"]
    by_address = {one.address: one for one in neighbour.seated}
    before = main.query("ledger", "balance", {"address": region.sponsor.address})
    receipt = accused(main, by_address[auditor], caught(region))
    assert [event.name for event in receipt.events] == ["bond_forfeited", "region_status"]
    shown = main.query("regions", "show", {"region": 1})
    assert shown["status"] == "frozen"
    assert f"block {region.cheated_at} does not follow" in shown["reason"]
    funds = main.query("regions", "funds", {"region": 1})
    assert (funds["escrow_micro"], funds["bond_micro"]) == (20_000_000, 0)
    after = main.query("ledger", "balance", {"address": region.sponsor.address})
    assert before["held_micro"] - after["held_micro"] == 5_000_000
    for call in (regions.withdraw(1, 1), regions.leave(1)):
        assert main.refusal(region.sponsor, call).reason == "wrong_status"
    trade(region, SLOT + 2)
    assert main.anchor(region, region.checkpoints[-1]).reason == "wrong_status"
    # Nothing of the case and of the duty is left.
    left = [name for name, _ in main.app.state_items() if name.startswith("audit/")]
    assert not any(part in name for name in left for part in ("/part/", "/case/", "/duty/"))
    call = regions.accuse(1, 0, 3, b"proof")
    assert main.refusal(neighbour.sponsor, call).reason == "wrong_status"


def test_an_accusation_that_proves_nothing_costs_its_bond_and_changes_nothing_else() -> None:
    region, neighbour = Region(1), Region(2)
    main = Main([region.sponsor, neighbour.sponsor], auditors=2)
    main.admit(region)
    main.admit(neighbour)
    trade(region)
    for checkpoint in region.checkpoints:
        assert main.anchor(region, checkpoint).code == "ok"
    follower = Follower(region.genesis)
    block = region.blocks[0]
    proof = prove(region.genesis, follower._app, follower.head, block.block, block.certificate)
    sponsor = neighbour.sponsor
    before = main.query("ledger", "balance", {"address": sponsor.address})
    receipt = accused(main, sponsor, proof)
    (event,) = receipt.events
    assert (event.name, event.data["code"]) == ("accusation_refused", "follows")
    after = main.query("ledger", "balance", {"address": sponsor.address})
    assert before["balance_micro"] - after["balance_micro"] == 1_000_000
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    assert main.query("regions", "funds", {"region": 1})["bond_micro"] == 5_000_000
    # A drawn auditor that slanders is drawn no more for this record.
    drawn = main.query("audit", "status", {"region": 1})["duty"]["drawn"]
    by_address = {one.address: one for one in neighbour.seated}
    accused(main, by_address[drawn[0]], proof)
    assert main.query("audit", "status", {"region": 1})["duty"]["drawn"] == drawn[1:]
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
