"""Checks of a block that need no execution.

Three questions, asked in three places:

- `body_problem`: does the body belong to the header? The core asks it before it lets a hash stand
  for a block, so that nobody can spoil a good hash by sending it with another body.
- `is_timely`: is a *fresh* proposal's time near this node's clock? The core asks it on arrival,
  and never of a re-proposal: a quorum has found that one timely.
- `check_block`: may the block follow its parent? A function of the chain alone, the same on every
  node at any time; the driver asks it, then executes.
"""

from collections.abc import Mapping
from typing import Final

from consensus.authorities import (
    AuthoritySet,
    Verifier,
    certificate_votes,
    same_subject,
    verify_certificate,
)
from consensus.errors import BlockRefused, CertificateRefused, EvidenceRefused, InvariantError
from consensus.evidence import EVIDENCE_HEIGHTS_MAX, check_evidence, evidence_height
from consensus.messages import (
    BLOCK_BYTES_MAX,
    PRECOMMIT,
    PROTOCOL_VERSION,
    Block,
    Certificate,
    Header,
    certificate_hash,
    evidence_root,
    header_hash,
    tx_root,
)
from consensus.params import Params
from wire.codec import encode
from wire.keys import verify

GENESIS_HEIGHT: Final = 0


def body_problem(block: Block) -> str | None:
    """Say how the body differs from what the header says of it, or None."""
    header = block.header
    if tx_root(block.txs) != header.tx_root:
        return "the transactions are not those of tx_root"
    if evidence_root(block.evidence) != header.evidence_root:
        return "the evidence is not that of evidence_root"
    if certificate_hash(block.last_certificate) != header.last_certificate_hash:
        return "the last certificate is not that of last_certificate_hash"
    return None


def is_timely(time_ms: int, now_ms: int, round_: int, params: Params) -> bool:
    """Tell whether a fresh proposal's time is near enough to this node's clock in this round."""
    growth_ms = params.time_growth_ms * round_
    ahead_ms = min(params.precision_ms + growth_ms, params.time_bound_max_ms)
    age_ms = min(params.age_ms + growth_ms, params.time_bound_max_ms)
    return now_ms - age_ms <= time_ms <= now_ms + ahead_ms


def check_block(
    block: Block,
    parent: Header,
    authorities: AuthoritySet,
    earlier: Mapping[int, AuthoritySet] | None = None,
    verifier: Verifier = verify,
    known: Certificate | None = None,
) -> None:
    """Check all of a block that its parent and the authority sets determine.

    Parameters
    ----------
    parent : Header
        The parent's header; genesis has a header too (height 0).
    authorities : AuthoritySet
        The set that decides this block.
    earlier : mapping of int to AuthoritySet, optional
        Sets of earlier epochs by epoch: the parent's if it is another's, and those that evidence
        may speak of.
    known : Certificate, optional
        A certificate of the parent that is verified already: which signatures the block carries is
        its builder's choice of a quorum, and those that are in both are not verified again.

    Raises
    ------
    BlockRefused
        Codes: `version`, `chain`, `height`, `parent`, `time`, `authorities`, `proposer`, `body`,
        `transactions`, `certificate`, `evidence`, `size`.
    """
    _check_link(block.header, parent, authorities)
    problem = body_problem(block)
    if problem:
        raise BlockRefused("body", problem)
    if len(set(block.txs)) < len(block.txs):
        raise BlockRefused("transactions", "one transaction is in the block twice")
    sets = {**(earlier or {}), authorities.epoch: authorities}
    _check_last_certificate(block, parent, sets, verifier, known)
    _check_evidence(block, sets, verifier)
    size = len(encode(block))
    if size > BLOCK_BYTES_MAX:
        raise BlockRefused("size", f"{size} bytes, at most {BLOCK_BYTES_MAX} are allowed")


def _check_link(header: Header, parent: Header, authorities: AuthoritySet) -> None:
    if header.version != PROTOCOL_VERSION:
        raise BlockRefused("version", f"version {header.version}, this is {PROTOCOL_VERSION}")
    if header.chain_id != parent.chain_id:
        raise BlockRefused("chain", f"chain {header.chain_id!r}, the parent's {parent.chain_id!r}")
    if header.height != parent.height + 1:
        raise BlockRefused("height", f"height {header.height} on a parent at {parent.height}")
    if header.parent_hash != header_hash(parent):
        raise BlockRefused("parent", "parent_hash is not the hash of the parent")
    if header.time_ms <= parent.time_ms:
        raise BlockRefused(
            "time", f"{header.time_ms} ms is not after the parent's {parent.time_ms} ms"
        )
    if header.epoch != authorities.epoch or header.authorities_hash != authorities.hash:
        raise BlockRefused("authorities", f"not the set of epoch {authorities.epoch}")
    if parent.next_authorities_hash != header.authorities_hash:
        raise BlockRefused("authorities", "not the set that the parent announced")
    if header.proposer >= authorities.n:
        raise BlockRefused("proposer", f"authority {header.proposer} of {authorities.n}")


def _check_last_certificate(
    block: Block,
    parent: Header,
    sets: Mapping[int, AuthoritySet],
    verifier: Verifier,
    known: Certificate | None,
) -> None:
    certificate = block.last_certificate
    if parent.height == GENESIS_HEIGHT:
        if certificate is not None:
            raise BlockRefused("certificate", "genesis has no certificate")
        return
    if certificate is None:
        raise BlockRefused("certificate", "the parent's certificate is missing")
    if certificate.height != parent.height or certificate.block_hash != block.header.parent_hash:
        raise BlockRefused("certificate", "the certificate is not the parent's")
    authorities = sets.get(parent.epoch)
    if authorities is None:
        raise InvariantError(f"the authority set of the parent's epoch {parent.epoch} is not given")
    votes = None
    if known is not None and same_subject(known, certificate):
        votes = {vote.voter: vote for vote in certificate_votes(known, PRECOMMIT)}
    try:
        verify_certificate(
            certificate, authorities, parent.chain_id, verifier=verifier, known=votes
        )
    except CertificateRefused as refused:
        raise BlockRefused("certificate", str(refused)) from None


def _check_evidence(block: Block, sets: Mapping[int, AuthoritySet], verifier: Verifier) -> None:
    header = block.header
    seen: set[bytes] = set()
    for evidence in block.evidence:
        height = evidence_height(evidence)
        if not header.height - EVIDENCE_HEIGHTS_MAX <= height < header.height:
            raise BlockRefused("evidence", f"evidence of height {height} in block {header.height}")
        offenders = sets.get(evidence.first.epoch)
        if offenders is None:
            raise BlockRefused("evidence", f"evidence of epoch {evidence.first.epoch}, not known")
        try:
            offence = check_evidence(evidence, offenders, header.chain_id, verifier)
        except EvidenceRefused as refused:
            raise BlockRefused("evidence", str(refused)) from None
        if offence.id in seen:
            raise BlockRefused("evidence", "one offence is in the block twice")
        seen.add(offence.id)
