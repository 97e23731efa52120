"""R23, R24: what peers tell each other, and what they send back."""

from consensus import events
from consensus.events import TIMER_PRECOMMIT
from consensus.messages import (
    NIL,
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    Decided,
    Proposal,
    Vote,
    VoteSet,
    VoteSummary,
)
from consensus.repair import ANSWER_VOTES_MAX, ANSWERS_PER_TICK_MAX, answers_large
from tests.consensus.table import Table, hash_of, only, said


def summary(height=1, round_=NO_ROUND, sequence=0, **fields):
    values = {"epoch": 0, "valid_round": NO_ROUND, "has_proposal": False, "sets": ()}
    return VoteSummary(height=height, round=round_, sequence=sequence, **(values | fields))


def sent(effects, kind=object):
    return [
        (effect.to, effect.message)
        for effect in only(effects, events.Send)
        if isinstance(effect.message, kind)
    ]


def turn_of(answerer, asker, n=4, f=1):
    """A sequence number for which it is this peer's turn to send a block."""
    return next(number for number in range(n) if answers_large(answerer, asker, number, n, f))


def test_r23_a_summary_goes_out_each_tick_and_says_what_is_held():
    table = Table()
    block = table.block()
    table.hear_proposal(block)
    table.hear(table.vote(PREVOTE, 2, NIL), 2)
    effects = table.tick()
    (message,) = said(effects, VoteSummary)
    assert (message.height, message.round, message.has_proposal) == (1, 0, True)
    assert set(message.sets) == {
        VoteSet(PREVOTE, 0, hash_of(block), 0b1),
        VoteSet(PREVOTE, 0, NIL, 0b100),
    }
    assert only(effects, events.SetTimer)[0].delay_ms == table.params.summary_ms


def test_r23_the_answer_is_what_is_missing():
    table = Table()
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PREVOTE, hash_of(block), voters=(1, 2))
    have = (VoteSet(PREVOTE, 0, hash_of(block), 0b0010),)
    effects = table.hear(summary(round_=0, sets=have, has_proposal=True), 3)
    votes = [(to, vote.kind, vote.voter) for to, vote in sent(effects, Vote)]
    assert votes == [(3, PREVOTE, 0), (3, PREVOTE, 2), (3, PRECOMMIT, 0)]


def test_r23_a_peer_rounds_behind_is_shown_the_way():
    table = Table()
    table.hear_votes(PRECOMMIT, NIL, 4)
    table.fire(TIMER_PRECOMMIT, 4)
    effects = table.hear(summary(round_=0), 3)
    assert {(vote.round, vote.voter) for _, vote in sent(effects, Vote)} == {(4, 1), (4, 2), (4, 3)}


def test_r23_a_later_polka_is_sent_to_who_knows_an_earlier():
    table = Table()
    block = table.block()
    table.lock(block)
    table.hear_votes(PREVOTE, NIL, 6, (2, 3))
    effects = table.hear(summary(round_=6), 3)
    assert {vote.voter for _, vote in sent(effects, Vote) if vote.round == 0} == {0, 1, 2, 3}
    effects = table.hear(summary(round_=6, valid_round=0), 3)
    assert not [vote for _, vote in sent(effects, Vote) if vote.round == 0]


def test_r23_a_proposal_is_sent_a_tick_later_by_whose_turn_it_is():
    table = Table()
    table.hear(table.proposal(table.block()))
    turn = turn_of(0, 3)
    asking = summary(round_=0, sequence=turn)
    assert not sent(table.hear(asking, 3), Proposal)
    table.tick()
    assert sent(table.hear(asking, 3), Proposal)
    assert not sent(table.hear(summary(round_=0, sequence=turn, has_proposal=True), 3), Proposal)


def test_r23_every_asker_is_answered_in_full_by_each_peer_in_turn():
    for n, f in ((4, 1), (7, 2), (16, 5)):
        for asker in range(n):
            turns = [
                {peer for peer in range(n) if peer != asker and answers_large(peer, asker, k, n, f)}
                for k in range(n)
            ]
            assert set().union(*turns) == set(range(n)) - {asker}
            assert all(f <= len(turn) <= f + 1 for turn in turns)


def test_r23_one_peer_cannot_make_this_node_shout():
    table = Table()
    table.handle(events.BeginRounds(1))
    table.hear_votes(PREVOTE, NIL)
    answered = [bool(sent(table.hear(summary(round_=0), 3))) for _ in range(5)]
    assert answered.count(True) == ANSWERS_PER_TICK_MAX
    assert sent(table.hear(summary(round_=0), 2))
    table.tick()
    assert sent(table.hear(summary(round_=0), 3))


def test_r23_answers_are_bounded():
    table = Table(n=63, me=0)
    for number in range(3):
        table.hear_votes(PRECOMMIT, NIL, number, tuple(range(1, 63)))
        table.hear_votes(PREVOTE, NIL, number, tuple(range(1, 63)))
    assert len(sent(table.hear(summary(round_=2), 3))) == ANSWER_VOTES_MAX


def test_r24_a_peer_a_height_behind_gets_the_decided_block_a_tick_later():
    table = Table()
    block = table.block()
    table.lock(block)
    table.hear_votes(PRECOMMIT, hash_of(block))
    asking = summary(round_=0, sequence=turn_of(0, 3))
    assert not sent(table.hear(asking, 3))
    table.tick()
    ((to, message),) = sent(table.hear(asking, 3))
    assert to == 3
    assert isinstance(message, Decided)
    assert message.block == block


def test_r24_after_a_restart_the_driver_says_what_was_decided():
    below = Table()
    parent = below.decided(below.block())
    table = Table(height=2, enter=False)
    table.handle(events.EnterHeight(2, table.authorities, parent))
    table.tick()
    effects = table.hear(summary(height=1, sequence=turn_of(0, 3)), 3)
    assert sent(effects) == [(3, parent)]


def test_r24_a_decided_block_ends_the_height_once_checked():
    table = Table()
    block = table.block()
    effects = table.hear(table.decided(block))
    assert only(effects, events.CheckBlock)
    effects = table.check(block)
    assert only(effects, events.Decide)[0].block == block


def test_r24_a_decision_that_proves_nothing_is_refused():
    table = Table()
    block = table.block()
    other = table.block(time_ms=5)
    few = Decided(block, table.certificate(PRECOMMIT, hash_of(block), voters=(1, 2)))
    prevotes = Decided(block, table.certificate(PREVOTE, hash_of(block)))
    swapped = Decided(other, table.certificate(PRECOMMIT, hash_of(block)))
    for message in (few, prevotes, swapped):
        effects = table.hear(message)
        assert only(effects, events.Misbehaved)
        assert not only(effects, events.CheckBlock)


def test_r24_who_is_behind_says_so_at_once():
    table = Table()
    above = Table(height=3)
    for voter in (2, 3):
        table.hear(above.vote(PREVOTE, voter, NIL), voter)
    assert table.core.seen_height == 3
    effects = table.handle(events.EnterHeight(2, table.authorities))
    assert said(effects, VoteSummary)


def test_one_liar_does_not_move_the_seen_height():
    table = Table()
    table.hear(summary(height=1_000_000), 3)
    assert table.core.seen_height == 1
