"""A region whose authorities are lost for good goes on with others."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from consensus.light import SignedHeader, ends_epoch
from market import idle
from market.app import Application
from market.client import Call, regions
from market.errors import ParamsError, StateError
from market.genesis import MarketParams
from market.invariants import count_money
from node.chain.epochs import set_of
from node.errors import BadSnapshot, GenesisError
from node.genesis import Genesis, read_genesis, write_genesis
from node.regions.auditor import Duty, Follower, audit
from node.regions.certifier import natives
from node.regions.registration import prove_possession
from node.regions.succession import proposal, stop_call, successor_of
from tests.market.vm.cpython import CPythonEngine
from tests.regions.grid import (
    BOND,
    ESCROW,
    HALT_MS,
    MAIN_KEYS,
    SLOT,
    SLOT_MS,
    Certified,
    Chain,
    Main,
    Region,
    certify,
    key,
    registration,
)
from tests.regions.test_two_tiers import record_of, settle, trade
from wire.keys import SigningKey

NEW_ID = "region-1/2"
NEW_SEATS = [key(f"region 1/successor {seat}") for seat in range(4)]


def signed(chain: Chain, block: Certified) -> SignedHeader:
    following = set_of(block.result.next) if ends_epoch(block.header) else None
    return SignedHeader(block.header, block.certificate, following)


def stop_shown(region: Region) -> Call:
    assert region.head is not None
    return stop_call(region.number, region.app, signed(region, region.head))


class Successor(Region):
    """The chain that goes on in a region's place: its homes, its money, other authorities."""

    def __init__(self, before: Region, genesis: Genesis, seated: Sequence[SigningKey]) -> None:
        for name in ("number", "home_keys", "meters", "sponsor"):
            setattr(self, name, getattr(before, name))
        self.seated = list(seated)
        self.checkpoints, self.offers = list(before.checkpoints), []
        self.inherited = before.app.state_items()
        blocks = genesis.governance.epoch_blocks
        Chain.__init__(self, genesis.market, seated, blocks, None, self.inherited)
        assert self.genesis.hash == genesis.hash
        self._nonces = before._nonces


def grid(epoch_blocks: int = 1_000) -> tuple[Main, Region, Region]:
    """Two regions, the first of which trades and settles a slot, then trades another."""
    region, other = Region(1, epoch_blocks=epoch_blocks), Region(2, homes=1)
    main = Main([region.sponsor, other.sponsor], twin=CPythonEngine())
    main.admit(region)
    main.admit(other)
    trade(region, SLOT)
    settle(region, SLOT)
    region.trade(SLOT + 2, [(1, "sell", 500, 90_000), (3, "buy", 300, 150_000)])
    return main, region, other


def post_all(main: Main, region: Region) -> None:
    """Anchor whatever is closed, and show the sets that it needs."""
    last = main.query("anchor", "last", {"region": region.number})["number"]
    for found in region.checkpoints[last:]:
        newest = main.query("regions", "show", {"region": region.number})["epoch"]
        for block in region.blocks:
            if ends_epoch(block.header) and newest <= block.header.epoch < found.header.epoch:
                data = region.signed_header(block)
                main.ok(region.seated[0], regions.rotate(region.number, data))
        assert main.anchor(region, found).code == "ok"


def audited(main: Main, region: Region, others: Sequence[SigningKey]) -> None:
    """Let the drawn auditors be content with all that is anchored, until it is all audited."""
    # Where no other region is live, seats of the main chain are drawn.
    keys = {one.address: one for one in [*others, *MAIN_KEYS]}
    for _ in range(8):
        status = main.query("audit", "status", {"region": region.number})
        if status["number"] == main.query("anchor", "last", {"region": region.number})["number"]:
            return
        duty = status["duty"]
        for address in [] if duty is None else duty["drawn"]:
            main.send(keys[address], regions.audit_ok(region.number, duty["number"]))
        main.block()
    raise AssertionError("it is not audited")


def halted(main: Main, region: Region, other: Region) -> None:
    """Let the region be silent until it is halted; what it has closed is anchored, and audited."""
    post_all(main, region)
    audited(main, region, other.seated)
    main.block(at_ms=main.time_ms + HALT_MS + 1_000)
    assert main.query("regions", "show", {"region": region.number})["status"] == "halted"


def stop_of(main: Main) -> dict[str, object]:
    found: dict[str, object] = main.query("override", "status", {"region": 1})["stop"]
    return found


def genesis_after(main: Main, region: Region, seated: Sequence[SigningKey]) -> Genesis:
    publics = [one.public for one in seated]
    return successor_of(region.genesis, NEW_ID, publics, stop_of(main))


def proposed(genesis: Genesis, seated: Sequence[SigningKey]) -> Call:
    return proposal(genesis, {one.public: prove_possession(genesis, one) for one in seated})


def overridden() -> tuple[Main, Region, Region, Successor]:
    """The first region is lost, and its successor in its place; it has decided nothing yet."""
    main, region, other = grid(epoch_blocks=4)
    halted(main, region, other)
    return main, region, other, override(main, region)


def override(main: Main, region: Region) -> Successor:
    """Put a successor in a halted region's place."""
    main.ok(region.seated[3], stop_shown(region))
    # One of the new authorities was one before: it signs for another chain now.
    seated = [*NEW_SEATS[:3], region.seated[3]]
    genesis = genesis_after(main, region, seated)
    main.ok(region.sponsor, proposed(genesis, seated))
    for one in MAIN_KEYS[:3]:
        main.ok(one, regions.approve_successor(1, genesis.hash.hex()))
    return Successor(region, genesis, seated)


def test_a_region_goes_on_with_other_authorities() -> None:
    main, region, other, successor = overridden()
    shown = main.query("regions", "show", {"region": 1})
    assert (shown["status"], shown["chain_id"], shown["epoch"]) == ("live", NEW_ID, 0)
    assert shown["genesis_hash"] == successor.genesis.hash.hex()
    assert main.query("regions", "authorities", {"region": 1, "epoch": 0}) == [
        one.public.hex() for one in successor.seated
    ]
    funds = main.query("regions", "funds", {"region": 1})
    assert (funds["bond_micro"], funds["escrow_micro"]) == (BOND, ESCROW)
    # Every account is as it was, and the block that it goes on with is named.
    assert count_money(successor.app._state) == count_money(region.app._state)
    # What hooks said by heights and a clock of before is forgotten.
    assert region.app.value(idle.key_of("governance")) is not None
    assert not [key for key, _ in successor.app.state_items() if key.endswith(idle.IDLE_KEY)]
    assert successor.first.parent_hash == main_hash(region)
    assert successor.first.time_ms == region.time_ms
    # What was traded before the stop is settled by the chain after it, in the same accounts.
    successor.meter(SLOT + 2, [(0, 520), (0, 0), (310, 0), (0, 0)])
    for step in (4, 6):
        trade(successor, SLOT + step)
        settle(successor, SLOT + step)
    post_all(main, successor)
    anchored = [record_of(found) for found in successor.checkpoints]
    at = len(region.checkpoints)
    assert (anchored[at].number, anchored[at].from_height) == (at + 1, 1)
    assert anchored[at].previous == anchored[at - 1].hash
    settled = [row.slot for record in anchored for row in record.slots]
    assert settled == [SLOT, SLOT + 2, SLOT + 4, SLOT + 6]
    bills = [successor.query("settlement", "bills", {"slot": slot}) for slot in settled]
    assert sum(bill["sold_wh"] for bill in bills[1]) == 300
    # It changes its sets as any region, and is audited from its own beginning on.
    assert main.query("regions", "show", {"region": 1})["epoch"] > 0
    duty = main.query("audit", "status", {"region": 1})["duty"]
    assert duty["from_height"] == 1
    audited(main, successor, other.seated)


def main_hash(region: Region) -> bytes:
    assert region.head is not None
    return region.head.certificate.block_hash


def test_an_auditor_begins_with_what_the_successor_begins_with() -> None:
    main, region, _, successor = overridden()
    successor.block(at_ms=successor.time_ms + 60_000)
    post_all(main, successor)
    main.block()
    found = main.query("audit", "status", {"region": 1})["duty"]
    found["answer_by_ms"] = 0
    duty = Duty(**{name: found[name] for name in Duty._fields})
    follower = Follower(successor.genesis, successor.inherited)
    blocks = [(one.block, one.certificate) for one in successor.blocks]
    assert audit(follower, blocks, duty) == (None, "")
    # Without it, or with another state, nobody follows the chain.
    for other in ((), region.app.state_items()[1:], successor.app.state_items()):
        with pytest.raises(BadSnapshot, match="is not the state of chain region-1 after height"):
            Follower(successor.genesis, other)


def test_the_lost_set_has_no_say_any_more() -> None:
    main, region, _, successor = overridden()
    # Somebody of before finds more of its old chain: another record, an epoch's end.
    region.block(at_ms=region.time_ms + 60_000)
    late = region.checkpoints[-1]
    assert main.refusal(region.seated[3], region.post(late)[1]).reason == "stale_set"
    assert main.refusal(region.seated[3], stop_shown(region)).reason == "wrong_status"
    # Nor may its chain come in a second time, as another region or in another's place.
    again = registration(7, region.chain_id, region.seated)
    assert main.refusal(region.sponsor, again).reason == "duplicate_region"
    assert successor.height == 0


def test_only_a_halted_region_is_overridden_and_only_whole() -> None:
    main, region, other = grid(epoch_blocks=4)
    sponsor, seat = region.sponsor, region.seated[0]
    assert main.refusal(seat, stop_shown(region)).reason == "wrong_status"
    # Halted with a record that nobody has posted.
    first, rest = region.checkpoints[:1], region.checkpoints[1:]
    region.checkpoints = first
    halted(main, region, other)
    region.checkpoints = first + rest
    genesis = successor_of(
        region.genesis, NEW_ID, [one.public for one in NEW_SEATS], stop_after(region)
    )
    call = proposed(genesis, NEW_SEATS)
    assert main.refusal(sponsor, call).reason == "no_stop"
    # Its head is of an epoch whose set the main chain has not been shown.
    assert main.refusal(seat, stop_shown(region)).reason == "bad_certificate"
    newest = main.query("regions", "show", {"region": 1})["epoch"]
    for block in region.blocks:
        if ends_epoch(block.header) and block.header.epoch >= newest:
            main.ok(seat, regions.rotate(1, region.signed_header(block)))
    main.ok(seat, stop_shown(region))
    assert main.refusal(seat, stop_shown(region)).reason == "old_header"
    assert main.refusal(sponsor, call).reason == "not_anchored"
    vote = regions.approve_successor(1, genesis.hash.hex())
    assert main.refusal(MAIN_KEYS[0], vote).reason == "no_proposal"
    # The rest is posted: that makes it live, and it is silent again.
    post_all(main, region)
    assert main.refusal(sponsor, call).reason == "wrong_status"
    main.block(at_ms=main.time_ms + HALT_MS + 1_000)
    # What was shown of an earlier halt says nothing of this one.
    assert main.refusal(sponsor, call).reason == "no_stop"
    main.ok(seat, stop_shown(region))
    assert main.refusal(sponsor, call).reason == "not_audited"
    audited(main, region, other.seated)
    digest = hashlib.sha256(b"proof").hexdigest()
    newest = main.query("regions", "show", {"region": 1})["epoch"]
    args = {"region": 1, "epoch": newest, "height": 1, "digest": digest, "size": 5}
    main.ok(other.sponsor, Call("audit", "accuse", args))
    assert main.refusal(sponsor, call).reason == "case_open"


def stop_after(region: Region) -> dict[str, object]:
    assert region.head is not None
    header = region.head.header
    return {
        "height": header.height,
        "block_hash": main_hash(region).hex(),
        "state_root": header.state_root.hex(),
        "time_ms": header.time_ms,
    }


def test_what_proposes_or_approves_nothing_is_refused() -> None:
    main, region, other = grid()
    halted(main, region, other)
    sponsor, seat = region.sponsor, region.seated[0]
    stop = stop_shown(region)
    # A header of less than a quorum; a value that is not the state's.
    assert region.head is not None
    header, known = region.head.header, set_of(region.app.terms())
    few = SignedHeader(header, certify(header, region.seated[:2], known), None)
    unsigned = stop_call(1, region.app, few)
    assert main.refusal(seat, unsigned).reason == "bad_certificate"
    lied = stop._replace(args=stop.args | {"value": region.app.value("export/open").hex()})
    assert main.refusal(seat, lied).reason == "not_proven"
    main.ok(seat, stop)
    genesis = genesis_after(main, region, NEW_SEATS)
    call = proposed(genesis, NEW_SEATS)
    proofs = call.args["proofs"]
    for code, args in (
        ("other_stop", {"height": 1}),
        ("no_possession", {"proofs": [*proofs[1:], proofs[0]]}),
        ("bad_set", {"keys": call.args["keys"][:3], "proofs": proofs[:3]}),
        ("duplicate_region", {"chain_id": "region-2"}),
        ("bad_argument", {"genesis_hash": "XY" * 32}),
        ("unknown_region", {"region": 7}),
    ):
        assert main.refusal(sponsor, call._replace(args=call.args | args)).reason == code
    assert main.refusal(other.sponsor, call).reason == "not_sponsor"
    main.ok(MAIN_KEYS[3], call)
    vote = regions.approve_successor(1, genesis.hash.hex())
    assert main.refusal(sponsor, vote).reason == "not_authority"
    main.ok(MAIN_KEYS[0], vote)
    assert main.refusal(MAIN_KEYS[0], vote).reason == "already_voted"
    other_vote = regions.approve_successor(1, "ab" * 32)
    assert main.refusal(MAIN_KEYS[1], other_vote).reason == "other_proposal"
    main.ok(MAIN_KEYS[1], vote)
    # Before the last vote somebody shows a later block: who decided it is not passed over.
    region.block()
    main.ok(seat, stop_shown(region))
    assert main.refusal(MAIN_KEYS[2], vote).reason == "no_proposal"
    assert stop_of(main)["height"] == region.height
    # And a region that is back by itself stays what it is.
    main.ok(sponsor, proposed(genesis_after(main, region, NEW_SEATS), NEW_SEATS))
    region.block(at_ms=region.time_ms + 60_000)
    post_all(main, region)
    assert main.query("override", "status", {"region": 1}) == {"stop": None, "proposal": None}
    assert main.refusal(MAIN_KEYS[2], vote).reason == "wrong_status"


def test_a_successors_genesis_says_what_it_goes_on_with(tmp_path: Path) -> None:
    main, region, other = grid()
    halted(main, region, other)
    main.ok(region.seated[0], stop_shown(region))
    genesis = genesis_after(main, region, NEW_SEATS)
    file = tmp_path / "genesis.json"
    write_genesis(genesis, file)
    assert read_genesis(file) == genesis
    member = genesis.market.region
    assert member is not None
    assert member.succeeds is not None
    for name, value, words in (
        ("chain_id", genesis.chain_id, "a successor has a name of its own"),
        ("height", 0, "region.succeeds.height must be an integer from 1"),
        ("state_root", b"short", "region.succeeds.state_root must have 32 bytes"),
        ("time_ms", genesis.market.genesis_ms - 1, "must not be before genesis_ms"),
    ):
        succeeds = msgspec.structs.replace(member.succeeds, **{name: value})
        with pytest.raises(ParamsError, match=words):
            with_succession(genesis.market, succeeds).check()
    with pytest.raises(GenesisError, match="names none that it succeeds"):
        proposal(region.genesis, {})
    # A set with a convicted authority, or none of the founders' code, is no beginning.
    with pytest.raises(StateError, match="is not the state of chain region-1"):
        Application(genesis.market, None, genesis.founding(), natives()).genesis()


def with_succession(market: MarketParams, succeeds: object) -> MarketParams:
    return msgspec.structs.replace(
        market, region=msgspec.structs.replace(market.region, succeeds=succeeds)
    )


def test_the_sum_of_all_slots_holds_across_an_override() -> None:
    main, _, _, successor = overridden()
    settle(successor, SLOT + 2)
    post_all(main, successor)
    last = main.query("anchor", "last", {"region": 1})
    accounts = count_money(successor.app._state)
    assert accounts.issued == last["minted_micro"] - last["redeemed_micro"]
    assert main.query("anchor", "settled_by", {"region": 1, "slot": SLOT}) < last["number"]
    assert main.query("anchor", "settled_by", {"region": 1, "slot": SLOT + 2}) == last["number"]
    assert successor.time_ms >= (SLOT + 3) * SLOT_MS
