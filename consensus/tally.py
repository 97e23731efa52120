"""Votes of one round, kept by (voter, value), and messages held for heights to come."""

from collections.abc import Iterator, Mapping
from typing import Final

from consensus.events import Received
from consensus.messages import NIL, Certificate, ConsensusMessage, Decided, Proposal, Vote

VALUES_PER_VOTER_MAX: Final = 2
HELD_PER_SENDER_MAX: Final = 128
HELD_PROPOSALS_PER_SENDER_MAX: Final = 2
HELD_HEIGHTS_AHEAD_MAX: Final = 2


class Tally:
    """The votes of one kind in one round.

    Votes are kept by (voter, value), not first-vote-wins: an equivocator's other vote may be the
    one that completes a quorum elsewhere, and a node that refused it would be left behind. Each
    voter has room for two values; votes of a proven quorum (`add_proven`) always have room.
    """

    __slots__ = ("by_value", "quorum", "quorum_value", "ticks", "voters")

    def __init__(self, quorum: int) -> None:
        self.quorum = quorum
        self.by_value: dict[bytes, dict[int, Vote]] = {}
        self.voters = 0
        self.quorum_value: bytes | None = None
        # When the latest vote of each voter came, for `consensus/repair.py`.
        self.ticks: dict[int, int] = {}

    def has_room(self, voter: int, value: bytes) -> bool:
        """Tell whether this vote is new and there is room for it."""
        if not self.voters >> voter & 1:
            return True
        votes = self.by_value.get(value)
        if votes is not None and voter in votes:
            return False
        return len(self._votes_of(voter)) < VALUES_PER_VOTER_MAX

    def add(self, vote: Vote, tick: int = 0) -> Vote | None:
        """Keep a verified vote; return an earlier one of its voter that contradicts it."""
        bit = 1 << vote.voter
        earlier = None
        if self.voters & bit:
            held = self._votes_of(vote.voter)
            # One's own vote may have come from a twin, or from the time before a restart.
            if any(other.block_hash == vote.block_hash for other in held):
                return None
            earlier = held[0]
        self.voters |= bit
        votes = self.by_value.get(vote.block_hash)
        if votes is None:
            votes = self.by_value[vote.block_hash] = {}
        votes[vote.voter] = vote
        self.ticks[vote.voter] = tick
        if self.quorum_value is None and len(votes) >= self.quorum:
            self.quorum_value = vote.block_hash
        return earlier

    def votes_for(self, value: bytes) -> dict[int, Vote]:
        """Return the votes for a value by voter."""
        return self.by_value.get(value, {})

    def has_quorum_of_any(self) -> bool:
        """Tell whether a quorum of distinct authorities has voted, for whatever value."""
        return self.voters.bit_count() >= self.quorum

    def one_of_each(self) -> tuple[Vote, ...]:
        """Return one vote of each voter."""
        votes: dict[int, Vote] = {}
        for by_voter in self.by_value.values():
            votes.update(by_voter)
        return tuple(votes.values())

    def bitmaps(self) -> Iterator[tuple[bytes, int]]:
        """Yield each value and the bitmap of its voters."""
        for value, votes in self.by_value.items():
            bitmap = 0
            for voter in votes:
                bitmap |= 1 << voter
            yield value, bitmap

    def _votes_of(self, voter: int) -> list[Vote]:
        return [votes[voter] for votes in self.by_value.values() if voter in votes]


class Round:
    """All that is known of one round of the current height."""

    __slots__ = (
        "block_hash",
        "precommit_timer_set",
        "precommits",
        "prevote_timer_set",
        "prevotes",
        "proposal",
        "proposal_tick",
        "timely",
        "two_proposals",
    )

    def __init__(self, quorum: int) -> None:
        self.prevotes = Tally(quorum)
        self.precommits = Tally(quorum)
        self.proposal: Proposal | None = None
        self.block_hash = NIL
        self.timely = False
        self.proposal_tick = 0
        # A second, different proposal was seen: there is proof, and no third is looked at.
        self.two_proposals = False
        self.prevote_timer_set = False
        self.precommit_timer_set = False


class Commit:
    """A height's proof of finality and whether it came from live votes."""

    __slots__ = ("certificate", "from_votes", "recorded")

    def __init__(self, certificate: Certificate, from_votes: bool, recorded: bool = False) -> None:
        self.certificate = certificate
        self.from_votes = from_votes
        self.recorded = recorded


class HeldMessages:
    """Messages of the next heights, bounded per sender; what finds no room is dropped.

    A drop costs half a second: summaries bring it again.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[int, list[Received]] = {}

    def hold(self, event: Received, height: int, current: int) -> bool:
        """Keep a vote or proposal of a later height; False if there is no room for it."""
        if height > current + HELD_HEIGHTS_AHEAD_MAX:
            return False
        held = self._held.setdefault(event.sender, [])
        if type(event.message) is Vote:
            has_room = len(held) < HELD_PER_SENDER_MAX
        elif type(event.message) is Proposal:
            proposals = sum(1 for other in held if type(other.message) is Proposal)
            has_room = proposals < HELD_PROPOSALS_PER_SENDER_MAX
        else:
            has_room = False
        if has_room:
            held.append(event)
        return has_room

    def renumber(self, indices: Mapping[int, int]) -> None:
        """Give senders their indices in a new set; forget those who are not in it."""
        self._held = {
            indices[sender]: [
                Received(event.message, indices[sender], event.now_ms) for event in held
            ]
            for sender, held in self._held.items()
            if sender in indices
        }

    def take(self, height: int) -> list[Received]:
        """Remove and return the messages of `height`; forget those of lower heights."""
        taken: list[Received] = []
        for sender, held in list(self._held.items()):
            taken += [event for event in held if height_of(event.message) == height]
            rest = [event for event in held if height_of(event.message) > height]
            if rest:
                self._held[sender] = rest
            else:
                del self._held[sender]
        return taken


def height_of(message: ConsensusMessage) -> int:
    """Return the height a message speaks of."""
    return message.certificate.height if isinstance(message, Decided) else message.height
