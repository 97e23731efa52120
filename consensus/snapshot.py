"""The stream of a snapshot: the whole state in key order, cut into hashed chunks.

    stream = pair ...      pair = key length u16 | key (UTF-8) | value length u32 | value

Big-endian; keys strictly ascend, so one state has one stream, and all honest nodes offer the same
snapshot of a height. The chunk hashes are only as good as who made the manifest; what proves a
snapshot is that its pairs have the state root of a certified header.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from consensus.errors import SnapshotRefused
from consensus.messages import Header, header_hash
from consensus.sync_messages import (
    CHUNK_BYTES,
    SNAPSHOT_BYTES_MAX,
    Manifest,
)

KEY_BYTES_MAX: Final = 1_024
VALUE_BYTES_MAX: Final = 4 * 1_048_576

_KEY: Final = struct.Struct(">H")
_VALUE: Final = struct.Struct(">I")


def chunks_of(pairs: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Cut the stream of ascending `pairs` into chunks; only the last may be short.

    Raises
    ------
    SnapshotRefused
        A pair or the whole is too large to be offered, or the keys do not ascend.
    """
    pending = bytearray()
    size, before = 0, None
    for key, value in pairs:
        raw = key.encode()
        if before is not None and raw <= before:
            raise SnapshotRefused("the keys do not ascend")
        before = raw
        if len(raw) > KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
            raise SnapshotRefused(f"{key!r}: a key or value that no snapshot can hold")
        pending += _KEY.pack(len(raw)) + raw + _VALUE.pack(len(value)) + value
        while len(pending) >= CHUNK_BYTES:
            size += CHUNK_BYTES
            if size > SNAPSHOT_BYTES_MAX:
                raise SnapshotRefused(f"more than {SNAPSHOT_BYTES_MAX} bytes of state")
            yield bytes(pending[:CHUNK_BYTES])
            del pending[:CHUNK_BYTES]
    if pending:
        yield bytes(pending)


def manifest_of(header: Header, hashes: Iterable[bytes], size: int) -> Manifest:
    """Return the manifest of the state after the block with this header."""
    hashes = tuple(hashes)
    if not hashes or size > SNAPSHOT_BYTES_MAX:
        raise SnapshotRefused(f"a state of {size} bytes cannot be offered")
    return Manifest(header.height, header_hash(header), header.state_root, size, hashes)


def chunk_is_good(manifest: Manifest, index: int, data: bytes) -> bool:
    """Tell whether `data` is the chunk that the manifest names."""
    return index < len(manifest.chunks) and hashlib.sha256(data).digest() == manifest.chunks[index]


def pairs_of(chunks: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Read the pairs out of a stream; holds one chunk and one pair at a time.

    Raises
    ------
    SnapshotRefused
        It is no such stream.
    """
    buffer = bytearray()
    before: bytes | None = None
    for chunk in chunks:
        buffer += chunk
        offset = 0
        while (pair := _pair_at(buffer, offset)) is not None:
            raw, value, offset = pair
            if before is not None and raw <= before:
                raise SnapshotRefused("the snapshot's keys do not ascend")
            before = raw
            try:
                yield raw.decode(), value
            except UnicodeDecodeError:
                raise SnapshotRefused("a key of the snapshot is not text") from None
        del buffer[:offset]
    if buffer:
        raise SnapshotRefused("the snapshot ends within a pair")


def _pair_at(buffer: bytearray, offset: int) -> tuple[bytes, bytes, int] | None:
    """Return key, value and the offset behind them; None if the buffer ends before."""
    here = offset + _KEY.size
    if here > len(buffer):
        return None
    (size,) = _KEY.unpack_from(buffer, offset)
    if size > KEY_BYTES_MAX:
        raise SnapshotRefused(f"a key of {size} bytes, at most {KEY_BYTES_MAX} are allowed")
    key_end = here + size
    if key_end + _VALUE.size > len(buffer):
        return None
    key = bytes(buffer[here:key_end])
    (size,) = _VALUE.unpack_from(buffer, key_end)
    if size > VALUE_BYTES_MAX:
        raise SnapshotRefused(f"a value of {size} bytes, at most {VALUE_BYTES_MAX} are allowed")
    value_end = key_end + _VALUE.size + size
    if value_end > len(buffer):
        return None
    return key, bytes(buffer[key_end + _VALUE.size : value_end]), value_end
