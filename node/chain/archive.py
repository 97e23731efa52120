"""Decided blocks on this home's disk, as they may be shown to others.

A disk may lose what it kept. A neighbour that were served it would take this home for a liar and
drop it (S9), so each row is held against its own hashes and signatures before it leaves the house.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from consensus.authorities import verify_certificate
from consensus.errors import ConsensusError
from consensus.light import HEADERS_MAX, SignedHeader, SignedHeaders, ends_epoch
from consensus.messages import CERTIFICATE_BYTES_MAX, Block, Certificate, header_hash
from consensus.sync_messages import BLOCKS_BYTES_MAX
from node.chain.blocks import stored_block
from node.chain.epochs import Epochs
from node.chain.store import EpochEnd, Store, StoredBlock
from wire.codec import decode
from wire.errors import WireError

log = logging.getLogger("commonwatt.archive")

SIGNED_HEADER_BYTES_MAX: Final = 2 * CERTIFICATE_BYTES_MAX
# Damaged heights that are remembered, so that each is logged once.
REPORTED_MAX: Final = 1_024

_Item = TypeVar("_Item", StoredBlock, EpochEnd)
_Sound = TypeVar("_Sound")


class Archive:
    """The blocks, certificates and epochs' ends of one store, checked each time they are read."""

    def __init__(self, store: Store, epochs: Epochs) -> None:
        self._store = store
        self._epochs = epochs
        self._reported: set[int] = set()

    async def blocks(self, first: int, count: int) -> list[bytes]:
        """Return encoded blocks from `first` on, up to the first that is damaged."""
        stored = await self._run(first, count)
        return await asyncio.to_thread(self._sound, stored, self._body)

    async def headers(self, first: int, count: int) -> SignedHeaders:
        """Return signed headers from `first` on, up to the first that is damaged."""
        stored = await self._run(first, count)
        sound = await asyncio.to_thread(self._sound, stored, self._signed)
        return await self._with_sets(sound)

    async def path(self, epoch: int, height: int) -> SignedHeaders:
        """Return the last headers of the epochs from `epoch` on, then the header at `height`.

        At most `HEADERS_MAX`: then the rest must be asked for from the epoch that was reached.
        Empty if the block at `height` is not here; up to the first that is damaged.
        """
        stored = await self._store.block(height) if height >= 1 else None
        if stored is None:
            return ()
        ends = [end for end in await self._ends(epoch, HEADERS_MAX) if end.height < height]
        way = await asyncio.to_thread(self._sound, ends, self._end)
        if len(way) < len(ends) or len(way) == HEADERS_MAX:
            return tuple(way)
        last = await asyncio.to_thread(self._sound, [stored], self._signed)
        return (*way, *await self._with_sets(last))

    async def _run(self, first: int, count: int) -> list[StoredBlock]:
        # Everybody makes the genesis block; it has no certificate and is never sent.
        return await self._store.blocks(first, count, BLOCKS_BYTES_MAX) if first >= 1 else []

    async def _ends(self, epoch: int, count: int) -> list[EpochEnd]:
        return await self._store.epoch_ends(epoch, count)

    async def _with_sets(self, headers: Sequence[SignedHeader]) -> SignedHeaders:
        """An epoch's last header is shown with the set that it announces."""
        shown: list[SignedHeader] = []
        for signed in headers:
            if not ends_epoch(signed.header):
                shown.append(signed)
                continue
            ends = await self._ends(signed.header.epoch, 1)
            found = await asyncio.to_thread(self._sound, ends, self._end)
            if not found or found[0].header != signed.header:
                break
            shown.append(found[0])
        return tuple(shown)

    # -- what is sound; in a thread of its own, as it costs a signature each

    def _sound(self, items: Sequence[_Item], opened: Callable[[_Item], _Sound]) -> list[_Sound]:
        """Open items up to the first that is damaged, which is logged once."""
        sound: list[_Sound] = []
        for item in items:
            try:
                sound.append(opened(item))
            except (ConsensusError, WireError, ValueError) as error:
                self._report(item.height, str(error))
                break
        return sound

    def _report(self, height: int, problem: str) -> None:
        if height in self._reported or len(self._reported) >= REPORTED_MAX:
            return
        self._reported.add(height)
        damaged = self._store.damaged(f"the block at height {height}: {problem}")
        log.error("%s; the block is not shown to others", damaged)

    def _body(self, stored: StoredBlock) -> bytes:
        stored_block(stored)
        return stored.block

    def _signed(self, stored: StoredBlock) -> SignedHeader:
        block: Block = stored_block(stored)
        certificate = decode(stored.certificate, Certificate, CERTIFICATE_BYTES_MAX)
        signed = SignedHeader(block.header, certificate)
        self._check(signed, stored.height)
        return signed

    def _end(self, end: EpochEnd) -> SignedHeader:
        signed = decode(end.header, SignedHeader, SIGNED_HEADER_BYTES_MAX)
        self._check(signed, end.height)
        following = signed.next_authorities
        if following is None or following.hash != signed.header.next_authorities_hash:
            raise ValueError("the set after its epoch is not the one that it announces")
        return signed

    def _check(self, signed: SignedHeader, height: int) -> None:
        header, certificate = signed.header, signed.certificate
        named = (certificate.height, certificate.block_hash)
        if header.height != height or named != (height, header_hash(header)):
            raise ValueError("its certificate is another block's")
        # Of sets long past nobody remembers more than their hash, which the header has.
        authorities = self._epochs.of_height(height)
        if authorities is not None:
            verify_certificate(certificate, authorities, header.chain_id)
