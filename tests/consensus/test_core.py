"""The rules of docs/spec/consensus.md, by their numbers. One core, three or more puppets."""

import pytest
from msgspec.structs import replace

from consensus import events
from consensus.authorities import AuthoritySet
from consensus.errors import InvariantError
from consensus.events import TIMER_PRECOMMIT, TIMER_PREVOTE, TIMER_PROPOSE
from consensus.height import ROUNDS_KEPT_AHEAD, ROUNDS_KEPT_BEHIND
from consensus.messages import NIL, NO_ROUND, PRECOMMIT, PREVOTE, Proposal, VoteSummary
from consensus.params import ROUNDS_AHEAD_MAX, Params
from consensus.tally import HELD_PER_SENDER_MAX
from consensus.wal import RoundRecord
from tests.consensus.table import (
    NOW_MS,
    Table,
    hash_of,
    only,
    persisted,
    said,
    votes_said,
)
from tests.sim import keys


@pytest.fixture
def table():
    return Table()


def begin(table):
    return table.handle(events.BeginRounds(table.height))


# -- R1: everything is bounded


def test_r1_votes_far_ahead_are_refused(table):
    begin(table)
    vote = table.vote(PREVOTE, 2, NIL, ROUNDS_AHEAD_MAX + 1)
    assert only(table.hear(vote, 2), events.Misbehaved)
    assert table.core.rounds.keys() <= {0}


def test_r1_votes_of_rounds_ahead_are_noted_and_not_kept(table):
    begin(table)
    for number in range(100, 200):
        table.hear(table.vote(PREVOTE, 2, NIL, number), 2)
    assert max(table.core.rounds) <= ROUNDS_KEPT_AHEAD
    table.hear(table.vote(PREVOTE, 3, NIL, 150), 3)
    assert table.core.round == 150


def test_r1_old_rounds_and_their_blocks_are_forgotten(table):
    begin(table)
    for number in range(0, 120, 4):
        block = table.block(time_ms=NOW_MS + number)
        table.hear(table.proposal(block, number))
        table.hear_votes(PRECOMMIT, NIL, number)
        table.fire(TIMER_PRECOMMIT, number)
        table.hear_votes(PRECOMMIT, NIL, number + 3)
    assert len(table.core.rounds) <= ROUNDS_KEPT_BEHIND + ROUNDS_KEPT_AHEAD + 1
    assert len(table.core.blocks) <= 3
    assert len(table.core.wal_records()) <= 12


def test_r1_messages_of_later_heights_are_bounded_per_sender(table):
    later = Table(height=2)
    for number in range(HELD_PER_SENDER_MAX * 2):
        table.hear(later.vote(PREVOTE, 2, NIL, number), 2)
        table.hear(later.proposal(later.block(time_ms=number), 0), 3)
    held = table.core._held._held
    assert len(held[2]) == HELD_PER_SENDER_MAX
    assert len(held[3]) == 2


def test_r1_heights_far_ahead_are_not_held(table):
    far = Table(height=9)
    table.hear(far.vote(PREVOTE, 2, NIL), 2)
    assert not table.core._held._held


# -- R2: nothing counts that its author did not sign


@pytest.mark.parametrize(
    "twist",
    [
        {"voter": 2},
        {"round": 1},
        {"kind": PRECOMMIT},
        {"block_hash": bytes(32)},
        {"signature": bytes(64)},
        {"voter": 4},
        {"epoch": 1},
    ],
)
def test_r2_a_twisted_vote_is_refused(table, twist):
    begin(table)
    effects = table.hear(replace(table.vote(PREVOTE, 1, NIL), **twist), 3)
    assert [effect.sender for effect in only(effects, events.Misbehaved)] == [3]
    assert not table.core._slot(0).prevotes.voters
    assert not table.core._slot(1).prevotes.voters


@pytest.mark.parametrize(
    "twist",
    [
        {"proposer": 2},
        {"round": 4},
        {"signature": bytes(64)},
        {"valid_round": 0},
        {"epoch": 7},
    ],
)
def test_r2_a_twisted_proposal_is_refused(table, twist):
    begin(table)
    effects = table.hear(replace(table.proposal(table.block()), **twist), 2)
    assert only(effects, events.Misbehaved)
    assert not only(effects, events.CheckBlock)


def test_r2_an_invalid_blocks_proposer_is_blamed_and_not_who_brought_it(table):
    block = table.block()
    assert not only(table.hear(table.proposal(block), 3), events.Misbehaved)
    effects = table.check(block, valid=False)
    assert [effect.sender for effect in only(effects, events.Misbehaved)] == [1]


def test_r2_for_a_reproposed_invalid_block_nobody_is_blamed(table):
    to_round(table, 1)
    block = table.block()
    pol = table.certificate(PREVOTE, hash_of(block), 0)
    table.hear(table.proposal(block, 1, valid_round=0, pol=pol))
    assert not only(table.check(block, valid=False), events.Misbehaved)


@pytest.mark.parametrize("changes", [{"chain_id": "other"}, {"epoch": 3}])
def test_r2_a_block_of_another_chain_or_epoch_is_refused(table, changes):
    effects = table.hear(table.proposal(table.block(**changes)))
    assert only(effects, events.Misbehaved)


def test_r2_strangers_are_not_heard(table):
    assert not table.hear(table.vote(PREVOTE, 1, NIL), 4)
    assert not table.hear(table.vote(PREVOTE, 1, NIL), -1)
    assert not table.core.rounds


# -- R3: proposers take turns


def test_r3_who_has_the_turn_is_asked_to_build():
    table = Table(me=1)
    assert only(begin(table), events.BuildBlock) == [events.BuildBlock(1, 0)]
    other = Table(me=2)
    assert not only(begin(other), events.BuildBlock)
    other.fire(TIMER_PROPOSE)
    other.hear_votes(PRECOMMIT, NIL, voters=(0, 1, 3))
    assert only(other.fire(TIMER_PRECOMMIT), events.BuildBlock) == [events.BuildBlock(1, 1)]


# -- R4: heights are entered when the last is applied; rounds begin when there is reason


def test_r4_a_height_is_entered_once_and_upwards(table):
    for height in (0, 1):
        with pytest.raises(InvariantError, match="entered after 1"):
            table.handle(events.EnterHeight(height, table.authorities))


def test_r4_rounds_begin_by_the_driver_once(table):
    assert table.core.round == NO_ROUND
    assert only(begin(table), events.SetTimer)
    assert not begin(table)
    assert not table.handle(events.BeginRounds(2))


def test_r4_rounds_begin_by_a_proposal_of_round_0(table):
    table.hear(table.proposal(table.block()))
    assert table.core.round == 0


def test_r4_rounds_begin_when_f_plus_1_have_begun(table):
    table.hear(table.vote(PREVOTE, 2, NIL), 2)
    assert table.core.round == NO_ROUND
    table.hear(table.vote(PREVOTE, 3, NIL), 3)
    assert table.core.round == 0


def test_r4_what_came_early_counts_when_its_height_is_entered(table):
    later = Table(height=2)
    block = later.block(proposer=2)
    table.hear(later.proposal(block), 2)
    for voter in (1, 2, 3):
        table.hear(later.vote(PREVOTE, voter, hash_of(block)), voter)
    effects = table.handle(events.EnterHeight(2, table.authorities))
    assert only(effects, events.CheckBlock)
    effects = table.handle(events.BlockChecked(2, hash_of(block), True))
    assert votes_said(effects) == [(PREVOTE, 0, hash_of(block)), (PRECOMMIT, 0, hash_of(block))]


def test_r4_held_messages_keep_their_sender_when_the_set_changes(table):
    later = Table(height=2)
    table.hear(replace(later.vote(PREVOTE, 3, NIL), signature=bytes(64), epoch=1), 3)
    rotated = replace(table.authorities, epoch=1, publics=table.publics[2:] + table.publics[:2])
    effects = table.handle(events.EnterHeight(2, rotated))
    assert [effect.sender for effect in only(effects, events.Misbehaved)] == [1]


# -- R5: the start of a round


def test_r5_timers_grow_with_the_round_up_to_their_bound():
    params = Params()
    assert [params.propose_timeout_ms(number) for number in (0, 1, 2, 100)] == [
        1_500, 2_000, 2_500, 15_000,
    ]  # fmt: skip
    assert [params.vote_timeout_ms(number) for number in (0, 1, 100)] == [700, 1_000, 15_000]


def test_r5_the_built_block_is_persisted_then_proposed():
    table = Table(me=1)
    begin(table)
    block = table.block(proposer=1)
    effects = table.handle(events.BlockBuilt(1, 0, block))
    kinds = [type(effect).__name__ for effect in effects]
    assert kinds == ["Persist", "Broadcast", "Persist", "Broadcast"]
    assert said(effects, Proposal)[0].block == block
    assert votes_said(effects) == [(PREVOTE, 0, hash_of(block))]


def test_r5_a_block_built_too_late_is_not_proposed():
    table = Table(me=1)
    begin(table)
    table.fire(TIMER_PROPOSE)
    assert not table.handle(events.BlockBuilt(1, 0, table.block(proposer=1)))


@pytest.mark.parametrize("changes", [{"proposer": 2}, {"chain_id": "other"}, {"epoch": 1}])
def test_r5_a_driver_that_builds_nonsense_is_stopped(changes):
    table = Table(me=1)
    begin(table)
    with pytest.raises(InvariantError, match="driver"):
        table.handle(events.BlockBuilt(1, 0, table.block(**changes)))
    twisted = replace(table.block(), txs=(b"other",))
    with pytest.raises(InvariantError, match="contradicts itself"):
        table.handle(events.BlockBuilt(1, 0, twisted))


def test_r5_the_valid_value_is_proposed_again_with_its_proof():
    table = Table(me=2)
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PREVOTE, hash_of(block), voters=(0, 1, 3))
    table.hear_votes(PRECOMMIT, NIL, voters=(0, 1, 3))
    effects = table.fire(TIMER_PRECOMMIT)
    proposal = said(effects, Proposal)[0]
    assert (proposal.round, proposal.valid_round, proposal.block) == (1, 0, block)
    assert proposal.pol is not None
    assert proposal.pol.bitmap.bit_count() >= 3
    assert not only(effects, events.BuildBlock)


# -- R6: a fresh proposal


def test_r6_unlocked_prevotes_a_valid_block(table):
    block = table.block()
    effects = table.hear_proposal(block)
    assert votes_said(effects) == [(PREVOTE, 0, hash_of(block))]


def test_r6_an_invalid_block_gets_nil(table):
    block = table.block()
    table.hear(table.proposal(block))
    assert votes_said(table.check(block, valid=False)) == [(PREVOTE, 0, NIL)]


def test_r6_locked_on_another_prevotes_nil(table):
    table.lock(table.block())
    table.hear_votes(PRECOMMIT, NIL)
    table.fire(TIMER_PRECOMMIT)
    other = table.block(proposer=2, time_ms=NOW_MS + 1)
    assert votes_said(table.hear_proposal(other, 1)) == [(PREVOTE, 1, NIL)]


def test_r6_locked_on_this_prevotes_it_whoever_proposes(table):
    block = table.block()
    table.lock(block)
    for number in range(4):
        table.hear_votes(PRECOMMIT, NIL, number)
        table.fire(TIMER_PRECOMMIT, number)
    # Round 4 is authority 1's again, which lost its memory of round 0's quorum.
    assert votes_said(table.hear_proposal(block, 4)) == [(PREVOTE, 4, hash_of(block))]


# -- R7: a re-proposal


def to_round(table, number):
    for earlier in range(number):
        table.hear_votes(PRECOMMIT, NIL, earlier)
        table.fire(TIMER_PRECOMMIT, earlier)


def test_r7_a_later_proof_unlocks(table):
    table.lock(table.block())
    to_round(table, 2)
    other = table.block(proposer=2, time_ms=NOW_MS + 1)
    pol = table.certificate(PREVOTE, hash_of(other), 1)
    effects = table.hear_proposal(other, 2, valid_round=1, pol=pol)
    assert votes_said(effects) == [(PREVOTE, 2, hash_of(other))]


def test_r7_an_earlier_proof_does_not_unlock(table):
    other = table.block(time_ms=NOW_MS + 1)
    pol = table.certificate(PREVOTE, hash_of(other), 0)
    to_round(table, 1)
    table.lock(table.block(proposer=2), 1)
    assert table.core.locked_round == 1
    table.hear_votes(PRECOMMIT, NIL, 1)
    table.fire(TIMER_PRECOMMIT, 1)
    effects = table.hear_proposal(other, 2, valid_round=0, pol=pol)
    assert votes_said(effects) == [(PREVOTE, 2, NIL)]


@pytest.mark.parametrize("voters", [(1, 2), (1, 2, 2)])
def test_r7_a_proof_needs_a_quorum(table, voters):
    to_round(table, 1)
    block = table.block()
    pol = table.certificate(PREVOTE, hash_of(block), 0, voters)
    effects = table.hear(table.proposal(block, 1, valid_round=0, pol=pol))
    assert only(effects, events.Misbehaved)


@pytest.mark.parametrize(("round_", "kind"), [(0, PRECOMMIT), (1, PREVOTE)])
def test_r7_a_proof_is_of_prevotes_of_its_round(table, round_, kind):
    to_round(table, 2)
    block = table.block()
    pol = table.certificate(kind, hash_of(block), round_)
    effects = table.hear(table.proposal(block, 2, valid_round=0, pol=pol))
    assert only(effects, events.Misbehaved)


def test_r7_a_proof_is_of_the_proposed_block(table):
    to_round(table, 1)
    other = table.block(time_ms=NOW_MS + 5)
    pol = table.certificate(PREVOTE, hash_of(other), 0)
    effects = table.hear(table.proposal(table.block(), 1, valid_round=0, pol=pol))
    assert only(effects, events.Misbehaved)


@pytest.mark.parametrize("valid_round", [1, 2])
def test_r7_a_proof_is_of_an_earlier_round(table, valid_round):
    to_round(table, 1)
    block = table.block()
    pol = table.certificate(PREVOTE, hash_of(block), valid_round)
    effects = table.hear(table.proposal(block, 1, valid_round=valid_round, pol=pol))
    assert only(effects, events.Misbehaved)


# -- R8: a quorum of prevotes for whatever


def test_r8_a_quorum_of_mixed_prevotes_starts_the_timer_once(table):
    block = table.block()
    table.hear_proposal(block)
    table.hear(table.vote(PREVOTE, 1, hash_of(block)), 1)
    effects = table.hear(table.vote(PREVOTE, 2, NIL), 2)
    timer = events.SetTimer(events.Timer(TIMER_PREVOTE, 1, 0), 700)
    assert only(effects, events.SetTimer) == [timer]
    assert not only(table.hear(table.vote(PREVOTE, 3, bytes([1] * 32)), 3), events.SetTimer)


# -- R9: the lock


def test_r9_a_quorum_of_prevotes_locks_and_precommits(table):
    block = table.block()
    effects = table.lock(block)
    assert (PRECOMMIT, 0, hash_of(block)) in votes_said(effects)
    core = table.core
    assert (core.locked_hash, core.locked_round) == (hash_of(block), 0)
    assert (core.valid_hash, core.valid_round) == (hash_of(block), 0)


def test_r9_without_the_block_there_is_no_lock(table):
    begin(table)
    block = table.block()
    effects = table.hear_votes(PREVOTE, hash_of(block))
    assert not votes_said(effects)
    table.hear(table.proposal(block))
    assert votes_said(table.check(block)) == [
        (PREVOTE, 0, hash_of(block)),
        (PRECOMMIT, 0, hash_of(block)),
    ]


def test_r9_two_of_four_are_no_quorum(table):
    block = table.block()
    table.hear(table.proposal(block))
    table.fire(TIMER_PROPOSE)
    table.hear_votes(PREVOTE, hash_of(block), voters=(1, 2))
    assert not votes_said(table.check(block))
    assert table.core.locked_round == NO_ROUND


def test_r9_after_precommitting_nil_a_quorum_makes_the_valid_value_and_no_lock(table):
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PREVOTE, NIL, voters=(1, 2))
    table.fire(TIMER_PREVOTE)
    effects = table.hear_votes(PREVOTE, hash_of(block), voters=(1, 2))
    assert not votes_said(effects)
    assert table.core.locked_round == NO_ROUND
    assert table.core.valid_round == 0


# -- R10: a quorum of nil


def test_r10_a_quorum_of_nil_precommits_nil(table):
    begin(table)
    table.fire(TIMER_PROPOSE)
    effects = table.hear_votes(PREVOTE, NIL, voters=(1, 2))
    assert votes_said(effects) == [(PRECOMMIT, 0, NIL)]


# -- R11, R14: timers


def test_r11_a_quorum_of_mixed_precommits_starts_the_timer_once(table):
    begin(table)
    effects = table.hear_votes(PRECOMMIT, NIL)
    timer = events.SetTimer(events.Timer(TIMER_PRECOMMIT, 1, 0), 700)
    assert only(effects, events.SetTimer).count(timer) == 1


def test_r14_timers_vote_nil_and_end_the_round(table):
    begin(table)
    assert votes_said(table.fire(TIMER_PROPOSE)) == [(PREVOTE, 0, NIL)]
    assert not votes_said(table.fire(TIMER_PROPOSE))
    assert votes_said(table.fire(TIMER_PREVOTE)) == [(PRECOMMIT, 0, NIL)]
    assert not votes_said(table.fire(TIMER_PREVOTE))
    table.fire(TIMER_PRECOMMIT)
    assert table.core.round == 1


def test_r14_timers_of_other_rounds_and_heights_do_nothing(table):
    begin(table)
    assert not table.fire(TIMER_PROPOSE, 1)
    assert not table.handle(events.TimerFired(events.Timer(TIMER_PROPOSE, 2, 0)))
    assert not table.fire(TIMER_PREVOTE)


# -- R12: the decision


def test_r12_a_quorum_of_precommits_decides(table):
    block = table.block()
    table.lock(block)
    effects = table.hear_votes(PRECOMMIT, hash_of(block), voters=(1, 2))
    assert [type(effect).__name__ for effect in effects[-2:]] == ["Persist", "Decide"]
    decide = only(effects, events.Decide)[0]
    assert decide.block == block
    assert decide.certificate.bitmap == 0b111
    assert table.core.decided


def test_r12_precommits_of_any_round_decide(table):
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PREVOTE, NIL, 3, (2, 3))
    assert table.core.round == 3
    effects = table.hear_votes(PRECOMMIT, hash_of(block), 0)
    assert only(effects, events.Decide)


def test_r12_precommits_of_two_rounds_do_not_add_up(table):
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PRECOMMIT, hash_of(block), 0, (1, 2))
    table.hear_votes(PRECOMMIT, NIL, 0, (3,))
    table.fire(TIMER_PRECOMMIT)
    table.hear_votes(PRECOMMIT, hash_of(block), 1, (3,))
    assert not table.core.decided


def test_r12_a_decision_waits_for_the_check_and_not_for_timers(table):
    block = table.block()
    table.hear(table.proposal(block))
    assert not only(table.hear_votes(PRECOMMIT, hash_of(block)), events.Decide)
    assert not table.fire(TIMER_PROPOSE)
    assert only(table.check(block), events.Decide)


def test_r12_a_certified_invalid_block_stops_the_node(table):
    block = table.block()
    table.hear(table.proposal(block))
    table.hear_votes(PRECOMMIT, hash_of(block))
    with pytest.raises(InvariantError, match="certified and invalid"):
        table.check(block, valid=False)


def test_r12_after_the_decision_the_height_is_quiet(table):
    block = table.block()
    table.lock(block)
    table.hear_votes(PRECOMMIT, hash_of(block))
    assert not table.hear_votes(PREVOTE, NIL, 5)
    assert not table.fire(TIMER_PRECOMMIT)
    assert not begin(table)
    assert not table.check(block)


def test_r12_one_authority_alone_decides():
    table = Table(n=1)
    begin(table)
    effects = table.handle(events.BlockBuilt(1, 0, table.block(proposer=0)))
    assert only(effects, events.Decide)


# -- R13: the round jump


def test_r13_f_plus_1_ahead_pull_this_node_along(table):
    begin(table)
    table.hear(table.vote(PRECOMMIT, 2, NIL, 7), 2)
    assert table.core.round == 0
    table.hear(table.vote(PREVOTE, 3, NIL, 5), 3)
    assert table.core.round == 5


def test_r13_one_liar_cannot(table):
    begin(table)
    for number in (3, 30, 300, 900):
        table.hear(table.vote(PRECOMMIT, 2, NIL, number), 2)
    assert table.core.round == 0


def test_r13_a_proposal_counts_as_its_proposers_word(table):
    begin(table)
    # Round 8 is authority 1's.
    table.hear(table.proposal(table.block(), 8), 1)
    table.hear(table.vote(PREVOTE, 3, NIL, 8), 3)
    assert table.core.round == 8


# -- R15: executed before prevoted


def test_r15_no_prevote_before_the_answer(table):
    block = table.block()
    effects = table.hear(table.proposal(block))
    assert [effect.block_hash for effect in only(effects, events.CheckBlock)] == [hash_of(block)]
    assert not votes_said(effects)


def test_r15_a_block_is_checked_once_however_often_proposed(table):
    block = table.block()
    table.lock(block)
    to_round(table, 1)
    pol = table.certificate(PREVOTE, hash_of(block), 0)
    effects = table.hear(table.proposal(block, 1, valid_round=0, pol=pol))
    assert not only(effects, events.CheckBlock)
    assert votes_said(effects) == [(PREVOTE, 1, hash_of(block))]


def test_r15_when_the_answer_is_late_the_vote_is_nil(table):
    block = table.block()
    table.hear(table.proposal(block))
    assert votes_said(table.fire(TIMER_PROPOSE)) == [(PREVOTE, 0, NIL)]
    assert not votes_said(table.check(block))


def test_r15_answers_about_other_heights_and_blocks_are_ignored(table):
    table.hear(table.proposal(table.block()))
    assert not table.handle(events.BlockChecked(2, hash_of(table.block()), True))
    assert not table.handle(events.BlockChecked(1, bytes(32), True))


# -- R16: the time of a fresh proposal


@pytest.mark.parametrize(
    ("time_ms", "round_", "timely"),
    [
        (NOW_MS + 500, 0, True),
        (NOW_MS + 501, 0, False),
        (NOW_MS + 1_000, 1, True),
        (NOW_MS + 1_001, 1, False),
        (NOW_MS + 15_000, 40, True),
        (NOW_MS + 15_001, 40, False),
        (NOW_MS - 5_000, 0, True),
        (NOW_MS - 5_001, 0, False),
        (NOW_MS - 5_500, 1, True),
        (NOW_MS - 15_001, 40, False),
    ],
)
def test_r16_a_fresh_block_is_of_about_now(table, time_ms, round_, timely):
    begin(table)
    table.hear_votes(PRECOMMIT, NIL, round_, (2, 3))
    proposer = table.authorities.proposer(1, round_)
    if proposer == table.me:
        table = Table(me=1)
        begin(table)
        table.hear_votes(PRECOMMIT, NIL, round_, (2, 3))
    block = table.block(proposer=proposer, time_ms=time_ms)
    expected = hash_of(block) if timely else NIL
    assert votes_said(table.hear_proposal(block, round_)) == [(PREVOTE, round_, expected)]


def test_r16_a_reproposal_may_be_of_any_time(table):
    to_round(table, 1)
    block = table.block(time_ms=1)
    pol = table.certificate(PREVOTE, hash_of(block), 0)
    effects = table.hear_proposal(block, 1, valid_round=0, pol=pol)
    assert votes_said(effects) == [(PREVOTE, 1, hash_of(block))]


# -- R17: votes are kept by (voter, value)


def test_r17_an_equivocators_second_vote_completes_a_quorum(table):
    block = table.block()
    table.hear_proposal(block)
    table.hear(table.vote(PREVOTE, 3, bytes([7] * 32)), 3)
    table.hear(table.vote(PREVOTE, 3, hash_of(block)), 3)
    effects = table.hear(table.vote(PREVOTE, 2, hash_of(block)), 2)
    assert (PRECOMMIT, 0, hash_of(block)) in votes_said(effects)


def test_r17_a_third_value_has_room_only_in_a_proof(table):
    block = table.block()
    begin(table)
    for filler in (7, 8):
        table.hear(table.vote(PREVOTE, 3, bytes([filler] * 32)), 3)
    table.hear(table.vote(PREVOTE, 3, hash_of(block)), 3)
    tally = table.core.rounds[0].prevotes
    assert 3 not in tally.votes_for(hash_of(block))
    table.hear_votes(PRECOMMIT, NIL)
    table.fire(TIMER_PRECOMMIT)
    pol = table.certificate(PREVOTE, hash_of(block), 0)
    table.hear(table.proposal(block, 1, valid_round=0, pol=pol))
    assert 3 in tally.votes_for(hash_of(block))


def test_r17_one_voter_counts_once_towards_a_quorum_of_any(table):
    begin(table)
    table.fire(TIMER_PROPOSE)
    for filler in (7, 8):
        table.hear(table.vote(PREVOTE, 3, bytes([filler] * 32)), 3)
    assert not table.core.rounds[0].prevote_timer_set


# -- R18: the valid value follows the latest polka


def test_r18_an_old_polka_that_is_learnt_late_is_proposed():
    table = Table(me=3)
    block = table.block()
    table.hear_proposal(block)
    for number in range(2):
        table.hear_votes(PRECOMMIT, NIL, number, (0, 1, 2))
        if number == 0:
            table.fire(TIMER_PRECOMMIT, 0)
    table.hear_votes(PREVOTE, hash_of(block), 0, (0, 1, 2))
    assert (table.core.valid_hash, table.core.valid_round) == (hash_of(block), 0)
    proposal = said(table.fire(TIMER_PRECOMMIT, 1), Proposal)[0]
    assert (proposal.round, proposal.valid_round) == (2, 0)


def test_r18_a_later_polka_replaces_an_earlier_and_not_the_reverse(table):
    first = table.block()
    second = table.block(proposer=2, time_ms=NOW_MS + 1)
    table.hear_proposal(first)
    to_round(table, 1)
    table.lock(second, 1)
    table.hear_votes(PREVOTE, hash_of(first), 0)
    assert (table.core.valid_hash, table.core.valid_round) == (hash_of(second), 1)


# -- R19: what is said is on the disk first


def test_r19_every_own_message_follows_its_record():
    table = Table(me=1)
    begin(table)
    block = table.block(proposer=1)
    effects = table.handle(events.BlockBuilt(1, 0, block))
    effects += table.hear_votes(PREVOTE, hash_of(block), voters=(0, 2))
    effects += table.hear_votes(PRECOMMIT, hash_of(block), voters=(0, 2))
    kinds = [
        type(effect.record).__name__ if isinstance(effect, events.Persist) else "said"
        for effect in effects
        if isinstance(effect, events.Persist | events.Broadcast)
    ]
    assert kinds == [
        "ProposalRecord", "said", "VoteRecord", "said", "LockRecord", "said", "DecisionRecord",
    ]  # fmt: skip


def test_r19_a_block_is_logged_once_per_height(table):
    block = table.block()
    lock = persisted(table.lock(block))[-1]
    assert lock.block == block
    decision = persisted(table.hear_votes(PRECOMMIT, hash_of(block)))[-1]
    assert decision.block is None


# -- R20: the guard


def test_r20_no_second_value_and_no_way_back(table):
    memory = table.core._memory
    signer = table.core._signer
    assert memory.sign(signer, PREVOTE, 3, b"one")
    assert memory.sign(signer, PREVOTE, 3, b"one")
    assert memory.sign(signer, PREVOTE, 3, b"two") is None
    assert memory.sign(signer, PRECOMMIT, 2, b"three") is None
    assert memory.sign(signer, 0, 3, b"a proposal after its prevote") is None
    assert memory.sign(signer, PRECOMMIT, 3, b"four")


def test_r20_a_log_ahead_of_the_store_keeps_this_node_silent(table):
    block = table.block()
    (record,) = persisted(table.hear_proposal(block))
    behind = Table(enter=False)
    behind.core.recover([replace(record, vote=replace(record.vote, height=5))])
    behind.handle(events.EnterHeight(1, behind.authorities))
    assert not votes_said(behind.hear_proposal(block))


# -- R26: the body belongs to the header, the block to its builder


def test_r26_a_swapped_body_is_refused_and_does_not_spoil_the_hash(table):
    block = table.block()
    good = table.proposal(block)
    bad = replace(good, block=replace(block, txs=(b"other",)))
    assert only(table.hear(bad, 3), events.Misbehaved)
    table.hear(good, 1)
    assert votes_said(table.check(block)) == [(PREVOTE, 0, hash_of(block))]


def test_r26_a_fresh_block_is_its_proposers_own(table):
    effects = table.hear(table.proposal(table.block(proposer=2)))
    assert only(effects, events.Misbehaved)


def test_r26_a_reproposed_block_keeps_its_builder(table):
    to_round(table, 1)
    block = table.block(proposer=1)
    pol = table.certificate(PREVOTE, hash_of(block), 0)
    effects = table.hear_proposal(block, 1, valid_round=0, pol=pol)
    assert votes_said(effects) == [(PREVOTE, 1, hash_of(block))]


# -- R28, R29: sets change with the epoch


def test_r28_no_word_of_another_epoch_counts(table):
    table.handle(events.EnterHeight(2, replace(table.authorities, epoch=1)))
    table.height = 2
    # What the same authorities sign for epoch 0, and a certificate of it for a block of epoch 1.
    for message in (
        table.vote(PREVOTE, 2, NIL),
        table.proposal(table.block(proposer=2)),
        table.decided(table.block(epoch=1)),
    ):
        effects = table.hear(message, 3)
        assert [effect.sender for effect in only(effects, events.Misbehaved)] == [3]
    assert not table.core.decided
    assert not table.core.rounds


def test_r29_a_seat_is_used_from_the_first_height_of_its_epoch_and_no_longer():
    table = Table(me=9)
    table.me = 0
    assert not votes_said(table.lock(table.block()))
    mine = AuthoritySet(1, (keys.public_of(9), *table.publics[1:]))
    table.handle(events.EnterHeight(2, mine))
    assert not table.core.abstaining
    effects = table.handle(events.BeginRounds(2))
    effects += table.handle(events.TimerFired(events.Timer(TIMER_PROPOSE, 2, 0)))
    assert votes_said(effects) == [(PREVOTE, 0, NIL)]
    table.handle(events.EnterHeight(3, replace(table.authorities, epoch=2)))
    assert table.core.abstaining
    effects = table.handle(events.BeginRounds(3))
    effects += table.handle(events.TimerFired(events.Timer(TIMER_PROPOSE, 3, 0)))
    effects += table.tick()
    assert not only(effects, events.Broadcast)


# -- R31: a round in which nothing happened ends at once


def test_r31_a_round_of_nothing_but_nil_ends_at_once(table):
    begin(table)
    table.fire(TIMER_PROPOSE)
    table.hear_votes(PREVOTE, NIL, voters=(1, 2))
    effects = table.hear_votes(PRECOMMIT, NIL, voters=(1, 2))
    assert table.core.round == 1
    propose = events.Timer(TIMER_PROPOSE, 1, 1)
    assert propose in [effect.timer for effect in only(effects, events.SetTimer)]


def test_r31_the_next_rounds_word_brings_the_way_there(table):
    begin(table)
    table.fire(TIMER_PROPOSE)
    table.hear_votes(PREVOTE, NIL, voters=(1, 2))
    table.hear_votes(PRECOMMIT, NIL, voters=(1, 2))
    way = persisted(table.fire(TIMER_PROPOSE, 1))[0]
    assert isinstance(way, RoundRecord)
    assert {(vote.kind, vote.round) for vote in way.votes} == {(PRECOMMIT, 0)}
    assert len(way.votes) >= table.authorities.quorum


def test_r31_somebody_may_be_locked_so_the_timer_runs(table):
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PREVOTE, NIL, voters=(1, 2))
    table.fire(TIMER_PREVOTE)
    effects = table.hear_votes(PRECOMMIT, NIL, voters=(1, 2))
    assert table.core.round == 0
    timer = events.SetTimer(events.Timer(TIMER_PRECOMMIT, 1, 0), 700)
    assert timer in only(effects, events.SetTimer)


def test_r31_two_nil_precommits_of_four_end_nothing(table):
    begin(table)
    table.fire(TIMER_PROPOSE)
    table.hear_votes(PREVOTE, NIL, voters=(1, 2))
    table.hear(table.vote(PRECOMMIT, 1, bytes([9] * 32)), 1)
    table.hear(table.vote(PRECOMMIT, 2, NIL), 2)
    assert table.core.round == 0
    table.hear(table.vote(PRECOMMIT, 3, NIL), 3)
    assert table.core.round == 1


# -- R32: nobody waits long for who is away


def next_height(table, epoch=0, turn=0):
    """Decide this height by a certificate and enter the next, maybe of a turned set."""
    block = table.block()
    table.hear(table.decided(block), 3)
    table.check(block)
    table.height += 1
    publics = table.publics[turn:] + table.publics[:turn]
    table.handle(events.EnterHeight(table.height, AuthoritySet(epoch, publics)))


def propose_ms(table):
    """Begin the rounds; how long is a proposal awaited?"""
    (timer,) = only(begin(table), events.SetTimer)
    assert timer.timer == events.Timer(TIMER_PROPOSE, table.height, 0)
    return timer.delay_ms


def without_proposals(table, heights):
    """Let round 0 of some heights pass without a word of its proposer; who proposes each?"""
    missing = []
    for _ in range(heights):
        missing.append(table.authorities.proposer(table.height, 0))
        begin(table)
        table.fire(TIMER_PROPOSE)
        next_height(table)
    return missing


def test_r32_after_two_silent_turns_the_third_is_awaited_shorter():
    table = Table(height=1)
    assert without_proposals(table, 4) == [1, 2, 3, 0]
    assert propose_ms(table) == 1_500
    table.fire(TIMER_PROPOSE)
    next_height(table)
    without_proposals(table, 3)
    assert table.authorities.proposer(table.height, 0) == 1
    assert propose_ms(table) == Params().absent_timeout_ms() == 300


def absent_table():
    """Authority 1 has been silent for two turns, and it is its turn again."""
    table = Table(height=1)
    without_proposals(table, 8)
    assert table.authorities.proposer(table.height, 0) == 1
    return table


@pytest.mark.parametrize(
    ("kind", "sender"),
    [("proposal", 1), ("proposal", 2), ("vote", 1), ("summary", 1), ("later height", 1)],
)
def test_r32_one_word_of_it_ends_the_suspicion(kind, sender):
    table = absent_table()
    later = Table(height=table.height + 1)
    message = {
        "proposal": lambda: table.proposal(table.block()),
        "vote": lambda: table.vote(PREVOTE, 1, NIL),
        "summary": lambda: VoteSummary(0, table.height, NO_ROUND, NO_ROUND, 1, False, ()),
        "later height": lambda: later.vote(PREVOTE, 1, NIL),
    }[kind]()
    begin(table)
    table.hear(message, sender)
    next_height(table)
    without_proposals(table, 3)
    assert propose_ms(table) == 1_500


def test_r32_a_word_from_a_height_gone_by_does_not():
    table = absent_table()
    table.hear(VoteSummary(0, 1, NO_ROUND, NO_ROUND, 1, False, ()), 1)
    assert propose_ms(table) == 300


def test_r32_from_round_n_on_everybody_is_awaited_in_full():
    table = absent_table()
    begin(table)
    for number, delay_ms in ((4, 3_500), (8, 5_500)):
        table.hear_votes(PRECOMMIT, NIL, number, (2, 3))
        timer = events.SetTimer(events.Timer(TIMER_PROPOSE, table.height, number), delay_ms)
        assert timer in table.effects
        assert table.authorities.proposer(table.height, number) == 1


def test_r32_a_proposal_that_waits_for_its_check_is_no_silence():
    table = Table(height=1)
    for _ in range(3):
        table.hear(table.proposal(table.block(proposer=1)), 2)
        table.fire(TIMER_PROPOSE)
        next_height(table)
        without_proposals(table, 3)
    assert propose_ms(table) == 1_500


def test_r32_who_is_absent_stays_so_in_another_seat():
    table = Table(height=1)
    without_proposals(table, 7)
    begin(table)
    next_height(table, epoch=1, turn=1)
    # The last set's authority 2 has seat 1 now, and the turn.
    assert table.core.authorities.publics[1] == table.publics[2]
    assert propose_ms(table) == 300


# -- before the first height, and without a vote


def test_before_the_first_height_it_listens_to_nobody_and_may_be_asked():
    table = Table(enter=False)
    assert not table.hear(table.vote(PREVOTE, 1, NIL), 1)
    core = table.core
    assert (core.height, core.seen_height, core.abstaining) == (0, 0, True)
    assert core.wal_records() == []


def test_r29_a_follower_decides_and_never_signs():
    table = Table(me=9)
    table.me = 0
    assert table.core.abstaining
    block = table.block()
    effects = begin(table) + table.lock(block)
    effects += table.hear_votes(PRECOMMIT, hash_of(block))
    assert only(effects, events.Decide)
    assert not only(effects, events.Broadcast)


def test_a_signer_that_abstains_makes_the_core_silent():
    table = Table()
    table.core._signer = lambda _: None
    effects = table.hear_proposal(table.block())
    assert not persisted(effects)
    assert not votes_said(effects)
