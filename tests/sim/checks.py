"""What must hold in every run, checked at every step."""

from typing import TYPE_CHECKING

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import CertificateRefused, EvidenceRefused
from consensus.evidence import check_evidence
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

if TYPE_CHECKING:
    from tests.sim.node import SimNode


class Violation(Exception):
    """A property does not hold; the text names it and where."""


class Checker:
    """Agreement, validity, integrity, sound certificates, and nobody honest is convicted."""

    def __init__(self, chain_id: str, honest: set[bytes]) -> None:
        self.chain_id = chain_id
        self.honest = honest
        self.decisions: dict[int, bytes] = {}
        self.evidence = 0
        self._heard: dict[tuple[int, int, bytes, int, int, int], set[bytes]] = {}
        self._reported: set[tuple[int, int, bytes, int, int, int]] = set()
        self._said: dict[tuple[bytes, int, int, int], tuple[bytes, int]] = {}

    def on_decide(
        self, node: "SimNode", block: Block, certificate: Certificate, authorities: AuthoritySet
    ) -> None:
        """Integrity, validity, certificate soundness, agreement."""
        if not node.is_honest:
            return
        header = block.header
        hash_ = header_hash(header)
        if header.height != len(node.chain):
            raise Violation(f"integrity: {node} decides {header.height} on {len(node.chain) - 1}")
        if header.parent_hash != node.tip_hash:
            raise Violation(f"validity: {node} decides a block on another parent")
        if not node.world.is_valid(block, hash_, node.chain[-1][0].header):
            raise Violation(f"validity: {node} decides a block that is not valid")
        if header.time_ms > node.world.now_ms + node.world.ahead_ms_max:
            raise Violation(f"time: {node} decides a block from the future")
        try:
            verify_certificate(
                certificate, authorities, self.chain_id, PRECOMMIT, verifier=keys.verify
            )
        except CertificateRefused as refused:
            raise Violation(f"certificate of {header.height} at {node}: {refused}") from None
        if certificate.block_hash != hash_ or certificate.height != header.height:
            raise Violation(f"certificate of {header.height} at {node} is of another block")
        other = self.decisions.setdefault(header.height, hash_)
        if other != hash_:
            raise Violation(
                f"agreement: height {header.height} is {other.hex()[:8]} and, "
                f"at {node}, {hash_.hex()[:8]}"
            )

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
        if key[1:] not in map(_place, node.disk.records):
            raise Violation(f"durability: {node} says {key[1:]} before it is on the disk")

    def on_hear(self, node: "SimNode", vote: Vote) -> None:
        """Who has heard a faulty authority contradict itself reports it."""
        voter = node.core.authorities.publics[vote.voter]
        key = (node.slot, node.generation, voter, vote.height, vote.round, vote.kind)
        values = self._heard.setdefault(key, set())
        values.add(vote.block_hash)
        if len(values) > 1 and key not in self._reported:
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
            self._reported.add(
                (node.slot, node.generation, voter, vote.height, vote.round, vote.kind)
            )
        for offender in offence.offenders:
            if offender in self.honest:
                raise Violation(f"evidence: {node} convicts an honest authority")


def _place(record: WalRecord) -> tuple[int, int, int] | None:
    match record:
        case ProposalRecord(proposal):
            return proposal.height, proposal.round, PROPOSAL
        case VoteRecord(vote) | LockRecord(precommit=vote):
            return vote.height, vote.round, vote.kind
        case _:
            return None
