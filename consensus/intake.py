"""What others say of this height: verified, or refused and blamed, before it counts (R1, R2)."""

from typing import Final

from consensus.authorities import verify_certificate
from consensus.checks import decided_problem, proposal_problem, proposal_signature_is_good
from consensus.errors import CertificateRefused
from consensus.events import Received, ReportEvidence
from consensus.evidence import conflicting_certificates, duplicate_proposal
from consensus.height import (
    BLOCKS_KEPT_BEHIND,
    ROUNDS_KEPT_AHEAD,
    ROUNDS_KEPT_BEHIND,
    HeightState,
)
from consensus.messages import (
    PREVOTE,
    Certificate,
    Decided,
    Proposal,
    Vote,
    VoteSummary,
    claim_of,
    header_hash,
)
from consensus.params import ROUNDS_AHEAD_MAX
from consensus.tally import Commit
from consensus.validate import is_timely

PROPOSALS_KEPT_AHEAD: Final = 2


class Intake(HeightState):
    """Messages of the present height on their way into the state."""

    def _on_message(self, event: Received) -> None:
        message, sender = event.message, event.sender
        if type(message) is Vote:
            self._on_vote(message, sender)
        elif type(message) is VoteSummary:
            self._effects += self._repair.answers(self, message, sender)
        elif type(message) is Proposal:
            self._on_proposal(message, sender, event.now_ms)
        elif type(message) is Decided:
            self._on_decided(message, sender)

    def _on_vote(self, vote: Vote, sender: int) -> None:
        """R1, R2, R17: verify and keep a vote of this height."""
        voter, number = vote.voter, vote.round
        if voter >= self.n or vote.epoch != self.epoch or number > self.round + ROUNDS_AHEAD_MAX:
            self._misbehaved(sender, "a vote of no authority, of another epoch or far ahead")
            return
        slot = self.rounds.get(number)
        if slot is not None:
            tally = slot.prevotes if vote.kind == PREVOTE else slot.precommits
            if not tally.has_room(voter, vote.block_hash):
                return
        elif number < self.round - ROUNDS_KEPT_BEHIND or (
            number > self.round + ROUNDS_KEPT_AHEAD and number <= self._reached[voter]
        ):
            return
        if not self._verifier(self._publics[voter], self._vote_bytes(vote), vote.signature):
            self._misbehaved(sender, "a vote with a wrong signature")
            return
        self._count(vote)
        self._repair.note_news()

    def _on_proposal(self, proposal: Proposal, sender: int, now_ms: int) -> None:
        """R1, R2, R6, R7, R26: verify and keep a proposal of this height."""
        number = proposal.round
        if proposal.epoch != self.epoch or (
            proposal.proposer != self.authorities.proposer(self.height, number)
        ):
            self._misbehaved(sender, "a proposal of an authority whose turn it is not")
            return
        if number < self.round - BLOCKS_KEPT_BEHIND:
            return
        hash_ = header_hash(proposal.block.header)
        if number > self.round + PROPOSALS_KEPT_AHEAD:
            self._note_far_proposal(proposal, hash_, sender)
            return
        slot = self._slot(number)
        known = slot.proposal
        if slot.two_proposals or (
            known is not None
            and (slot.block_hash, known.valid_round) == (hash_, proposal.valid_round)
        ):
            return
        locked_in = self.rounds.get(proposal.valid_round)
        problem = proposal_problem(
            proposal,
            hash_,
            self.height,
            self.authorities,
            self.chain_id,
            self._verifier,
            known_block=hash_ in self.blocks,
            known_prevotes=locked_in.prevotes.votes_for(hash_) if locked_in else None,
        )
        if problem:
            self._misbehaved(sender, problem)
            return
        if proposal.pol is not None:
            self._add_proven(proposal.pol)
        self._reached[proposal.proposer] = max(self._reached[proposal.proposer], number)
        if known is None:
            time_ms = proposal.block.header.time_ms
            timely = is_timely(time_ms, now_ms, number, self.params)  # R16
            self._keep_proposal(proposal, hash_, timely)
            return
        slot.two_proposals = True
        claims = claim_of(known, slot.block_hash), claim_of(proposal, hash_)
        self._effects.append(ReportEvidence(duplicate_proposal(*claims)))  # R25
        self._keep_block(hash_, proposal.block, number)

    def _note_far_proposal(self, proposal: Proposal, hash_: bytes, sender: int) -> None:
        """Its block is not kept, but its proposer has reached that round."""
        if proposal.round > self.round + ROUNDS_AHEAD_MAX:
            self._misbehaved(sender, "a proposal of a round far ahead")
        elif proposal.round <= self._reached[proposal.proposer]:
            return
        elif proposal_signature_is_good(
            proposal, hash_, self.authorities, self.chain_id, self._verifier
        ):
            self._reached[proposal.proposer] = proposal.round
        else:
            self._misbehaved(sender, "a proposal with a wrong signature")

    def _on_decided(self, message: Decided, sender: int) -> None:
        """R24: a peer proves that this height is decided."""
        hash_ = header_hash(message.block.header)
        if self._commit is not None and hash_ in self.blocks:
            return
        problem = decided_problem(message, hash_, self.authorities, self.chain_id, self._verifier)
        if problem:
            self._misbehaved(sender, problem)
            return
        if self._commit is None:
            self._commit = Commit(message.certificate, from_votes=False)
        self._keep_block(hash_, message.block, message.certificate.round)

    def _compare_decided(self, certificate: Certificate) -> None:
        """R25: two final blocks at one height are the end of the chain; prove it."""
        for past in self._repair.past:
            ours = past.decided.certificate
            if ours.height != certificate.height or ours.block_hash == certificate.block_hash:
                continue
            if past.authorities is None:
                return
            try:
                verify_certificate(
                    certificate, past.authorities, self.chain_id, verifier=self._verifier
                )
            except CertificateRefused:
                return
            self._effects.append(ReportEvidence(conflicting_certificates(ours, certificate)))
