"""Bad input that takes more than one step: evidence that is none, claims that come too late.

What one checkpoint can be refused for is in `test_anchor.py`, one offer or result in
`test_exchange.py`. The table of all of it is in docs/spec/regions.md.
"""

from collections.abc import Mapping

import msgspec
import pytest

from consensus.authorities import AuthoritySet
from consensus.checkpoint import CHECKPOINT_BYTES_MAX, Record, SlotTotals
from consensus.light import SignedHeader
from consensus.messages import ConflictingCertificates, DuplicateVote, Vote, header_hash
from market.client import Call, regions
from market.tiers import ExchangeRules, ExportRules
from market.vm import merkle
from node.regions.replay import FraudProof
from tests.market.vm.cpython import CPythonEngine
from tests.regions.cheat import CHEATS, Cheating
from tests.regions.forge import Captured, slot_totals
from tests.regions.grid import (
    ESCROW,
    HALT_MS,
    MAIN_ID,
    MAIN_KEYS,
    SLOT,
    SLOT_MS,
    Main,
    Region,
    certify,
)
from tests.regions.test_fraud import caught, trade
from wire.codec import Plain, decode, encode

AUDIT_MS = 60_000
HEIGHT = 11
# Trades of a few quarter hours later: there is time to halt before its offers are closed.
LATER = SLOT + 2
# Between two regions of one zone. [micro per kWh]
FEE = 20_000


# ---- evidence of a conflict -----------------------------------------------------------------


def conflict_cases(region: Captured) -> dict[str, str]:
    """Return what looks like two certified blocks at one height and proves nothing."""
    heads = [region.header(HEIGHT, bytes([root]) * 32) for root in (1, 2)]
    heads.sort(key=header_hash)
    quorum = region.quorum(region.set)
    first, second = (certify(head, quorum, region.set) for head in heads)
    above = certify(region.header(HEIGHT + 1, bytes(32)), quorum, region.set)
    later = certify(heads[0], quorum, region.set, round_=1)
    next_set = AuthoritySet(1, region.set.publics)
    after = certify(region.header(HEIGHT, bytes(32), next_set), quorum, next_set)
    twice = first.signatures[:2] + first.signatures[1:2]
    repeated = msgspec.structs.replace(first, signatures=twice)
    # Another region whose authorities contradict themselves.
    other = Captured(2)
    vote = Vote(1, 0, HEIGHT, 0, bytes(32), 0, bytes(64))
    votes = DuplicateVote(vote, msgspec.structs.replace(vote, block_hash=b"\x01" * 32))
    cases = {
        "too few signatures": region.conflict(HEIGHT, region.seated[:2]),
        "one signature twice": (repeated, second),
        "one certificate twice": (first, first),
        "one block in two rounds": (first, later),
        "in another order": (second, first),
        "of two heights": (first, above),
        "of two epochs": (first, after),
        "of another region": other.conflict(HEIGHT),
        "two votes only": encode(votes).hex(),
        "nothing": "",
        "no hexadecimal": "zz",
        "cut off": region.conflict(HEIGHT)[:-2],
        "longer": region.conflict(HEIGHT) + "00",
    }
    return {
        name: one if isinstance(one, str) else encode(ConflictingCertificates(*one)).hex()
        for name, one in cases.items()
    }


def test_two_certificates_that_prove_nothing_freeze_nobody() -> None:
    region = Captured(1)
    main = Main([region.sponsor])
    main.admit(region)

    def refused(data: str) -> str:
        return main.refusal(MAIN_KEYS[0], regions.report_conflict(1, 0, data)).reason

    cases = conflict_cases(region)
    found = {name: refused(data) for name, data in cases.items()}
    malformed = {"no hexadecimal": "malformed"}
    assert found == dict.fromkeys(cases, "no_evidence") | malformed
    assert refused("00" * (CHECKPOINT_BYTES_MAX + 1)) == "oversized"
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    main.ok(MAIN_KEYS[0], regions.report_conflict(1, 0, region.conflict(HEIGHT)))


# ---- evidence of fraud ----------------------------------------------------------------------


def proof_cases(region: Region, proof: FraudProof) -> dict[str, tuple[bytes, int, str]]:
    """Return proofs of fraud that are none: encoded, of which height, and the refusal's code."""

    def changed(**changes: object) -> bytes:
        return encode(msgspec.structs.replace(proof, **changes))

    header = proof.block.header
    authorities = AuthoritySet(0, tuple(region.keys))
    few = certify(header, region.seated[:2], authorities)
    twice = few.signatures + few.signatures[1:]
    repeated = msgspec.structs.replace(few, bitmap=0b111, signatures=twice)
    later = msgspec.structs.replace(header, epoch=1)
    body = msgspec.structs.replace(proof.block, txs=(b"another",))
    other_set = msgspec.structs.replace(proof.block, header=later)
    return {
        "cut off": (encode(proof)[:-1], header.height, "malformed"),
        "of another height": (encode(proof), header.height + 1, "wrong_chain"),
        "of another epoch": (changed(block=other_set), header.height, "stale_set"),
        "too few signatures": (changed(certificate=few), header.height, "bad_certificate"),
        "one signature twice": (changed(certificate=repeated), header.height, "bad_certificate"),
        "after another block": (changed(parent=region.first), header.height, "not_proven"),
        "of another body": (changed(block=body), header.height, "not_proven"),
    }


@pytest.mark.slow
def test_a_proof_of_fraud_that_is_none_is_refused_and_nothing_has_changed() -> None:
    """A1 to A3: told by the main chain without executing anything."""
    region, neighbour = Cheating(1), Region(2)
    main = Main([region.sponsor, neighbour.sponsor], audit_ms=AUDIT_MS)
    main.admit(region)
    main.admit(neighbour)
    region.cheat(CHEATS["money from nowhere"])
    trade(region)
    proof = caught(region)
    one = neighbour.sponsor
    for name, (data, height, code) in proof_cases(region, proof).items():
        shown = [regions.accuse(1, 0, height, data), *regions.evidence(data)]
        block = main.block([(one, call) for call in shown])
        assert {receipt.code for receipt in block.result.receipts} == {"ok"}
        assert (name, main.refusal(one, regions.judge()).reason) == (name, code)
        # The case stays open until its time is over; who accuses again then needs another bond.
        assert main.refusal(one, regions.accuse(1, 0, height, data)).reason == "case_open"
        main.block(at_ms=main.time_ms + AUDIT_MS + 1)
    # All parts are there, and they are not those of the proof that was named.
    data, height = encode(proof), proof.block.header.height
    main.ok(one, regions.accuse(1, 0, height, data))
    main.block([(one, part) for part in regions.evidence(bytes(len(data)))])
    assert main.refusal(one, regions.judge()).reason == "not_shown"
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    # Shown as it is, it convicts.
    main.block([(one, part) for part in regions.evidence(data)])
    main.ok(one, regions.judge())
    assert main.query("regions", "show", {"region": 1})["status"] == "frozen"


# ---- claims ---------------------------------------------------------------------------------


class Liar(Captured):
    """The main chain's authorities, who sign whatever they like."""

    def __init__(self) -> None:
        super().__init__(9)
        self.chain_id, self.seated = MAIN_ID, list(MAIN_KEYS)
        self.set = AuthoritySet(0, tuple(one.public for one in MAIN_KEYS))

    def shown(self, height: int, state: Mapping[str, bytes]) -> tuple[Call, merkle.Tree]:
        """Return what shows a region this state, and the state's tree."""
        tree = merkle.update(None, dict(state))
        head = self.header(height, merkle.root_of(tree))
        signed = SignedHeader(head, certify(head, self.quorum(self.set), self.set))
        return regions.follow(encode(signed).hex()), tree


@pytest.mark.parametrize("first", ["claimed", "refunded"])
def test_an_offer_has_one_end_even_if_the_main_chain_says_two(first: str) -> None:
    """X7: a claim after a refund, a refund after a claim, and either of them twice."""
    region = Region(2, exports=ExportRules(), twin=CPythonEngine())
    region.trade(SLOT, [(1, "buy", 500, 250_000)])
    member, liar = region.home_keys[0], Liar()
    key, window = regions.result_key(2, SLOT), encode([SLOT - 1, SLOT])
    result = encode({"region": 2, "slot": SLOT, "number": 1, "rows": [[0, 500, 67_500, 0, 1]]})
    calls: dict[str, list[Call]] = {}
    follow, tree = liar.shown(5, {key: result, "other": b"\x01"})
    claim = regions.claim(5, SLOT, result, encode(merkle.prove(tree, key)))
    calls["claimed"] = [follow, claim]
    follow, tree = liar.shown(6, {regions.WINDOW_KEY: window, "other": b"\x01"})
    proofs = [encode(merkle.prove(tree, name)) for name in (regions.WINDOW_KEY, key)]
    calls["refunded"] = [follow, regions.refund(6, SLOT, window, *proofs)]
    # The region has been shown both states, and has taken one of them at its word.
    region.ok(member, calls["claimed"][0])
    region.ok(member, calls["refunded"][0])
    region.ok(member, calls[first][1])
    before = region.query("export", "traded", {})
    assert before["imported_wh"] == (500 if first == "claimed" else 0)
    region.block()
    for _, end in calls.values():
        assert region.refusal(member, end).reason == f"already_{first}"
    assert region.query("export", "traded", {}) == before
    assert region.query("export", "offered", {"slot": SLOT})["status"] == first


def offer_of(number: int, side: int, price: int) -> Plain:
    return ["out", number, 1, LATER, SLOT_MS, [[side, 500, price]], "00" * 32]


def sale(wh: int, paid_micro: int) -> SlotTotals:
    """Return the settlement of a slot of which so much was sold to other regions."""
    sold = {"exported_wh": wh, "export_wh": 700 + wh, "got_micro": paid_micro}
    return slot_totals(LATER, net_micro=52_700 - paid_micro, **sold)


def test_a_halted_region_trades_nothing_and_is_paid_for_what_it_had_sold() -> None:
    """X3 and M13: nothing new is taken of it; what was traded before is due to it, once."""
    seller, silent, buyer = there = [Captured(number) for number in (1, 2, 3)]
    main = Main([one.sponsor for one in there], exchange=ExchangeRules(), twin=CPythonEngine())
    offers: dict[int, Call] = {}
    records: dict[int, Record] = {}
    for one, side, price in ((seller, 1, 90_000), (silent, 1, 80_000), (buyer, 0, 150_000)):
        main.admit(one)
        checkpoint, offer = one.offering(offer_of(one.number, side, price), LATER)
        assert main.anchor(one, checkpoint).code == "ok"
        offers[one.number] = offer.call()
        records[one.number] = decode(checkpoint.record, Record, CHECKPOINT_BYTES_MAX)

    def statuses() -> list[str]:
        shown = main.query("regions", "regions", {"first": 1, "count": 3})
        return [row["status"] for row in shown]

    def funds() -> tuple[int, int]:
        shown = main.query("regions", "funds", {"region": 1})
        return shown["escrow_micro"], shown["due_micro"]

    main.ok(seller.seated[0], offers[1])
    main.block(at_ms=main.time_ms + HALT_MS + 1)
    assert statuses() == ["halted"] * 3
    # What is anchored of it proves the offer; it is halted, and does not trade.
    assert main.refusal(silent.seated[0], offers[2]).reason == "wrong_status"
    for one in (seller, buyer):
        records[one.number] = one.after(records[one.number])
        assert main.anchor(one, one.checkpoint(records[one.number])).code == "ok"
    main.ok(buyer.seated[0], offers[3])
    main.block(at_ms=LATER * SLOT_MS)
    cost = 500 * (90_000 + 150_000 - FEE) // 2 // 1_000
    flows = main.query("exchange", "cleared", {"slot": LATER})["flows"]
    assert [row[:4] for row in flows] == [[3, 1, 500, cost]]
    assert main.query("exchange", "result", {"region": 2, "slot": LATER}) is None
    # The seller halts again: what is due to it waits for its first checkpoint after that.
    main.block(at_ms=main.time_ms + HALT_MS + 1)
    assert (statuses(), funds()) == (["halted"] * 3, (ESCROW, cost))
    record = seller.after(records[1], sale(500, cost))
    lied = seller.after(records[1], sale(501, cost))
    assert main.refusal(*seller.post(seller.checkpoint(lied))).reason == "not_traded"
    assert main.anchor(seller, seller.checkpoint(record)).code == "ok"
    assert (statuses()[0], funds()) == ("live", (ESCROW + cost, 0))
    again = seller.after(record, sale(500, cost))
    assert main.refusal(*seller.post(seller.checkpoint(again))).reason == "settled_twice"
    assert funds() == (ESCROW + cost, 0)
