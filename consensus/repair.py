"""How a node tells its peers what it holds, and sends a peer what that one lacks (R23, R24).

Read-only towards the core: nothing here changes the state of agreement.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from consensus.authorities import AuthoritySet
from consensus.events import Send
from consensus.messages import (
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    VOTE_SETS_MAX,
    Decided,
    Vote,
    VoteSet,
    VoteSummary,
)
from consensus.tally import Round

if TYPE_CHECKING:
    from consensus.height import HeightState

# A node that lacks more gets the rest after its next summary.
ANSWER_VOTES_MAX: Final = 128
# Summaries of one peer answered between two of our own; more would let it make us shout.
ANSWERS_PER_TICK_MAX: Final = 2
# However much comes in, and also between blocks: one summary in so many ticks of a height.
TICKS_WITHOUT_MAX: Final = 4
# Peers asked at a time. With up to ten authorities one of them is honest (f+1); with more, one is
# within f // 4 + 1 summaries in a row, and the cost stays what it is.
ASKED_MAX: Final = 4
DECIDED_KEPT: Final = 4


class PastDecision(NamedTuple):
    """A block decided here, the set that did if that is known, and the tick at which it was."""

    decided: Decided
    authorities: AuthoritySet | None
    tick: int


class Repair:
    """One node's side of the exchange of summaries. A *tick* is `summary_ms` of its time."""

    __slots__ = ("_answered", "_entered_tick", "_news_tick", "_said", "past", "tick")

    def __init__(self) -> None:
        self.tick = 0
        self._news_tick = 0
        self._entered_tick = 0
        self._said = 0
        self.past: deque[PastDecision] = deque(maxlen=DECIDED_KEPT)
        self._answered: dict[int, int] = {}

    def next_tick(self) -> None:
        """Begin another tick, in which each peer may be answered again."""
        self.tick += 1
        self._answered.clear()

    def enter_height(self) -> None:
        """Learn that a height begins."""
        self._entered_tick = self._news_tick = self.tick

    def note_news(self) -> None:
        """Learn that something of this height came that was not known here."""
        self._news_tick = self.tick

    def is_due(self, needy: bool) -> bool:
        """Tell, as a tick begins, whether to say a summary; `needy`: in a round, or behind.

        What is new would have come by itself while new things came in the tick that is over. But
        nobody can silence this node by a drip of votes: now and then it asks in any case.
        """
        if needy and self.tick - self._news_tick > 1:
            return True
        here = self.tick - self._entered_tick
        return here > 0 and here % TICKS_WITHOUT_MAX == 0

    def ask(self, core: "HeightState") -> list[Send]:
        """Say a summary to the peers whose turn it is to answer it; a follower says nothing."""
        if core.index is None:
            return []
        summary = self._summary(core)
        turns = (core.index, summary.sequence, core.n, core.f)
        return [Send(peer, summary) for peer in range(core.n) if has_turn(peer, *turns)]

    def remember(self, decided: Decided, authorities: AuthoritySet | None = None) -> None:
        """Keep a decided block for peers that are behind."""
        height = decided.certificate.height
        if any(past.decided.certificate.height == height for past in self.past):
            return
        self.past.append(PastDecision(decided, authorities, self.tick))

    def _summary(self, core: "HeightState") -> VoteSummary:
        """Say where this node is and which votes it holds."""
        self._said += 1
        if core.decided:
            height = core.height + 1
            return VoteSummary(core.epoch, height, NO_ROUND, NO_ROUND, self._said, False, ())
        slot = core.rounds.get(core.round)
        wanted = dict.fromkeys((core.round, core.round - 1, core.valid_round))
        return VoteSummary(
            core.epoch,
            core.height,
            core.round,
            core.valid_round,
            self._said,
            slot is not None and slot.proposal is not None,
            vote_sets(core.rounds, wanted),
        )

    def answers(self, core: "HeightState", summary: VoteSummary, sender: int) -> list[Send]:
        """Return what `sender` lacks: votes and a proposal, or the block it has not decided.

        What came here within this tick is still on its way to the others too.
        """
        me = core.index
        count = self._answered.get(sender, 0)
        if me is None or sender == me or count >= ANSWERS_PER_TICK_MAX:
            return []
        self._answered[sender] = count + 1
        if not has_turn(me, sender, summary.sequence, core.n, core.f):
            return []
        if summary.height < core.height or core.decided:
            return self._decided_of(summary.height, sender)
        wanted = {summary.round, summary.round - 1}
        if core.round > summary.round:
            wanted |= {core.round, core.round - 1}
        if core.valid_round > summary.valid_round:
            wanted.add(core.valid_round)
        numbers = sorted(wanted, reverse=True)
        votes = missing_votes(core.rounds, numbers, summary.sets, self.tick)
        sends = [Send(sender, vote) for vote in votes]
        slot = core.rounds.get(core.round)
        lacks = core.round > summary.round or (
            core.round == summary.round and not summary.has_proposal
        )
        if lacks and slot and slot.proposal and slot.proposal_tick < self.tick:
            sends.append(Send(sender, slot.proposal))
        return sends

    def _decided_of(self, height: int, sender: int) -> list[Send]:
        return [
            Send(sender, past.decided)
            for past in self.past
            if past.decided.certificate.height == height and past.tick < self.tick
        ]


def vote_sets(rounds: Mapping[int, Round], wanted: Iterable[int]) -> tuple[VoteSet, ...]:
    """Describe the votes held of the wanted rounds, at most `VOTE_SETS_MAX` sets of them."""
    sets = []
    for number in wanted:
        slot = rounds.get(number)
        if slot is None:
            continue
        for kind, tally in ((PREVOTE, slot.prevotes), (PRECOMMIT, slot.precommits)):
            for value, bitmap in tally.bitmaps():
                sets.append(VoteSet(kind, number, value, bitmap))
    return tuple(sets[:VOTE_SETS_MAX])


def missing_votes(
    rounds: Mapping[int, Round], wanted: Iterable[int], theirs: Iterable[VoteSet], tick: int
) -> list[Vote]:
    """Return the votes of the wanted rounds held here since before `tick` and not in `theirs`."""
    held = {(item.kind, item.round, item.block_hash): item.bitmap for item in theirs}
    votes: list[Vote] = []
    for number in wanted:
        slot = rounds.get(number)
        if slot is None:
            continue
        for kind, tally in ((PREVOTE, slot.prevotes), (PRECOMMIT, slot.precommits)):
            for value, by_voter in tally.by_value.items():
                bitmap = held.get((kind, number, value), 0)
                votes += [
                    vote
                    for voter, vote in by_voter.items()
                    if not bitmap >> voter & 1 and tally.ticks[voter] < tick
                ]
    return votes[:ANSWER_VOTES_MAX]


def has_turn(answerer: int, asker: int, sequence: int, n: int, f: int) -> bool:
    """Tell whether it is this peer's turn to answer a summary.

    Each is said to and answered by f+1 peers, at most `ASKED_MAX`; the next by the next of them.
    """
    if answerer == asker:
        return False
    asked = min(f + 1, ASKED_MAX)
    place = (answerer - asker - 1) % n
    return (place - sequence * asked) % (n - 1) < asked
