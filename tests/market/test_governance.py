"""Seats, parameters and bonds: what passes, what is refused, what an offence costs."""

import hashlib

import pytest

from market import client, governance
from market.app import Application, BlockEnv, Conviction, Receipt
from market.client import Call
from market.errors import InvariantError, ParamsError
from market.genesis import Founding, GovernanceParams, MarketParams
from market.invariants import check_block, count_money
from market.vm.engine import Engine
from market.vm.gas import TRANSACTION_CAPS
from tests.market.street import HOME_KEYS, METER_KEYS, REGULATOR, START_MS, Street, params
from tests.market.test_refusals import refusal as refusal_that_changes_nothing
from wire.codec import encode
from wire.keys import SigningKey

EPOCH = 5
BOND = 3_000_000
EVIDENCE = 12
CHAIN = {
    "block_interval_ms": 1_000,
    "heartbeat_ms": 30_000,
    "block_bytes_max": 1_048_576,
    "block_transactions_max": 4_096,
    "propose_ms": 1_500,
    "propose_growth_ms": 500,
    "vote_ms": 700,
    "vote_growth_ms": 300,
    "timeout_max_ms": 15_000,
    "summary_ms": 500,
    "precision_ms": 500,
    "age_ms": 5_000,
    "time_growth_ms": 500,
    "time_bound_max_ms": 15_000,
}
A1, A2, A3, A4 = HOME_KEYS[:4]
H5, H6, H7 = HOME_KEYS[4:7]


def founding(seats: int = 4) -> Founding:
    return Founding(
        authorities=tuple(key.public for key in HOME_KEYS[:seats]),
        chain=tuple(CHAIN.items()),
        governance=GovernanceParams(epoch_blocks=EPOCH, bond_micro=BOND, expiry_blocks_max=50),
        evidence_blocks=EVIDENCE,
    )


class Assembly(Street):
    """A street whose first homes are authorities."""

    def __init__(
        self, seats: int = 4, market: MarketParams | None = None, engine: Engine | None = None
    ) -> None:
        self.app = Application(market or params(homes=7), engine, founding(seats))
        self.app.commit(self.app.genesis())
        self.height = 0
        self.time_ms = START_MS
        self.query = self.app.query
        self._nonces = {}

    def ok(self, key: SigningKey, call: Call) -> None:
        receipt = self.send(key, call)
        assert receipt.code == "ok", receipt

    def to_epoch(self) -> None:
        """Make blocks up to the present epoch's last one."""
        self.block()
        while self.height % EPOCH:
            self.block()

    def convict(self, *keys: SigningKey, offence: str = "o", height: int = 1) -> None:
        conviction = conviction_of(*keys, offence=offence, height=height)
        assert self.app.admissible([conviction]) == [True]
        self.height += 1
        self.time_ms += 1_000
        env = BlockEnv(self.height, self.time_ms)
        self.app.commit(self.app.execute(env, [], [conviction]))

    def pass_(self, call: Call, *keys: SigningKey) -> int:
        """Propose with the first key and have the others approve."""
        self.ok(keys[0], call)
        number = governance.proposals(self.query)[-1].number
        for key in keys[1:]:
            self.ok(key, governance.vote(number, True))
        return number

    def status(self, number: int) -> str:
        found = {p.number: p.status for p in governance.proposals(self.query)}
        return found[number]

    @property
    def seats(self) -> list[str]:
        return governance.epoch(self.query).addresses

    def member(self, key: SigningKey) -> governance.Member | None:
        found = {member.address: member for member in governance.members(self.query)}
        return found.get(key.address)


def conviction_of(*keys: SigningKey, offence: str = "o", height: int = 1) -> Conviction:
    identity = hashlib.sha256(offence.encode()).digest()
    return Conviction(identity, height, tuple(key.address for key in keys))


def refusal(street: Assembly, key: SigningKey, call: Call) -> Receipt:
    if (street.height + 1) % EPOCH == 0:
        street.block()  # an epoch's end changes the state for reasons of its own
    return refusal_that_changes_nothing(street, key, call)


def addresses(*keys: SigningKey) -> list[str]:
    return [key.address for key in keys]


def test_the_first_set_has_its_bonds_held() -> None:
    street = Assembly()
    assert street.seats == addresses(A1, A2, A3, A4)
    assert street.app.terms() == (0, tuple(k.public for k in HOME_KEYS[:4]), CHAIN)
    assert street.account(1).held_micro == BOND
    assert street.account(1).balance_micro == street.account(5).balance_micro == 10_000_000
    assert client.money(street.query).minted_micro == 7 * 10_000_000 + 4 * BOND
    assert [m.seat for m in governance.members(street.query)] == ["seated"] * 4
    assert governance.epoch(street.query).quorum == 3


def test_a_neutral_authority_needs_no_home() -> None:
    street = Assembly(seats=7, market=params(homes=3))
    assert street.account(7).held_micro == BOND
    street.ok(HOME_KEYS[6], governance.propose_set("heartbeat_ms", 20_000, 9))


def test_a_seat_is_gained_at_the_epoch_after_the_quorum() -> None:
    street = Assembly()
    street.ok(H5, governance.stand())
    assert street.account(5).held_micro == BOND
    number = street.pass_(governance.propose_add(H5.address, 20), A1, A2)
    assert street.status(number) == "open"
    street.ok(A3, governance.vote(number, True))
    assert street.status(number) == "passed"
    assert street.seats == addresses(A1, A2, A3, A4)
    result = street.block()  # the epoch's last block
    assert street.height == EPOCH
    assert result.next.epoch == 1
    assert result.next.authorities == tuple(key.public for key in (A1, A2, A3, A4, H5))
    assert street.app.terms() == result.next
    assert street.status(number) == "in_force"
    assert street.seats == addresses(A1, A2, A3, A4, H5)
    assert street.app.authorities(0) == tuple(key.public for key in (A1, A2, A3, A4))
    assert governance.epoch(street.query).quorum == 4
    street.ok(H5, governance.propose_set("heartbeat_ms", 20_000, 9))


def test_votes_of_the_last_block_count_for_the_epoch_after() -> None:
    street = Assembly()
    street.ok(H5, governance.stand())
    number = street.pass_(governance.propose_add(H5.address, 20), A1, A2)
    street.block()
    street.ok(A3, governance.vote(number, True))
    assert street.height == EPOCH
    assert street.seats == addresses(A1, A2, A3, A4)
    street.to_epoch()
    assert street.seats == addresses(A1, A2, A3, A4, H5)


def test_a_seat_is_lost_and_the_bond_returns_when_nothing_counts_any_more() -> None:
    street = Assembly(seats=5)
    number = street.pass_(governance.propose_remove(A2.address, 9), A1, A3, A4, H5)
    street.to_epoch()
    assert street.status(number) == "in_force"
    assert street.seats == addresses(A1, A3, A4, H5)
    left = street.member(A2)
    assert left is not None
    assert (left.seat, left.until_height) == ("left", EPOCH)
    assert refusal(street, A2, governance.propose_set("heartbeat_ms", 20_000, 9)).reason == (
        "not_authority"
    )
    while street.height <= EPOCH + EVIDENCE:
        assert street.account(2).held_micro == BOND
        street.block()
    street.to_epoch()
    assert street.account(2).held_micro == 0
    assert street.account(2).balance_micro == 10_000_000 + BOND
    assert street.member(A2) is None
    count_money(street.app._state)


def test_at_most_f_seats_change_in_an_epoch() -> None:
    street = Assembly(seats=5)
    for key in (H6, H7):
        street.ok(key, governance.stand())
    street.to_epoch()
    first = street.pass_(governance.propose_add(H6.address, 40), A1, A2, A3, A4)
    second = street.pass_(governance.propose_add(H7.address, 40), A1, A2, A3, A4)
    street.to_epoch()
    if street.status(second) == "open":
        pytest.fail("the votes did not fit before the epoch's end")
    assert street.status(first) == "in_force"
    street.to_epoch()
    assert street.status(second) == "in_force"
    assert street.seats == addresses(A1, A2, A3, A4, H5, H6, H7)


def test_a_parameter_is_in_force_from_the_next_epoch() -> None:
    street = Assembly()
    number = street.pass_(governance.propose_set("block_interval_ms", 2_000, 9), A1, A2, A4)
    assert street.app.terms().chain["block_interval_ms"] == 1_000
    street.to_epoch()
    assert street.app.terms().chain == CHAIN | {"block_interval_ms": 2_000}
    assert street.status(number) == "in_force"
    shown = {p.name: p.value for p in governance.parameters(street.query)}
    assert shown == CHAIN | {"block_interval_ms": 2_000}


def test_of_two_values_that_do_not_fit_each_other_the_first_is_in_force() -> None:
    street = Assembly()
    first = street.pass_(governance.propose_set("heartbeat_ms", 5_000, 9), A1, A2, A4)
    second = street.pass_(governance.propose_set("block_interval_ms", 20_000, 9), A1, A2, A4)
    street.to_epoch()
    assert street.app.terms().chain == CHAIN | {"heartbeat_ms": 5_000}
    assert (street.status(first), street.status(second)) == ("in_force", "void")
    entry = next(p for p in governance.proposals(street.query) if p.number == second)
    assert entry.reason == (
        "block_interval_ms must be at most heartbeat_ms, which is 5000, not 20000"
    )


def test_a_proposal_is_rejected_once_it_cannot_pass() -> None:
    street = Assembly()
    number = street.pass_(governance.propose_set("vote_ms", 800, 9), A1)
    street.ok(A2, governance.vote(number, False))
    assert street.status(number) == "open"
    street.ok(A3, governance.vote(number, False))
    assert street.status(number) == "rejected"
    assert refusal(street, A4, governance.vote(number, True)).reason == "closed"


def test_a_proposal_expires() -> None:
    street = Assembly()
    number = street.pass_(governance.propose_set("vote_ms", 800, 2), A1)
    street.block()
    street.block()
    assert street.status(number) == "open"
    street.block()
    assert street.status(number) == "expired"
    assert refusal(street, A2, governance.vote(number, True)).reason == "closed"


def test_an_offender_loses_bond_and_seat() -> None:
    street = Assembly()
    before = client.money(street.query)
    street.convict(A2)
    assert street.account(2).held_micro == 0
    regulator = client.account(street.query, REGULATOR.address)
    assert regulator.balance_micro == BOND
    assert client.money(street.query) == before
    assert street.seats == addresses(A1, A2, A3, A4)
    assert refusal(street, A2, governance.propose_set("vote_ms", 800, 9)).reason == "convicted"
    street.to_epoch()
    assert street.seats == addresses(A1, A3, A4)
    assert refusal(street, A2, governance.stand()).reason == "convicted"
    # One that is convicted has nothing more to lose: its offences are no news.
    assert street.app.admissible([conviction_of(A2, offence="another")]) == [False]
    # Three seats have f = 0; one may change all the same, or nobody could be added again.
    street.ok(H5, governance.stand())
    street.pass_(governance.propose_add(H5.address, 40), A1, A3)
    street.to_epoch()
    assert street.seats == addresses(A1, A3, A4, H5)


def test_offenders_beyond_f_wait_for_the_next_epoch_and_go_before_votes() -> None:
    street = Assembly(seats=5)
    number = street.pass_(governance.propose_remove(A1.address, 40), A2, A3, A4, H5)
    street.convict(A3, A4)
    assert street.height == EPOCH
    assert street.seats == addresses(A1, A2, A4, H5)
    street.to_epoch()
    assert street.seats == addresses(A1, A2, H5)
    assert street.status(number) == "void"


def test_votes_of_the_convicted_do_not_count() -> None:
    street = Assembly()
    number = street.pass_(governance.propose_set("vote_ms", 800, 40), A1, A2)
    street.convict(A2)
    street.ok(A3, governance.vote(number, True))
    assert street.status(number) == "open"
    # Without the offender two of three are the quorum.
    street.to_epoch()
    assert street.status(number) == "passed"


def test_an_offence_convicts_once() -> None:
    street = Assembly(seats=7)
    one, same, other = (
        conviction_of(A1),
        conviction_of(A1, A2),
        conviction_of(A1, offence="other"),
    )
    assert street.app.admissible([one, other]) == [True, False]
    assert street.app.admissible([other, one]) == [True, False]
    stranger = conviction_of(SigningKey(bytes([77]) * 32))
    assert street.app.admissible([stranger, Conviction(b"x" * 32, 1, ())]) == [False, False]
    street.convict(A1)
    assert street.app.admissible([one, same, other]) == [False, False, False]
    env = BlockEnv(street.height + 1, street.time_ms + 1)
    result = street.app.execute(env, [], [one])
    assert [event.name for event in result.events] == ["hook_failed"]


def test_a_former_authority_answers_with_its_bond() -> None:
    street = Assembly(seats=5)
    street.pass_(governance.propose_remove(A2.address, 9), A1, A3, A4, H5)
    street.to_epoch()
    street.convict(A2, height=3)
    assert street.account(2).held_micro == 0
    street.to_epoch()
    assert street.seats == addresses(A1, A3, A4, H5)


def test_a_candidate_steps_down_and_one_that_sat_waits_for_its_bond() -> None:
    street = Assembly(seats=5)
    street.ok(H6, governance.stand())
    street.ok(H6, governance.step_down())
    assert street.account(6).held_micro == 0
    assert street.member(H6) is None
    street.pass_(governance.propose_remove(A2.address, 9), A1, A3, A4, H5)
    street.to_epoch()
    street.ok(A2, governance.stand())
    assert street.account(2).held_micro == BOND
    street.ok(A2, governance.step_down())
    assert street.account(2).held_micro == BOND


def test_a_candidate_that_left_before_its_epoch_gets_no_seat() -> None:
    street = Assembly()
    street.ok(H5, governance.stand())
    street.to_epoch()
    number = street.pass_(governance.propose_add(H5.address, 9), A1, A2, A3)
    street.ok(H5, governance.step_down())
    street.to_epoch()
    assert street.status(number) == "void"
    assert street.seats == addresses(A1, A2, A3, A4)


REFUSALS: dict[str, tuple[SigningKey, Call, str]] = {
    "a home proposes": (H5, governance.propose_set("vote_ms", 800, 9), "not_authority"),
    "a meter proposes": (METER_KEYS[0], governance.propose_set("vote_ms", 800, 9), "not_authority"),
    "the regulator proposes": (
        REGULATOR, governance.propose_set("vote_ms", 800, 9), "not_authority"),
    "a home votes": (H5, governance.vote(1, True), "not_authority"),
    "unknown parameter": (A1, governance.propose_set("colour", 1, 9), "unknown_parameter"),
    "parameter as number": (
        A1, Call("governance", "propose",
                 {"kind": "set", "subject": 3, "value": 1, "expiry_blocks": 9}), "bad_argument"),
    "below the bounds": (A1, governance.propose_set("propose_ms", 99, 9), "bad_argument"),
    "above the bounds": (A1, governance.propose_set("vote_ms", 60_001, 9), "bad_argument"),
    "no time to decide": (A1, governance.propose_set("timeout_max_ms", 9_999, 9), "bad_argument"),
    "rests longer than it may": (
        A1, governance.propose_set("block_interval_ms", 30_001, 9), "misfit"),
    "wakes before it works": (A1, governance.propose_set("propose_ms", 15_001, 9), "misfit"),
    "less than what it bounds": (A3, governance.propose_set("age_ms", 15_001, 9), "misfit"),
    "value as text": (
        A1, Call("governance", "propose",
                 {"kind": "set", "subject": "vote_ms", "value": "9", "expiry_blocks": 9}),
        "bad_argument"),
    "the same value": (A1, governance.propose_set("vote_ms", 700, 9), "no_change"),
    "no expiry": (A1, governance.propose_set("vote_ms", 800, 0), "bad_argument"),
    "late expiry": (A1, governance.propose_set("vote_ms", 800, 51), "bad_argument"),
    "unknown kind": (
        A1, Call("governance", "propose",
                 {"kind": "king", "subject": "vote_ms", "value": 1, "expiry_blocks": 9}),
        "bad_argument"),
    "kind as list": (
        A1, Call("governance", "propose",
                 {"kind": "", "subject": [], "value": {}, "expiry_blocks": 9}), "bad_argument"),
    "add nobody": (A1, governance.propose_add("cw12", 9), "bad_argument"),
    "add a seated one": (A1, governance.propose_add(A2.address, 9), "no_change"),
    "add who does not stand": (A1, governance.propose_add(H5.address, 9), "not_candidate"),
    "remove who has no seat": (A1, governance.propose_remove(H5.address, 9), "no_change"),
    "remove one of four": (A1, governance.propose_remove(A2.address, 9), "too_few_seats"),
    "unknown proposal": (A1, governance.vote(1, True), "unknown_proposal"),
    "proposal below": (A1, governance.vote(0, True), "bad_argument"),
    "approve as number": (
        A1, Call("governance", "vote", {"proposal": 1, "approve": 1}), "bad_argument"),
    "an authority stands": (A1, governance.stand(), "already_standing"),
    "a meter stands": (METER_KEYS[0], governance.stand(), "unknown_account"),
    "the regulator has no money": (REGULATOR, governance.stand(), "no_bond"),
    "step down from nothing": (H5, governance.step_down(), "not_candidate"),
    "step down from a seat": (A1, governance.step_down(), "not_candidate"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_refused(name: str) -> None:
    key, call, code = REFUSALS[name]
    assert refusal(Assembly(), key, call).reason == code


@pytest.mark.parametrize("entry", ["convict", "proposals", "on_block", "instantiate"])
def test_nobody_sends_what_is_the_chains(entry: str) -> None:
    call = Call("governance", entry, {})
    receipt = Assembly().send(A1, call)
    assert (receipt.code, receipt.reason) == ("rejected", "unknown_entry")


def test_the_same_proposal_and_the_same_vote_are_refused_twice() -> None:
    street = Assembly()
    street.ok(A1, governance.propose_set("vote_ms", 800, 9))
    again = governance.propose_set("vote_ms", 800, 8)
    assert refusal(street, A2, again).reason == "already_proposed"
    assert refusal(street, A1, governance.vote(1, False)).reason == "already_voted"


def test_open_proposals_are_bounded_and_the_fullest_assembly_fits_its_gas() -> None:
    street = Assembly(seats=8, market=params(homes=8))
    most = 0
    for place, key in enumerate(HOME_KEYS):
        for value in range(4):
            receipt = street.send(
                key, governance.propose_set("vote_ms", 800 + 4 * place + value, 50)
            )
            assert receipt.code == "ok"
            most = max(most, receipt.gas)
        refused = street.send(key, governance.propose_set("vote_ms", 5_000 + place, 50))
        assert refused.reason == "too_many_proposals"
    assert most < TRANSACTION_CAPS.compute // 2


def test_finished_proposals_are_forgotten() -> None:
    street = Assembly()
    for value in range(40):
        number = street.pass_(governance.propose_set("vote_ms", 800 + value, 50), A1)
        for key in (A2, A3):
            street.ok(key, governance.vote(number, False))
    kept = [proposal.number for proposal in governance.proposals(street.query)]
    assert kept == list(range(9, 41))


def test_sets_are_kept_as_long_as_evidence_may_speak_of_them() -> None:
    street = Assembly()
    while street.height < 6 * EPOCH:
        street.block()
    first_kept = street.height - EVIDENCE
    for epoch in range(8):
        kept = street.app.authorities(epoch) is not None
        assert kept == ((epoch + 1) * EPOCH >= first_kept and epoch <= 6)


def test_a_restarted_application_knows_the_terms() -> None:
    street = Assembly()
    street.pass_(governance.propose_set("vote_ms", 800, 9), A1, A2, A3)
    street.to_epoch()
    again = Application(params(homes=7), None, founding())
    again.load(street.app.state_items(), street.height)
    assert again.terms() == street.app.terms()
    assert again.authorities(0) == street.app.authorities(0)


def test_a_bond_that_is_not_held_stops_the_node() -> None:
    street = Assembly()
    key = f"ledger/account/{A1.address}"
    with pytest.raises(InvariantError, match="a bond of 3000000 micro, 0 are held"):
        check_block(street.app._state, {key: encode([13_000_000, 0, 0])}, street.app._money)


def test_wrong_rules_are_named() -> None:
    for changes, word in (
        ({"epoch_blocks": 3}, "epoch_blocks"),
        ({"bond_micro": -1}, "bond_micro"),
        ({"expiry_blocks_max": 0}, "expiry_blocks_max"),
    ):
        with pytest.raises(ParamsError, match=word):
            GovernanceParams(**changes).check()
