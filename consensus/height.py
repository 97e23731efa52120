"""What is known at one height, and what this node is bound to: the state that `Core` moves.

What comes in here is verified already; nothing here signs, decides or moves a round on. Knowledge
of a height only grows, but for what the bounds let go (R1).
"""

from typing import Final

from consensus.authorities import (
    AuthoritySet,
    Signer,
    Verifier,
    build_certificate,
    certificate_votes,
)
from consensus.events import (
    TIMER_PROPOSE,
    CheckBlock,
    Effect,
    EnterHeight,
    Misbehaved,
    ReportEvidence,
    SetTimer,
    Timer,
)
from consensus.evidence import duplicate_vote
from consensus.memory import Memory
from consensus.messages import (
    NIL,
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    Block,
    Certificate,
    Proposal,
    Vote,
    proposal_signed_bytes,
    vote_signed_bytes,
)
from consensus.params import Params
from consensus.repair import Repair
from consensus.tally import Commit, HeldMessages, Round, Tally
from consensus.turns import Turns
from consensus.wal import RoundRecord, WalRecord

# Steps of a round; a vote's kind is the step it leads to.
STEP_PROPOSE: Final = 0
STEP_PREVOTE: Final = PREVOTE
STEP_PRECOMMIT: Final = PRECOMMIT

ROUNDS_KEPT_AHEAD: Final = 8
ROUNDS_KEPT_BEHIND: Final = 32
BLOCKS_KEPT_BEHIND: Final = 3


class HeightState:
    """The state of the present height, and the little that outlives it.

    `Core` is built on it in layers, each of which calls only what lies below: `Intake` brings in
    what others say, `Recovery` what this node said before a restart, `Core` applies the rules.
    """

    def __init__(
        self,
        chain_id: str,
        public: bytes,
        signer: Signer,
        verifier: Verifier,
        params: Params,
    ) -> None:
        self.chain_id = chain_id
        self.public = public
        self.params = params
        # Nothing is known before the first `EnterHeight`.
        self.height = self.epoch = self.n = self.f = 0
        self.index: int | None = None
        self.decided = True
        self.blocks: dict[bytes, Block] = {}
        self._signer = signer
        self._verifier = verifier
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

    @property
    def seen_height(self) -> int:
        """The height that f+1 peers claim to have reached: sync, if it is far beyond ours."""
        claims = sorted(self._peer_heights.values(), reverse=True)
        return max(self.height, claims[self.f]) if len(claims) > self.f else self.height

    @property
    def abstaining(self) -> bool:
        """Whether nothing is signed at this height."""
        return self.index is None or self._abstain

    # -- entering a height

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
        self._repair.enter_height()

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

    # -- what is verified comes in

    def _count(self, vote: Vote) -> None:
        """Take in a verified vote."""
        number, voter = vote.round, vote.voter
        if number > self._reached[voter]:
            self._reached[voter] = number
        if not -ROUNDS_KEPT_BEHIND <= number - self.round <= ROUNDS_KEPT_AHEAD:
            return
        slot = self._slot(number)
        tally = slot.prevotes if vote.kind == PREVOTE else slot.precommits
        earlier = tally.add(vote, self._repair.tick)
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

    def _add_proven(self, pol: Certificate) -> None:
        """R17: votes of a proven quorum are kept, whatever else their voters said."""
        if pol.round < self.round - ROUNDS_KEPT_BEHIND:
            return
        for vote in certificate_votes(pol, PREVOTE):
            self._count(vote)

    def _keep_proposal(self, proposal: Proposal, hash_: bytes, timely: bool) -> None:
        slot = self._slot(proposal.round)
        slot.proposal, slot.block_hash, slot.timely = proposal, hash_, timely
        slot.proposal_tick = self._repair.tick
        self._repair.note_news()
        self._turns.heard(proposal.proposer)  # R32
        self._keep_block(hash_, proposal.block, proposal.round)

    def _keep_block(self, hash_: bytes, block: Block, number: int) -> None:
        """R15: a block is checked once, as soon as it is here."""
        if hash_ not in self.blocks:
            self.blocks[hash_] = block
            if hash_ not in self._verdicts:
                self._effects.append(CheckBlock(block, hash_, number))

    # -- what the state says

    def _slot(self, number: int) -> Round:
        slot = self.rounds.get(number)
        if slot is None:
            slot = self.rounds[number] = Round(self._quorum)
        return slot

    def _is_waiting(self) -> bool:
        """Whether the certified block is here, so that at most its check is missing."""
        return self._commit is not None and self._commit.certificate.block_hash in self.blocks

    def _has_turn(self) -> bool:
        turn = self.authorities.proposer(self.height, self.round)
        return turn == self.index and not self._abstain

    # -- what is let go

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

    # -- small helpers

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
