"""What must hold in every run, checked at every step.

Each `Violation` begins with the property's name: agreement, validity, integrity, certificate, time,
contradiction, durability, accountability, evidence, conviction, roots, money, settlement, lost,
bounds, sync, liveness.
"""

from typing import TYPE_CHECKING

from consensus import sync_events
from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import CertificateRefused, EvidenceRefused
from consensus.evidence import check_evidence, evidence_height
from consensus.height import ROUNDS_KEPT_AHEAD, ROUNDS_KEPT_BEHIND
from consensus.messages import (
    NO_ROUND,
    PRECOMMIT,
    PROPOSAL,
    Block,
    Certificate,
    DuplicateVote,
    Evidence,
    Proposal,
    Vote,
    header_hash,
)
from consensus.wal import LockRecord, ProposalRecord, VoteRecord, WalRecord
from tests.sim import keys
from tests.sim.app import Rules, Settle, State, Transfer, decode_tx
from tests.sim.errors import Violation

if TYPE_CHECKING:
    from tests.sim.node import SimNode

ROUNDS_HELD_MAX = ROUNDS_KEPT_BEHIND + ROUNDS_KEPT_AHEAD + 2
BLOCKS_HELD_MAX = 24
POOL_MAX = 64


class Checker:
    """Watches a whole run from outside, and keeps books of its own."""

    def __init__(self, rules: Rules, honest: set[bytes], genesis: State) -> None:
        self.chain_id = rules.chain_id
        self.honest = honest
        self.decisions: dict[int, bytes] = {}
        self.evidence = self.convictions = self.questions = self.liars_dropped = 0
        self.jumps = self.committed = 0
        # Reported by an honest node, so that it must be convicted if blocks go on.
        self.reported: dict[bytes, set[int]] = {}
        self._rules = rules
        self._money = genesis.money
        self._times: dict[int, int] = {0: 0}
        self._transfers: dict[tuple[int, int], int] = {}
        self._settled: set[int] = set()
        self._convicted: set[bytes] = set()
        self._applied: dict[int, int] = {}
        self._heard: dict[tuple[int, int, bytes, int, int, int], set[bytes]] = {}
        self._noticed: set[tuple[int, int, bytes, int, int, int]] = set()
        self._said: dict[tuple[bytes, int, int, int], tuple[bytes, int]] = {}

    # -- decisions

    def on_decide(
        self, node: "SimNode", block: Block, certificate: Certificate, authorities: AuthoritySet
    ) -> None:
        """Integrity, validity, certificate soundness, agreement."""
        if not node.is_honest:
            return
        header = block.header
        hash_ = header_hash(header)
        if header.height != node.height + 1:
            raise Violation(f"integrity: {node} decides {header.height} on {node.height}")
        if header.parent_hash != node.database.tip_hash:
            raise Violation(f"validity: {node} decides a block on another parent")
        self._check_certificate(node, certificate, authorities, header.height, hash_)
        self._on_final(node, block, hash_)
        if node.world.truth(node.database.state, node.database.head.header, block, hash_) is None:
            raise Violation(f"validity: {node} decides a block that is not valid")

    def on_jump(self, node: "SimNode", load: sync_events.LoadSnapshot, state: State) -> None:
        """A node takes over the state after a block without executing it."""
        if not node.is_honest:
            return
        self.jumps += 1
        header = load.block.header
        hash_ = header_hash(header)
        known = self.decisions.get(header.height)
        if known is not None and known != hash_:
            raise Violation(f"agreement: {node} jumps to another block at {header.height}")
        if state.root != header.state_root or state.height != header.height:
            raise Violation(f"roots: {node} takes over a state that is not block {header.height}'s")
        before = load.authorities
        if state.seats != before:
            raise Violation(f"sync: {node} takes over another set than the state's")
        self._applied[node.slot] = header.height

    def _check_certificate(
        self, node: "SimNode", certificate: Certificate, authorities: AuthoritySet,
        height: int, hash_: bytes,
    ) -> None:  # fmt: skip
        try:
            verify_certificate(
                certificate, authorities, self.chain_id, PRECOMMIT, verifier=keys.verify
            )
        except CertificateRefused as refused:
            raise Violation(f"certificate: that of {height} at {node}: {refused}") from None
        if certificate.block_hash != hash_ or certificate.height != height:
            raise Violation(f"certificate: that of {height} at {node} is of another block")

    def _on_final(self, node: "SimNode", block: Block, hash_: bytes) -> None:
        height = block.header.height
        other = self.decisions.get(height)
        if other is None:
            self.decisions[height] = hash_
            self._keep_books(node, block)
        elif other != hash_:
            raise Violation(
                f"agreement: height {height} is {other.hex()[:8]} and, at {node}, {hash_.hex()[:8]}"
            )

    def _keep_books(self, node: "SimNode", block: Block) -> None:
        """The first to decide a height: what does it do to money, slots and seats?"""
        header = block.header
        height, time_ms = header.height, header.time_ms
        if time_ms > node.world.now_ms + node.world.ahead_ms_max:
            raise Violation(f"time: {node} decides a block from the future")
        if time_ms <= self._times.get(height - 1, -1):
            raise Violation(f"time: block {height} is not later than its parent")
        self._times[height] = time_ms
        for raw in block.txs:
            tx = decode_tx(raw)
            if isinstance(tx, Transfer):
                if (tx.account, tx.nonce) in self._transfers:
                    raise Violation(f"settlement: {tx} is committed twice")
                self._transfers[tx.account, tx.nonce] = height
                self.committed += 1
            elif isinstance(tx, Settle):
                if tx.slot in self._settled:
                    raise Violation(f"settlement: slot {tx.slot} is settled twice")
                self._settled.add(tx.slot)
        for evidence in block.evidence:
            self._on_conviction(height, evidence, node)

    def _on_conviction(self, height: int, evidence: Evidence, node: "SimNode") -> None:
        age = height - evidence_height(evidence)
        if not 0 < age <= node.world.evidence_window:
            raise Violation(f"conviction: block {height} holds evidence of {age} blocks ago")
        authorities = node.database.state.set_of_epoch(evidence.first.epoch)
        if authorities is None:
            raise Violation(f"conviction: block {height} holds evidence of an unknown epoch")
        try:
            offence = check_evidence(evidence, authorities, self.chain_id, keys.verify)
        except EvidenceRefused as refused:
            raise Violation(f"conviction: block {height}: {refused}") from None
        fresh = [offender for offender in offence.offenders if offender not in self._convicted]
        if not fresh:
            raise Violation(f"conviction: block {height} convicts whom an earlier one has")
        for offender in fresh:
            if offender in self.honest:
                raise Violation(f"conviction: block {height} convicts an honest authority")
            self._convicted.add(offender)
            self.convictions += 1

    # -- application

    def on_apply(self, node: "SimNode", block: Block, state: State) -> None:
        """A block is in the database: once, with the certified root, and no money is made."""
        if not node.is_honest:
            return
        header = block.header
        before = self._applied.get(node.slot, 0)
        if header.height != before + 1:
            raise Violation(f"integrity: {node} applies {header.height} after {before}")
        self._applied[node.slot] = header.height
        self.on_open(node)
        if state.money != self._money:
            raise Violation(f"money: {state.money} after block {header.height}, not {self._money}")

    def on_open(self, node: "SimNode") -> None:
        """The database's state is that of its head."""
        database = node.database
        header = database.head.header
        if node.is_honest and database.state.root != header.state_root:
            raise Violation(f"roots: {node} has another state than that of block {header.height}")

    def on_wipe(self, node: "SimNode") -> None:
        """It applies everything again, and that is right."""
        self._applied[node.slot] = 0

    # -- what is said and heard

    def on_say(self, node: "SimNode", message: Vote | Proposal) -> None:
        """What an honest node says is on its disk, and never contradicts what it said before."""
        if type(message) is Vote:
            key = (node.public, message.height, message.round, message.kind)
            value = (message.block_hash, NO_ROUND)
        else:
            key = (node.public, message.height, message.round, PROPOSAL)
            value = (header_hash(message.block.header), message.valid_round)  # type: ignore[union-attr]
        other = self._said.setdefault(key, value)
        if other != value:
            raise Violation(f"contradiction: {node} says two things at {key[1:]}")
        if not any(place_of(record) == key[1:] for record in reversed(node.log.synced)):
            raise Violation(f"durability: {node} says {key[1:]} before it is on the disk")

    def on_hear(self, node: "SimNode", vote: Vote) -> None:
        """Who has heard a faulty authority contradict itself reports it."""
        voter = node.core.authorities.publics[vote.voter]
        key = (node.slot, node.generation, voter, vote.height, vote.round, vote.kind)
        values = self._heard.setdefault(key, set())
        values.add(vote.block_hash)
        if len(values) > 1 and key not in self._noticed:
            raise Violation(f"accountability: {node} does not report a double vote")

    def on_evidence(self, node: "SimNode", evidence: Evidence, authorities: AuthoritySet) -> None:
        """Evidence is sound and convicts nobody honest."""
        try:
            offence = check_evidence(evidence, authorities, self.chain_id, keys.verify)
        except EvidenceRefused as refused:
            raise Violation(f"evidence: {node} reports what proves nothing: {refused}") from None
        self.evidence += 1
        if isinstance(evidence, DuplicateVote):
            vote = evidence.first
            voter = offence.offenders[0]
            self._noticed.add(
                (node.slot, node.generation, voter, vote.height, vote.round, vote.kind)
            )
        for offender in offence.offenders:
            if offender in self.honest:
                raise Violation(f"evidence: {node} accuses an honest authority")
            if node.is_honest:
                self.reported.setdefault(offender, set()).add(node.slot)

    def on_lie(self, node: "SimNode") -> None:
        """R1: whatever a liar sends, what a node holds of a height is bounded."""
        if not node.is_honest:
            return
        core = node.core
        held = (len(core.rounds), len(core.blocks), len(node.database.pool))
        if any(
            has > most
            for has, most in zip(held, (ROUNDS_HELD_MAX, BLOCKS_HELD_MAX, POOL_MAX), strict=True)
        ):
            raise Violation(f"bounds: {node} holds (rounds, blocks, evidence) {held}")

    # -- at the end

    def on_end(self, nodes: list["SimNode"]) -> None:
        """No committed transaction is lost, whoever was asked, however it got there."""
        for node in nodes:
            state = node.database.state
            ledger = state.ledger
            for (account, nonce), height in self._transfers.items():
                if height <= state.height and nonce >= ledger.nonces[account]:
                    raise Violation(f"lost: a transfer of block {height} at {node}")
            for height, (block, _) in node.database.blocks.items():
                if height and self.decisions.get(height) != header_hash(block.header):
                    raise Violation(f"lost: block {height} at {node} is not the decided one")
            is_known = all(height in self.decisions for height in range(1, state.height + 1))
            if is_known and not self._settled.issuperset(ledger.settled):
                raise Violation(f"settlement: {node} has settled what no block says")


def place_of(record: WalRecord) -> tuple[int, int, int] | None:
    """The height, round and kind that a record is the signature of."""
    match record:
        case ProposalRecord(proposal):
            return proposal.height, proposal.round, PROPOSAL
        case VoteRecord(vote) | LockRecord(precommit=vote):
            return vote.height, vote.round, vote.kind
        case _:
            return None
