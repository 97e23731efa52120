"""Seeded bugs. A simulator that does not find them would not find ours."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from consensus import core as core_module
from consensus import events, tally, wal
from consensus.authorities import AuthoritySet
from consensus.core import Core
from consensus.messages import NIL, NO_ROUND, VoteSummary
from tests.sim.world import Mutation, Result, run_seed


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


class _AnyRound(Core):
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


class _NoParent(Core):
    """After a restart it cannot prove its last block to who lacks it."""

    def _on_enter_height(self, event: events.EnterHeight) -> None:
        super()._on_enter_height(msgspec.structs.replace(event, parent=None))


class _StaleIndices(Core):
    """Takes a peer's index in the last set for its index in this one."""

    def _renumber_peers(self, authorities: AuthoritySet) -> None:
        pass


class _NoPol(Core):
    """Keeps the lock and loses its proof."""

    def _start_round(self, number: int) -> None:
        self.valid_hash, self.valid_round, self._valid_pol = NIL, NO_ROUND, None
        super()._start_round(number)


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


class _ForgottenWay(Mutation):
    """A restarted node cannot show what brought it to its round."""

    def recovered(self, records: list[wal.WalRecord]) -> list[wal.WalRecord]:
        return [record for record in records if not isinstance(record, wal.RoundRecord)]


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


class Mutant(NamedTuple):
    """A seeded bug, and runs that find it: `seeds` of one kind of run with `nodes` authorities."""

    mutation: Mutation
    kind: str
    nodes: int
    seeds: int


MUTANTS: Final[Mapping[str, Mutant]] = {
    "no lock": Mutant(_CoreMutation(_NoLock), "duel", 4, 400),
    "stale proof unlocks": Mutant(_CoreMutation(_StaleUnlock), "duel", 4, 6_000),
    "no proof unlocks": Mutant(_CoreMutation(_NoUnlock), "duel", 4, 4_000),
    "re-proposal without proof": Mutant(_CoreMutation(_NoProofKept), "duel", 4, 100),
    "first vote wins": Mutant(_CoreMutation(_FirstVoteWins), "duel", 4, 50),
    "quorum off by one": Mutant(_CoreMutation(_SmallQuorum), "duel", 4, 50),
    "precommits of any round": Mutant(_CoreMutation(_AnyRound), "duel", 4, 100),
    "prevote unchecked": Mutant(_CoreMutation(_NoCheck), "chaos", 4, 100),
    "any time is timely": Mutant(_CoreMutation(_AnyTime), "chaos", 4, 100),
    "no abstinence after damage": Mutant(_CoreMutation(_NoAbstinence), "duel", 4, 400),
    "amnesia on restart": Mutant(_Amnesia(), "duel", 4, 100),
    "lock forgotten on restart": Mutant(_ForgottenLock(), "duel", 4, 600),
    "votes forgotten on restart": Mutant(_CoreMutation(_NoGuard), "duel", 4, 100),
    "way forgotten on restart": Mutant(_ForgottenWay(), "duel", 4, 400),
    "parent unproved after restart": Mutant(_CoreMutation(_NoParent), "duel", 4, 200),
    "peers not renumbered": Mutant(_CoreMutation(_StaleIndices), "chaos", 4, 500),
    "proof of lock lost": Mutant(_CoreMutation(_NoPol), "duel", 4, 100),
    "vote before persist": Mutant(_VoteBeforePersist(), "duel", 4, 20),
    "no retransmission": Mutant(_NoRetransmission(), "duel", 4, 50),
}

# Kept out of the table: found by a scenario (a node cut off for many rounds), not by chance.
NO_ROUND_JUMP: Final = _CoreMutation(_NoRoundJump)


def hunt(name: str) -> Result | None:
    """Run the seeds that should find a mutant; return the first run that does."""
    mutant = MUTANTS[name]
    for seed in range(1, mutant.seeds + 1):
        result = run_seed(seed, mutant.nodes, mutant.mutation, mutant.kind)
        if result.violation:
            return result
    return None
