"""Fraud proofs: one block of a region, executed once more by anybody.

A region's quorum certifies each block. If the block does not follow from the one before it,
whatever is wrong with it (a wrong bill, money from nowhere, a transaction that nobody signed),
executing it over the state before it shows so. A `FraudProof` is the certified block, the header
before it, which the block names by its hash, and the part of the state under that header's root
that the execution touches. Who judges it needs to know the region's authorities of the block's
epoch only.

What cannot be executed proves nothing: too little of the state shown, a genesis that is not the
state's, more work than a judge may be given. Honest authorities refuse a block that this refuses,
since both do it by `node.chain.blocks.BlockMaker`.
"""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import BlockRefused, CertificateRefused
from consensus.messages import PROTOCOL_VERSION, Block, Certificate, Header, header_hash
from consensus.validate import body_problem
from market import stateless
from market.app import Application, BlockResult
from market.errors import InvariantError, Revert, TooHeavy, WitnessGap, WitnessRefused
from market.vm.executor import Native
from node.chain.blocks import BlockMaker
from node.chain.epochs import Epochs
from node.errors import GenesisError
from node.genesis import Genesis
from node.pool.verifier import TransactionVerifier
from wire.codec import Message, decode
from wire.errors import DecodeError

# `contracts/audit.star`: PROOF_BYTES_MAX.
PROOF_BYTES_MAX: Final = 2_100_000
REASON_CHARS_MAX: Final = 160
# What no proof is about: the node itself is in trouble.
_OWN_TROUBLE: Final = (MemoryError, OSError)


class FraudProof(Message, frozen=True, tag="fraud"):
    """A certified block that does not follow from the header before it. See the module."""

    genesis: Genesis
    parent: Header
    block: Block
    certificate: Certificate
    witness: Annotated[bytes, Meta(max_length=PROOF_BYTES_MAX)]


class Verdict(NamedTuple):
    """What executing a block once more has shown; `code` is of the refusal, either way."""

    fraud: bool
    code: str
    reason: str


def maker_of(genesis: Genesis, app: Application) -> BlockMaker:
    """Return what builds and judges blocks over `app`."""
    return BlockMaker(genesis, Epochs(genesis, app), app, TransactionVerifier(genesis.chain_id))


def executed(maker: BlockMaker, block: Block, parent: Header) -> BlockResult | BlockRefused:
    """Execute a block on its parent; return what it does, or why it may not follow."""
    try:
        return maker.execute(block, parent)
    except BlockRefused as refused:
        return refused
    except InvariantError as error:
        return BlockRefused("law", f"its execution breaks a law: {error}")


def prove(
    genesis: Genesis, app: Application, parent: Header, block: Block, certificate: Certificate
) -> FraudProof:
    """Make the proof that a certified block does not follow.

    Parameters
    ----------
    app : Application
        The region's, at the state after `parent`.

    Raises
    ------
    HostFailure
        The block takes more work than a judge may be given (`TooHeavy`).
    """
    recorder, state = stateless.recording(app)
    executed(maker_of(genesis, recorder), block, parent)
    witness = stateless.witness_of(app, state)
    return FraudProof(genesis, parent, block, certificate, witness)


def judge(
    data: bytes,
    authorities: AuthoritySet,
    chain_id: str,
    height: int,
    natives: Mapping[str, Native],
) -> Verdict:
    """Judge an encoded fraud proof: a pure function of its arguments.

    Parameters
    ----------
    authorities : AuthoritySet
        The accused region's, of the epoch that the block is said to be of.
    chain_id, height
        Of the region, and of the block that is said not to follow.
    natives
        What the region's contracts may ask of the machine.

    Raises
    ------
    Revert
        It is no proof: it could be told without executing anything. Codes `malformed`,
        `wrong_chain`, `stale_set`, `bad_certificate` and `not_proven`.
    """
    proof = checked(data, authorities, chain_id, height)
    # In a thread of its own: contracts over contracts have the whole of a stack, as on their chain.
    with ThreadPoolExecutor(1, thread_name_prefix="replay") as worker:
        return worker.submit(_replay, proof, natives).result()


def checked(data: bytes, authorities: AuthoritySet, chain_id: str, height: int) -> FraudProof:
    """Return a proof of which all holds that needs no execution. Arguments, errors as `judge`."""
    try:
        proof = decode(data, FraudProof, PROOF_BYTES_MAX)
    except DecodeError as error:
        raise Revert("malformed", f"no proof of fraud: {error}"[:REASON_CHARS_MAX]) from None
    header, parent, certificate = proof.block.header, proof.parent, proof.certificate
    if (header.version, header.chain_id, header.height) != (PROTOCOL_VERSION, chain_id, height):
        raise Revert("wrong_chain", f"the block is not block {height} of chain {chain_id}")
    if (header.epoch, header.authorities_hash) != (authorities.epoch, authorities.hash):
        raise Revert("stale_set", f"the block was not decided by the set of {authorities.epoch}")
    if (certificate.height, certificate.block_hash) != (height, header_hash(header)):
        raise Revert("bad_certificate", "the certificate is not that of the block")
    try:
        verify_certificate(certificate, authorities, chain_id)
    except CertificateRefused as refused:
        raise Revert("bad_certificate", f"the certificate: {refused}") from None
    if header.parent_hash != header_hash(parent) or parent.height != height - 1:
        raise Revert("not_proven", "the header before the block is not the one that it names")
    # Of another body than its own no quorum has said anything.
    problem = body_problem(proof.block)
    if problem:
        raise Revert("not_proven", f"the block is not shown as it was certified: {problem}")
    return proof


def _replay(proof: FraudProof, natives: Mapping[str, Native]) -> Verdict:
    genesis = proof.genesis
    if genesis.market.region is None:
        return Verdict(False, "malformed", "the genesis shown is not that of a region")
    try:
        genesis.check()
        app = stateless.from_witness(
            genesis.market, genesis.founding(), natives, proof.witness, proof.parent.state_root
        )
        outcome = executed(maker_of(genesis, app), proof.block, proof.parent)
    except WitnessRefused as refused:
        return Verdict(False, "not_proven", _short(refused))
    except GenesisError as error:
        return Verdict(False, "malformed", _short(error))
    except WitnessGap as gap:
        return Verdict(False, "incomplete", _short(gap))
    except TooHeavy as heavy:
        return Verdict(False, "too_heavy", _short(heavy))
    except Exception as error:
        # A state that a captured region has made may break its execution anywhere. The block that
        # first led there can be proven; this one cannot.
        if isinstance(error, _OWN_TROUBLE) or isinstance(error.__cause__, _OWN_TROUBLE):
            raise
        return Verdict(False, "unreadable", "the block cannot be executed over what is shown")
    if isinstance(outcome, BlockRefused):
        return Verdict(True, outcome.code, _short(outcome))
    return Verdict(False, "follows", f"block {proof.block.header.height} follows")


def _short(error: Exception) -> str:
    return str(error)[:REASON_CHARS_MAX]


def digest_of(data: bytes) -> str:
    """Return what an accusation names its proof by."""
    return hashlib.sha256(data).hexdigest()
