"""What a region shows of itself to auditors, and how they ask for it.

All authorities keep the main chain, and are peers of each other there; so a region is asked over
the main chain's network, with the questions of catching up (`consensus/sync_messages.py`) and two
more, for the genesis and for what a chain in another's place begins with. What it shows is believed
only as far as hashes and certificates go: the genesis is the registered one, and a snapshot is of a
header to which certificates lead from the genesis.
"""

import asyncio
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeAlias, TypeVar

from msgspec import Meta

from consensus.authorities import AuthoritySet
from consensus.light import LightClient
from consensus.messages import BLOCK_BYTES_MAX, Block, Certificate, Header, header_hash
from consensus.snapshot import chunk_is_good
from consensus.sync_messages import (
    ANSWER_BYTES_MAX,
    BLOCKS_MAX,
    CHUNK_BYTES,
    QUESTION_BYTES_MAX,
    Answer,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    GetStatus,
    Headers,
    Manifest,
    Question,
    Status,
)
from node.errors import BadBlock, BadSnapshot, GenesisError, PeerError
from node.genesis import GENESIS_BYTES_MAX, Genesis
from node.network.base import Network, NetworkError
from node.regions.succession import inherited_chunk
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

PROTOCOL: Final = "region"
REQUEST_TIMEOUT_S: Final = 20.0
# A region whose snapshot is larger is followed from its genesis.
SNAPSHOT_CHUNKS_MAX: Final = 256
# A region that began with more is not audited.
INHERITED_CHUNKS_MAX: Final = 256


class GetGenesis(Message, frozen=True, tag="get-genesis"):
    """Your region's genesis, please."""


class GenesisShown(Message, frozen=True, tag="genesis-shown"):
    """What was asked for."""

    genesis: Genesis


class GetInherited(Message, frozen=True, tag="get-inherited"):
    """A chunk of the state that your region began with, please; empty beyond its end."""

    index: Annotated[int, Meta(ge=0, lt=INHERITED_CHUNKS_MAX)]


class InheritedShown(Message, frozen=True, tag="inherited-shown"):
    """What was asked for."""

    data: Annotated[bytes, Meta(max_length=CHUNK_BYTES)]


RegionQuestion: TypeAlias = (
    GetGenesis
    | GetInherited
    | GetStatus
    | GetHeaders
    | GetPath
    | GetBlocks
    | GetManifest
    | GetChunk
)
_T = TypeVar("_T")


def decode_region_question(data: bytes) -> RegionQuestion:
    """Decode an untrusted question. Errors as `wire.codec.decode`."""
    return decode(data, RegionQuestion, QUESTION_BYTES_MAX)  # type: ignore[arg-type]


class Answering(Protocol):
    """What answers questions about a chain: `node.chain.sync.Sync`."""

    async def answer_to(self, question: Question) -> Answer:
        """Return the answer to a question of catching up."""


class RegionServer:
    """Shows this node's region to auditors.

    Parameters
    ----------
    genesis : Genesis
        The region's.
    sync : Answering
        The region's.
    network : Network
        The main chain's, not started yet.
    inherited : Path
        The file with what the region began with, if its genesis names such.
    """

    def __init__(
        self, genesis: Genesis, sync: Answering, network: Network, inherited: Path
    ) -> None:
        self._genesis = genesis
        self._sync = sync
        self._inherited = inherited
        network.on_request(PROTOCOL, self._answer)

    async def _answer(self, peer: str, data: bytes) -> bytes:
        del peer
        question = decode_region_question(data)
        if isinstance(question, GetGenesis):
            return encode(GenesisShown(self._genesis))
        if isinstance(question, GetInherited):
            data = await asyncio.to_thread(inherited_chunk, self._inherited, question.index)
            return encode(InheritedShown(data))
        return encode(await self._sync.answer_to(question))


class RegionPeer:
    """An authority of another region, asked over the main chain's network.

    Each question raises `PeerError` if it is not answered or with something else, `BadBlock` or
    `BadSnapshot` if the answer contradicts itself, `ConsensusError` if no certificates lead to it.
    """

    def __init__(self, network: Network, peer_id: str) -> None:
        self._network = network
        self.peer_id = peer_id

    async def status(self) -> Status:
        """Return how far the region is, and of which height it has a snapshot."""
        return await self._ask(GetStatus(), Status)

    async def genesis(self, registered: str) -> Genesis:
        """Return the region's genesis, whose hash must be the registered one. [hexadecimal]"""
        shown = await self._ask(GetGenesis(), GenesisShown, GENESIS_BYTES_MAX + 64)
        genesis = shown.genesis
        if genesis.hash.hex() != registered:
            raise PeerError(f"{self.peer_id} shows another genesis than the registered one")
        try:
            genesis.check()
        except GenesisError as error:
            raise PeerError(f"the genesis of {genesis.chain_id}: {error}") from None
        return genesis

    async def inherited(self) -> list[bytes]:
        """Return what the region began with, in chunks; nothing proves them yet."""
        chunks: list[bytes] = []
        for index in range(INHERITED_CHUNKS_MAX):
            shown = await self._ask(GetInherited(index), InheritedShown)
            chunks.append(shown.data)
            if len(shown.data) < CHUNK_BYTES:
                return chunks
        raise PeerError(f"{self.peer_id} shows a beginning of more than {len(chunks)} chunks")

    async def snapshot(
        self, genesis: Genesis, snapshot_id: bytes
    ) -> tuple[Header, list[bytes]] | None:
        """Return the chunks of a snapshot and the certified header they must be the state of.

        None if it is too large to be held in memory.
        """
        manifest = await self._ask(GetManifest(snapshot_id), Manifest)
        if manifest.id != snapshot_id:
            raise BadSnapshot(f"{self.peer_id} shows another manifest than the one asked for")
        if len(manifest.chunks) > SNAPSHOT_CHUNKS_MAX:
            return None
        header = await self._certified(genesis, manifest.height)
        chunks = []
        for index in range(len(manifest.chunks)):
            chunk = await self._ask(GetChunk(manifest.id, index), Chunk)
            if not chunk_is_good(manifest, index, chunk.data):
                raise BadSnapshot(f"{self.peer_id} shows another chunk than the one asked for")
            chunks.append(chunk.data)
        return header, chunks

    async def blocks(self, first: int, last: int) -> list[tuple[Block, Certificate]]:
        """Return blocks from `first` on, `last` at the most, with their certificates."""
        count = min(BLOCKS_MAX, last - first + 1)
        headers = (await self._ask(GetHeaders(first, count), Headers)).headers
        blocks = (await self._ask(GetBlocks(first, count), Blocks)).blocks
        found = []
        for signed, raw in zip(headers, blocks, strict=False):
            try:
                block = decode(raw, Block, BLOCK_BYTES_MAX)
            except DecodeError as error:
                raise BadBlock(f"{self.peer_id} shows what is no block: {error}") from None
            if header_hash(block.header) != header_hash(signed.header):
                raise BadBlock(f"{self.peer_id} shows a block that is not its header's")
            found.append((block, signed.certificate))
        if not found:
            raise PeerError(f"{self.peer_id} does not show block {first}")
        return found

    async def _certified(self, genesis: Genesis, height: int) -> Header:
        """Return the header at a height, by the way that leads there from the genesis."""
        light = LightClient(genesis.chain_id, AuthoritySet(0, tuple(genesis.authorities)))
        while light.height < height:
            shown = await self._ask(GetPath(light.authorities.epoch, height), Headers)
            before = light.height
            for signed in shown.headers:
                light.accept(signed)
            if light.height == before:
                raise PeerError(f"{self.peer_id} does not show the way to header {height}")
        if light.head is None or light.height != height:
            raise PeerError(f"{self.peer_id} shows another header than that of {height}")
        return light.head

    async def _ask(self, question: Message, kind: type[_T], size_max: int = ANSWER_BYTES_MAX) -> _T:
        """Return an answer of this kind. Raises `PeerError`."""
        try:
            data = await self._network.request(
                self.peer_id, PROTOCOL, encode(question), REQUEST_TIMEOUT_S
            )
            return decode(data, kind, size_max)
        except (NetworkError, DecodeError) as error:
            name = type(question).__name__
            raise PeerError(f"{self.peer_id} does not answer {name}: {error}") from None
