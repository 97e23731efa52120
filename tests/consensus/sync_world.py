"""One node's sync machine among simulated peers: one seed is one run, to the byte."""

import heapq
import itertools
from collections.abc import Callable
from random import Random

from msgspec.structs import replace

from consensus import sync_events as ev
from consensus.light import SignedHeader
from consensus.messages import Block, header_hash
from consensus.snapshot import pairs_of
from consensus.sync import Sync
from consensus.sync_messages import (
    Answer,
    Blocks,
    Chunk,
    GetChunk,
    Headers,
    Manifest,
    Nothing,
    Question,
    Status,
)
from tests.consensus.ready import (
    HonestPeer,
    ReadyChain,
    Snapshot,
    certify,
    make_snapshot,
    ready_chain,
    root_of,
    set_of,
    state_at,
)
from wire.codec import encode

END_MS = 30 * 60_000


class Liar(HonestPeer):
    """Answers as an honest peer would, but for what `lies` makes of it."""

    honest = False

    def __init__(self, chain: ReadyChain, height: int, lie: str, rng: Random) -> None:
        super().__init__(chain, height)
        self.lie = lie
        self.rng = rng
        if lie == "snapshot" and self.snapshot is not None:
            self.snapshot = _forged_snapshot(chain, self.snapshot)
        if lie == "foreign_manifest" and self.snapshot is not None:
            manifest = replace(self.snapshot.manifest, state_root=bytes(32))
            self.snapshot = Snapshot(manifest, self.snapshot.chunks)

    def answer(self, question: Question) -> Answer | None:
        honest = super().answer(question)
        return getattr(self, f"_{self.lie}")(question, honest)

    # Each returns what is said instead of `honest`.

    def _stall(self, question: Question, honest: Answer | None) -> Answer | None:
        return honest if isinstance(honest, Status) else None

    def _mute(self, question: Question, honest: Answer | None) -> Answer | None:
        return None

    def _high(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Status):
            return replace(honest, height=10**12)
        return type(honest)(()) if isinstance(honest, Headers | Blocks) else honest

    def _high_snapshot(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Status):
            return replace(honest, height=10**12, snapshot_height=10**11, snapshot_id=b"x" * 32)
        return Nothing() if isinstance(question, GetChunk) else honest

    def _unlinked(self, question: Question, honest: Answer | None) -> Answer | None:
        """One header has another parent, and its set's signatures: f+1 would have to be faulty."""
        if not isinstance(honest, Headers) or not honest.headers:
            return honest
        headers = list(honest.headers)
        place = self.rng.randrange(len(headers))
        header = replace(headers[place].header, parent_hash=self.rng.randbytes(32))
        certificate = certify(header_hash(header), header.height, set_of(header.height))
        headers[place] = replace(headers[place], header=header, certificate=certificate)
        return Headers(tuple(headers))

    def _uncertified(self, question: Question, honest: Answer | None) -> Answer | None:
        if not isinstance(honest, Headers) or not honest.headers:
            return honest
        headers = list(honest.headers)
        place = self.rng.randrange(len(headers))
        good = headers[place].certificate
        spoiled = (*good.signatures[:-1], self.rng.randbytes(64))
        headers[place] = replace(headers[place], certificate=replace(good, signatures=spoiled))
        return Headers(tuple(headers))

    def _reordered(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Headers) and len(honest.headers) > 1:
            return Headers(honest.headers[::-1])
        if isinstance(honest, Blocks) and len(honest.blocks) > 1:
            return Blocks(honest.blocks[::-1])
        return honest

    def _duplicated(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Headers) and honest.headers:
            return Headers((honest.headers[0], *honest.headers)[:128])
        if isinstance(honest, Blocks) and honest.blocks:
            return Blocks((honest.blocks[0], *honest.blocks)[:64])
        return honest

    def _wrong_body(self, question: Question, honest: Answer | None) -> Answer | None:
        if not isinstance(honest, Blocks) or not honest.blocks:
            return honest
        place = self.rng.randrange(len(honest.blocks))
        true = self.chain.blocks[question.first + place]  # type: ignore[union-attr]
        false = encode(Block(true.header, (b"mine",), true.last_certificate))
        return Blocks((*honest.blocks[:place], false, *honest.blocks[place + 1 :]))

    def _garbage(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Blocks) and honest.blocks:
            return Blocks(tuple(self.rng.randbytes(50) for _ in honest.blocks))
        return honest if isinstance(honest, Status) else Chunk(b"?")

    def _wrong_chunk(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Chunk):
            return Chunk(honest.data[:-1] + bytes([honest.data[-1] ^ 1]))
        return honest

    def _wrong_manifest(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Manifest):
            return replace(honest, chunks=honest.chunks[::-1])
        return honest

    def _snapshot(self, question: Question, honest: Answer | None) -> Answer | None:
        return honest

    def _foreign_manifest(self, question: Question, honest: Answer | None) -> Answer | None:
        return honest

    def _short_path(self, question: Question, honest: Answer | None) -> Answer | None:
        if isinstance(honest, Headers) and len(honest.headers) > 1:
            return Headers(honest.headers[:-1])
        return honest


LIES = sorted(
    name[1:]
    for name in vars(Liar)
    if name.startswith("_") and not name.startswith("__") and callable(getattr(Liar, name))
)
# These cannot be told from bad luck: whoever does so is only asked last.
NO_PROOF = {"stall", "mute", "high", "high_snapshot"}


def _forged_snapshot(chain: ReadyChain, true: Snapshot) -> Snapshot:
    height = true.manifest.height
    pairs = state_at(height)
    pairs[3] = (pairs[3][0], b"a thousand more for me")
    return make_snapshot(chain.blocks[height].header, pairs)


class SyncWorld:
    """Runs the machine from genesis (or `start`) among peers until it is at `goal`."""

    def __init__(
        self,
        seed: int,
        peers: dict[str, HonestPeer],
        snapshot_behind: int = 0,
        start: int = 0,
        loss: float = 0.0,
        duplicates: float = 0.0,
    ) -> None:
        self.rng = Random(seed)
        self.chain = ready_chain()
        self.peers = peers
        self.machine = Sync(self.chain.trusted(start), snapshot_behind)
        self.height = start
        self.now_ms = 0
        self.loss = loss
        self.duplicates = duplicates
        self.dropped: dict[str, str] = {}
        self.loaded: list[int] = []
        self.asked = 0
        self.applied: list[int] = []
        self.spool: dict[int, bytes] = {}
        self.spooled_before: frozenset[int] = frozenset()
        self.open_max = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._do(ev.Start())
        for name in peers:
            self._later(self.rng.randint(0, 500), lambda name=name: self._do(ev.PeerCame(name)))

    def run(self, goal: int, end_ms: int = END_MS) -> "SyncWorld":
        """Run until the node has applied `goal`."""
        while self.height < goal:
            if not self._queue or self._queue[0][0] > end_ms:
                states = [(p.id, p.height, p.doubted, dict(p.open)) for p in self.machine.peers]
                raise AssertionError(f"at {self.height} of {goal}, {self.now_ms} ms: {states}")
            self.step()
        return self

    def run_ms(self, length_ms: int) -> "SyncWorld":
        """Run for some time."""
        end_ms = self.now_ms + length_ms
        while self._queue and self._queue[0][0] <= end_ms:
            self.step()
        self.now_ms = end_ms
        return self

    def step(self) -> None:
        self.now_ms, _, work = heapq.heappop(self._queue)
        work()

    def feed(self, event: ev.Event) -> None:
        """Something happens now."""
        self._do(event)

    def _later(self, delay_ms: int, work: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now_ms + delay_ms, next(self._count), work))

    def _do(self, event: ev.Event) -> None:
        for effect in self.machine.handle(event):
            self._carry_out(effect)
        self.open_max = max(self.open_max, len(self.machine._requests))

    def _carry_out(self, effect: ev.Effect) -> None:
        match effect:
            case ev.SetTimer(timer, delay_ms):
                self._later(delay_ms, lambda: self._do(ev.TimerFired(timer)))
            case ev.Ask(request, peer, question):
                self._ask(request, peer, question)
            case ev.Apply(block, certificate):
                self._later(self.rng.randint(1, 5), lambda: self._apply(block))
                assert certificate.block_hash == header_hash(block.header)
            case ev.Drop(peer, reason):
                assert not self.peers[peer].honest, f"honest {peer} is dropped: {reason}"
                self.dropped[peer] = reason
            case ev.OpenSpool(manifest):
                self.spool = {}
                opened = ev.SpoolOpened(manifest.id, self.spooled_before)
                self._later(3, lambda: self._do(opened))
            case ev.SpoolChunk(_, index, data):
                self.spool[index] = data
            case ev.LoadSnapshot():
                self._later(50, lambda: self._load(effect))

    def _ask(self, request: int, name: str, question: Question) -> None:
        self.asked += 1
        assert name not in self.dropped
        peer = self.peers.get(name)
        answer = peer.answer(question) if peer is not None else None
        if answer is None or self.rng.random() < self.loss:
            return
        answered = ev.Answered(request, answer)
        self._later(self.rng.randint(5, 400), lambda: self._do(answered))
        if self.rng.random() < self.duplicates:
            self._later(self.rng.randint(5, 2_000), lambda: self._do(answered))

    def _apply(self, block: Block) -> None:
        height = block.header.height
        if height <= self.height:
            return
        assert height == self.height + 1
        assert block == self.chain.blocks[height]
        self.move_to(height)

    def move_to(self, height: int) -> None:
        """The block is applied, whoever brought it."""
        self.height = height
        self.applied.append(height)
        self._do(ev.HeadMoved(self.chain.blocks[height].header, set_of(height + 1)))

    def _load(self, effect: ev.LoadSnapshot) -> None:
        manifest, header = effect.manifest, effect.block.header
        data = {**{i: self._chunk_before(i) for i in self.spooled_before}, **self.spool}
        pairs = list(pairs_of(data[index] for index in range(len(manifest.chunks))))
        if root_of(pairs) != header.state_root:
            self._do(ev.SnapshotLoaded(manifest.id, "it has another state root"))
            return
        assert effect.block == self.chain.blocks[header.height]
        assert effect.authorities == set_of(header.height + 1)
        # From where the fetch began, which blocks applied meanwhile may have left behind.
        epochs = [signed.header.epoch for signed in effect.path]
        now, then = set_of(self.height + 1).epoch, set_of(header.height + 1).epoch
        assert epochs == list(range(epochs[0] if epochs else then, then))
        assert now >= then or epochs[0] <= now
        self.loaded.append(header.height)
        self.move_to(header.height)
        self._do(ev.SnapshotLoaded(manifest.id))

    def _chunk_before(self, index: int) -> bytes:
        newest = max(self.chain.snapshots)
        return self.chain.snapshots[newest].chunks[index]


def signed_at(height: int) -> SignedHeader:
    return ready_chain().signed[height]
