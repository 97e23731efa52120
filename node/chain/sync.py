"""Catching up: drives `consensus.sync` over the network, the chain, the store and the spool.

The machine decides whom to ask for what and what to believe; here its questions are carried, its
blocks applied and its snapshots loaded, and those of the neighbours answered.
"""

import asyncio
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeAlias

from consensus import sync_events as ev
from consensus.light import LightClient, SignedHeaders
from consensus.messages import (
    Block,
    Certificate,
)
from consensus.sync import ANSWER_TIMEOUT_MS
from consensus.sync import Sync as Machine
from consensus.sync_messages import (
    Answer,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    Headers,
    Nothing,
    Question,
    Status,
    decode_answer,
    decode_question,
)
from market.app import BlockResult
from node.chain.archive import Archive
from node.chain.driver import Chain
from node.chain.snapshots import Snapshots, Spool
from node.chain.store import Store
from node.errors import BadBlock, BadSnapshot
from node.network.base import Network, NetworkError
from wire.codec import encode
from wire.errors import DecodeError

log = logging.getLogger("commonwatt.sync")

PROTOCOL: Final = "sync"
# The machine gives up first; this only ends what hangs.
REQUEST_TIMEOUT_S: Final = 2 * ANSWER_TIMEOUT_MS / 1000

_Input: TypeAlias = ev.Event | BaseException


class Sync:
    """Answers questions about the chain, and asks them while this home is behind.

    Parameters
    ----------
    chain, store, network : the parts it works on
    snapshots : Snapshots
        What this home offers.
    data : Path
        The node's data directory; the snapshot being fetched is spooled there.
    snapshot_behind : int
        A home so many blocks behind fetches a snapshot; 0: only if nobody has the blocks.
    """

    def __init__(
        self,
        chain: Chain,
        store: Store,
        network: Network,
        snapshots: Snapshots,
        data: Path,
        snapshot_behind: int,
    ) -> None:
        self._chain = chain
        self._store = store
        self._network = network
        self._snapshots = snapshots
        self._archive = Archive(store, chain.epochs)
        self._spool = Spool(data)
        self._snapshot_behind = snapshot_behind
        self._machine: Machine | None = None
        # Peers, answers and timers; each is bounded by what the machine has asked for.
        self._events: asyncio.Queue[_Input] = asyncio.Queue()
        self._jobs: set[asyncio.Task[None]] = set()
        self.counts = {"snapshots_loaded": 0, "peers_dropped": 0, "questions": 0}
        network.on_request(PROTOCOL, self._answer)
        network.on_peer(self._on_peer)
        chain.on_applied(self._applied)
        chain.ask_whether_level(self.is_level)

    @property
    def behind(self) -> int:
        """How many blocks are known to be missing here: proven, or claimed by the credible."""
        return self._machine.behind if self._machine is not None else 0

    def is_level(self) -> bool:
        """Tell whether a quorum of other authorities has said that it has no later block.

        Said since this start: an old certificate is no proof that there is nothing newer (R22).
        """
        if self._machine is None:
            return False
        chain, peers = self._chain, self._machine.peers
        said = sum(map(peers.said, chain.other_authorities))
        return said >= chain.authorities.quorum and peers.best_claim() <= chain.height

    @property
    def fetching_snapshot(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._machine is not None and self._machine.fetching_snapshot

    def heard(self, peer: str, height: int) -> None:
        """Note that a block at `height` is proven to be decided; `peer` may have it."""
        self._events.put_nowait(ev.Heard(peer, height))

    def hinted(self, peer: str) -> None:
        """Ask this neighbour how far it is: it spoke of a block that cannot be judged here yet."""
        if peer in {known.peer_id for known in self._network.peers()}:
            self._events.put_nowait(ev.PeerCame(peer))

    def _on_peer(self, peer: str, came: bool) -> None:
        self._events.put_nowait(ev.PeerCame(peer) if came else ev.PeerGone(peer))

    def _applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        del certificate, result
        self._events.put_nowait(ev.HeadMoved(block.header, self._chain.next_authorities))

    # -- running -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Catch up, for ever. Whatever escapes from here must stop the node."""
        chain = self._chain
        head = chain.head.header
        trusted = LightClient(head.chain_id, chain.next_authorities, head)
        machine = self._machine = Machine(trusted, self._snapshot_behind)
        await asyncio.to_thread(self._spool.clear_up_to, head.height)
        try:
            await self._perform(machine.handle(ev.Start()))
            while True:
                event = await self._events.get()
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, ev.Answered) and isinstance(event.answer, Headers | Blocks):
                    # Signatures and hashes of many: the loop goes on moving votes meanwhile.
                    effects = await asyncio.to_thread(machine.handle, event)
                else:
                    effects = machine.handle(event)
                await self._perform(effects)
        finally:
            for job in self._jobs:
                job.cancel()

    async def _perform(self, effects: list[ev.Effect]) -> None:
        loop = asyncio.get_running_loop()
        for effect in effects:
            match effect:
                case ev.Ask(request, peer, question):
                    self.counts["questions"] += 1
                    self._spawn(self._ask(request, peer, question))
                case ev.SetTimer(timer, delay_ms):
                    fired = ev.TimerFired(timer)
                    loop.call_later(delay_ms / 1000, self._events.put_nowait, fired)
                case ev.Apply(block, certificate):
                    self._spawn(self._apply(block, certificate))
                case ev.OpenSpool(manifest):
                    log.info("fetching a snapshot of height %d", manifest.height)
                    indices = await asyncio.to_thread(self._spool.open, manifest)
                    self._events.put_nowait(ev.SpoolOpened(manifest.id, indices))
                case ev.SpoolChunk(_, index, data):
                    await asyncio.to_thread(self._spool.write, index, data)
                case ev.LoadSnapshot():
                    self._spawn(self._load(effect))
                case ev.Drop(peer, reason):
                    self.counts["peers_dropped"] += 1
                    log.warning("peer %s is asked no more: %s", peer, reason)
                    self._network.penalize(peer, reason)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._job_done)

    def _job_done(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (error := job.exception()) is not None:
            self._events.put_nowait(error)

    async def _ask(self, request: int, peer: str, question: Question) -> None:
        try:
            data = await self._network.request(peer, PROTOCOL, encode(question), REQUEST_TIMEOUT_S)
            answered = ev.Answered(request, decode_answer(data))
        except NetworkError as error:
            log.debug("%s: %s", peer, error)
            answered = ev.Answered(request, None)
        except DecodeError as error:
            answered = ev.Answered(request, None, f"malformed answer: {error}")
        self._events.put_nowait(answered)

    async def _apply(self, block: Block, certificate: Certificate) -> None:
        try:
            await self._chain.apply_certified(block, certificate)
        except BadBlock as bad:
            self._events.put_nowait(ev.BlockRefused(block.header.height, str(bad)))

    async def _load(self, effect: ev.LoadSnapshot) -> None:
        manifest, block = effect.manifest, effect.block
        problem = ""
        try:
            await self._chain.jump(
                block, effect.certificate, effect.path, lambda: self._spool.pairs(manifest)
            )
        except BadSnapshot as bad:
            problem = str(bad)
            await asyncio.to_thread(self._spool.clear)
        else:
            self.counts["snapshots_loaded"] += 1
            log.info("the snapshot of height %d is in force", manifest.height)
            await self._snapshots.take_over(self._spool.path, manifest)
            self._events.put_nowait(ev.HeadMoved(block.header, effect.authorities))
        self._events.put_nowait(ev.SnapshotLoaded(manifest.id, problem))

    # -- answering ---------------------------------------------------------------------------

    async def _answer(self, peer: str, data: bytes) -> bytes:
        del peer
        return encode(await self.answer_to(decode_question(data)))

    async def answer_to(self, question: Question) -> Answer:
        """Return the answer to a neighbour's question."""
        match question:
            case GetHeaders(first, count):
                return Headers(await self._archive.headers(first, count))
            case GetPath(epoch, height):
                return Headers(await self.path(epoch, height))
            case GetBlocks(first, count):
                return Blocks(tuple(await self._archive.blocks(first, count)))
            case GetManifest(id_):
                return self._snapshots.manifest(id_) or Nothing()
            case GetChunk(id_, index):
                chunk = await self._snapshots.chunk(id_, index)
                return Chunk(chunk) if chunk is not None else Nothing()
            case _:
                height, id_ = self._snapshots.newest
                first_height = self._store.first_height
                head = self._chain.head
                if height > head.header.height:
                    height, id_ = 0, b""
                return Status(head.header.height, head.hash, first_height, height, id_)

    async def path(self, epoch: int, height: int) -> SignedHeaders:
        """Return the way to the header at `height`; see `Archive.path`."""
        return await self._archive.path(epoch, height)
