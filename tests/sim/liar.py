"""What a faulty authority says beyond the protocol: forged, twisted and mismatched messages."""

from random import Random

from msgspec.structs import replace

from consensus.messages import (
    NIL,
    NO_ROUND,
    Block,
    Certificate,
    ConsensusMessage,
    Decided,
    Proposal,
    Vote,
    VoteSummary,
)


def twist(message: ConsensusMessage, rng: Random, n: int) -> ConsensusMessage:
    """Return a message like this one that no honest node would send, or would not send now."""
    if type(message) is Vote:
        return _twist_vote(message, rng, n)
    if type(message) is Proposal:
        return _twist_proposal(message, rng, n)
    if type(message) is VoteSummary:
        height = max(0, message.height + rng.randint(-3, 3))
        return replace(message, height=height, round=rng.randint(-1, 2_000), sets=())
    return _twist_decided(message, rng)


def _twist_vote(vote: Vote, rng: Random, n: int) -> Vote:
    choice = rng.randrange(5)
    if choice == 0:
        return replace(vote, voter=rng.randrange(n + 1))
    if choice == 1:
        return replace(vote, block_hash=NIL if vote.block_hash else rng.randbytes(32))
    if choice == 2:
        return replace(vote, round=vote.round + rng.choice((1, 2, 50, 2_000)))
    if choice == 3:
        return replace(vote, kind=3 - vote.kind)
    return replace(vote, signature=rng.randbytes(64))


def _twist_proposal(proposal: Proposal, rng: Random, n: int) -> Proposal:
    choice = rng.randrange(6)
    if choice == 0:
        return replace(proposal, proposer=rng.randrange(n))
    if choice == 1:
        return replace(proposal, round=proposal.round + rng.choice((1, 4, 50, 2_000)))
    if choice == 2:
        return replace(proposal, valid_round=NO_ROUND, pol=None)
    if choice == 3 and proposal.pol is not None:
        return replace(proposal, pol=_thinned(proposal.pol))
    if choice == 4:
        return replace(proposal, block=_other_body(proposal.block))
    return replace(proposal, signature=rng.randbytes(64))


def _twist_decided(decided: Decided, rng: Random) -> Decided:
    choice = rng.randrange(3)
    if choice == 0:
        return replace(decided, block=_other_body(decided.block))
    if choice == 1:
        return replace(decided, certificate=_thinned(decided.certificate))
    time_ms = decided.block.header.time_ms + 1
    header = replace(decided.block.header, time_ms=time_ms)
    return replace(decided, block=replace(decided.block, header=header))


def _other_body(block: Block) -> Block:
    return replace(block, txs=(*block.txs, b"not in the root"))


def _thinned(certificate: Certificate) -> Certificate:
    lowest = certificate.bitmap & -certificate.bitmap
    bitmap = certificate.bitmap ^ lowest
    return replace(certificate, bitmap=bitmap, signatures=certificate.signatures[1:])
