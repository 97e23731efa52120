"""Seeded bugs. A simulator that does not find them would not find ours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from consensus import events, height, intake, tally, validate, wal
from consensus.authorities import AuthoritySet
from consensus.core import Core
from consensus.errors import BlockRefused
from consensus.evidence import evidence_height
from consensus.messages import (
    NIL,
    NO_ROUND,
    PRECOMMIT,
    Block,
    Certificate,
    Evidence,
    Header,
    Vote,
    VoteSummary,
)
from tests.sim.app import Conviction, Rules, State
from tests.sim.disk import Database
from tests.sim.mutation import Mutation
from tests.sim.world import Result, run_seed

if TYPE_CHECKING:
    from tests.sim.node import SimNode

EVER = 2**31


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

    def add(self, vote: Vote, tick: int = 0) -> Vote | None:
        return super().add(vote, tick) if self.has_room(vote.voter, vote.block_hash) else None


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


class _ForgottenLock(Core):
    """Takes the vote from the log, and not that it was a lock."""

    def _reinstate_record(self, record: wal.WalRecord) -> None:
        super()._reinstate_record(record)
        self.locked_hash, self.locked_round = NIL, NO_ROUND


class _NoProofKept(Core):
    """Re-proposes without what proves that it may."""

    def _propose(self, block, hash_, valid_round, pol):  # type: ignore[no-untyped-def]
        super()._propose(block, hash_, NO_ROUND, None)


class _AnyRound(Core):
    """Counts precommits of different rounds together."""

    def _count(self, vote):  # type: ignore[no-untyped-def]
        super()._count(vote)
        if vote.kind == PRECOMMIT and vote.block_hash and self._commit is None:
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


class _NoAbstinence(Mutation):
    def recovered(self, records: list[wal.WalRecord]) -> list[wal.WalRecord]:
        return [record for record in records if not isinstance(record, wal.AbstainRecord)]


class _ForgottenWay(Mutation):
    """A restarted node cannot show what brought it to its round."""

    def recovered(self, records: list[wal.WalRecord]) -> list[wal.WalRecord]:
        return [record for record in records if not isinstance(record, wal.RoundRecord)]


class _VoteBeforePersist(Mutation):
    def reordered(self, effects: list[events.Effect]) -> Iterable[events.Effect]:
        return sorted(effects, key=lambda effect: isinstance(effect, events.Persist))


class _NeverSyncs(Mutation):
    """Writes, and leaves the rest to the operating system."""

    syncs = False


class _NoRetransmission(Mutation):
    def reordered(self, effects: list[events.Effect]) -> Iterable[events.Effect]:
        return [
            effect
            for effect in effects
            if not isinstance(effect, events.Broadcast | events.Send)
            or not isinstance(effect.message, VoteSummary)
        ]


# -- the log's bytes


def _scan_to_the_first_fault(data: bytes, scan: Any = wal.scan) -> wal.Scan:
    """Takes damage for a torn tail."""
    found: wal.Scan = scan(data)
    return found._replace(damage=None)


class _DamageIsATornTail(Mutation):
    patches = ((wal, "scan", _scan_to_the_first_fault),)


# -- the database


class _AppliesLoggedAgain(Mutation):
    """After a restart it applies the decisions of its log, whatever the database holds."""

    def opened(self, node: "SimNode", records: list[wal.WalRecord]) -> None:
        database = node.database
        for record in records:
            if isinstance(record, wal.DecisionRecord) and record.height == database.height:
                header, block = database.head.header, database.head
                again = node.world.rules.after(database.state, header, block.txs[:1], ())
                database.state = again


class _TwoTransactions(Mutation):
    """State first, then block and height; a crash may come in between."""

    def commit(
        self, database: Database, block: Block, certificate: Certificate, state: State
    ) -> Iterator[None]:
        yield
        database.state = state
        yield
        database.commit(block, certificate, state)


# -- rules of blocks


class _RulesMutation(Mutation):
    def __init__(self, rules: type[Rules], patches: Sequence[tuple[Any, str, Any]] = ()) -> None:
        self.rules = rules
        self.patches = patches


class _AnyRoot(Rules):
    def check_roots(self, after: State, header: Header) -> None:
        pass


class _AnyBlockTime(Rules):
    def check_link(self, state: State, parent: Header, block: Block) -> None:
        try:
            super().check_link(state, parent, block)
        except BlockRefused as refused:
            if refused.code != "time":
                raise


class _ConvictsAgain(Rules):
    is_shared = True

    def is_news(self, state: State, before: Iterable[bytes], conviction: Conviction) -> bool:
        return True


class _AnyAge(Rules):
    is_shared = True

    def is_fresh(self, height: int, evidence: Evidence) -> bool:
        return evidence_height(evidence) < height


class _KeepsNoBonds(Rules):
    """Takes the bond and books it nowhere."""

    is_shared = True

    def after(self, state, parent, txs, evidence, time_ms=0):  # type: ignore[no-untyped-def]
        after = super().after(state, parent, txs, evidence)
        if not evidence:
            return after
        regulator = state.ledger.regulator
        return State(msgspec.structs.replace(after.ledger, regulator=regulator), after.sets)


class _SettlesAgain(Rules):
    """Does not look which slots are settled already."""

    is_shared = True

    def after(self, state, parent, txs, evidence, time_ms=0):  # type: ignore[no-untyped-def]
        ledger = msgspec.structs.replace(state.ledger, settled=())
        after = super().after(State(ledger, state.sets), parent, txs, evidence)
        settled = (*state.ledger.settled, *after.ledger.settled)
        return State(msgspec.structs.replace(after.ledger, settled=settled), after.sets)


class _NeverProposed(Rules):
    """A builder that never puts evidence into a block."""

    def admitted(self, state: State, pieces: Iterable[Evidence]) -> list[Evidence]:
        return []


class Mutant(NamedTuple):
    """A seeded bug, and runs that find it: `seeds` of one kind of run with `nodes` authorities."""

    mutation: Mutation
    kind: str
    nodes: int
    seeds: int


def _without_bounds() -> Mutation:
    mutation = Mutation()
    mutation.patches = (
        (intake, "ROUNDS_AHEAD_MAX", EVER),
        (intake, "ROUNDS_KEPT_AHEAD", EVER),
        (height, "ROUNDS_KEPT_AHEAD", EVER),
    )
    return mutation


MUTANTS: Final[Mapping[str, Mutant]] = {
    "no lock": Mutant(_CoreMutation(_NoLock), "omission,twins", 4, 1_000),
    "stale proof unlocks": Mutant(_CoreMutation(_StaleUnlock), "omission,twins", 4, 2_000),
    "no proof unlocks": Mutant(_CoreMutation(_NoUnlock), "omission,crashes,lazy,reorder", 4, 2_000),
    "re-proposal without proof": Mutant(_CoreMutation(_NoProofKept), "duel", 4, 100),
    "first vote wins": Mutant(_CoreMutation(_FirstVoteWins), "duel", 4, 50),
    "quorum off by one": Mutant(_CoreMutation(_SmallQuorum), "duel", 4, 50),
    "precommits of any round": Mutant(_CoreMutation(_AnyRound), "duel", 4, 100),
    "no round bound": Mutant(_without_bounds(), "lies,reorder", 4, 100),
    "prevote unchecked": Mutant(_CoreMutation(_NoCheck), "chaos", 4, 100),
    "state root unchecked": Mutant(_RulesMutation(_AnyRoot), "chaos", 4, 400),
    "any time is timely": Mutant(_CoreMutation(_AnyTime), "twins,lies,reorder", 4, 200),
    "time not monotone": Mutant(_RulesMutation(_AnyBlockTime), "chaos", 4, 400),
    "no abstinence after damage": Mutant(_NoAbstinence(), "rot,crashes,omission", 4, 1_000),
    "damage is a torn tail": Mutant(_DamageIsATornTail(), "rot,crashes,omission", 4, 1_000),
    "amnesia on restart": Mutant(_Amnesia(), "duel", 4, 100),
    "lock forgotten on restart": Mutant(
        _CoreMutation(_ForgottenLock), "omission,twins,reorder,crashes", 4, 1_500
    ),
    "votes forgotten on restart": Mutant(_CoreMutation(_NoGuard), "duel", 4, 100),
    "way forgotten on restart": Mutant(_ForgottenWay(), "omission,crashes", 4, 1_000),
    "parent unproved after restart": Mutant(_CoreMutation(_NoParent), "omission,crashes", 4, 400),
    "peers not renumbered": Mutant(_CoreMutation(_StaleIndices), "epochs,delay,lies,twins", 4, 500),
    "proof of lock lost": Mutant(_CoreMutation(_NoPol), "duel", 4, 100),
    "vote before persist": Mutant(_VoteBeforePersist(), "duel", 4, 20),
    "log never synced": Mutant(_NeverSyncs(), "duel", 4, 20),
    "no retransmission": Mutant(_NoRetransmission(), "duel", 4, 50),
    "double apply after crash": Mutant(_AppliesLoggedAgain(), "crashes", 4, 50),
    "state and height apart": Mutant(_TwoTransactions(), "crashes", 4, 200),
    "evidence accepted twice": Mutant(_RulesMutation(_ConvictsAgain), "twins,lies", 4, 200),
    "evidence outside the window": Mutant(
        _RulesMutation(_AnyAge, ((validate, "EVIDENCE_HEIGHTS_MAX", EVER),)), "lies", 4, 300
    ),
    "bond not booked": Mutant(_RulesMutation(_KeepsNoBonds), "twins", 4, 100),
    "slot settled again": Mutant(_RulesMutation(_SettlesAgain), "lies", 4, 100),
    "evidence never proposed": Mutant(_RulesMutation(_NeverProposed), "twins", 4, 100),
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
