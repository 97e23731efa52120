"""What this node says: logged before it is said (R19), taken up again after a restart (R21).

A node that has lost what it said keeps silent for a while (R22).
"""

from typing import Final

from consensus.errors import InvariantError
from consensus.events import TIMER_PROPOSE, Broadcast, Persist
from consensus.height import STEP_PRECOMMIT, STEP_PREVOTE, HeightState
from consensus.memory import record_round
from consensus.messages import NO_ROUND, PROPOSAL, Vote, header_hash, vote_signed_bytes
from consensus.tally import Commit
from consensus.wal import (
    AbstainRecord,
    DecisionRecord,
    LockRecord,
    ProposalRecord,
    RoundRecord,
    VoteRecord,
    WalRecord,
)

ABSTAIN_HEIGHTS: Final = 2


class Recovery(HeightState):
    """This node's own word at a height, on the way out and after a restart."""

    def recover(self, records: list[WalRecord], damaged: bool = False) -> None:
        """Take over what the WAL holds; call it before the first event (R21).

        `damaged` says that records may be missing: then nothing is signed until two heights have
        been decided without this node while it was level with the others (R22).
        """
        if self.height:
            raise InvariantError("recover comes before the first height")
        self._recovered = records
        self._memory.recover(records)
        for record in records:
            if isinstance(record, AbstainRecord):
                self._abstain_heights = record.heights
        if damaged:
            self._abstain_heights = ABSTAIN_HEIGHTS
            self._lost_memory = True

    def wal_records(self) -> list[WalRecord]:
        """Return what a fresh WAL must hold to replace the present one, after a height's entry."""
        left = self._abstain_heights
        kept: list[WalRecord] = [AbstainRecord(left)] if left else []
        return kept + self._memory.snapshot(self.blocks)

    def _note_level(self) -> None:
        """R22: a quorum of others has said where it is, and nobody credible is further on.

        What this node signed before it lost its memory was at most one height beyond the highest
        that these had reached by then, so once is enough.
        """
        others = len(self._peer_heights) - (self.index in self._peer_heights)
        if not self._behind and others >= self._quorum and self.seen_height <= self.height:
            self._was_level = True

    # -- on the way out

    def _signed_vote(self, kind: int, hash_: bytes) -> Vote | None:
        """R19, R20."""
        if self.index is None or self._abstain:
            return None
        signed = vote_signed_bytes(kind, self.chain_id, self.epoch, self.height, self.round, hash_)
        signature = self._memory.sign(self._signer, kind, self.round, signed)
        if signature is None:
            return None
        return Vote(kind, self.epoch, self.height, self.round, hash_, self.index, signature)

    def _persist(self, record: WalRecord) -> None:
        if self._way_here is not None:
            self._memory.records.append(self._way_here)
            self._effects.append(Persist(self._way_here))
            self._way_here = None
        self._memory.records.append(record)
        self._effects.append(Persist(record))

    def _cast(self, vote: Vote) -> None:
        self._effects.append(Broadcast(vote))
        self._count(vote)

    # -- after a restart

    def _reinstate(self, records: list[WalRecord]) -> None:
        """R21: take up the height where the WAL left it, and send own messages again."""
        # First the round: votes far from it are not kept.
        self.round = max(map(record_round, records), default=NO_ROUND)
        for record in records:
            self._memory.records.append(record)
            self._reinstate_record(record)
        if self.round == NO_ROUND or self.index is None:
            return
        slot = self._slot(self.round)
        if slot.proposal is not None and slot.proposal.proposer == self.index:
            self._effects.append(Broadcast(slot.proposal))
        for step, tally in ((STEP_PREVOTE, slot.prevotes), (STEP_PRECOMMIT, slot.precommits)):
            for votes in tally.by_value.values():
                if self.index in votes:
                    self.step = step
                    self._effects.append(Broadcast(votes[self.index]))
        self._set_timer(TIMER_PROPOSE)

    def _reinstate_record(self, record: WalRecord) -> None:
        match record:
            case ProposalRecord(proposal):
                hash_ = header_hash(proposal.block.header)
                signed = self._proposal_bytes(proposal.round, hash_, proposal.valid_round)
                self._memory.note(PROPOSAL, proposal.round, signed, proposal.signature)
                self._keep_proposal(proposal, hash_, timely=True)
                self._memory.block_to_log(hash_, proposal.block)
            case VoteRecord(vote):
                self._reinstate_vote(vote)
            case RoundRecord(votes=votes):
                for vote in votes:
                    self._count(vote)
            case LockRecord(_, round_, block, pol, precommit):
                if block is not None:
                    self._keep_block(pol.block_hash, block, round_)
                    self._memory.block_to_log(pol.block_hash, block)
                self._add_proven(pol)
                self._reinstate_vote(precommit)
                self.locked_hash = self.valid_hash = pol.block_hash
                self.locked_round = self.valid_round = round_
                self._valid_pol = pol
            case DecisionRecord(_, hash_, certificate, block):
                if block is not None:
                    self._keep_block(hash_, block, certificate.round)
                    self._memory.block_to_log(hash_, block)
                self._commit = Commit(certificate, from_votes=False, recorded=True)
            case AbstainRecord():
                pass

    def _reinstate_vote(self, vote: Vote) -> None:
        self._memory.note(vote.kind, vote.round, self._vote_bytes(vote), vote.signature)
        self._count(vote)
