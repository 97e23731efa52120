"""Catching up: the real `consensus.sync` machine of one node, over the simulated network."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from consensus import sync_events as ev
from consensus.authorities import verify_certificate
from consensus.errors import CertificateRefused, InvariantError, SnapshotRefused
from consensus.light import HEADERS_MAX, LightClient
from consensus.messages import Block, Certificate
from consensus.snapshot import pairs_of
from consensus.sync import Sync
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
    Manifest,
    Nothing,
    Question,
    Status,
    decode_answer,
    decode_question,
)
from tests.sim import keys
from tests.sim.errors import Violation
from tests.sim.liar import twist_answer
from wire.codec import encode
from wire.errors import DecodeError

if TYPE_CHECKING:
    from tests.sim.node import SimNode

STALE_MS = 6_000


class Syncer:
    """A process's catching up. The machine is made when there is reason to think it is behind."""

    def __init__(self, node: "SimNode") -> None:
        self._node = node
        self.machine: Sync | None = None
        self._moved_ms = node.world.now_ms
        self._effects: dict[type, Callable[[Any], None]] = {
            ev.Ask: self._ask,
            ev.SetTimer: self._set_timer,
            ev.Apply: self._apply,
            ev.OpenSpool: self._open_spool,
            ev.SpoolChunk: self._spool_chunk,
            ev.LoadSnapshot: self._load,
            ev.Drop: self._drop,
        }

    @property
    def behind(self) -> int:
        """How many blocks are known to be missing."""
        return self.machine.behind if self.machine is not None else 0

    def is_level(self) -> bool:
        """Whether a quorum of other authorities has said that it has no later block (R22).

        As `node.chain.sync.Sync.is_level`.
        """
        node = self._node
        if self.machine is None:
            return False
        peers, authorities = self.machine.peers, node.database.state.seats
        said = {
            other.public
            for other in node.world.nodes
            if other.public != node.public
            and other.public in authorities.publics
            and peers.said(str(other.slot))
        }
        return len(said) >= authorities.quorum and peers.best_claim() <= node.height

    def poll(self) -> None:
        """Once a second: begin to ask if others are further, or nothing has come for a while."""
        node, world = self._node, self._node.world
        is_stale = world.now_ms - self._moved_ms > STALE_MS and not world.network.omits
        is_stale = is_stale and not world.is_patient
        # Who has a duty to abstain must learn how far the others are to be free of it (R22).
        is_mute = node.core.abstaining and not world.network.omits
        if self.machine is None and (
            is_mute or is_stale or node.core.seen_height > node.height + 1
        ):
            self._begin()

    def heard(self, slot: int, certificate: Certificate) -> None:
        """A notice: a height is decided, and whoever says so may have the block."""
        node = self._node
        height = certificate.height
        if height <= node.height or (self.machine is None and height == node.height + 1):
            return
        if self.machine is None and node.world.is_patient:
            return
        authorities = node.database.state.set_of_epoch(certificate.epoch)
        if authorities is None or node.world.rules.epoch_of(height) != certificate.epoch:
            self._begin()
            self.feed(ev.PeerCame(str(slot)))
            return
        try:
            verify_certificate(certificate, authorities, node.world.chain_id, verifier=keys.verify)
        except CertificateRefused:
            return
        self._begin()
        self.feed(ev.Heard(str(slot), height))

    def head_moved(self) -> None:
        """A block is applied, whoever brought it."""
        self._moved_ms = self._node.world.now_ms
        if self.machine is not None:
            database = self._node.database
            self.feed(ev.HeadMoved(database.head.header, database.state.seats))

    def _begin(self) -> None:
        if self.machine is not None:
            return
        node = self._node
        database = node.database
        trusted = LightClient(
            node.world.chain_id, database.state.seats, database.head.header, keys.verify
        )
        self.machine = Sync(trusted, node.world.snapshot_behind)
        self.feed(ev.Start())
        for other in node.world.nodes:
            if other is not node:
                self.feed(ev.PeerCame(str(other.slot)))

    def feed(self, event: ev.Event) -> None:
        if self.machine is not None:
            for effect in self.machine.handle(event):
                self._effects[type(effect)](effect)

    # -- effects

    def _ask(self, effect: ev.Ask) -> None:
        node = self._node
        world = node.world
        world.checker.questions += 1
        service = ("question", effect.request, node.generation, encode(effect.question))
        world.network.send(node.slot, int(effect.peer), service)

    def _set_timer(self, effect: ev.SetTimer) -> None:
        node = self._node
        node.world.schedule(
            node, int(effect.delay_ms * node.speed), ("sync", ev.TimerFired(effect.timer))
        )

    def _apply(self, effect: ev.Apply) -> None:
        node = self._node
        what = ("foreign", effect.block, effect.certificate)
        node.world.schedule(node, node.world.work_ms(), what)

    def _open_spool(self, effect: ev.OpenSpool) -> None:
        node, id_ = self._node, effect.manifest.id
        database = node.database
        if database.spool[0] != id_:
            database.spool = (id_, {})
        opened = ev.SpoolOpened(id_, frozenset(database.spool[1]))
        node.world.schedule(node, node.world.work_ms(), ("sync", opened))

    def _spool_chunk(self, effect: ev.SpoolChunk) -> None:
        id_, chunks = self._node.database.spool
        if id_ == effect.snapshot_id:
            chunks[effect.index] = effect.data

    def _load(self, effect: ev.LoadSnapshot) -> None:
        self._node.world.schedule(self._node, self._node.world.work_ms(), ("load", effect))

    def _drop(self, effect: ev.Drop) -> None:
        world = self._node.world
        if world.nodes[int(effect.peer)].is_honest:
            raise Violation(f"sync: {self._node} drops an honest peer: {effect}")
        world.checker.liars_dropped += 1

    # -- what the chain does for it

    def take_foreign(self, block: Block, certificate: Certificate) -> None:
        """Apply a block that others have decided, as `node.chain.replica` does."""
        node = self._node
        height = block.header.height
        if height != node.height + 1:
            return
        state = node.execute(block, certificate.block_hash)
        if state is None:
            raise InvariantError(f"a certified block at height {height} is refused")
        node.world.checker.on_decide(node, block, certificate, node.database.state.seats)
        if node.commit(block, certificate, state):
            node.enter((block, certificate))

    def take_snapshot(self, effect: ev.LoadSnapshot) -> None:
        """Make the fetched state the chain's, if it is the certified one."""
        node, manifest, block = self._node, effect.manifest, effect.block
        header, database = block.header, node.database
        id_, chunks = database.spool
        if header.height <= node.height or id_ != manifest.id:
            self.feed(ev.SnapshotLoaded(manifest.id))
            return
        try:
            pairs = pairs_of(chunks[index] for index in range(len(manifest.chunks)))
            state = node.world.state_of(pairs)
        except (SnapshotRefused, DecodeError, KeyError) as error:
            problem = str(error)
        else:
            problem = "" if state.root == header.state_root else "it has another state root"
        if problem:
            database.spool = (b"", {})
            self.feed(ev.SnapshotLoaded(manifest.id, problem))
            return
        node.world.checker.on_jump(node, effect, state)
        if node.burns():
            return
        database.jump(block, effect.certificate, state, effect.path)
        if node.burns():
            return
        node.offer_snapshot(state)
        self.head_moved()
        node.enter((block, effect.certificate))
        if node.syncer is self and node.up:
            self.feed(ev.SnapshotLoaded(manifest.id))

    # -- answering

    def asked(self, slot: int, number: int, generation: int, data: bytes) -> None:
        """A peer asks."""
        node, world = self._node, self._node.world
        answer: Answer | None = self.answer_to(decode_question(data))
        raw = encode(answer)
        if node.lies and world.rng.random() < world.lying_share:
            raw = twist_answer(answer, world.rng)
        if raw:
            service = ("answer", number, generation, raw)
            world.network.send(node.slot, slot, service)

    def answered(self, number: int, generation: int, raw: bytes) -> None:
        """A peer answers, if it is this process that asked."""
        if generation != self._node.generation:
            return
        try:
            event = ev.Answered(number, decode_answer(raw))
        except DecodeError as error:
            event = ev.Answered(number, None, f"malformed answer: {error}")
        self.feed(event)

    def answer_to(self, question: Question) -> Answer:
        """What this node knows, as `node.chain.sync.Sync.answer_to`."""
        database = self._node.database
        match question:
            case GetHeaders(first, count):
                return Headers(tuple(map(database.signed, database.run(first, count))))
            case GetPath(epoch, height):
                return Headers(self._path(epoch, height))
            case GetBlocks(first, count):
                run = database.run(first, count)
                return Blocks(tuple(encode(database.blocks[height][0]) for height in run))
            case GetManifest(id_):
                found = self._snapshot(id_)
                return found[0] if found is not None else Nothing()
            case GetChunk(id_, index):
                found = self._snapshot(id_)
                if found is None or index >= len(found[1]):
                    return Nothing()
                return Chunk(found[1][index])
            case _:
                height, id_ = 0, b""
                if self._node.snapshots:
                    height, block_hash = self._node.snapshots[-1]
                    id_ = self._node.world.snapshot(block_hash)[0].id
                first = database.first_height
                return Status(database.height, database.tip_hash, first, height, id_)

    def _snapshot(self, id_: bytes) -> tuple[Manifest, list[bytes]] | None:
        for _, block_hash in self._node.snapshots:
            found: tuple[Manifest, list[bytes]] = self._node.world.snapshot(block_hash)
            if found[0].id == id_:
                return found
        return None

    def _path(self, epoch: int, height: int) -> tuple[Any, ...]:
        database = self._node.database
        if not database.run(height, 1):
            return ()
        ends = [
            end
            for number, end in sorted(database.epoch_ends.items())
            if number >= epoch and end.header.height < height
        ]
        return (*ends, database.signed(height))[:HEADERS_MAX]
