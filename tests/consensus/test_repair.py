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
from consensus.repair import (
    ANSWER_VOTES_MAX,
    ANSWERS_PER_TICK_MAX,
    ASKED_MAX,
    TICKS_WITHOUT_MAX,
    has_turn,
)
from tests.consensus.table import Table, hash_of, only


def summary(height=1, round_=NO_ROUND, sequence=None, **fields):
    """Of authority 3 (of 4), to authority 0."""
    if sequence is None:
        sequence = turn_of(0, 3)
    values = {"epoch": 0, "valid_round": NO_ROUND, "has_proposal": False, "sets": ()}
    return VoteSummary(height=height, round=round_, sequence=sequence, **(values | fields))


def sent(effects, kind=object):
    return [
        (effect.to, effect.message)
        for effect in only(effects, events.Send)
        if isinstance(effect.message, kind)
    ]


def turn_of(answerer, asker, n=4, f=1):
    """A sequence number for which it is this peer's turn to answer."""
    return next(number for number in range(n) if has_turn(answerer, asker, number, n, f))


def summaries(effects):
    """Who is told, and the one summary that all of them are told; (), None if there is none."""
    messages = {message for _, message in sent(effects, VoteSummary)}
    assert len(messages) <= 1
    return tuple(to for to, _ in sent(effects, VoteSummary)), messages.pop() if messages else None


def test_r23_a_summary_goes_out_after_a_tick_without_news_and_says_what_is_held():
    table = Table()
    block = table.block()
    table.hear_proposal(block)
    table.hear(table.vote(PREVOTE, 2, NIL), 2)
    assert summaries(table.tick()) == ((), None)
    effects = table.tick()
    _, message = summaries(effects)
    assert (message.height, message.round, message.has_proposal) == (1, 0, True)
    assert set(message.sets) == {
        VoteSet(PREVOTE, 0, hash_of(block), 0b1),
        VoteSet(PREVOTE, 0, NIL, 0b100),
    }
    assert only(effects, events.SetTimer)[0].delay_ms == table.params.summary_ms


def test_r23_news_put_a_summary_off_but_a_drip_of_them_does_not():
    table = Table(n=7)
    table.handle(events.BeginRounds(1))
    said_in = []
    for number in range(2 * TICKS_WITHOUT_MAX):
        table.hear(table.vote(PREVOTE, 1 + number % 6, NIL, round_=number // 6), 1)
        said_in.append(bool(summaries(table.tick())[0]))
    assert said_in == ([False] * (TICKS_WITHOUT_MAX - 1) + [True]) * 2
    # What was known is no news.
    table.hear(table.vote(PREVOTE, 1, NIL), 1)
    assert summaries(table.tick())[0]


def test_r23_between_blocks_every_fourth_tick_has_a_summary():
    table = Table()
    said_in = [bool(summaries(table.tick())[0]) for _ in range(3 * TICKS_WITHOUT_MAX)]
    assert said_in == ([False] * (TICKS_WITHOUT_MAX - 1) + [True]) * 3


def test_r23_blocks_that_come_regularly_need_no_summary():
    table = Table()
    for height in range(1, 4):
        for _ in range(TICKS_WITHOUT_MAX - 1):
            assert not summaries(table.tick())[0]
        table.handle(events.EnterHeight(height + 1, table.authorities))


def test_r23_each_summary_goes_to_the_next_few_peers():
    for n, few in ((2, 1), (3, 1), (4, 2), (7, 3), (10, 4), (16, 4), (63, 4)):
        table = Table(n=n)
        table.handle(events.BeginRounds(1))
        told = [summaries(table.tick())[0] for _ in range(n + 2)][2:]
        assert all(len(to) == few for to in told)
        # Everybody has been told as soon as can be.
        assert set().union(*told[: -(-(n - 1) // few)]) == set(range(1, n))


def test_r23_who_is_alone_asks_nobody():
    table = Table(n=1)
    table.handle(events.BeginRounds(1))
    assert not any(summaries(table.tick())[0] for _ in range(2 * TICKS_WITHOUT_MAX))


def test_r23_a_follower_asks_nobody():
    table = Table(me=9)
    assert not any(table.tick()[:-1] for _ in range(2 * TICKS_WITHOUT_MAX))


def test_r23_the_answer_is_what_is_missing():
    table = Table()
    block = table.block()
    table.hear_proposal(block)
    table.hear_votes(PREVOTE, hash_of(block), voters=(1, 2))
    table.tick()
    have = (VoteSet(PREVOTE, 0, hash_of(block), 0b0010),)
    effects = table.hear(summary(round_=0, sets=have, has_proposal=True), 3)
    votes = [(to, vote.kind, vote.voter) for to, vote in sent(effects, Vote)]
    assert votes == [(3, PREVOTE, 0), (3, PREVOTE, 2), (3, PRECOMMIT, 0)]


def test_r23_a_peer_rounds_behind_is_shown_the_way():
    table = Table()
    table.hear_votes(PRECOMMIT, NIL, 4)
    table.fire(TIMER_PRECOMMIT, 4)
    table.tick()
    effects = table.hear(summary(round_=0), 3)
    assert {(vote.round, vote.voter) for _, vote in sent(effects, Vote)} == {(4, 1), (4, 2), (4, 3)}


def test_r23_a_later_polka_is_sent_to_who_knows_an_earlier():
    table = Table()
    block = table.block()
    table.lock(block)
    table.hear_votes(PREVOTE, NIL, 6, (2, 3))
    table.tick()
    effects = table.hear(summary(round_=6), 3)
    assert {vote.voter for _, vote in sent(effects, Vote) if vote.round == 0} == {0, 1, 2, 3}
    effects = table.hear(summary(round_=6, valid_round=0), 3)
    assert not [vote for _, vote in sent(effects, Vote) if vote.round == 0]


def test_r23_a_proposal_is_sent_a_tick_later_by_whose_turn_it_is():
    table = Table()
    table.hear(table.proposal(table.block()))
    asking = summary(round_=0)
    assert not sent(table.hear(asking, 3), Proposal)
    table.tick()
    assert sent(table.hear(asking, 3), Proposal)
    assert not sent(table.hear(summary(round_=0, has_proposal=True), 3), Proposal)


def test_r23_votes_are_sent_a_tick_later():
    table = Table()
    table.hear_votes(PREVOTE, NIL, voters=(1,))
    table.tick()
    table.hear_votes(PREVOTE, NIL, voters=(2,))
    assert [vote.voter for _, vote in sent(table.hear(summary(round_=0), 3), Vote)] == [1]
    table.tick()
    assert [vote.voter for _, vote in sent(table.hear(summary(round_=0), 3), Vote)] == [1, 2]


def test_r23_whose_turn_it_is_not_answers_nothing():
    table = Table()
    table.hear_votes(PREVOTE, NIL)
    table.tick()
    turns = {number: has_turn(0, 3, number, 4, 1) for number in range(8)}
    assert set(turns.values()) == {True, False}
    for number, its_turn in turns.items():
        table.tick()
        assert bool(sent(table.hear(summary(round_=0, sequence=number), 3))) == its_turn


def test_r23_every_asker_is_answered_by_each_peer_in_turn():
    for n, f in ((2, 0), (4, 1), (7, 2), (16, 5)):
        for asker in range(n):
            turns = [
                {peer for peer in range(n) if has_turn(peer, asker, number, n, f)}
                for number in range(n)
            ]
            few = min(f + 1, ASKED_MAX)
            assert set().union(*turns[: -(-(n - 1) // few)]) == set(range(n)) - {asker}
            assert all(len(turn) == few for turn in turns)


def test_r23_one_peer_cannot_make_this_node_shout():
    table = Table()
    table.handle(events.BeginRounds(1))
    table.hear_votes(PREVOTE, NIL)
    table.tick()
    answered = [bool(sent(table.hear(summary(round_=0), 3))) for _ in range(5)]
    assert answered.count(True) == ANSWERS_PER_TICK_MAX
    assert sent(table.hear(summary(round_=0, sequence=turn_of(0, 2)), 2))
    table.tick()
    assert sent(table.hear(summary(round_=0), 3))


def test_r23_answers_are_bounded():
    table = Table(n=63, me=0)
    for number in range(3):
        table.hear_votes(PRECOMMIT, NIL, number, tuple(range(1, 63)))
        table.hear_votes(PREVOTE, NIL, number, tuple(range(1, 63)))
    table.tick()
    asking = summary(round_=2, sequence=turn_of(0, 3, 63, 20))
    assert len(sent(table.hear(asking, 3))) == ANSWER_VOTES_MAX


def test_r24_a_peer_a_height_behind_gets_the_decided_block_a_tick_later():
    table = Table()
    block = table.block()
    table.lock(block)
    table.hear_votes(PRECOMMIT, hash_of(block))
    asking = summary(round_=0)
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
    effects = table.hear(summary(height=1), 3)
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
    assert summaries(effects)[0]


def test_one_liar_does_not_move_the_seen_height():
    table = Table()
    table.hear(summary(height=1_000_000), 3)
    assert table.core.seen_height == 1
