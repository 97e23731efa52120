"""Proof that an authority broke the rules, which anybody can check."""

import hashlib
from typing import Final, NamedTuple

from consensus.authorities import AuthoritySet, Verifier, verify_certificate
from consensus.errors import CertificateRefused, EvidenceRefused
from consensus.messages import (
    PROPOSAL,
    Certificate,
    ConflictingCertificates,
    DuplicateProposal,
    DuplicateVote,
    Evidence,
    ProposalClaim,
    Vote,
    proposal_signed_bytes,
    vote_signed_bytes,
)
from wire.keys import verify

# Evidence older than this is not taken: nobody must keep votes for ever.
EVIDENCE_HEIGHTS_MAX: Final = 10_000

_CERTIFICATES: Final = 3
_OFFENCE_DOMAIN: Final = b"commonwatt/offence/1\0"


class Offence(NamedTuple):
    """What evidence proves. `id` is the same for every proof of the same offence.

    `offenders` are public keys; for conflicting certificates, those who signed both.
    """

    id: bytes
    height: int
    offenders: tuple[bytes, ...]


def evidence_height(evidence: Evidence) -> int:
    """Return the height of the offence."""
    return evidence.first.height


def duplicate_vote(one: Vote, other: Vote) -> DuplicateVote:
    """Put two contradicting votes of one voter into their canonical order."""
    first, second = sorted((one, other), key=lambda vote: vote.block_hash)
    return DuplicateVote(first, second)


def duplicate_proposal(one: ProposalClaim, other: ProposalClaim) -> DuplicateProposal:
    """Put two contradicting claims of one proposer into their canonical order."""
    first, second = sorted((one, other), key=lambda claim: (claim.block_hash, claim.valid_round))
    return DuplicateProposal(first, second)


def conflicting_certificates(one: Certificate, other: Certificate) -> ConflictingCertificates:
    """Put two certificates of one height into their canonical order."""
    first, second = sorted((one, other), key=lambda certificate: certificate.block_hash)
    return ConflictingCertificates(first, second)


def check_evidence(
    evidence: Evidence, authorities: AuthoritySet, chain_id: str, verifier: Verifier = verify
) -> Offence:
    """Check evidence against the authority set of its epoch and say what it proves.

    Raises
    ------
    EvidenceRefused
        It convicts nobody: not contradictory, not in canonical order, or a wrong signature.
    """
    if evidence.first.epoch != authorities.epoch or evidence.second.epoch != authorities.epoch:
        raise EvidenceRefused(f"it is not of epoch {authorities.epoch}")
    if evidence.first.height != evidence.second.height:
        raise EvidenceRefused("the two are of different heights")
    if isinstance(evidence, DuplicateVote):
        return _check_votes(evidence, authorities, chain_id, verifier)
    if isinstance(evidence, DuplicateProposal):
        return _check_proposals(evidence, authorities, chain_id, verifier)
    return _check_certificates(evidence, authorities, chain_id, verifier)


def _check_votes(
    evidence: DuplicateVote, authorities: AuthoritySet, chain_id: str, verifier: Verifier
) -> Offence:
    first, second = evidence.first, evidence.second
    if (first.kind, first.round, first.voter) != (second.kind, second.round, second.voter):
        raise EvidenceRefused("the two votes are not of one voter, round and kind")
    if first.block_hash >= second.block_hash:
        raise EvidenceRefused("the two votes agree, or are not in order of their hashes")
    public = _public(authorities, first.voter)
    for vote in (first, second):
        signed = vote_signed_bytes(
            vote.kind, chain_id, vote.epoch, vote.height, vote.round, vote.block_hash
        )
        if not verifier(public, signed, vote.signature):
            raise EvidenceRefused("a vote's signature is wrong")
    return _offence(first.kind, public, first.height, first.round)


def _check_proposals(
    evidence: DuplicateProposal, authorities: AuthoritySet, chain_id: str, verifier: Verifier
) -> Offence:
    first, second = evidence.first, evidence.second
    if (first.round, first.proposer) != (second.round, second.proposer):
        raise EvidenceRefused("the two proposals are not of one proposer and round")
    if (first.block_hash, first.valid_round) >= (second.block_hash, second.valid_round):
        raise EvidenceRefused("the two proposals agree, or are not in order")
    public = _public(authorities, first.proposer)
    for claim in (first, second):
        signed = proposal_signed_bytes(
            chain_id, claim.epoch, claim.height, claim.round, claim.block_hash, claim.valid_round
        )
        if not verifier(public, signed, claim.signature):
            raise EvidenceRefused("a proposal's signature is wrong")
    return _offence(PROPOSAL, public, first.height, first.round)


def _check_certificates(
    evidence: ConflictingCertificates, authorities: AuthoritySet, chain_id: str, verifier: Verifier
) -> Offence:
    first, second = evidence.first, evidence.second
    if first.block_hash >= second.block_hash:
        raise EvidenceRefused("the two certificates agree, or are not in order of their hashes")
    for certificate in (first, second):
        try:
            verify_certificate(certificate, authorities, chain_id, verifier=verifier)
        except CertificateRefused as refused:
            raise EvidenceRefused(str(refused)) from None
    # In one round they signed twice; across rounds they broke a lock. Either is an offence, but
    # only the first is certain: an honest authority may unlock by a proof of lock in between.
    both = first.bitmap & second.bitmap if first.round == second.round else 0
    offenders = tuple(
        public for index, public in enumerate(authorities.publics) if both >> index & 1
    )
    offence = _offence(_CERTIFICATES, b"", first.height, 0)
    return offence._replace(offenders=offenders)


def _public(authorities: AuthoritySet, index: int) -> bytes:
    if index >= authorities.n:
        raise EvidenceRefused(f"authority {index} of {authorities.n}")
    return authorities.publics[index]


def _offence(kind: int, public: bytes, height: int, round_: int) -> Offence:
    place = b"%d/%d/%d/" % (kind, height, round_)
    identity = hashlib.sha256(_OFFENCE_DOMAIN + place + public).digest()
    return Offence(identity, height, (public,))
