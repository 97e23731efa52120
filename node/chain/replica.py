"""The chain as this home has applied it: the last block, the state after it, and what may follow.

It loads both from the disk, executes the blocks that may come next, and applies the one that is
final, whether this node has seen the votes or a neighbour has brought the block with its
certificate; or it takes over a state further on. Which block is final, and when to make one, is
the affair of `node/chain/driver.py`.

Contracts run in a thread of their own, one thing after the other; the event loop goes on moving
votes meanwhile.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeAlias

from consensus.authorities import AuthoritySet, verify_certificate
from consensus.errors import BlockRefused, CertificateRefused, ConsensusError, SnapshotRefused
from consensus.light import SignedHeader, ends_epoch
from consensus.messages import Block, Certificate, Decided, Evidence, Header, header_hash
from market.app import Application, BlockResult
from market.errors import MarketError, RootMismatch, StateError
from market.receipts import Receipt
from market.terms import Terms
from node.chain.blocks import BlockMaker, stored_block, stored_certificate
from node.chain.epochs import Epochs, set_of
from node.chain.pace import Pace
from node.chain.store import EpochEnd, Store, StoredBlock
from node.errors import BadBlock, BadSnapshot, InvariantError, StoreError
from node.genesis import ChainParams
from wire.codec import encode
from wire.errors import WireError
from wire.transaction import CheckedTransaction

# Executed proposals of the height in progress; a few rounds may each bring another.
RESULTS_MAX: Final = 16

# What reading rows that are not ours may end in: they can break the loading anywhere.
UNREADABLE: Final = (
    *(ConsensusError, MarketError, WireError, sqlite3.Error),
    *(LookupError, TypeError, ValueError),
)

Pairs: TypeAlias = Callable[[], Iterable[tuple[str, bytes]]]


class Head(NamedTuple):
    """The last applied block. `state_root` is that of the state after it, as computed here."""

    header: Header
    hash: bytes
    certificate: Certificate | None
    state_root: bytes


class Replica:
    """One home's copy of the chain and of its state.

    Only one task may apply blocks; others may build and check them meanwhile.

    Parameters
    ----------
    chain_id, store, app, epochs, maker : the parts of the chain.
    inherited : callable
        Reads the state that a chain in another's place begins with; called once, at its beginning.
    """

    def __init__(
        self,
        chain_id: str,
        store: Store,
        app: Application,
        epochs: Epochs,
        maker: BlockMaker,
        inherited: Callable[[], Iterable[tuple[str, bytes]]] = tuple,
    ) -> None:
        self._inherited = inherited
        self._chain_id = chain_id
        self._store = store
        self._app = app
        self._maker = maker
        self.epochs = epochs
        self._pace = Pace()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="execution")
        self._results: dict[bytes, BlockResult] = {}
        # Executions that are under way: a notice brings a block while its proposal is checked.
        self._running: dict[bytes, asyncio.Task[BlockResult | None]] = {}
        self._deadline: tuple[tuple[int, int], int] | None = None
        self._head: Head | None = None

    @property
    def head(self) -> Head:
        """The last applied block."""
        if self._head is None:
            raise InvariantError("the chain has not been opened")
        return self._head

    def terms(self) -> Terms:
        """Return who decides the height after the head, and by which parameters."""
        return self._app.terms()

    def next_deadline_ms(self, after_ms: int) -> int:
        """Return when the contracts have something to do without being asked. [ms UTC]

        Asked for at each arrival of a transaction; it changes with the state only.
        """
        key = (self._app.height, after_ms)
        if self._deadline is None or self._deadline[0] != key:
            self._deadline = key, self._app.next_deadline_ms(after_ms)
        return self._deadline[1]

    def transactions_max(self, params: ChainParams, round_: int) -> int:
        """Return how many transactions to propose, so that all can execute them in time."""
        return self._pace.transactions_max(params, round_)

    def close(self) -> None:
        """Stop the execution thread."""
        for running in self._running.values():
            running.cancel()
        self._worker.shutdown(wait=True, cancel_futures=True)

    # -- opening -----------------------------------------------------------------------------

    async def open(self) -> Decided | None:
        """Load the state at the store's height, or found the chain; return the head's proof.

        Raises
        ------
        StoreError
            The stored state is not the one its last certificate proves, or what the chain is to
            begin with is missing. The text is one line.
        """
        if self._store.height < 0:
            await self._found()
            return None
        return await self._load()

    async def _found(self) -> None:
        try:
            result = await self._in_worker(lambda: self._app.genesis(self._inherited()))
        except StateError as error:
            raise StoreError(f"this chain cannot begin: {error}") from None
        block = self._maker.genesis_block(result)
        await self._write(block, None, result)

    async def _load(self) -> Decided | None:
        height = self._store.height
        stored = await self._store.block(height)
        if stored is None:
            raise self._store.damaged(f"the block at height {height} is missing")
        try:
            block = stored_block(stored)
        except UNREADABLE as error:
            raise self._store.damaged(f"the block at height {height}: {error}") from None
        try:
            items = [item async for item in self._store.state()]
            await self._in_worker(lambda: self._app.load(items, height))
        except UNREADABLE as error:
            raise self._store.damaged(f"the state at height {height}: {error}") from None
        if self._app.state_root != block.header.state_root:
            raise self._store.damaged(
                f"the state at height {height} is not the one its certificate proves"
            )
        try:
            # The state says who the authorities were; it is the certified one, or neither is.
            authorities = self.epochs.of_height(height)
            certificate = stored_certificate(stored, authorities, self._chain_id)
        except UNREADABLE as error:
            raise self._store.damaged(f"the block at height {height}: {error}") from None
        self._head = Head(block.header, stored.block_hash, certificate, self._app.state_root)
        return Decided(block, certificate) if certificate is not None else None

    # -- executing what may come next --------------------------------------------------------

    async def build(
        self,
        proposer: int,
        time_ms: int,
        transactions: Sequence[CheckedTransaction],
        evidence: Sequence[Evidence],
    ) -> Block | None:
        """Make and execute a block after the head; None if the chain has moved on meanwhile."""
        head = self.head
        begun_s = time.monotonic()
        built = await self._execute_after(
            head,
            lambda: self._maker.build(
                head.header, head.certificate, proposer, time_ms, transactions, evidence
            ),
        )
        if built is None:
            return None
        self._pace.executed(len(transactions), time.monotonic() - begun_s)
        block: Block = built[0]
        self._remember(header_hash(block.header), built[1])
        return block

    async def check(self, block: Block, block_hash: bytes) -> bool:
        """Return whether a block may follow the head; False if the chain has moved on meanwhile.

        Raises
        ------
        BlockRefused
            It may not.
        """
        head = self.head
        if block.header.height != head.header.height + 1:
            return False
        return await self._executed(block, block_hash, head) is not None

    async def _executed(self, block: Block, block_hash: bytes, head: Head) -> BlockResult | None:
        """Execute a block after the head, once; None if the chain has moved on meanwhile.

        Raises
        ------
        BlockRefused
            It may not follow the head.
        """
        known = self._results.get(block_hash)
        if known is not None:
            return known
        running = self._running.get(block_hash)
        if running is None:
            running = asyncio.create_task(self._execute(block, block_hash, head))
            self._running[block_hash] = running
            running.add_done_callback(lambda _task: self._running.pop(block_hash, None))
        # One who waits may be stopped while another goes on waiting.
        return await asyncio.shield(running)

    async def _execute(self, block: Block, block_hash: bytes, head: Head) -> BlockResult | None:
        begun_s = time.monotonic()
        result: BlockResult | None = await self._execute_after(
            head, lambda: self._maker.execute(block, head.header, head.certificate)
        )
        if result is not None:
            self._pace.executed(len(block.txs), time.monotonic() - begun_s)
            if self.head.hash == head.hash:
                self._remember(block_hash, result)
        return result

    async def _execute_after(self, head: Head, work: Callable[[], Any]) -> Any:
        """Do `work` in the execution thread; None if by its turn `head` is not the last block."""
        height = head.header.height
        return await self._in_worker(lambda: work() if self._app.height == height else None)

    def _remember(self, block_hash: bytes, result: BlockResult) -> None:
        self._results[block_hash] = result
        while len(self._results) > RESULTS_MAX:
            self._results.pop(next(iter(self._results)))

    async def _in_worker(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    # -- applying what is final --------------------------------------------------------------

    async def apply_decided(self, block: Block, certificate: Certificate) -> BlockResult:
        """Apply the next block, which was checked here and which a quorum has decided."""
        result = await self._executed(block, header_hash(block.header), self.head)
        return await self._apply(block, certificate, result)

    async def apply_certified(
        self, block: Block, certificate: Certificate, authorities: AuthoritySet
    ) -> BlockResult:
        """Check and apply a block that a neighbour says these authorities have decided.

        Raises
        ------
        BadBlock
            It is not the next block, not certified, or not what its header says.
        InvariantError
            It is certified and impossible.
        """
        head = self.head
        height = block.header.height
        if height != head.header.height + 1:
            raise BadBlock(f"height {height} does not follow {head.header.height}")
        block_hash = header_hash(block.header)
        if certificate.block_hash != block_hash or certificate.height != height:
            raise BadBlock("the certificate is another block's")
        try:
            verify_certificate(certificate, authorities, self._chain_id)
        except CertificateRefused as refused:
            raise BadBlock(f"certificate: {refused}") from None
        try:
            result = await self._executed(block, block_hash, head)
        except BlockRefused as refused:
            if refused.code in ("body", "size"):
                raise BadBlock(str(refused)) from None
            # A quorum signed what this node finds impossible. Either more than f authorities
            # are faulty or this node is; going on would only spread it.
            raise InvariantError(
                f"a certified block at height {height} is refused here: {refused}"
            ) from None
        return await self._apply(block, certificate, result)

    async def _apply(
        self, block: Block, certificate: Certificate, result: BlockResult | None
    ) -> BlockResult:
        if result is None:
            raise InvariantError("blocks were applied at the same time by two tasks")
        await self._write(block, certificate, result)
        self._results.clear()
        return result

    async def _write(
        self, block: Block, certificate: Certificate | None, result: BlockResult
    ) -> None:
        stored = _stored(block, certificate, result.rooted)
        tx_ids = [receipt.tx_id for receipt in result.receipts]
        end = None
        if certificate is not None and ends_epoch(block.header):
            end = _epoch_end(SignedHeader(block.header, certificate, set_of(result.next)))
        await self._store.commit(stored, tx_ids, result.writes, end)
        await self._in_worker(lambda: self._app.commit(result))
        self._head = Head(block.header, stored.block_hash, certificate, self._app.state_root)

    async def jump(
        self,
        block: Block,
        certificate: Certificate,
        epoch_ends: Sequence[SignedHeader],
        pairs: Pairs,
    ) -> None:
        """Take over the state after a block further on that is known to be final.

        Parameters
        ----------
        epoch_ends : sequence of SignedHeader
            The last headers of the epochs between the present head's and this block's.
        pairs : callable
            Reads the state's key-value pairs; called in the execution thread.

        Raises
        ------
        BadSnapshot
            The pairs are not those of the block's state root. Nothing has changed.
        """
        header = block.header
        try:
            loaded = await self._in_worker(
                lambda: self._app.prepare(pairs(), header.height, header.state_root)
            )
        except (RootMismatch, SnapshotRefused) as error:
            raise BadSnapshot(str(error)) from None
        stored = _stored(block, certificate, ())
        ends = [_epoch_end(signed) for signed in epoch_ends]
        await self._store.replace_state(stored, loaded.state.items, ends)
        await self._in_worker(lambda: self._app.adopt(loaded))
        self._head = Head(header, stored.block_hash, certificate, self._app.state_root)
        self._results.clear()


def _stored(
    block: Block, certificate: Certificate | None, receipts: Sequence[Receipt]
) -> StoredBlock:
    return StoredBlock(
        block.header.height,
        header_hash(block.header),
        encode(block),
        encode(certificate) if certificate is not None else b"",
        encode(receipts),
    )


def _epoch_end(signed: SignedHeader) -> EpochEnd:
    return EpochEnd(signed.header.epoch, signed.header.height, encode(signed))
