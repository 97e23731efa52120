"""Tendermint (arXiv 1807.04938) as a pure state machine: `Core.handle(event) -> effects`.

Everything that changes the state of agreement is in this file. Theory of operation:

A *height* decides one block. Rules R1 to R32 are stated in docs/spec/consensus.md; `Ln` below are
lines of the paper's pseudo-code.

    EnterHeight ──> idle (round −1) ──BeginRounds, a proposal of round 0, or f+1 peers──> round 0
    round r:  propose ──prevote──> prevote ──precommit──> precommit ──timer──> round r+1
                 │ proposal checked,    │ quorum of prevotes (lock)      f+1 peers ahead:
                 │ or timer: nil        │ or of nil, or timer: nil       round jump
    any time: a quorum of precommits for a block that is here and checked ──> Decide, done

State of a height: where it is (`height, round, step`), what it is bound to (`locked_*`), what it
would propose (`valid_*` with its proof of lock), the votes and proposals of the rounds near this
one, the blocks they name, and for each block whether it is valid (the driver executes blocks:
`CheckBlock` asks, `BlockChecked` answers; until then the rule that needs the answer waits, and
the timers run).

Each event first adds to what is known (`_on_...`), then `_advance` applies rules until none
applies. A rule that signs something makes, in this order, a `Persist` and a `Broadcast`: what left
this node is on its disk, with all it must remember to never contradict it. `Memory.sign` is the
last guard: it gives one signature per height, round and kind, and never goes back.

Messages are lost. Nothing here resends by itself; instead every `summary_ms` a node says what it
holds (`VoteSummary`) and peers send what it lacks, a proof of a later lock, or the decided block
if it is a height behind.
"""

from collections.abc import Callable
from typing import Any, Final

from consensus.authorities import (
    AuthoritySet,
    Signer,
    Verifier,
    build_certificate,
    certificate_votes,
    verify_certificate,
)
from consensus.checks import decided_problem, proposal_problem, proposal_signature_is_good
from consensus.errors import CertificateRefused, InvariantError
from consensus.events import (
    TIMER_PRECOMMIT,
    TIMER_PREVOTE,
    TIMER_PROPOSE,
    TIMER_SUMMARY,
    BeginRounds,
    BlockBuilt,
    BlockChecked,
    Broadcast,
    BuildBlock,
    CheckBlock,
    Decide,
    Effect,
    EnterHeight,
    Event,
    Misbehaved,
    Persist,
    Received,
    ReportEvidence,
    SetTimer,
    Timer,
    TimerFired,
)
from consensus.evidence import conflicting_certificates, duplicate_proposal, duplicate_vote
from consensus.memory import Memory, record_height, record_round
from consensus.messages import (
    NIL,
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    PROPOSAL,
    Block,
    Certificate,
    Decided,
    Proposal,
    Vote,
    VoteSummary,
    claim_of,
    header_hash,
    proposal_signed_bytes,
    vote_signed_bytes,
)
from consensus.params import ROUNDS_AHEAD_MAX, Params
from consensus.repair import Repair
from consensus.tally import Commit, HeldMessages, Round, Tally, height_of
from consensus.turns import Turns
from consensus.validate import body_problem, is_timely
from consensus.wal import (
    AbstainRecord,
    DecisionRecord,
    LockRecord,
    ProposalRecord,
    RoundRecord,
    VoteRecord,
    WalRecord,
)
from wire.keys import verify

# Steps of a round; a vote's kind is the step it leads to.
STEP_PROPOSE: Final = 0
STEP_PREVOTE: Final = PREVOTE
STEP_PRECOMMIT: Final = PRECOMMIT

ROUNDS_KEPT_AHEAD: Final = 8
ROUNDS_KEPT_BEHIND: Final = 32
PROPOSALS_KEPT_AHEAD: Final = 2
# Between blocks there is little to repair: one summary in so many ticks (R23).
IDLE_TICKS: Final = 4
BLOCKS_KEPT_BEHIND: Final = 3
ABSTAIN_HEIGHTS: Final = 2
# Each rule moves a step, a round or a flag forward, so far fewer ever apply to one event.
RULES_PER_EVENT_MAX: Final = 10_000


class Core:
    """One authority's (or follower's) part in the agreement on one chain.

    Parameters
    ----------
    chain_id : str
    public : bytes
        This node's key; it is a follower at heights whose set does not hold it.
    signer : callable
        Signs bytes with that key, or returns None to abstain.
    verifier : callable
        `verifier(public, message, signature) -> bool`.
    params : Params, optional
        Timers and time rules.
    """

    def __init__(
        self,
        chain_id: str,
        public: bytes,
        signer: Signer,
        verifier: Verifier = verify,
        params: Params | None = None,
    ) -> None:
        self.chain_id = chain_id
        self.public = public
        self.params = params or Params()
        # Nothing is known before the first `EnterHeight`.
        self.height = self.epoch = self.n = self.f = 0
        self.index: int | None = None
        self.decided = True
        self.blocks: dict[bytes, Block] = {}
        self._signer = signer
        self._verifier = verifier
        self._handlers: dict[type, Callable[[Any], None]] = {
            EnterHeight: self._on_enter_height,
            BeginRounds: self._on_begin_rounds,
            Received: self._on_received,
            TimerFired: self._on_timer,
            BlockBuilt: self._on_block_built,
            BlockChecked: self._on_block_checked,
        }
        self._effects: list[Effect] = []
        self._memory = Memory()
        self._repair = Repair()
        self._held = HeldMessages()
        self._recovered: list[WalRecord] = []
        self._abstain_heights = 0
        self._lost_memory = False
        # Since the start this node has been where the others are (R22).
        self._was_level = False
        self._peer_heights: dict[int, int] = {}
        self._turns = Turns()

    # -- for the driver

    @property
    def seen_height(self) -> int:
        """The height that f+1 peers claim to have reached: sync, if it is far beyond ours."""
        claims = sorted(self._peer_heights.values(), reverse=True)
        return max(self.height, claims[self.f]) if len(claims) > self.f else self.height

    @property
    def abstaining(self) -> bool:
        """Whether nothing is signed at this height."""
        return self.index is None or self._abstain

    def wal_records(self) -> list[WalRecord]:
        """Return what a fresh WAL must hold to replace the present one, after a height's entry."""
        left = self._abstain_heights
        kept: list[WalRecord] = [AbstainRecord(left)] if left else []
        return kept + self._memory.snapshot(self.blocks)

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

    def handle(self, event: Event) -> list[Effect]:
        """Take one event in and return what the driver must do, in order.

        Raises
        ------
        InvariantError
            A bug of the driver or here, or more than f faulty authorities. Stop the node.
        """
        self._handlers[type(event)](event)
        effects, self._effects = self._effects, []
        return effects

    # -- heights

    def _on_enter_height(self, event: EnterHeight) -> None:
        """R4."""
        if event.height <= self.height:
            raise InvariantError(f"height {event.height} entered after {self.height}")
        if self.height:
            self._renumber_peers(event.authorities)
        else:
            self._effects.append(SetTimer(Timer(TIMER_SUMMARY, 0, 0), self.params.summary_ms))
            self._turns.seat(event.authorities.n)
        self._reset(event)
        if event.parent is not None:
            self._repair.remember(event.parent)
        if self._lost_memory:
            self._lost_memory = False
            self._effects.append(Persist(AbstainRecord(self._abstain_heights)))
        recovered, self._recovered = self._recovered, []
        self._reinstate([item for item in recovered if record_height(item) == self.height])
        for held in self._held.take(event.height):
            self._on_message(held)
        self._advance()
        if self.seen_height > self.height and self.index is not None:
            self._effects.append(Broadcast(self._repair.summary(self)))

    def _reset(self, event: EnterHeight) -> None:
        self.params = event.params or self.params
        self.height = event.height
        self.authorities = event.authorities
        self.epoch = event.authorities.epoch
        self.n = event.authorities.n
        self.f = event.authorities.f
        self._quorum = event.authorities.quorum
        self._publics = event.authorities.publics
        self.index = event.authorities.index_of(self.public)
        self._abstain = self._abstain_heights > 0
        self._behind = event.behind
        self.round = NO_ROUND
        self.step = STEP_PROPOSE
        self.decided = False
        self.locked_hash = self.valid_hash = NIL
        self.locked_round = self.valid_round = NO_ROUND
        self._valid_pol: Certificate | None = None
        self.rounds: dict[int, Round] = {}
        self.blocks = {}
        self._verdicts: dict[bytes, bool] = {}
        # Quorums of prevotes for a block, by round, that are not yet the valid value.
        self._polkas: dict[int, bytes] = {}
        # The highest round each authority is known to have reached.
        self._reached = [NO_ROUND] * self.n
        self._commit: Commit | None = None
        # To be persisted with the first thing said in this round.
        self._way_here: RoundRecord | None = None
        self._reported: set[tuple[int, int, int]] = set()
        self._memory.enter_height(event.height)

    def _renumber_peers(self, authorities: AuthoritySet) -> None:
        """Peers keep their keys, not their indices, when the set changes."""
        if authorities == self.authorities:
            return
        index_of = {public: index for index, public in enumerate(authorities.publics)}
        indices = {
            index: index_of[public]
            for index, public in enumerate(self._publics)
            if public in index_of
        }
        self._held.renumber(indices)
        self._turns.seat(authorities.n, indices)
        self._peer_heights = {
            indices[sender]: height
            for sender, height in self._peer_heights.items()
            if sender in indices
        }

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

    # -- messages

    def _on_received(self, event: Received) -> None:
        message, sender = event.message, event.sender
        height = height_of(message)
        if not self.height or not 0 <= sender < self.n:
            return
        if height > self._peer_heights.get(sender, 0):
            self._peer_heights[sender] = height
        if height >= self.height:
            self._turns.heard(sender)  # R32
        if height > self.height:
            self._held.hold(event, height, self.height)
        elif height == self.height and not self.decided:
            self._on_message(event)
            self._advance()
        elif type(message) is VoteSummary:
            self._effects += self._repair.answers(self, message, sender)
        elif type(message) is Decided:
            self._compare_decided(message.certificate)

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

    def _count(self, vote: Vote) -> None:
        """Take in a verified vote."""
        number, voter = vote.round, vote.voter
        if number > self._reached[voter]:
            self._reached[voter] = number
        if not -ROUNDS_KEPT_BEHIND <= number - self.round <= ROUNDS_KEPT_AHEAD:
            return
        slot = self._slot(number)
        tally = slot.prevotes if vote.kind == PREVOTE else slot.precommits
        earlier = tally.add(vote)
        if earlier is not None and (voter, number, vote.kind) not in self._reported:
            self._reported.add((voter, number, vote.kind))
            self._effects.append(ReportEvidence(duplicate_vote(earlier, vote)))  # R25
        value = tally.quorum_value
        if not value:
            return
        if vote.kind == PREVOTE:
            if number > self.valid_round:
                self._polkas[number] = value
        elif self._commit is None:
            certificate = self._certificate(number, value, tally)
            self._commit = Commit(certificate, from_votes=True)

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

    def _keep_proposal(self, proposal: Proposal, hash_: bytes, timely: bool) -> None:
        slot = self._slot(proposal.round)
        slot.proposal, slot.block_hash, slot.timely = proposal, hash_, timely
        slot.proposal_tick = self._repair.tick
        self._turns.heard(proposal.proposer)  # R32
        self._keep_block(hash_, proposal.block, proposal.round)

    def _keep_block(self, hash_: bytes, block: Block, number: int) -> None:
        """R15: a block is checked once, as soon as it is here."""
        if hash_ not in self.blocks:
            self.blocks[hash_] = block
            if hash_ not in self._verdicts:
                self._effects.append(CheckBlock(block, hash_, number))

    def _add_proven(self, pol: Certificate) -> None:
        """R17: votes of a proven quorum are kept, whatever else their voters said."""
        if pol.round < self.round - ROUNDS_KEPT_BEHIND:
            return
        for vote in certificate_votes(pol, PREVOTE):
            self._count(vote)

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

    # -- the driver's answers and timers

    def _on_begin_rounds(self, event: BeginRounds) -> None:
        if event.height == self.height and self.round == NO_ROUND and not self.decided:
            self._start_round(0)
            self._advance()

    def _on_block_built(self, event: BlockBuilt) -> None:
        if self.decided or (event.height, event.round) != (self.height, self.round):
            return
        if self.step != STEP_PROPOSE or not self._has_turn():
            return
        header = event.block.header
        made_for = (header.chain_id, header.epoch, header.height, header.proposer)
        if made_for != (self.chain_id, self.epoch, self.height, self.index):
            raise InvariantError("the driver built a block of another chain, height or proposer")
        problem = body_problem(event.block)
        if problem:
            raise InvariantError(f"the driver built a block that contradicts itself: {problem}")
        hash_ = header_hash(header)
        self._verdicts[hash_] = True
        self._propose(event.block, hash_, NO_ROUND, None)
        self._advance()

    def _on_block_checked(self, event: BlockChecked) -> None:
        """R15."""
        if event.height == self.height and not self.decided and event.block_hash in self.blocks:
            self._verdicts[event.block_hash] = event.valid
            if not event.valid:
                self._blame_proposers(event.block_hash)
            self._advance()

    def _blame_proposers(self, hash_: bytes) -> None:
        """R2: whoever proposed it afresh; not who brought it, as proposals pass unexecuted."""
        for slot in self.rounds.values():
            proposal = slot.proposal
            if slot.block_hash == hash_ and proposal and proposal.valid_round == NO_ROUND:
                self._misbehaved(proposal.proposer, "a proposal of a block that may not follow")

    def _on_timer(self, event: TimerFired) -> None:
        """R14, L57-67, and R23."""
        kind, height, number = event.timer.kind, event.timer.height, event.timer.round
        if kind == TIMER_SUMMARY:
            self._repair.next_tick()
            self._note_level()
            idle = self.round == NO_ROUND or self.decided
            if self.index is not None and (not idle or self._repair.tick % IDLE_TICKS == 0):
                self._effects.append(Broadcast(self._repair.summary(self)))
            self._effects.append(SetTimer(event.timer, self.params.summary_ms))
            return
        if (height, number) != (self.height, self.round) or self.decided or self._is_waiting():
            return
        if kind == TIMER_PROPOSE and self.step == STEP_PROPOSE:
            self._note_missed_turn()
            self._vote(PREVOTE, NIL)
        elif kind == TIMER_PREVOTE and self.step == STEP_PREVOTE:
            self._vote(PRECOMMIT, NIL)
        elif kind == TIMER_PRECOMMIT:
            self._start_round(number + 1)
        self._advance()

    # -- rules

    def _advance(self) -> None:
        for _ in range(RULES_PER_EVENT_MAX):
            if self.decided or not self._apply_one_rule():
                return
        raise InvariantError("the rules do not come to rest")

    def _apply_one_rule(self) -> bool:
        """Apply the first rule whose condition holds; False if none does."""
        if self._commit is not None and self._is_waiting():
            self._try_decide(self._commit)
            return False
        ahead = self._round_to_join()
        if ahead > self.round:
            self._start_round(ahead)
            return True
        if self.round == NO_ROUND:
            return False
        slot = self._slot(self.round)
        if self.step == STEP_PROPOSE:
            choice = self._prevote_choice(slot)
            if choice is not None:
                self._vote(PREVOTE, choice)
                return True
        if self._polkas:
            self._follow_polkas()
        if self.step == STEP_PREVOTE:
            polka = slot.prevotes.quorum_value
            if polka == NIL:  # R10, L44-46
                self._vote(PRECOMMIT, NIL)
                return True
            if polka and self._verdicts.get(polka):
                self._lock(polka)
                return True
            if not slot.prevote_timer_set and slot.prevotes.has_quorum_of_any():  # R8, L34-35
                slot.prevote_timer_set = True
                self._set_timer(TIMER_PREVOTE)
        if self._is_void(slot):
            self._start_round(self.round + 1)
            return True
        if not slot.precommit_timer_set and slot.precommits.has_quorum_of_any():  # R11, L47-48
            slot.precommit_timer_set = True
            self._set_timer(TIMER_PRECOMMIT)
        return False

    def _round_to_join(self) -> int:
        """R4, R13 (L55-56): the round that f+1 authorities have reached, or round 0 if proposed."""
        together = sorted(self._reached, reverse=True)[self.f]
        if together == self.round == NO_ROUND:
            slot = self.rounds.get(0)
            if slot is not None and slot.proposal is not None:
                return 0
        return together

    def _start_round(self, number: int) -> None:
        """R5, L11-21."""
        self.round = number
        self.step = STEP_PROPOSE
        before = self.rounds.get(number - 1)
        if before is not None and before.precommits.has_quorum_of_any():
            votes = before.precommits.one_of_each()
            self._way_here = RoundRecord(self.height, number, votes)  # R27
        else:
            self._way_here = None
        self._forget_old_rounds()
        self._set_timer(TIMER_PROPOSE)
        if not self._has_turn():
            return
        block = self.blocks.get(self.valid_hash)
        if block is not None:
            self._propose(block, self.valid_hash, self.valid_round, self._valid_pol)
        else:
            self._effects.append(BuildBlock(self.height, number))

    def _propose(
        self, block: Block, hash_: bytes, valid_round: int, pol: Certificate | None
    ) -> None:
        signed = self._proposal_bytes(self.round, hash_, valid_round)
        signature = self._memory.sign(self._signer, PROPOSAL, self.round, signed)
        if signature is None or self.index is None:
            return
        proposal = Proposal(
            self.epoch, self.height, self.round, block, valid_round, pol, self.index, signature
        )
        self._memory.block_to_log(hash_, block)
        self._persist(ProposalRecord(proposal))
        self._effects.append(Broadcast(proposal))
        self._keep_proposal(proposal, hash_, timely=True)

    def _prevote_choice(self, slot: Round) -> bytes | None:
        """R6 (L22-27) and R7 (L28-33): what to prevote; None while that is not known."""
        proposal, hash_ = slot.proposal, slot.block_hash
        if proposal is None:
            return None
        if proposal.valid_round == NO_ROUND and not slot.timely:  # R16
            return NIL
        valid = self._verdicts.get(hash_)
        if valid is None:  # R15
            return None
        return hash_ if valid and self._may_prevote(hash_, proposal.valid_round) else NIL

    def _may_prevote(self, hash_: bytes, valid_round: int) -> bool:
        """Not locked, or on this value, or no later than the proof that it could be locked."""
        if self.locked_round == NO_ROUND or self.locked_hash == hash_:
            return True
        return valid_round != NO_ROUND and self.locked_round <= valid_round

    def _vote(self, kind: int, hash_: bytes) -> None:
        """Prevote anything or precommit nil."""
        self.step = kind
        vote = self._signed_vote(kind, hash_)
        if vote is not None:
            self._persist(VoteRecord(vote))
            self._cast(vote)

    def _lock(self, hash_: bytes) -> None:
        """R9, L36-43: `_follow_polkas` has just made this the valid value, with its proof."""
        pol = self._valid_pol
        if pol is None or (pol.round, pol.block_hash) != (self.round, hash_):
            raise InvariantError("a lock without its proof")
        self.step = STEP_PRECOMMIT
        self.locked_hash, self.locked_round = hash_, self.round
        vote = self._signed_vote(PRECOMMIT, hash_)
        if vote is not None:
            block = self._memory.block_to_log(hash_, self.blocks[hash_])
            self._persist(LockRecord(self.height, self.round, block, pol, vote))
            self._cast(vote)

    def _follow_polkas(self) -> None:
        """R18, L42-43: the valid value is that of the latest known polka.

        The paper looks at the current round only. A polka of an earlier round that became known
        late, or whose block did, is as good a proof, and proposing it may free a locked peer.
        """
        for number in sorted(self._polkas, reverse=True):
            hash_ = self._polkas[number]
            if number <= self.valid_round:
                del self._polkas[number]
            elif self._verdicts.get(hash_) and (
                number < self.round or (number == self.round and self.step >= STEP_PREVOTE)
            ):
                self.valid_hash, self.valid_round = hash_, number
                self._valid_pol = self._certificate(number, hash_, self.rounds[number].prevotes)
                del self._polkas[number]

    def _is_waiting(self) -> bool:
        """Whether the certified block is here, so that at most its check is missing."""
        return self._commit is not None and self._commit.certificate.block_hash in self.blocks

    def _try_decide(self, commit: Commit) -> None:
        """R12, L49-54."""
        certificate = commit.certificate
        hash_ = certificate.block_hash
        verdict = self._verdicts.get(hash_)
        if verdict is None:
            return
        if not verdict:
            raise InvariantError(
                f"block {hash_.hex()} of height {self.height} is certified and invalid here: "
                "this node, or more than f authorities, computes wrongly"
            )
        self._note_level()
        if self._abstain_heights and commit.from_votes and self._was_level:  # R22
            self._abstain_heights -= 1
            self._effects.append(Persist(AbstainRecord(self._abstain_heights)))
        block = self.blocks[hash_]
        if not commit.recorded:
            logged = self._memory.block_to_log(hash_, block)
            self._persist(DecisionRecord(self.height, hash_, certificate, logged))
        self.decided = True
        self._repair.remember(Decided(block, certificate), self.authorities)
        self._effects.append(Decide(block, certificate))

    # -- signing, and what it leaves behind

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

    def _note_level(self) -> None:
        """R22: a quorum of others has said where it is, and nobody credible is further on.

        What this node signed before it lost its memory was at most one height beyond the highest
        that these had reached by then, so once is enough.
        """
        others = len(self._peer_heights) - (self.index in self._peer_heights)
        if not self._behind and others >= self._quorum and self.seen_height <= self.height:
            self._was_level = True

    # -- small helpers

    def _has_turn(self) -> bool:
        turn = self.authorities.proposer(self.height, self.round)
        return turn == self.index and not self._abstain

    def _slot(self, number: int) -> Round:
        slot = self.rounds.get(number)
        if slot is None:
            slot = self.rounds[number] = Round(self._quorum)
        return slot

    def _forget_old_rounds(self) -> None:
        """R1: keep the votes of the rounds near this one, and the blocks they may still need."""
        oldest = self.round - ROUNDS_KEPT_BEHIND
        self.rounds = {number: slot for number, slot in self.rounds.items() if number >= oldest}
        self._polkas = {number: hash_ for number, hash_ in self._polkas.items() if number >= oldest}
        self._reported = {key for key in self._reported if key[1] >= oldest}
        self._memory.forget_before(self.round)
        needed = {self.valid_hash, self.locked_hash, *self._polkas.values()}
        if self._commit is not None:
            needed.add(self._commit.certificate.block_hash)
        for number, slot in self.rounds.items():
            if number >= self.round - BLOCKS_KEPT_BEHIND:
                needed.add(slot.block_hash)
            else:
                slot.proposal = None
        self.blocks = {hash_: block for hash_, block in self.blocks.items() if hash_ in needed}
        self._verdicts = {key: good for key, good in self._verdicts.items() if key in self.blocks}

    def _is_void(self, slot: Round) -> bool:
        """R31: nobody honest can have locked or decided anything in this round."""
        return slot.precommits.quorum_value == NIL == slot.prevotes.quorum_value

    def _note_missed_turn(self) -> None:
        """R32: the round's proposer has said nothing; a late check is not its fault."""
        proposer = self.authorities.proposer(self.height, self.round)
        if self._slot(self.round).proposal is None and proposer != self.index:
            self._turns.missed(proposer)

    def _set_timer(self, kind: int) -> None:
        if kind != TIMER_PROPOSE:
            delay_ms = self.params.vote_timeout_ms(self.round)
        elif self.round < self.n and self._turns.is_absent(
            self.authorities.proposer(self.height, self.round)
        ):
            delay_ms = self.params.absent_timeout_ms()  # R32
        else:
            delay_ms = self.params.propose_timeout_ms(self.round)
        self._effects.append(SetTimer(Timer(kind, self.height, self.round), delay_ms))

    def _certificate(self, number: int, hash_: bytes, tally: Tally) -> Certificate:
        return build_certificate(
            self.chain_id, self.epoch, self.height, number, hash_, tally.votes_for(hash_)
        )

    def _vote_bytes(self, vote: Vote) -> bytes:
        return vote_signed_bytes(
            vote.kind, self.chain_id, vote.epoch, vote.height, vote.round, vote.block_hash
        )

    def _proposal_bytes(self, number: int, hash_: bytes, valid_round: int) -> bytes:
        return proposal_signed_bytes(
            self.chain_id, self.epoch, self.height, number, hash_, valid_round
        )

    def _misbehaved(self, sender: int, reason: str) -> None:
        self._effects.append(Misbehaved(sender, reason))
