"""What must hold in every run, checked at every step."""

from typing import TYPE_CHECKING

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import CertificateRefused, EvidenceRefused
from consensus.evidence import check_evidence
from consensus.messages import (
    PRECOMMIT,
    Block,
    Certificate,
    Evidence,
    Proposal,
    Vote,
    header_hash,
)
from tests.sim import keys

if TYPE_CHECKING:
    from tests.sim.node import SimNode


class Violation(Exception):
    """A property does not hold; the text names it and where."""


class Checker:
    """Agreement, validity, integrity, certificate soundness, and that nobody honest is convicted."""

    def __init__(self, chain_id: str, honest: set[bytes]) -> None:
        self.chain_id = chain_id
        self.honest = honest
        self.decisions: dict[int, bytes] = {}
        self.evidence = 0
        self._said: dict[tuple[bytes, int, int, int], tuple[bytes, int]] = {}

    def on_decide(
        self, node: "SimNode", block: Block, certificate: Certificate, authorities: AuthoritySet
    ) -> None:
        """Integrity, validity, certificate soundness, agreement."""
        if node.public not in self.honest:
            return
        header = block.header
        hash_ = header_hash(header)
        if header.height != len(node.chain):
            raise Violation(f"integrity: {node} decides {header.height} on {len(node.chain) - 1}")
        if header.parent_hash != node.tip_hash:
            raise Violation(f"validity: {node} decides a block on another parent")
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

    def on_say(self, node: "SimNode", message: Vote | Proposal, speaker: bytes) -> None:
        """No honest node contradicts itself, over all its restarts."""
        if speaker not in self.honest or speaker != node.public:
            return
        if type(message) is Vote:
            key = (speaker, message.height, message.round, message.kind)
            value = (message.block_hash, 0)
        else:
            key = (speaker, message.height, message.round, 0)
            value = (header_hash(message.block.header), message.valid_round)  # type: ignore[union-attr]
        other = self._said.setdefault(key, value)
        if other != value:
            raise Violation(f"contradiction: {node} says two things at {key[1:]}")

    def on_evidence(self, node: "SimNode", evidence: Evidence, authorities: AuthoritySet) -> None:
        """Evidence is sound and convicts nobody honest."""
        try:
            offence = check_evidence(evidence, authorities, self.chain_id, keys.verify)
        except EvidenceRefused as refused:
            raise Violation(f"evidence: {node} reports what proves nothing: {refused}") from None
        self.evidence += 1
        for offender in offence.offenders:
            if offender in self.honest:
                raise Violation(f"evidence: {node} convicts an honest authority")
