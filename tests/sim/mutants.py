"""Seeded bugs. A simulator that does not find them would not find ours."""

from collections.abc import Iterable, Mapping
from typing import Final

from consensus import core as core_module
from consensus import events, tally, wal
from consensus.core import Core
from consensus.messages import NO_ROUND, VoteSummary
from tests.sim.world import Mutation


class _NoLock(Core):
    def _may_prevote(self, hash_: bytes, valid_round: int) -> bool:
        return True


class _StaleUnlock(Core):
    """A proof of lock from before the lock is taken for one from after it."""

    def _may_prevote(self, hash_: bytes, valid_round: int) -> bool:
        return super()._may_prevote(hash_, valid_round) or valid_round != NO_ROUND


class _NoUnlock(Core):
    """A proof of lock never frees anybody."""

    def _may_prevote(self, hash_: bytes, valid_round: int) -> bool:
        return self.locked_round == NO_ROUND or self.locked_hash == hash_


class _FirstVoteWins(Core):
    def _slot(self, number: int) -> tally.Round:
        if number not in self.rounds:
            slot = self.rounds[number] = tally.Round(self._quorum)
            slot.prevotes = _FirstTally(self._quorum)
            slot.precommits = _FirstTally(self._quorum)
        return self.rounds[number]


class _FirstTally(tally.Tally):
    __slots__ = ()

    def has_room(self, voter: int, value: bytes) -> bool:
        return not self.voters >> voter & 1

    def add(self, vote):  # type: ignore[no-untyped-def]
        return super().add(vote) if self.has_room(vote.voter, vote.block_hash) else None


class _SmallQuorum(Core):
    def _reset(self, event: events.EnterHeight) -> None:
        super()._reset(event)
        self._quorum -= 1


class _NoRoundJump(Core):
    def _round_to_join(self) -> int:
        return max(self.round, super()._round_to_join() if self.round == NO_ROUND else NO_ROUND)


class _NoCheck(Core):
    """Prevotes before executing."""

    def _keep_block(self, hash_, block, number):  # type: ignore[no-untyped-def]
        super()._keep_block(hash_, block, number)
        self._verdicts[hash_] = True


class _AnyTime(Core):
    def _keep_proposal(self, proposal, hash_, timely):  # type: ignore[no-untyped-def]
        super()._keep_proposal(proposal, hash_, True)


class _NoAbstinence(Core):
    def recover(self, records: list[wal.WalRecord], damaged: bool = False) -> None:
        super().recover(records, False)


class _NoGuard(Core):
    """Forgets the votes of the WAL, though not its lock."""

    def _reinstate_record(self, record: wal.WalRecord) -> None:
        if isinstance(record, wal.LockRecord | wal.DecisionRecord):
            super()._reinstate_record(record)

    def _reinstate(self, records: list[wal.WalRecord]) -> None:
        self._memory.last_signed = (0, NO_ROUND, 0)
        super()._reinstate(records)
        self.round = min(self.round, 0) if records else self.round
        self._memory.enter_height(self.height)
        self._memory.last_signed = (0, NO_ROUND, 0)


class _NoProofKept(Core):
    """Re-proposes without what proves that it may."""

    def _propose(self, block, hash_, valid_round, pol):  # type: ignore[no-untyped-def]
        super()._propose(block, hash_, NO_ROUND, None)


class _DecidesUnseen(Core):
    """Counts precommits of different rounds together."""

    def _count(self, vote):  # type: ignore[no-untyped-def]
        super()._count(vote)
        if vote.kind == core_module.PRECOMMIT and vote.block_hash and self._commit is None:
            votes = {}
            for slot in self.rounds.values():
                votes.update(slot.precommits.votes_for(vote.block_hash))
            if len(votes) >= self._quorum:
                slot = self._slot(vote.round)
                slot.precommits.by_value[vote.block_hash] = votes
                certificate = self._certificate(vote.round, vote.block_hash, slot.precommits)
                self._commit = tally.Commit(certificate, from_votes=True)


class _CoreMutation(Mutation):
    def __init__(self, core: type[Core]) -> None:
        self.core = core


class _Amnesia(Mutation):
    def recovered(self, records: list[wal.WalRecord]) -> list[wal.WalRecord]:
        return []


class _ForgottenLock(Mutation):
    """The WAL keeps votes, not locks."""

    def recovered(self, records: list[wal.WalRecord]) -> list[wal.WalRecord]:
        return [
            wal.VoteRecord(record.precommit) if isinstance(record, wal.LockRecord) else record
            for record in records
        ]


class _VoteBeforePersist(Mutation):
    def reordered(self, effects: list[events.Effect]) -> Iterable[events.Effect]:
        return sorted(effects, key=lambda effect: isinstance(effect, events.Persist))


class _NoRetransmission(Mutation):
    def reordered(self, effects: list[events.Effect]) -> Iterable[events.Effect]:
        return [
            effect
            for effect in effects
            if not isinstance(effect, events.Broadcast)
            or not isinstance(effect.message, VoteSummary)
        ]


MUTANTS: Final[Mapping[str, Mutation]] = {
    "no lock": _CoreMutation(_NoLock),
    "stale proof unlocks": _CoreMutation(_StaleUnlock),
    "no proof unlocks": _CoreMutation(_NoUnlock),
    "re-proposal without proof": _CoreMutation(_NoProofKept),
    "first vote wins": _CoreMutation(_FirstVoteWins),
    "quorum off by one": _CoreMutation(_SmallQuorum),
    "precommits of any round": _CoreMutation(_DecidesUnseen),
    "no round jump": _CoreMutation(_NoRoundJump),
    "prevote unchecked": _CoreMutation(_NoCheck),
    "any time is timely": _CoreMutation(_AnyTime),
    "no abstinence after damage": _CoreMutation(_NoAbstinence),
    "amnesia on restart": _Amnesia(),
    "lock forgotten on restart": _ForgottenLock(),
    "votes forgotten on restart": _CoreMutation(_NoGuard),
    "vote before persist": _VoteBeforePersist(),
    "no retransmission": _NoRetransmission(),
}
