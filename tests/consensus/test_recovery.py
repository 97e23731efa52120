"""R19 to R22, R27: what a restart remembers, at every record it may have got to."""

import pytest

from consensus import events, wal
from consensus.errors import InvariantError
from consensus.events import TIMER_PRECOMMIT, TIMER_PREVOTE, TIMER_PROPOSE
from consensus.messages import NIL, NO_ROUND, PRECOMMIT, PREVOTE, Proposal, Vote, VoteSummary
from tests.consensus.table import (
    NOW_MS,
    Table,
    hash_of,
    only,
    persisted,
    said,
    votes_said,
)


def a_height_as_proposer():
    """All effects of a height in which the core proposes, is outvoted, locks and decides."""
    table = Table(me=1)
    effects = table.handle(events.BeginRounds(1))
    block = table.block(proposer=1)
    effects += table.handle(events.BlockBuilt(1, 0, block))
    effects += table.hear_votes(PREVOTE, NIL, 0, (0, 2, 3))
    effects += table.hear_votes(PRECOMMIT, NIL, 0, (0, 2, 3))
    effects += table.fire(TIMER_PRECOMMIT)
    other = table.block(proposer=2, time_ms=NOW_MS + 1)
    effects += table.hear_proposal(other, 1)
    effects += table.hear_votes(PREVOTE, hash_of(other), 1, (0, 2, 3))
    effects += table.hear_votes(PRECOMMIT, hash_of(other), 1, (0, 2, 3))
    assert only(effects, events.Decide)
    return effects


def test_r21_after_any_record_a_restart_never_contradicts_itself():
    records = persisted(a_height_as_proposer())
    assert [type(record).__name__ for record in records] == [
        "ProposalRecord", "VoteRecord", "VoteRecord", "RoundRecord", "VoteRecord", "LockRecord",
        "DecisionRecord",
    ]  # fmt: skip
    for count in range(len(records) + 1):
        check_restart(records[:count])


def check_restart(records):
    """Whatever then happens, the core says about a place what its log says, or nothing."""
    sworn = {}
    for record in records:
        match record:
            case wal.VoteRecord(vote) | wal.LockRecord(precommit=vote):
                sworn[vote.round, vote.kind] = vote.block_hash
            case wal.ProposalRecord(proposal):
                sworn[proposal.round, 0] = hash_of(proposal.block)
    table = Table(me=1, enter=False)
    effects = table.restart(records)
    if not table.core.decided:
        another = table.block(proposer=1, time_ms=NOW_MS + 9)
        effects += table.handle(events.BeginRounds(1))
        effects += table.handle(events.BlockBuilt(1, 0, another))
        for number in range(3):
            effects += table.fire(TIMER_PROPOSE, number)
            effects += table.fire(TIMER_PREVOTE, number)
            effects += table.fire(TIMER_PRECOMMIT, number)
    for kind, round_, value in votes_said(effects):
        assert sworn.get((round_, kind), value) == value
    for proposal in said(effects, Proposal):
        value = hash_of(proposal.block)
        assert sworn.get((proposal.round, 0), value) == value


def test_r21_own_messages_of_the_round_are_sent_again():
    effects = a_height_as_proposer()
    table = Table(me=1, enter=False)
    again = table.restart(persisted(effects)[:2])
    assert [type(message) for message in (said(again, Proposal) + said(again, Vote))] == [
        Proposal,
        Vote,
    ]
    assert said(again, Proposal) == said(effects, Proposal)
    assert said(again, Vote)[0] == said(effects, Vote)[0]
    assert table.core.step == PREVOTE


def test_r21_the_lock_its_proof_and_its_block_survive():
    table = Table()
    block = table.block()
    records = persisted(table.hear_proposal(block))
    records += persisted(table.hear_votes(PREVOTE, hash_of(block)))
    effects = table.restart(records)
    core = table.core
    assert (core.locked_hash, core.locked_round) == (hash_of(block), 0)
    assert [check.block for check in only(effects, events.CheckBlock)] == [block]
    table.check(block)
    # Rounds 1 to 3 pass; in none is the lock lost, and in round 3 it is this node's turn.
    for number in range(3):
        table.hear_votes(PRECOMMIT, NIL, number)
        effects = table.fire(TIMER_PRECOMMIT, number)
    proposal = said(effects, Proposal)[0]
    assert (proposal.round, proposal.valid_round, proposal.block) == (3, 0, block)
    assert proposal.pol is not None


def test_r21_a_decision_that_was_not_applied_is_decided_again():
    table = Table()
    block = table.block()
    effects = table.lock(block) + table.hear_votes(PRECOMMIT, hash_of(block))
    records = persisted(effects)
    effects = table.restart(records)
    assert not only(effects, events.Decide)
    effects = table.check(block)
    assert only(effects, events.Decide)[0].block == block
    assert not persisted(effects)


def test_r21_records_of_other_heights_change_nothing_here():
    records = persisted(a_height_as_proposer())
    table = Table(me=1, height=2, enter=False)
    effects = table.restart(records)
    assert not only(effects, events.Broadcast)
    assert not table.core.rounds


def test_r21_recover_comes_first():
    with pytest.raises(InvariantError, match="before the first height"):
        Table().core.recover([])


def test_r21_the_records_to_keep_are_enough():
    table = Table()
    block = table.block()
    table.lock(block)
    for number in range(6):
        table.hear_votes(PRECOMMIT, NIL, number)
        table.fire(TIMER_PRECOMMIT, number)
        table.fire(TIMER_PROPOSE, number + 1)
    kept = table.core.wal_records()
    assert len(kept) <= 8
    table.restart(kept)
    core = table.core
    assert (core.locked_hash, core.round, core.step) == (hash_of(block), 6, PREVOTE)
    assert core.blocks[hash_of(block)] == block


def test_r22_after_damage_nothing_is_signed_for_two_heights():
    table = Table(enter=False)
    effects = table.restart([], damaged=True)
    assert persisted(effects) == [wal.AbstainRecord(2)]
    left = []
    for height in (1, 2, 3):
        table = at_height(table, height)
        block = table.block(proposer=height)
        effects = table.hear(table.proposal(block))
        effects += table.check(block)
        effects += table.hear_votes(PREVOTE, hash_of(block))
        assert bool(votes_said(effects)) == (height == 3)
        effects = table.hear_votes(PRECOMMIT, hash_of(block))
        assert only(effects, events.Decide)
        left += [
            record.heights for record in persisted(effects) if isinstance(record, wal.AbstainRecord)
        ]
    assert left == [1, 0]


def at_height(table, height):
    """The same core, one height up."""
    if height == table.height:
        return table
    above = Table(height=height, enter=False)
    above.core = table.core
    above.handle(events.EnterHeight(height, above.authorities))
    return above


def test_r22_abstinence_outlives_restarts():
    table = Table(enter=False)
    kept = persisted(table.restart([], damaged=True))
    table.restart(kept)
    assert table.core.abstaining
    assert table.core.wal_records() == [wal.AbstainRecord(2)]


def test_r22_heights_learnt_from_others_do_not_count():
    table = Table(enter=False)
    table.restart([], damaged=True)
    block = table.block()
    table.hear(table.decided(block))
    effects = table.check(block)
    assert only(effects, events.Decide)
    assert not [record for record in persisted(effects) if isinstance(record, wal.AbstainRecord)]
    above = at_height(table, 2)
    assert above.core.abstaining


def forgetful(n=4):
    table = Table(n=n, enter=False)
    table.restart([], damaged=True)
    return table


def decide_by_votes(table, carriers=(1, 2, 3)):
    """The height's block and precommits arrive from these peers; what is logged of the duty?"""
    block = table.block(proposer=table.authorities.proposer(table.height, 0))
    effects = table.hear(table.proposal(block), carriers[0]) + table.check(block)
    for place, voter in enumerate((1, 2, 3)):
        carrier = carriers[place % len(carriers)]
        effects += table.hear(table.vote(PRECOMMIT, voter, hash_of(block)), carrier)
    assert only(effects, events.Decide)
    return [item.heights for item in persisted(effects) if isinstance(item, wal.AbstainRecord)]


def test_r22_old_votes_played_again_by_one_peer_do_not_count():
    table = forgetful()
    for height in range(1, 5):
        table = at_height(table, height)
        assert decide_by_votes(table, carriers=(3,)) == []
    assert at_height(table, 5).core.abstaining


def test_r22_heights_below_that_of_f_plus_1_others_do_not_count():
    table = forgetful()
    for sender in (1, 2):
        table.hear(VoteSummary(0, 3, NO_ROUND, NO_ROUND, 1, False, ()), sender)
    left = []
    for height in (1, 2, 3, 4):
        table = at_height(table, height)
        left += decide_by_votes(table)
        assert bool(left) == (height >= 3)
    assert left == [1, 0]


def test_r22_one_liar_ahead_does_not_prolong_the_duty():
    table = forgetful()
    table.hear(VoteSummary(0, 10**9, NO_ROUND, NO_ROUND, 1, False, ()), 3)
    assert decide_by_votes(table) == [1]


def test_r22_heights_at_which_the_driver_is_behind_do_not_count():
    table = Table(enter=False)
    table.core.recover([], damaged=True)
    table.handle(events.EnterHeight(1, table.authorities, behind=True))
    assert decide_by_votes(table) == []
    table = at_height(table, 2)
    assert decide_by_votes(table) == [1]
    above = Table(height=3, enter=False)
    above.core = table.core
    # It was level once: later blocks are no news of what it had signed.
    above.handle(events.EnterHeight(3, above.authorities, behind=True))
    assert decide_by_votes(above) == [0]


def test_r22_its_own_word_is_none_of_the_quorum():
    table = forgetful()
    table.hear(table.vote(PREVOTE, 2, NIL), 2)
    table.hear(table.vote(PREVOTE, 3, NIL), 3)
    # A twin with this node's key.
    table.hear(table.vote(PREVOTE, 0, NIL), 0)
    assert decide_by_votes(table, carriers=(2, 3)) == []


def test_r27_the_way_to_a_round_is_logged_with_the_first_word_in_it():
    table = Table()
    table.handle(events.BeginRounds(1))
    table.hear_votes(PRECOMMIT, NIL)
    effects = table.fire(TIMER_PRECOMMIT)
    assert not persisted(effects)
    records = persisted(table.fire(TIMER_PROPOSE, 1))
    assert [type(record) for record in records] == [wal.RoundRecord, wal.VoteRecord]
    assert sorted(vote.voter for vote in records[0].votes) == [1, 2, 3]
    table.restart(records)
    assert table.core.round == 1
    assert table.core.rounds[0].precommits.has_quorum_of_any()
