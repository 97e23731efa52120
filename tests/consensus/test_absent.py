"""Rounds in which nothing happened, and who is away (R31, R32 of docs/spec/consensus.md)."""

import pytest

from consensus import events
from consensus.authorities import AuthoritySet
from consensus.events import TIMER_PRECOMMIT, TIMER_PREVOTE, TIMER_PROPOSE
from consensus.messages import NIL, NO_ROUND, PRECOMMIT, PREVOTE, VoteSummary
from consensus.params import Params
from consensus.wal import RoundRecord
from tests.consensus.table import (
    Table,
    begin,
    only,
    persisted,
)


@pytest.fixture
def table():
    return Table()


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
