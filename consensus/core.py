"""Tendermint (arXiv 1807.04938) as a pure state machine: `Core.handle(event) -> effects`.

The rules are in this file, and nothing else moves a height on. The state they move is in
`consensus/height.py`; what others say gets into it by `consensus/intake.py`, what this node says by
`consensus/recovery.py`. Theory of operation:

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

Messages are lost. Nothing here resends by itself; instead a node to which nothing new has come
for `summary_ms` says to some peers in turn what it holds (`VoteSummary`), and they send what it
lacks, a proof of a later lock, or the decided block if it is a height behind.
"""

from collections.abc import Callable
from typing import Any, Final

from consensus.authorities import Signer, Verifier
from consensus.errors import InvariantError
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
    Decide,
    Effect,
    EnterHeight,
    Event,
    Persist,
    Received,
    SetTimer,
    Timer,
    TimerFired,
)
from consensus.height import STEP_PRECOMMIT, STEP_PREVOTE, STEP_PROPOSE
from consensus.intake import Intake
from consensus.memory import record_height
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
    VoteSummary,
    header_hash,
)
from consensus.params import Params
from consensus.recovery import Recovery
from consensus.tally import Commit, Round, height_of
from consensus.validate import body_problem
from consensus.wal import (
    AbstainRecord,
    DecisionRecord,
    LockRecord,
    ProposalRecord,
    RoundRecord,
    VoteRecord,
)
from wire.keys import verify

# Each rule moves a step, a round or a flag forward, so far fewer ever apply to one event.
RULES_PER_EVENT_MAX: Final = 10_000


class Core(Intake, Recovery):
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
        super().__init__(chain_id, public, signer, verifier, params or Params())
        self._handlers: dict[type, Callable[[Any], None]] = {
            EnterHeight: self._on_enter_height,
            BeginRounds: self._on_begin_rounds,
            Received: self._on_received,
            TimerFired: self._on_timer,
            BlockBuilt: self._on_block_built,
            BlockChecked: self._on_block_checked,
        }

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
        if self._is_behind():
            self._effects += self._repair.ask(self)

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
            in_round = self.round != NO_ROUND and not self.decided
            if self._repair.is_due(in_round or self._is_behind()):
                self._effects += self._repair.ask(self)
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

    def _is_behind(self) -> bool:
        return not self.decided and self.seen_height > self.height

    def _is_void(self, slot: Round) -> bool:
        """R31: nobody honest can have locked or decided anything in this round."""
        return slot.precommits.quorum_value == NIL == slot.prevotes.quorum_value

    def _note_missed_turn(self) -> None:
        """R32: the round's proposer has said nothing; a late check is not its fault."""
        proposer = self.authorities.proposer(self.height, self.round)
        if self._slot(self.round).proposal is None and proposer != self.index:
            self._turns.missed(proposer)
