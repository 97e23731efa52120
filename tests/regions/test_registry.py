"""Regions of the main chain: who comes in, with what, and how it leaves."""

import hashlib
from pathlib import Path

import pytest

from market.app import Application
from market.client import Call, regions
from market.errors import ParamsError
from market.tiers import MainRules, Membership
from node.errors import GenesisError
from node.genesis import ChainParams, Genesis, read_genesis, write_genesis
from node.regions.certifier import natives
from tests.market.street import REGULATOR, params
from tests.market.vm.cpython import CPythonEngine
from tests.regions.forge import Captured
from tests.regions.grid import (
    BOND,
    ESCROW,
    MAIN_KEYS,
    SPONSOR_BALANCE,
    Main,
    key,
    registration,
)


def grid() -> tuple[Main, Captured]:
    region = Captured(1)
    return Main([region.sponsor], twin=CPythonEngine()), region


def changed(call: Call, **args: object) -> Call:
    return call._replace(args=call.args | args)


def test_a_region_comes_in_by_a_quorum_of_the_main_chain() -> None:
    main, region = grid()
    main.ok(region.sponsor, region.registration)
    shown = main.query("regions", "show", {"region": 1})
    assert (shown["status"], shown["seats"], shown["epoch"]) == ("proposed", 4, 0)
    money = main.query("ledger", "balance", {"address": region.sponsor.address})
    assert money["held_micro"] == BOND + ESCROW
    assert money["balance_micro"] == SPONSOR_BALANCE - BOND - ESCROW
    assert main.query("regions", "funds", {"region": 1}) == {
        "escrow_micro": ESCROW,
        "bond_micro": BOND,
        "due_micro": 0,
    }
    assert main.query("regions", "authorities", {"region": 1, "epoch": 0}) == [
        public.hex() for public in region.set.publics
    ]
    # It posts nothing before it is in.
    found = region.checkpoint(region.first())
    assert main.refusal(*region.post(found)).reason == "wrong_status"
    main.ok(MAIN_KEYS[0], regions.approve(1))
    assert main.refusal(MAIN_KEYS[0], regions.approve(1)).reason == "already_voted"
    assert main.refusal(region.sponsor, regions.approve(1)).reason == "not_authority"
    main.ok(MAIN_KEYS[1], regions.approve(1))
    assert main.query("regions", "show", {"region": 1})["status"] == "proposed"
    main.ok(MAIN_KEYS[2], regions.approve(1))
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    assert main.refusal(MAIN_KEYS[3], regions.approve(1)).reason == "wrong_status"
    assert main.refusal(MAIN_KEYS[3], regions.approve(7)).reason == "unknown_region"
    assert main.anchor(region, found).code == "ok"


def test_a_registration_that_is_none_is_refused() -> None:
    main, region = grid()
    call = region.registration
    keys, proofs = call.args["keys"], call.args["proofs"]
    # A proof is for this chain and genesis, by each key itself.
    text = regions.possession_text(region.chain_id, "ab" * 32)
    elsewhere = [one.sign(hashlib.sha256(text.encode()).digest()).hex() for one in region.seated]
    wrong = {
        "no_possession": changed(call, proofs=elsewhere),
        "bad_set": changed(call, keys=keys[:3], proofs=proofs[:3]),
        "no_margin": changed(call, escrow_micro=SPONSOR_BALANCE),
        "bad_argument": changed(call, genesis_hash="XY" * 32),
    }
    for code, attempt in wrong.items():
        assert main.refusal(region.sponsor, attempt).reason == code
    for attempt in (
        changed(call, proofs=proofs[:3]),
        changed(call, keys=[*keys[:3], keys[0]], proofs=[*proofs[:3], proofs[0]]),
        changed(call, keys=[*keys[:3], "ab"]),
        changed(call, keys=[*keys[:3], "no hexadecimal"]),
        changed(call, keys="keys"),
    ):
        assert main.refusal(region.sponsor, attempt).reason == "bad_set"
    many = registration(1, region.chain_id, [key(f"seat {n}") for n in range(25)])
    assert main.refusal(region.sponsor, many).reason == "bad_set"
    swapped = changed(call, proofs=[*proofs[1:], proofs[0]])
    assert main.refusal(region.sponsor, swapped).reason == "no_possession"
    assert main.send(key("stranger"), call).reason == "stranger"
    main.ok(region.sponsor, call)
    assert main.refusal(region.sponsor, call).reason == "duplicate_region"


def test_nobody_keeps_a_chain_from_others_by_proposing_it() -> None:
    main, region = grid()
    squatter = [key(f"squatter {seat}") for seat in range(4)]
    main.ok(region.sponsor, registration(7, region.chain_id, squatter))
    main.admit(region)
    assert main.query("regions", "show", {"region": 1})["status"] == "live"
    for one in MAIN_KEYS[:2]:
        main.ok(one, regions.approve(7))
    assert main.refusal(MAIN_KEYS[2], regions.approve(7)).reason == "duplicate_region"
    late = registration(8, region.chain_id, squatter)
    assert main.refusal(region.sponsor, late).reason == "duplicate_region"
    shown = main.query("regions", "regions", {"first": 1, "count": 100})
    assert [(row["number"], row["status"]) for row in shown] == [(1, "live"), (7, "proposed")]
    # What was put up for it returns.
    main.ok(region.sponsor, regions.leave(7))
    main.block(at_ms=main.time_ms + 60_000)
    main.ok(region.sponsor, regions.reclaim(7))
    assert main.refusal(region.sponsor, changed(late, region=0)).reason == "bad_argument"


def test_escrow_is_the_sponsors_and_returns_after_the_hold() -> None:
    main, region = grid()
    main.admit(region)
    sponsor = region.sponsor
    main.ok(sponsor, regions.deposit(1, 1_000))
    main.ok(sponsor, regions.withdraw(1, ESCROW))
    assert main.query("regions", "funds", {"region": 1})["escrow_micro"] == 1_000
    assert main.refusal(sponsor, regions.withdraw(1, 1_001)).reason == "no_escrow"
    assert main.refusal(sponsor, regions.deposit(1, SPONSOR_BALANCE)).reason == "no_margin"
    assert main.refusal(sponsor, regions.reclaim(1)).reason == "wrong_status"
    for call in (regions.deposit(1, 1), regions.withdraw(1, 1), regions.leave(1)):
        assert main.refusal(region.seated[0], call).reason == "not_sponsor"
    main.ok(sponsor, regions.leave(1))
    assert main.refusal(sponsor, regions.reclaim(1)).reason == "too_early"
    assert main.refusal(*region.post(region.checkpoint(region.first()))).reason == "wrong_status"
    main.block(at_ms=main.time_ms + 60_000)
    main.ok(sponsor, regions.reclaim(1))
    assert main.refusal(sponsor, regions.reclaim(1)).reason == "no_escrow"
    money = main.query("ledger", "balance", {"address": sponsor.address})
    assert (money["balance_micro"], money["held_micro"]) == (SPONSOR_BALANCE, 0)


def test_who_has_left_can_still_lose_the_bond() -> None:
    main, region = grid()
    main.admit(region)
    reporter, sponsor = MAIN_KEYS[0], region.sponsor
    main.ok(sponsor, regions.leave(1))
    receipt = main.ok(reporter, regions.report_conflict(1, 0, region.conflict(5)))
    assert [event.name for event in receipt.events] == ["bond_forfeited", "region_status"]
    main.block(at_ms=main.time_ms + 60_000)
    assert main.refusal(sponsor, regions.reclaim(1)).reason == "wrong_status"
    assert main.query("regions", "funds", {"region": 1}) == {
        "escrow_micro": ESCROW,
        "bond_micro": 0,
        "due_micro": 0,
    }
    # Once all has been returned there is nothing left to take.
    other = Captured(1)
    main = Main([other.sponsor])
    main.admit(other)
    main.ok(other.sponsor, regions.leave(1))
    main.block(at_ms=main.time_ms + 60_000)
    main.ok(other.sponsor, regions.reclaim(1))
    call = regions.report_conflict(1, 0, other.conflict(5))
    assert main.refusal(reporter, call).reason == "wrong_status"


def test_what_is_held_is_what_regions_have_put_up() -> None:
    captured = [Captured(number) for number in (1, 2, 3)]
    main = Main([one.sponsor for one in captured])
    for region in captured:
        main.admit(region)
    main.ok(MAIN_KEYS[0], regions.report_conflict(2, 0, captured[1].conflict(5)))
    for region in captured:
        held = main.query("ledger", "balance", {"address": region.sponsor.address})["held_micro"]
        assert held == sum(main.query("regions", "funds", {"region": region.number}).values())
    regulator = main.query("ledger", "balance", {"address": REGULATOR.address})
    assert regulator["balance_micro"] == BOND
    shown = main.query("regions", "regions", {"first": 1, "count": 10})
    assert [row["status"] for row in shown] == ["live", "frozen", "live"]


def test_without_what_checks_certificates_there_is_no_second_tier() -> None:
    for market in (params(homes=(), main=MainRules()), params(region=MEMBERSHIP)):
        with pytest.raises(ParamsError, match="what checks other chains' blocks"):
            Application(market)


def test_a_street_by_itself_has_no_entries_of_a_second_tier() -> None:
    app = Application(params(), natives=natives())
    assert set(app._executor.natives) == {"propose", "drop"}


def test_a_genesis_file_keeps_the_second_tier(tmp_path: Path) -> None:
    sponsors = ((key("sponsor").address, 5),)
    for market in (
        params(region=MEMBERSHIP),
        params(homes=(), main=MainRules(halt_ms=7, sponsors=sponsors)),
    ):
        genesis = Genesis(1, MEMBERS, ChainParams(), market)
        write_genesis(genesis, tmp_path / "genesis.json")
        assert read_genesis(tmp_path / "genesis.json") == genesis
    text = (tmp_path / "genesis.json").read_text().replace('"halt_ms": 7', '"halt_ms": 0')
    (tmp_path / "genesis.json").write_text(text)
    with pytest.raises(GenesisError, match=r"main\.halt_ms must be an integer from 1"):
        read_genesis(tmp_path / "genesis.json")


MEMBERS = tuple(one.public for one in MAIN_KEYS)
MEMBERSHIP = Membership(3, "main", MEMBERS, 30_000)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"region": Membership(0, "main", MEMBERS)}, "region.region must be an integer from 1"),
        ({"region": Membership(1, "", MEMBERS)}, "region.main_chain_id must have 1 to 64"),
        ({"region": Membership(1, "main", MEMBERS[:3])}, "how many must be an integer from 4"),
        ({"region": Membership(1, "main", (*MEMBERS, b"1"))}, "a public key of 32 bytes"),
        ({"region": Membership(1, "main", (*MEMBERS, MEMBERS[0]))}, "stands there twice"),
        ({"region": Membership(1, "main", MEMBERS, 0)}, "checkpoint_ms must be an integer from 1"),
        ({"main": MainRules()}, "the main chain has none"),
        ({"homes": (), "main": MainRules(halt_ms=0)}, "main.halt_ms must be an integer from 1"),
        ({"homes": (), "main": MainRules(sponsors=(("cw1", 5),))}, "is no account address"),
        (
            {"homes": (), "main": MainRules(sponsors=((REGULATOR.address, 5),) * 2)},
            "the same address stands there twice",
        ),
        (
            {"main": MainRules(), "region": Membership(1, "main", MEMBERS)},
            "not both",
        ),
    ],
)
def test_a_genesis_of_the_second_tier_is_checked(changes: dict[str, object], said: str) -> None:
    homes = changes.pop("homes", 4)
    with pytest.raises(ParamsError, match=said):
        params(homes=homes, **changes).check()
