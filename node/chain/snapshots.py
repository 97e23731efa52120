"""Snapshots on disk: those this home offers to others, and the one it is fetching.

    <data>/snapshots/<height>-<id>/   manifest, 0000, 0001, ...      offered; the last two are kept
    <data>/spool/                     the same, while it is coming

Chunks are checked when they are read, so nothing here needs to survive a power cut: what is not
whole is not offered, or fetched again.
"""

import asyncio
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from consensus.errors import SnapshotRefused
from consensus.messages import Block, Certificate, Header
from consensus.snapshot import chunk_is_good, chunks_of, manifest_of, pairs_of
from consensus.sync_messages import CHUNK_BYTES, SNAPSHOT_BYTES_MAX, Manifest
from market.app import BlockResult
from wire.codec import decode, encode
from wire.errors import DecodeError

log = logging.getLogger("commonwatt.snapshots")

SNAPSHOTS_NAME: Final = "snapshots"
SPOOL_NAME: Final = "spool"
SNAPSHOTS_KEPT: Final = 2
MANIFEST_NAME: Final = "manifest"
MANIFEST_BYTES_MAX: Final = 40 * (SNAPSHOT_BYTES_MAX // CHUNK_BYTES) + 1_024
_MAKING_NAME: Final = "making"


class Snapshots:
    """The snapshots that this home offers.

    Parameters
    ----------
    directory : Path
        The node's data directory.
    every : int
        The heights that are multiples of it get a snapshot; 0: none do.
    copy_state : callable
        Returns the committed pairs of the application as they are when it is called.
    """

    def __init__(
        self, directory: Path, every: int, copy_state: Callable[[], Mapping[str, bytes]]
    ) -> None:
        self._directory = directory / SNAPSHOTS_NAME
        self._every = every
        self._copy_state = copy_state
        self._making: asyncio.Task[None] | None = None
        # What is offered, by id, in order of height.
        self._offered: dict[bytes, tuple[Manifest, Path]] = {}

    def open(self) -> None:
        """Offer again what was offered before a restart."""
        self._directory.mkdir(exist_ok=True)
        found = []
        for path in self._directory.iterdir():
            manifest = read_manifest(path) if path.name != _MAKING_NAME else None
            if manifest is None:
                shutil.rmtree(path, ignore_errors=True)
            else:
                found.append((manifest, path))
        for manifest, path in sorted(found, key=lambda item: item[0].height):
            self._offer(manifest, path)

    async def close(self) -> None:
        """Wait for the snapshot that is being written."""
        if self._making is not None:
            await asyncio.gather(self._making, return_exceptions=True)

    @property
    def newest(self) -> tuple[int, bytes]:
        """Height and id of the newest snapshot on offer; 0 and empty if there is none."""
        if not self._offered:
            return 0, b""
        id_, (manifest, _) = next(reversed(self._offered.items()))
        return manifest.height, id_

    def manifest(self, id_: bytes) -> Manifest | None:
        """Return the manifest of a snapshot on offer."""
        offered = self._offered.get(id_)
        return offered[0] if offered is not None else None

    async def chunk(self, id_: bytes, index: int) -> bytes | None:
        """Return a chunk of a snapshot on offer; a damaged snapshot is offered no more."""
        offered = self._offered.get(id_)
        if offered is None or index >= len(offered[0].chunks):
            return None
        manifest, path = offered
        data = await asyncio.to_thread(read_chunk, path, manifest, index)
        if data is None and self._offered.pop(id_, None) is not None:
            log.warning("%s: chunk %d is damaged; this snapshot is offered no more", path, index)
        return data

    def applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        """Make a snapshot if this block's height is one that gets one."""
        del certificate, result
        due = self._every and block.header.height % self._every == 0
        if due and (self._making is None or self._making.done()):
            self._making = asyncio.create_task(self._make(block.header, self._copy_state()))

    async def take_over(self, spool: Path, manifest: Manifest) -> None:
        """Offer a snapshot that has been fetched and found to be the certified state."""
        path = self._directory / _name_of(manifest)
        await asyncio.to_thread(_replace, spool, path)
        self._offer(manifest, path)

    async def _make(self, header: Header, state: Mapping[str, bytes]) -> None:
        path = self._directory / _MAKING_NAME
        try:
            manifest = await asyncio.to_thread(_write_snapshot, path, header, state)
            target = self._directory / _name_of(manifest)
            _replace(path, target)
        except (OSError, SnapshotRefused) as error:
            log.warning("no snapshot of height %d: %s", header.height, error)
            return
        self._offer(manifest, target)

    def _offer(self, manifest: Manifest, path: Path) -> None:
        self._offered[manifest.id] = (manifest, path)
        while len(self._offered) > SNAPSHOTS_KEPT:
            oldest = next(iter(self._offered))
            shutil.rmtree(self._offered.pop(oldest)[1], ignore_errors=True)


class Spool:
    """The chunks of the one snapshot that is being fetched."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / SPOOL_NAME

    def open(self, manifest: Manifest) -> frozenset[int]:
        """Make room for a snapshot; return which of its chunks are here, whole, already."""
        if read_manifest(self.path) != manifest:
            self.clear()
            self.path.mkdir()
            (self.path / MANIFEST_NAME).write_bytes(encode(manifest))
        return frozenset(
            index
            for index in range(len(manifest.chunks))
            if read_chunk(self.path, manifest, index) is not None
        )

    def write(self, index: int, data: bytes) -> None:
        """Keep a checked chunk."""
        _chunk_path(self.path, index).write_bytes(data)

    def pairs(self, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
        """Read the snapshot's pairs.

        Raises
        ------
        SnapshotRefused
            Its bytes, though as the manifest says, are no stream of pairs.
        OSError
            A chunk that was here is damaged now.
        """
        return pairs_of(self._chunks(manifest))

    def clear_up_to(self, height: int) -> None:
        """Drop a snapshot that the chain has left behind, or that is not whole enough to tell."""
        manifest = read_manifest(self.path)
        if manifest is None or manifest.height <= height:
            self.clear()

    def clear(self) -> None:
        """Drop whatever is here."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _chunks(self, manifest: Manifest) -> Iterator[bytes]:
        for index in range(len(manifest.chunks)):
            data = read_chunk(self.path, manifest, index)
            if data is None:
                raise OSError(f"{_chunk_path(self.path, index)} is damaged; start again")
            yield data


def read_manifest(path: Path) -> Manifest | None:
    """Return the manifest of a snapshot's directory, if it is readable."""
    try:
        with (path / MANIFEST_NAME).open("rb") as file:
            return decode(file.read(MANIFEST_BYTES_MAX + 1), Manifest, MANIFEST_BYTES_MAX)
    except (OSError, DecodeError):
        return None


def read_chunk(path: Path, manifest: Manifest, index: int) -> bytes | None:
    """Return a chunk if it is there and whole."""
    try:
        with _chunk_path(path, index).open("rb") as file:
            data = file.read(CHUNK_BYTES + 1)
    except OSError:
        return None
    return data if chunk_is_good(manifest, index, data) else None


def _write_snapshot(path: Path, header: Header, state: Mapping[str, bytes]) -> Manifest:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    hashes, size = [], 0
    pairs = ((key, state[key]) for key in sorted(state))
    for index, chunk in enumerate(chunks_of(pairs)):
        _chunk_path(path, index).write_bytes(chunk)
        hashes.append(hashlib.sha256(chunk).digest())
        size += len(chunk)
    manifest = manifest_of(header, hashes, size)
    (path / MANIFEST_NAME).write_bytes(encode(manifest))
    return manifest


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)


def _chunk_path(path: Path, index: int) -> Path:
    return path / f"{index:04d}"


def _name_of(manifest: Manifest) -> str:
    return f"{manifest.height}-{manifest.id.hex()[:16]}"
