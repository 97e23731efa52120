"""What a faulty authority says beyond the protocol: forged, twisted and mismatched messages."""

from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from consensus.authorities import AuthoritySet
from consensus.evidence import duplicate_vote
from consensus.light import SignedHeaders
from consensus.messages import (
    BLOCK_BYTES_MAX,
    NIL,
    NO_ROUND,
    Block,
    Certificate,
    ConsensusMessage,
    Decided,
    Evidence,
    Proposal,
    Vote,
    VoteSummary,
    header_hash,
    vote_signed_bytes,
)
from consensus.sync_messages import Answer, Blocks, Chunk, Headers, Manifest, Nothing, Status
from tests.sim import keys
from wire.codec import decode, encode

# More than a node keeps.
BURST_ROUNDS = 48


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


def signed_lies(
    vote: Vote, rng: Random, chain_id: str, signer: Callable[[bytes], bytes]
) -> list[Vote]:
    """Return votes that the faulty authority did sign: another value, or many rounds far ahead."""
    if rng.random() < 0.5:
        values = [(vote.round, NIL if vote.block_hash else rng.randbytes(32))]
    else:
        start = vote.round + rng.choice((1, 9, 500, 1_001, 2**30))
        values = [(start + step, vote.block_hash) for step in range(BURST_ROUNDS)]
    return [_signed(vote, round_, value, chain_id, signer) for round_, value in values]


def _signed(
    vote: Vote, round_: int, value: bytes, chain_id: str, signer: Callable[[bytes], bytes]
) -> Vote:
    signed = vote_signed_bytes(vote.kind, chain_id, vote.epoch, vote.height, round_, value)
    return replace(vote, round=round_, block_hash=value, signature=signer(signed))


def own_evidence(
    authorities: AuthoritySet, public: bytes, height: int, rng: Random, chain_id: str
) -> Evidence | None:
    """Return sound evidence of a faulty authority against itself, made up for a past height."""
    voter = authorities.index_of(public)
    if voter is None:
        return None
    blank = Vote(1, authorities.epoch, height, 0, NIL, voter, bytes(64))
    signer = keys.signer_of(public)
    values = (NIL, rng.randbytes(32))
    return duplicate_vote(*(_signed(blank, 0, value, chain_id, signer) for value in values))


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


def twist_answer(answer: Answer, rng: Random) -> bytes:
    """Return the bytes of an answer that no honest node would give; empty: there is none."""
    choice = rng.random()
    if choice < 0.1:
        return b""
    if choice < 0.2:
        raw = bytearray(encode(answer))
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        return bytes(raw)
    if choice < 0.3:
        return encode(Chunk(b"?"))
    if isinstance(answer, Status):
        return encode(_twist_status(answer, rng))
    if isinstance(answer, Headers) and answer.headers:
        return encode(Headers(_twist_headers(answer.headers, rng)))
    if isinstance(answer, Blocks) and answer.blocks:
        return encode(Blocks(_twist_blocks(answer.blocks, rng)))
    if isinstance(answer, Manifest):
        return encode(replace(answer, state_root=rng.randbytes(32)))
    if isinstance(answer, Chunk):
        return encode(Chunk(answer.data[:-1] + bytes([answer.data[-1] ^ 1])))
    return encode(Nothing())


def _twist_status(status: Status, rng: Random) -> Status:
    choice = rng.randrange(3)
    if choice == 0:
        return replace(status, height=status.height + rng.choice((1, 5, 10**9)))
    if choice == 1:
        height = status.height + rng.randint(0, 9)
        return replace(status, height=height, snapshot_height=height, snapshot_id=rng.randbytes(32))
    return replace(status, height=0, first_height=0, snapshot_height=0, snapshot_id=b"")


def _twist_headers(headers: SignedHeaders, rng: Random) -> SignedHeaders:
    choice = rng.randrange(6)
    place = rng.randrange(len(headers))
    signed = headers[place]
    if choice == 0:
        return headers[::-1]
    if choice == 1:
        return headers[:place]
    if choice == 2:
        signed = replace(signed, certificate=_thinned(signed.certificate))
    elif choice == 3:
        header = replace(signed.header, parent_hash=rng.randbytes(32))
        signed = replace(signed, header=header)
    elif choice == 4:
        header = replace(signed.header, state_root=rng.randbytes(32))
        certificate = replace(signed.certificate, block_hash=header_hash(header))
        signed = replace(signed, header=header, certificate=certificate)
    else:
        announced = AuthoritySet(signed.header.epoch + 1, (rng.randbytes(32),))
        signed = replace(signed, next_authorities=announced)
    return (*headers[:place], signed, *headers[place + 1 :])


def _twist_blocks(blocks: tuple[bytes, ...], rng: Random) -> tuple[bytes, ...]:
    choice = rng.randrange(4)
    place = rng.randrange(len(blocks))
    if choice == 0:
        return blocks[::-1]
    if choice == 1:
        return blocks[:place]
    if choice == 2:
        false: bytes = rng.randbytes(50)
    else:
        false = encode(_other_body(decode(blocks[place], Block, BLOCK_BYTES_MAX)))
    return (*blocks[:place], false, *blocks[place + 1 :])


def false_evidence(publics: AuthoritySet, height: int, rng: Random) -> Evidence:
    """Accuse somebody of two votes that it never signed."""
    voter = rng.randrange(publics.n)
    votes = [
        Vote(1, publics.epoch, height, 0, hash_, voter, rng.randbytes(64))
        for hash_ in (NIL, rng.randbytes(32))
    ]
    return duplicate_vote(*votes)
