"""The rules of docs/spec/consensus.md that decide one height (R5 to R18), by number."""

import pytest
from msgspec.structs import replace

from consensus import events
from consensus.errors import InvariantError
from consensus.events import TIMER_PRECOMMIT, TIMER_PREVOTE, TIMER_PROPOSE
from consensus.messages import NIL, NO_ROUND, PRECOMMIT, PREVOTE, Proposal
from consensus.params import Params
from tests.consensus.table import (
    NOW_MS,
    Table,
    begin,
    hash_of,
    only,
    said,
    to_round,
    votes_said,
)


@pytest.fixture
def table():
    return Table()


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
