"""One snapshot on its way: manifest, certified header, block, chunks; then it is loaded (S8).

The manifest is whatever its id says, so all who offer one id offer the same bytes, and a chunk that
does not have its hash is a lie of who sent it. Whether the whole is the certified state shows only
when it is loaded; if it is not, all who offered it have lied.
"""

from typing import TYPE_CHECKING, Any, Final

from consensus import sync_events as ev
from consensus.errors import HeaderRefused
from consensus.light import HEADERS_MAX, LightClient, SignedHeader
from consensus.messages import BLOCK_BYTES_MAX, Block, header_hash
from consensus.snapshot import chunk_is_good
from consensus.sync_messages import (
    GetBlocks,
    GetChunk,
    GetManifest,
    GetPath,
    Manifest,
    Nothing,
    Question,
)
from consensus.sync_peers import Peer
from consensus.validate import body_problem
from wire.codec import decode
from wire.errors import DecodeError

if TYPE_CHECKING:
    from consensus.sync import Sync

CHUNKS_OPEN_MAX: Final = 8


class SnapshotFetch:
    """The state of one fetch. `height` and `id` are those of the offer."""

    def __init__(self, height: int, id_: bytes) -> None:
        self.height = height
        self.id = id_
        self.loading = False
        self._manifest: Manifest | None = None
        self._client: LightClient | None = None
        self._path: list[SignedHeader] = []
        self._signed: SignedHeader | None = None
        self._block: Block | None = None
        # None until the spool says which chunks it has already.
        self._missing: dict[int, None] | None = None
        self._progress = 0
        self._progress_polled = -1

    def is_stuck(self) -> bool:
        """Tell, once per poll, whether nothing has come since the last poll."""
        before, self._progress_polled = self._progress_polled, self._progress
        return not self.loading and before == self._progress

    def spooled(self, indices: frozenset[int]) -> None:
        """The spool is open and holds these chunks."""
        if self._manifest is not None and self._missing is None:
            everything = range(len(self._manifest.chunks))
            self._missing = {index: None for index in everything if index not in indices}

    # -- asking

    def advance(self, sync: "Sync") -> None:
        """Ask for what is missing; load when nothing is."""
        if self.loading:
            return
        if self._client is None:
            self._client = sync.trusted.copy()
        if self._manifest is None:
            self._ask(sync, GetManifest(self.id), self._offers)
        if self._signed is None:
            question = GetPath(self._client.authorities.epoch, self.height)
            self._ask(sync, question, lambda peer: peer.height >= self.height)
            return
        if self._block is None:
            self._ask(
                sync,
                GetBlocks(self.height, 1),
                lambda peer: peer.first_height <= self.height <= peer.height,
            )
        if self._missing:
            self._ask_chunks(sync)
        elif self._missing is not None and self._block is not None:
            self._load(sync)

    def _ask(self, sync: "Sync", question: Question, can: Any) -> None:
        if sync.has_room() and not sync.is_asked(question):
            peer = sync.peers.choose(can)
            if peer is not None:
                sync.ask(peer, question)

    def _ask_chunks(self, sync: "Sync") -> None:
        asked = {
            question.index
            for peer in sync.peers
            for question in peer.open.values()
            if type(question) is GetChunk and question.snapshot_id == self.id
        }
        for index in self._missing or ():
            if len(asked) >= CHUNKS_OPEN_MAX or not sync.has_room():
                return
            if index in asked:
                continue
            peer = sync.peers.choose(self._offers)
            if peer is None:
                return
            sync.ask(peer, GetChunk(self.id, index))
            asked.add(index)

    def _offers(self, peer: Peer) -> bool:
        return peer.snapshot_id == self.id

    def _load(self, sync: "Sync") -> None:
        if self._manifest is None or self._signed is None or self._block is None:
            return
        if self._client is None:
            return
        self.loading = True
        sync.emit(
            ev.LoadSnapshot(
                self._manifest,
                self._block,
                self._signed.certificate,
                tuple(self._path),
                self._client.authorities,
            )
        )

    # -- answers; each returns the lie in it, if there is one

    def take(self, sync: "Sync", peer: Peer, question: Question, answer: Any) -> str | None:
        """Take in a manifest, a path or a chunk."""
        if type(question) is GetPath:
            return self._take_path(sync, peer, question, answer.headers)
        if getattr(question, "snapshot_id", None) != self.id:
            return None
        if type(answer) is Nothing:
            # It has made a newer one since it said so.
            peer.snapshot_height, peer.snapshot_id = 0, b""
            return None
        if type(question) is GetManifest:
            return self._take_manifest(sync, peer, answer)
        if type(question) is GetChunk:
            return self._take_chunk(sync, peer, question.index, answer.data)
        return None

    def take_block(
        self, sync: "Sync", peer: Peer, question: GetBlocks, raws: tuple[bytes, ...]
    ) -> str | None:
        """Take in the block that the state is after."""
        if len(raws) > question.count:
            return f"{len(raws)} blocks, {question.count} were asked for"
        if not raws:
            peer.retract()
        elif self._signed is not None and self._block is None:
            block = block_of(raws[0], self._signed.certificate.block_hash)
            if isinstance(block, str):
                return f"block {self.height}: {block}"
            self._block = block
            self._delivered(peer)
        return None

    def _take_manifest(self, sync: "Sync", peer: Peer, manifest: Manifest) -> str | None:
        if manifest.id != self.id:
            return "a manifest that is not the one it offers"
        if manifest.height != self.height:
            return f"a manifest of height {manifest.height}, it offers {self.height}"
        if self._manifest is None:
            self._manifest = manifest
            self._delivered(peer)
            self._compare(sync)
        return None

    def _take_path(
        self, sync: "Sync", peer: Peer, question: GetPath, headers: tuple[SignedHeader, ...]
    ) -> str | None:
        client = self._client
        if client is None or self._signed is not None or question.height != self.height:
            return None
        if question.epoch != client.authorities.epoch:
            return None
        if not headers:
            peer.retract()
            return None
        for signed in headers:
            if signed.header.height > self.height:
                return f"header {signed.header.height} on the way to {self.height}"
            try:
                client.accept(signed)
            except HeaderRefused as refused:
                return str(refused)
            if signed.next_authorities is not None:
                self._path.append(signed)
            if signed.header.height == self.height:
                self._signed = signed
        if self._signed is None and len(headers) < HEADERS_MAX:
            return f"a way to {self.height} that ends at {headers[-1].header.height}"
        self._delivered(peer)
        self._compare(sync)
        return None

    def _take_chunk(self, sync: "Sync", peer: Peer, index: int, data: bytes) -> str | None:
        if self._manifest is None or self._missing is None or index not in self._missing:
            return None
        if not chunk_is_good(self._manifest, index, data):
            return f"chunk {index} of a snapshot does not have its hash"
        del self._missing[index]
        self._delivered(peer)
        sync.emit(ev.SpoolChunk(self.id, index, data))
        return None

    def _delivered(self, peer: Peer) -> None:
        peer.doubted = False
        self._progress += 1

    def _compare(self, sync: "Sync") -> None:
        """With manifest and certified header at hand: are they of one block?"""
        manifest, signed = self._manifest, self._signed
        if manifest is None or signed is None:
            return
        certified = (signed.certificate.block_hash, signed.header.state_root)
        if (manifest.block_hash, manifest.state_root) != certified:
            sync.condemn_snapshot(self, "its manifest is not of the certified block")
        else:
            sync.emit(ev.OpenSpool(manifest))


def block_of(raw: bytes, block_hash: bytes) -> Block | str:
    """Return the encoded block if it is the one with this hash; else say what it is."""
    try:
        block = decode(raw, Block, BLOCK_BYTES_MAX)
    except DecodeError as error:
        return f"malformed: {error}"
    if header_hash(block.header) != block_hash:
        return "it is not the block that its certificate is for"
    return body_problem(block) or block
