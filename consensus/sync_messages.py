"""The questions and answers of catching up; a peer is asked one thing at a time and owes nothing.

Sizes are part of the types or named below; what an answer proves is for `sync` to find out.
"""

import hashlib
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from consensus.light import HEADERS_MAX, SignedHeaders
from consensus.messages import BLOCK_BYTES_MAX, Hash, Unsigned
from wire.codec import Message, decode, encode

BLOCKS_MAX: Final = 64
# Of the blocks in one answer together, but for the first.
BLOCKS_BYTES_MAX: Final = 4 * 1_048_576
CHUNK_BYTES: Final = 262_144
SNAPSHOT_CHUNKS_MAX: Final = 4_096
SNAPSHOT_BYTES_MAX: Final = SNAPSHOT_CHUNKS_MAX * CHUNK_BYTES
QUESTION_BYTES_MAX: Final = 256
ANSWER_BYTES_MAX: Final = BLOCKS_BYTES_MAX + BLOCK_BYTES_MAX + 65_536

_SNAPSHOT_DOMAIN: Final = b"commonwatt/snapshot/1\0"

HashOrNone: TypeAlias = Annotated[bytes, Meta(max_length=32)]
ChunkIndex: TypeAlias = Annotated[int, Meta(ge=0, lt=SNAPSHOT_CHUNKS_MAX)]


class GetStatus(Message, frozen=True, tag="get-status"):
    """How far are you, and what can you give?"""


class Status(Message, frozen=True, tag="status"):
    """The last applied block, the lowest block of the run up to it, and the snapshot on offer.

    `snapshot_id` is the hash of the manifest; empty if there is none on offer.
    """

    height: Unsigned
    block_hash: Hash
    first_height: Unsigned = 0
    snapshot_height: Unsigned = 0
    snapshot_id: HashOrNone = b""


class GetHeaders(Message, frozen=True, tag="get-headers"):
    """Headers with certificates from `first` on, please."""

    first: Unsigned
    count: Annotated[int, Meta(ge=1, le=HEADERS_MAX)]


class GetPath(Message, frozen=True, tag="get-path"):
    """The last headers of the epochs from `epoch` on, and then the header at `height`, please."""

    epoch: Unsigned
    height: Unsigned


class Headers(Message, frozen=True, tag="headers"):
    """What was asked for, from the beginning; empty if it is not here."""

    headers: SignedHeaders


class GetBlocks(Message, frozen=True, tag="get-blocks"):
    """Blocks from `first` on, please."""

    first: Unsigned
    count: Annotated[int, Meta(ge=1, le=BLOCKS_MAX)]


class Blocks(Message, frozen=True, tag="blocks"):
    """Encoded blocks in order of height, from the first asked for; their headers name them."""

    blocks: Annotated[tuple[bytes, ...], Meta(max_length=BLOCKS_MAX)]


class GetManifest(Message, frozen=True, tag="get-manifest"):
    """The manifest with this hash, please."""

    snapshot_id: Hash


class Manifest(Message, frozen=True, tag="manifest"):
    """The state after one block, as a stream cut into chunks.

    `size` is the stream's length in bytes; all chunks but the last have `CHUNK_BYTES`.
    """

    height: Unsigned
    block_hash: Hash
    state_root: Hash
    size: Annotated[int, Meta(ge=1, le=SNAPSHOT_BYTES_MAX)]
    chunks: Annotated[tuple[Hash, ...], Meta(min_length=1, max_length=SNAPSHOT_CHUNKS_MAX)]

    def __post_init__(self) -> None:
        if len(self.chunks) != -(-self.size // CHUNK_BYTES):
            raise ValueError(f"{len(self.chunks)} chunks cannot hold {self.size} bytes")

    @property
    def id(self) -> bytes:
        """The hash that names the snapshot, and by it every byte of its stream."""
        return hashlib.sha256(_SNAPSHOT_DOMAIN + encode(self)).digest()


class GetChunk(Message, frozen=True, tag="get-chunk"):
    """A chunk of the snapshot with this id, please."""

    snapshot_id: Hash
    index: ChunkIndex


class Chunk(Message, frozen=True, tag="chunk"):
    """The chunk asked for."""

    data: Annotated[bytes, Meta(min_length=1, max_length=CHUNK_BYTES)]


class Nothing(Message, frozen=True, tag="nothing"):
    """What was asked for is not here (any more)."""


Question: TypeAlias = GetStatus | GetHeaders | GetPath | GetBlocks | GetManifest | GetChunk
Answer: TypeAlias = Status | Headers | Blocks | Manifest | Chunk | Nothing


def decode_question(data: bytes) -> Question:
    """Decode an untrusted question. Errors as `wire.codec.decode`."""
    return decode(data, Question, QUESTION_BYTES_MAX)  # type: ignore[arg-type]


def decode_answer(data: bytes) -> Answer:
    """Decode an untrusted answer. Errors as `wire.codec.decode`."""
    return decode(data, Answer, ANSWER_BYTES_MAX)  # type: ignore[arg-type]
