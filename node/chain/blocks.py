"""Making and judging blocks: what a header says, and whether execution agrees.

Execution comes before the vote: the header carries the state root after its own transactions, so
one certificate proves both order and state. All of this is a function of the chain alone; only
`time_ms` of a block we build comes from a clock.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import BlockRefused, CertificateRefused, EvidenceRefused
from consensus.messages import (
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    PROTOCOL_VERSION,
    ZERO_HASH,
    Block,
    Certificate,
    Evidence,
    Header,
    certificate_hash,
    evidence_root,
    header_hash,
    tx_root,
)
from consensus.validate import GENESIS_HEIGHT, body_problem, check_block
from market.app import Application, BlockEnv, BlockResult
from market.convictions import Conviction
from market.terms import Terms
from node.chain.epochs import Epochs, set_of
from node.chain.evidence import conviction_of
from node.chain.store import StoredBlock
from node.genesis import ChainParams, Genesis, chain_of
from node.pool.verifier import TransactionVerifier
from wire.codec import decode, encode
from wire.transaction import CheckedTransaction, Refused

_EMPTY_ROOT: Final = tx_root(())


def stored_block(stored: StoredBlock) -> Block:
    """Decode a block from the disk.

    Raises
    ------
    DecodeError, BlockRefused
        It is damaged.
    """
    block = decode(stored.block, Block, BLOCK_BYTES_MAX)
    block_hash = header_hash(block.header)
    if block.header.height != stored.height or block_hash != stored.block_hash:
        raise BlockRefused("header", "it is not the block that was stored there")
    problem = body_problem(block)
    if problem:
        raise BlockRefused("body", problem)
    return block


def stored_certificate(
    stored: StoredBlock, authorities: AuthoritySet | None, chain_id: str
) -> Certificate | None:
    """Decode the certificate that proves a block on the disk; genesis has none.

    Raises
    ------
    DecodeError, CertificateRefused
        It is damaged, or not that block's.
    """
    if stored.height == GENESIS_HEIGHT:
        return None
    certificate = decode(stored.certificate, Certificate, CERTIFICATE_BYTES_MAX)
    if certificate.block_hash != stored.block_hash or certificate.height != stored.height:
        raise CertificateRefused("it is another block's")
    if authorities is None:
        raise CertificateRefused("nothing says who decided it")
    verify_certificate(certificate, authorities, chain_id)
    return certificate


class _Place(NamedTuple):
    height: int
    time_ms: int
    parent_hash: bytes
    proposer: int


class _Body(NamedTuple):
    txs: tuple[bytes, ...]
    certificate: Certificate | None
    evidence: tuple[Evidence, ...]


class BlockMaker:
    """Builds, checks and executes the blocks of one chain. Runs in the execution thread."""

    def __init__(
        self,
        genesis: Genesis,
        epochs: Epochs,
        app: Application,
        verifier: TransactionVerifier,
    ) -> None:
        self._genesis = genesis
        self._epochs = epochs
        self._app = app
        self._verifier = verifier

    def genesis_block(self, result: BlockResult) -> Block:
        """Return the block at height 0, which everybody makes and nobody signs."""
        market = self._genesis.market
        parent_hash = ZERO_HASH if market.succeeds is None else market.succeeds.block_hash
        place = _Place(GENESIS_HEIGHT, market.begins_ms, parent_hash, 0)
        # Genesis and the block after it are of the same epoch.
        header = self._header(place, _Body((), None, ()), result.next, result)
        return Block(header, (), None)

    def build(
        self,
        parent: Header,
        certificate: Certificate | None,
        proposer: int,
        time_ms: int,
        transactions: Sequence[CheckedTransaction],
        evidence: Sequence[Evidence] = (),
    ) -> tuple[Block, BlockResult]:
        """Execute `transactions` on the parent and return the block with its result.

        Of the `evidence`, what convicts nobody any more is left out.
        """
        height = parent.height + 1
        terms = self._app.terms()
        found = [(item, self._conviction(item)) for item in evidence]
        admitted = self._app.admissible(conviction for _, conviction in found)
        proven = [pair for pair, good in zip(found, admitted, strict=True) if good]
        convictions = [conviction for _, conviction in proven]
        env = BlockEnv(height, time_ms, header_hash(parent))
        result = self._app.execute(env, transactions, convictions)
        txs = tuple(checked.raw for checked in transactions)
        body = _Body(txs, certificate, tuple(item for item, _ in proven))
        place = _Place(height, time_ms, header_hash(parent), proposer)
        return Block(self._header(place, body, terms, result), *body), result

    def execute(
        self, block: Block, parent: Header, known: Certificate | None = None
    ) -> BlockResult:
        """Check a block against its parent, execute it, and compare the roots.

        `known` is the certificate by which this node has the parent, if it has one.

        Raises
        ------
        BlockRefused
            The block may not follow its parent, holds what is no valid transaction at its time,
            or its roots are not those of its execution (code `roots`).
        """
        terms = self._app.terms()
        check_block(block, parent, set_of(terms), self._sets_for(block, parent), known=known)
        header = block.header
        self._check_bounds(block, chain_of(terms.chain))
        convictions = [self._conviction(item) for item in block.evidence]
        if not all(self._app.admissible(convictions)):
            raise BlockRefused("evidence", "a piece of evidence convicts nobody any more")
        checked = self._verifier.check(block.txs, header.time_ms)
        transactions: list[CheckedTransaction] = []
        for place, item in enumerate(checked):
            if isinstance(item, Refused):
                raise BlockRefused("transaction", f"transaction {place}: {item}")
            transactions.append(item)
        env = BlockEnv(header.height, header.time_ms, header.parent_hash)
        result = self._app.execute(env, transactions, convictions)
        there = _Place(header.height, header.time_ms, header.parent_hash, header.proposer)
        body = _Body(block.txs, block.last_certificate, block.evidence)
        expected = self._header(there, body, terms, result)
        if expected != header:
            names = [
                name
                for name in Header.__struct_fields__
                if getattr(expected, name) != getattr(header, name)
            ]
            raise BlockRefused("roots", f"execution gives other {', '.join(names)}")
        return result

    def _sets_for(self, block: Block, parent: Header) -> dict[int, AuthoritySet]:
        """Return the sets of the epochs that the parent and the evidence are of, where known."""
        epochs = {parent.epoch, *(item.first.epoch for item in block.evidence)}
        found = {epoch: self._epochs.of_epoch(epoch) for epoch in epochs}
        return {epoch: known for epoch, known in found.items() if known is not None}

    def _conviction(self, evidence: Evidence) -> Conviction:
        try:
            return conviction_of(evidence, self._epochs, self._genesis.chain_id)
        except EvidenceRefused as refused:
            raise BlockRefused("evidence", str(refused)) from None

    def _check_bounds(self, block: Block, params: ChainParams) -> None:
        size = sum(len(raw) for raw in block.txs)
        if len(block.txs) > params.block_transactions_max or size > params.block_bytes_max:
            raise BlockRefused(
                "size",
                f"{len(block.txs)} transactions of {size} bytes, at most "
                f"{params.block_transactions_max} of {params.block_bytes_max} bytes",
            )

    def _header(self, place: "_Place", body: "_Body", terms: Terms, result: BlockResult) -> Header:
        authorities = set_of(terms)
        return Header(
            version=PROTOCOL_VERSION,
            chain_id=self._genesis.chain_id,
            epoch=authorities.epoch,
            height=place.height,
            time_ms=place.time_ms,
            parent_hash=place.parent_hash,
            last_certificate_hash=certificate_hash(body.certificate),
            proposer=place.proposer,
            tx_root=tx_root(body.txs),
            receipts_root=result.receipts_root,
            state_root=result.state_root,
            authorities_hash=authorities.hash,
            next_authorities_hash=set_of(result.next).hash,
            params_hash=hashlib.sha256(encode(chain_of(terms.chain))).digest(),
            evidence_root=evidence_root(body.evidence),
            inbox_root=_EMPTY_ROOT,
            outbox_root=_EMPTY_ROOT,
            anchor_height=0,
            anchor_hash=ZERO_HASH,
        )
