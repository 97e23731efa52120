"""Making and judging blocks: what a header says, and whether execution agrees.

Execution comes before the vote: the header carries the state root after its own transactions, so
one certificate proves both order and state. All of this is a function of the chain alone; only
`time_ms` of a block we build comes from a clock.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import BlockRefused, CertificateRefused
from consensus.messages import (
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    PROTOCOL_VERSION,
    ZERO_HASH,
    Block,
    Certificate,
    Header,
    certificate_hash,
    evidence_root,
    header_hash,
    tx_root,
)
from consensus.validate import GENESIS_HEIGHT, body_problem, check_block
from market.app import Application, BlockEnv, BlockResult
from node.genesis import Genesis
from node.store import StoredBlock
from node.verifier import TransactionVerifier
from wire.codec import decode, encode
from wire.transaction import CheckedTransaction, Refused

_EMPTY_ROOT: Final = tx_root(())


def proven_block(
    stored: StoredBlock, authorities: AuthoritySet, chain_id: str
) -> tuple[Block, Certificate | None]:
    """Decode a block from the disk with the certificate that proves it; genesis has none.

    Raises
    ------
    DecodeError, BlockRefused, CertificateRefused
        Either is damaged, or the certificate is not that block's.
    """
    block = decode(stored.block, Block, BLOCK_BYTES_MAX)
    block_hash = header_hash(block.header)
    if block.header.height != stored.height or block_hash != stored.block_hash:
        raise BlockRefused("header", "it is not the block that was stored there")
    problem = body_problem(block)
    if problem:
        raise BlockRefused("body", problem)
    if stored.height == GENESIS_HEIGHT:
        return block, None
    certificate = decode(stored.certificate, Certificate, CERTIFICATE_BYTES_MAX)
    if certificate.block_hash != block_hash or certificate.height != stored.height:
        raise CertificateRefused("it is another block's")
    verify_certificate(certificate, authorities, chain_id)
    return block, certificate


class BlockMaker:
    """Builds, checks and executes the blocks of one chain. Runs in the execution thread."""

    def __init__(
        self,
        genesis: Genesis,
        authorities: AuthoritySet,
        app: Application,
        verifier: TransactionVerifier,
    ) -> None:
        self._genesis = genesis
        self._authorities = authorities
        self._app = app
        self._verifier = verifier
        self._params_hash = hashlib.sha256(encode(genesis.chain)).digest()

    def genesis_block(self, result: BlockResult) -> Block:
        """Return the block at height 0, which everybody makes and nobody signs."""
        header = self._header(0, self._genesis.market.genesis_ms, ZERO_HASH, None, 0, (), result)
        return Block(header, (), None)

    def build(
        self,
        parent: Header,
        certificate: Certificate | None,
        proposer: int,
        time_ms: int,
        transactions: Sequence[CheckedTransaction],
    ) -> tuple[Block, BlockResult]:
        """Execute `transactions` on the parent and return the block with its result."""
        height = parent.height + 1
        result = self._app.execute(BlockEnv(height, time_ms), transactions)
        txs = tuple(checked.raw for checked in transactions)
        parent_hash = header_hash(parent)
        header = self._header(height, time_ms, parent_hash, certificate, proposer, txs, result)
        return Block(header, txs, certificate), result

    def execute(self, block: Block, parent: Header) -> BlockResult:
        """Check a block against its parent, execute it, and compare the roots.

        Raises
        ------
        BlockRefused
            The block may not follow its parent, holds what is no valid transaction at its time,
            or its roots are not those of its execution (code `roots`).
        """
        check_block(block, parent, self._authorities)
        header = block.header
        self._check_bounds(block)
        checked = self._verifier.check(block.txs, header.time_ms)
        transactions: list[CheckedTransaction] = []
        for place, item in enumerate(checked):
            if isinstance(item, Refused):
                raise BlockRefused("transaction", f"transaction {place}: {item}")
            transactions.append(item)
        result = self._app.execute(BlockEnv(header.height, header.time_ms), transactions)
        expected = self._header(
            header.height,
            header.time_ms,
            header.parent_hash,
            block.last_certificate,
            header.proposer,
            block.txs,
            result,
        )
        if expected != header:
            names = [
                name
                for name in Header.__struct_fields__
                if getattr(expected, name) != getattr(header, name)
            ]
            raise BlockRefused("roots", f"execution gives other {', '.join(names)}")
        return result

    def _check_bounds(self, block: Block) -> None:
        params = self._genesis.chain
        size = sum(len(raw) for raw in block.txs)
        if len(block.txs) > params.block_transactions_max or size > params.block_bytes_max:
            raise BlockRefused(
                "size",
                f"{len(block.txs)} transactions of {size} bytes, at most "
                f"{params.block_transactions_max} of {params.block_bytes_max} bytes",
            )

    def _header(
        self,
        height: int,
        time_ms: int,
        parent_hash: bytes,
        certificate: Certificate | None,
        proposer: int,
        txs: Sequence[bytes],
        result: BlockResult,
    ) -> Header:
        return Header(
            version=PROTOCOL_VERSION,
            chain_id=self._genesis.chain_id,
            epoch=self._authorities.epoch,
            height=height,
            time_ms=time_ms,
            parent_hash=parent_hash,
            last_certificate_hash=certificate_hash(certificate),
            proposer=proposer,
            tx_root=tx_root(txs),
            receipts_root=result.receipts_root,
            state_root=result.state_root,
            authorities_hash=self._authorities.hash,
            next_authorities_hash=self._authorities.hash,
            params_hash=self._params_hash,
            evidence_root=evidence_root(()),
            inbox_root=_EMPTY_ROOT,
            outbox_root=_EMPTY_ROOT,
            anchor_height=0,
            anchor_hash=ZERO_HASH,
        )
