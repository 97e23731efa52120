"""What must hold of a peer's proposal or decided block before the core takes it in.

Each function says in one sentence what no honest authority would have sent, or None.
"""

from collections.abc import Mapping

from consensus.authorities import AuthoritySet, Verifier, verify_certificate
from consensus.errors import CertificateRefused
from consensus.messages import (
    NO_ROUND,
    PRECOMMIT,
    PREVOTE,
    Certificate,
    Decided,
    Proposal,
    Vote,
    proposal_signed_bytes,
)
from consensus.validate import body_problem


def proposal_problem(
    proposal: Proposal,
    block_hash: bytes,
    height: int,
    authorities: AuthoritySet,
    chain_id: str,
    verifier: Verifier,
    known_block: bool,
    known_prevotes: Mapping[int, Vote] | None,
) -> str | None:
    """Check a proposal of this height whose proposer has the turn (R2, R7, R26).

    Parameters
    ----------
    known_block : bool
        The block of this hash is held already, so the body that came with it is not looked at.
    known_prevotes : mapping of int to Vote, optional
        Verified prevotes by voter for this block in the proposal's valid round.
    """
    header, pol = proposal.block.header, proposal.pol
    fresh = proposal.valid_round == NO_ROUND
    if not NO_ROUND <= proposal.valid_round < proposal.round or (pol is None) != fresh:
        return "a proposal whose proof of lock is missing or not of an earlier round"
    if (header.chain_id, header.epoch, header.height) != (chain_id, authorities.epoch, height):
        return "a proposal of a block of another chain, epoch or height"
    if fresh and header.proposer != proposal.proposer:
        return "a fresh proposal of a block that another built"
    if not proposal_signature_is_good(proposal, block_hash, authorities, chain_id, verifier):
        return "a proposal with a wrong signature"
    if not known_block:
        problem = body_problem(proposal.block)
        if problem:
            return f"a block whose body is not its own: {problem}"
    if pol is None:
        return None
    if (pol.height, pol.round, pol.block_hash) != (height, proposal.valid_round, block_hash):
        return "a proof of lock of another height, round or block"
    return _certificate_problem(pol, PREVOTE, authorities, chain_id, verifier, known_prevotes)


def proposal_signature_is_good(
    proposal: Proposal,
    block_hash: bytes,
    authorities: AuthoritySet,
    chain_id: str,
    verifier: Verifier,
) -> bool:
    """Tell whether the proposer signed this round, block hash and valid round."""
    signed = proposal_signed_bytes(
        chain_id,
        proposal.epoch,
        proposal.height,
        proposal.round,
        block_hash,
        proposal.valid_round,
    )
    return verifier(authorities.publics[proposal.proposer], signed, proposal.signature)


def decided_problem(
    decided: Decided,
    block_hash: bytes,
    authorities: AuthoritySet,
    chain_id: str,
    verifier: Verifier,
) -> str | None:
    """Check a decided block against the authority set of its height (R24)."""
    header, certificate = decided.block.header, decided.certificate
    if block_hash != certificate.block_hash or header.height != certificate.height:
        return "a decided block that is not its certificate's"
    problem = body_problem(decided.block)
    if problem:
        return f"a decided block whose body is not its own: {problem}"
    return _certificate_problem(certificate, PRECOMMIT, authorities, chain_id, verifier, None)


def _certificate_problem(
    certificate: Certificate,
    kind: int,
    authorities: AuthoritySet,
    chain_id: str,
    verifier: Verifier,
    known: Mapping[int, Vote] | None,
) -> str | None:
    try:
        verify_certificate(certificate, authorities, chain_id, kind, verifier, known)
    except CertificateRefused as refused:
        return f"a certificate that proves nothing: {refused}"
    return None
