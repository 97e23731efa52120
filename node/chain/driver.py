"""Drives one chain: feeds the consensus core, does what it asks, applies what is decided.

The core is a pure state machine; this is its body. One task takes inputs from one queue
(`node/chain/inbox.py`), so that agreement never sees two things at once. Effects are done in order,
and a `Persist` is on disk before the next effect leaves the house. What is final is applied by
`node/chain/replica.py`.

A home without a seat among the authorities applies certified blocks as they come; its core only
looks on, so that it is ready when an epoch gives it a seat (and a seat that is lost leaves it so).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from consensus import events as ev
from consensus.authorities import AuthoritySet
from consensus.core import Core
from consensus.errors import BlockRefused
from consensus.light import SignedHeader
from consensus.messages import Block, Certificate, Decided, Vote
from consensus.wal import LockRecord, VoteRecord, WalRecord
from market.app import BlockResult
from node.chain.epochs import set_of
from node.chain.evidence import EvidencePool
from node.chain.inbox import PROTOCOL, Certified, Inbox, Jump
from node.chain.replica import Head, Pairs, Replica
from node.chain.wal import Wal
from node.errors import BadBlock, BadSnapshot
from node.genesis import Genesis, chain_of
from node.network.base import Network
from node.pool.mempool import Mempool
from wire.codec import encode
from wire.keys import SigningKey, peer_id_of

log = logging.getLogger("commonwatt.chain")

Listener: TypeAlias = Callable[[Block, Certificate, BlockResult], None]


class Chain:
    """The chain as this home knows it, and this home's part in it.

    Parameters
    ----------
    genesis, key : the chain's beginning, and the key this node signs with if it has a seat
    replica, wal, network : the parts it drives
    now_ms : callable
        Real time, UTC. [ms]
    """

    def __init__(
        self,
        genesis: Genesis,
        key: SigningKey,
        replica: Replica,
        wal: Wal,
        network: Network,
        now_ms: Callable[[], int],
    ) -> None:
        self._genesis = genesis
        self._key = key
        self._replica = replica
        self._wal = wal
        self._network = network
        self._now_ms = now_ms
        self.epochs = replica.epochs
        self._params = genesis.chain
        self._inbox = Inbox(network, self.epochs, lambda: self.height, now_ms)
        self._seat(AuthoritySet(0, tuple(genesis.authorities)))
        self._jobs: set[asyncio.Task[None]] = set()
        self._begin_timer: asyncio.TimerHandle | None = None
        self._core: Core | None = None
        self._listeners: list[Listener] = []
        self._is_level: Callable[[], bool] = lambda: False
        # The block at the head with its proof, for peers that lack it; told to the core once.
        self._parent: Decided | None = None
        self._last_vote: Vote | None = None
        self._mempool: Mempool | None = None
        self._evidence: EvidencePool | None = None
        # The last height that this node has seen votes decide; others came ready from neighbours.
        self.decided_height = 0
        self._counts = dict.fromkeys(("blocks", "transactions", "evidence", "refused_blocks"), 0)

    # -- what others read --------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The last applied block."""
        return self._replica.head

    @property
    def height(self) -> int:
        """Height of the last applied block."""
        return self.head.header.height

    @property
    def head_hash(self) -> bytes:
        """Hash of the last applied block."""
        return self.head.hash

    @property
    def round(self) -> int:
        """Round in which the next height is being decided; -1 before it has begun."""
        return -1 if self._core is None else self._core.round

    @property
    def next_authorities(self) -> AuthoritySet:
        """The set that decides the height after the head."""
        return self.epochs.of_height(self.height + 1) or self.authorities

    @property
    def other_authorities(self) -> list[str]:
        """Peer ids of the authorities of the height after the head, without this node."""
        return [peer for index, peer in enumerate(self._peers) if index != self.index]

    @property
    def voting(self) -> bool:
        """Whether this node has a seat and uses it at the present height."""
        return self._core is not None and not self._core.abstaining

    @property
    def state_root(self) -> bytes:
        """Root of the state after the last applied block, as this node has computed it.

        Not the application's at this instant: that may be one block ahead of `head`.
        """
        return self.head.state_root

    @property
    def counts(self) -> dict[str, int]:
        """What has been since the start, and what was dropped or refused, by kind."""
        return {**self._counts, "dropped_inputs": self._inbox.dropped}

    def on_applied(self, listener: Listener) -> None:
        """Call `listener(block, certificate, result)` after each applied block, in order."""
        self._listeners.append(listener)

    def ask_whether_level(self, is_level: Callable[[], bool]) -> None:
        """Ask this at each height whether no later block exists as far as the others say (R22)."""
        self._is_level = is_level

    # -- opening -----------------------------------------------------------------------------

    async def open(self, mempool: Mempool, evidence: EvidencePool) -> None:
        """Load the state at the store's height and wake the core with what the log remembers.

        Raises
        ------
        StoreError
            The stored state is not the one its last certificate proves. The text is one line.
        """
        self._mempool = mempool
        self._evidence = evidence
        self._parent = await self._replica.open()
        self._take_terms()
        self._core = Core(
            self._genesis.chain_id,
            self._key.public,
            self._key.sign,
            params=self._params.consensus,
        )
        for record in self._wal.records:
            self._note_signed(record)
        self._core.recover(self._wal.records)
        if self._wal.damage is not None:
            log.warning(
                "the write-ahead log: %s; this node does not vote until two heights have been "
                "decided without it",
                self._wal.damage,
            )

    # -- running -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Take inputs one by one, for ever. Whatever escapes from here must stop the node."""
        await self._enter()
        while True:
            item = await self._inbox.take()
            if isinstance(item, Certified | Jump):
                await self._take_foreign(item)
            elif self._core is not None:
                await self._perform(self._core.handle(item))

    def close(self) -> None:
        """Stop the execution thread and the timers."""
        if self._begin_timer is not None:
            self._begin_timer.cancel()
        for job in self._jobs:
            job.cancel()
        self._replica.close()

    async def apply_certified(self, block: Block, certificate: Certificate) -> None:
        """Apply a block that others have decided; returns when it is applied or known already.

        Raises
        ------
        BadBlock
            It is not the next block, not certified, or not what its header says.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.put(Certified(block, certificate, done))
        await done

    async def jump(
        self,
        block: Block,
        certificate: Certificate,
        epoch_ends: Sequence[SignedHeader],
        pairs: Pairs,
    ) -> None:
        """Take over the state after a block that a light client has found final: `Replica.jump`.

        Returns when it is durable and in force, or when the chain is that far already.

        Raises
        ------
        BadSnapshot
            The pairs are not those of the block's state root. Nothing has changed.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.put(Jump(block, certificate, epoch_ends, pairs, done))
        await done

    # -- effects -----------------------------------------------------------------------------

    async def _perform(self, effects: Sequence[ev.Effect]) -> None:
        """Do what the core asks, in order."""
        unsynced = False
        for effect in effects:
            if isinstance(effect, ev.Persist):
                self._wal.append(effect.record)
                self._note_signed(effect.record)
                unsynced = True
                continue
            if unsynced:
                await asyncio.to_thread(self._wal.sync)
                unsynced = False
            await self._do(effect)
        if unsynced:
            await asyncio.to_thread(self._wal.sync)

    def _note_signed(self, record: WalRecord) -> None:
        match record:
            case VoteRecord(vote) | LockRecord(precommit=vote):
                self._last_vote = vote

    async def _do(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Broadcast(message):
                data = encode(message)
                for index, peer in enumerate(self._peers):
                    if index != self.index:
                        self._network.send(peer, PROTOCOL, data)
            case ev.Send(to, message):
                self._network.send(self._peers[to], PROTOCOL, encode(message))
            case ev.SetTimer(timer, delay_ms):
                loop = asyncio.get_running_loop()
                loop.call_later(delay_ms / 1000, self._inbox.put, ev.TimerFired(timer))
            case ev.BuildBlock(height, round_):
                self._spawn(self._build(height, round_))
            case ev.CheckBlock(block, block_hash):
                self._spawn(self._check(block, block_hash))
            case ev.Decide(block, certificate):
                await self._decide(block, certificate)
            case ev.ReportEvidence(evidence):
                self._counts["evidence"] += 1
                if self._evidence is not None:
                    self._evidence.report(evidence)
            case ev.Misbehaved(sender, reason):
                self._network.penalize(self._peers[sender], reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._job_done)

    def _job_done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            self._inbox.fail(error)

    async def _build(self, height: int, round_: int) -> None:
        head = self.head
        if head.header.height + 1 != height or self.index is None:
            return
        if self._mempool is None or self._evidence is None:
            return
        time_ms = max(self._now_ms(), head.header.time_ms + 1)
        params = self._params
        proven = self._evidence.due(height)
        count_max = self._replica.transactions_max(params, round_)
        chosen = self._mempool.reap(time_ms, params.block_bytes_max, count_max)
        block = await self._replica.build(self.index, time_ms, chosen, proven)
        if block is None:
            return
        self._inbox.put(ev.BlockBuilt(height, round_, block))

    async def _check(self, block: Block, block_hash: bytes) -> None:
        height = block.header.height
        try:
            is_next = await self._replica.check(block, block_hash)
        except BlockRefused as refused:
            log.warning("the proposal at height %d is refused: %s", height, refused)
            self._counts["refused_blocks"] += 1
            self._inbox.put(ev.BlockChecked(height, block_hash, False))
            return
        if is_next:
            self._inbox.put(ev.BlockChecked(height, block_hash, True))

    # -- applying ----------------------------------------------------------------------------

    async def _take_foreign(self, item: Certified | Jump) -> None:
        try:
            if isinstance(item, Jump):
                await self._jump(item)
            else:
                await self._apply_foreign(item.block, item.certificate)
        except (BadBlock, BadSnapshot) as bad:
            # Who waited may have been stopped meanwhile.
            if not item.done.done():
                item.done.set_exception(bad)
        else:
            if not item.done.done():
                item.done.set_result(None)

    async def _jump(self, item: Jump) -> None:
        if item.block.header.height <= self.height:
            return
        await self._replica.jump(item.block, item.certificate, item.epoch_ends, item.pairs)
        self._parent = Decided(item.block, item.certificate)
        if self._mempool is not None:
            self._mempool.skipped()
        if self._evidence is not None:
            self._evidence.applied()
        await self._enter()

    async def _apply_foreign(self, block: Block, certificate: Certificate) -> None:
        if block.header.height <= self.height:
            return
        result = await self._replica.apply_certified(block, certificate, self.authorities)
        self._tell(block, certificate, result)
        self._parent = Decided(block, certificate)
        await self._enter()

    async def _decide(self, block: Block, certificate: Certificate) -> None:
        if block.header.height != self.height + 1:
            return
        self.decided_height = block.header.height
        result = await self._replica.apply_decided(block, certificate)
        self._tell(block, certificate, result)
        await self._enter()

    def _tell(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        """Say to whoever listens that a block has been applied."""
        self._counts["blocks"] += 1
        self._counts["transactions"] += len(block.txs)
        if self._mempool is not None:
            self._mempool.decided([receipt.tx_id for receipt in result.receipts])
        for listener in self._listeners:
            listener(block, certificate, result)

    # -- when to make a block ----------------------------------------------------------------

    async def _enter(self) -> None:
        """Begin work on the height after the head."""
        self._take_terms()
        if self._core is None:
            return
        parent, self._parent = self._parent, None
        entered = ev.EnterHeight(
            self.height + 1,
            self.authorities,
            parent,
            behind=not self._is_level(),
            params=self._params.consensus,
        )
        await self._perform(self._core.handle(entered))
        if self._wal.bulky:
            await self._shorten_log(self._core)
        self.consider_block()

    def _take_terms(self) -> None:
        """Learn who decides the height after the head, and by which parameters."""
        terms = self._replica.terms()
        if terms.epoch == self.authorities.epoch:
            return
        self._inbox.release_early()
        had_seat = self.index is not None
        self._seat(set_of(terms))
        self._params = chain_of(terms.chain)
        if had_seat != (self.index is not None):
            what = "loses its seat" if had_seat else f"has seat {self.index}"
            log.info("this node %s in epoch %d", what, terms.epoch)

    def _seat(self, authorities: AuthoritySet) -> None:
        self.authorities = authorities
        self.index = authorities.index_of(self._key.public)
        self._peers = [peer_id_of(public) for public in authorities.publics]
        self._inbox.seat(self._peers)
        # However many homes there are, every authority must hear every other.
        self._network.pin(self.other_authorities if self.index is not None else ())

    async def _shorten_log(self, core: Core) -> None:
        # The store is durable below this height, so the core needs this height's records only. The
        # last vote stays beside them: should the database be lost, and the heights come by again,
        # it tells what this node may not sign any more.
        last = [VoteRecord(self._last_vote)] if self._last_vote is not None else []
        await asyncio.to_thread(self._wal.rewrite, [*last, *core.wal_records()])

    def consider_block(self) -> None:
        """Set the moment at which there is reason for the next block; call when one arises."""
        if self._core is None or self._mempool is None or self._evidence is None:
            return
        if self._begin_timer is not None:
            self._begin_timer.cancel()
        if self.index is None:
            return
        last_ms = self.head.header.time_ms
        params = self._params
        due_ms = min(last_ms + params.heartbeat_ms, self._replica.next_deadline_ms(last_ms))
        if len(self._mempool) or self._evidence.due(self.height + 1):
            due_ms = min(due_ms, last_ms + params.block_interval_ms)
        delay_s = max(due_ms - self._now_ms(), 0) / 1000
        loop = asyncio.get_running_loop()
        self._begin_timer = loop.call_later(
            delay_s, self._inbox.put, ev.BeginRounds(self.height + 1)
        )
