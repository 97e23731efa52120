"""The rules of docs/spec/consensus.md for the core around its heights, by their numbers."""

import pytest
from msgspec.structs import replace

from consensus import events
from consensus.authorities import AuthoritySet
from consensus.errors import InvariantError
from consensus.events import TIMER_PRECOMMIT, TIMER_PROPOSE
from consensus.height import ROUNDS_KEPT_AHEAD, ROUNDS_KEPT_BEHIND
from consensus.messages import NIL, NO_ROUND, PRECOMMIT, PREVOTE
from consensus.params import ROUNDS_AHEAD_MAX
from consensus.tally import HELD_PER_SENDER_MAX
from tests.consensus.table import (
    NOW_MS,
    Table,
    begin,
    hash_of,
    only,
    persisted,
    to_round,
    votes_said,
)
from tests.sim import keys


@pytest.fixture
def table():
    return Table()


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
