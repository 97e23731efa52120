"""A node's disk: the log as bytes behind a cache, and the database; what crashes and rot do to it.

The log's bytes are those of `consensus.wal`'s framing, and what a node finds after a crash is what
`consensus.wal.scan` makes of them. As on a real disk, only what was synced is sure to be there.
"""

from random import Random
from typing import Final

from consensus import wal
from consensus.light import SignedHeader, ends_epoch
from consensus.messages import Block, Certificate, Evidence, header_hash
from tests.sim.app import State
from tests.sim.errors import Violation

SECTOR_BYTES: Final = 512


class Log:
    """The write-ahead log's file."""

    def __init__(self) -> None:
        self.is_lost = False
        # What `read` must find again, unless the file has rotted.
        self.synced: list[wal.WalRecord] = []
        self._file = bytearray(wal.MAGIC)
        self._framer = wal.Framer()
        self._cache: list[tuple[wal.WalRecord, bytes]] = []
        self._rotten = False

    @property
    def is_dirty(self) -> bool:
        """Whether something is written and not synced."""
        return bool(self._cache)

    @property
    def size(self) -> int:
        return len(self._file)

    def append(self, record: wal.WalRecord) -> None:
        """Write one record; not durable before `sync`."""
        self._cache.append((record, self._framer.frame(record)))

    def sync(self) -> None:
        """Make everything written durable."""
        for record, frame in self._cache:
            self._file += frame
            self.synced.append(record)
        self._cache.clear()

    def replace(self, records: list[wal.WalRecord]) -> None:
        """Put a new file in the old one's place, whole or not at all, as by rename."""
        self._framer = wal.Framer()
        self._file = bytearray(wal.MAGIC)
        for record in records:
            self._file += self._framer.frame(record)
        self.synced = list(records)
        self._cache.clear()
        self._rotten = self.is_lost = False

    def crash(self, rng: Random, torn: bool, reordered: bool) -> None:
        """Lose the cache, or what had not yet reached the disk of it.

        Whole records survive up to any of them; with `torn` also zeros behind them, or a cut at
        any byte. With `reordered` any sectors survive and the others are zeros, which a node
        cannot tell from damage.
        """
        frames = [frame for _, frame in self._cache]
        self._cache.clear()
        if not frames:
            return
        left = b"".join(frames[: rng.randint(0, len(frames))])
        if reordered:
            left = self._any_sectors(b"".join(frames), rng)
        elif torn:
            everything = b"".join(frames)
            if rng.random() < 0.2:
                left += bytes(rng.randint(0, len(everything) - len(left)))
            else:
                left = everything[: rng.randint(0, len(everything))]
        self._file += left

    def _any_sectors(self, data: bytes, rng: Random) -> bytes:
        image = bytearray(self._file + data)
        begin = len(self._file)
        while begin < len(image):
            end = min(begin - begin % SECTOR_BYTES + SECTOR_BYTES, len(image))
            if rng.random() < 0.5:
                image[begin:end] = bytes(end - begin)
            begin = end
        return bytes(image[len(self._file) :])

    def rot(self, rng: Random) -> None:
        """Flip one bit of what was durable."""
        place = rng.randrange(len(self._file) * 8)
        self._file[place // 8] ^= 1 << place % 8
        self._rotten = True

    def lose(self) -> None:
        """The file is gone."""
        self.replace([])
        self.is_lost = True

    def read(self) -> tuple[list[wal.WalRecord], str | None]:
        """Open the file after a start as `node.chain.wal.Wal.open`: the records, and what is wrong.

        A torn tail is cut off. A file that is damaged or gone is replaced by the duty to abstain.

        Raises
        ------
        Violation
            What was synced is not there, though the file is whole.
        """
        data = bytes(self._file)
        found = wal.scan(data)
        damage = found.damage if data.startswith(wal.MAGIC) else "it does not begin as it was made"
        if self.is_lost:
            damage = "it is missing"
        if damage is not None:
            self.replace([wal.AbstainRecord(ABSTAIN_HEIGHTS)])
            return list(self.synced), damage
        if not self._rotten and found.records[: len(self.synced)] != self.synced:
            raise Violation("durability: what was synced is not read back")
        del self._file[found.good_length :]
        self.synced = list(found.records)
        self._framer = wal.Framer(found.crc)
        self._rotten = False
        return list(found.records), None


# As in `node.chain.wal`.
ABSTAIN_HEIGHTS: Final = 2


class Database:
    """Blocks, state and the evidence pool; every method is one transaction."""

    def __init__(self, genesis: Block, state: State) -> None:
        self._genesis = (genesis, state)
        self.blocks: dict[int, tuple[Block, Certificate | None]] = {}
        self.pool: dict[bytes, Evidence] = {}
        # The snapshot that is being fetched: its id and chunks.
        self.spool: tuple[bytes, dict[int, bytes]] = (b"", {})
        self.wipe()

    def wipe(self) -> None:
        """Only genesis is left, which everybody can make."""
        genesis, state = self._genesis
        self.blocks = {0: (genesis, None)}
        self.first_height = 0
        self.head = genesis
        self.state = state
        self.tip_hash = header_hash(genesis.header)
        self.epoch_ends: dict[int, SignedHeader] = {}
        self.pool = {}
        self.spool = (b"", {})

    @property
    def height(self) -> int:
        """Height of the last applied block."""
        return self.head.header.height

    @property
    def certificate(self) -> Certificate | None:
        """The last applied block's."""
        return self.blocks[self.height][1]

    def commit(self, block: Block, certificate: Certificate, state: State) -> None:
        """Apply the next block."""
        header = block.header
        if ends_epoch(header):
            end = SignedHeader(header, certificate, state.seats)
            self.epoch_ends[header.epoch] = end
        self._put(block, certificate, state)

    def jump(
        self, block: Block, certificate: Certificate, state: State, ends: tuple[SignedHeader, ...]
    ) -> None:
        """Take over the state after a block; those before it stay missing."""
        for end in ends:
            self.epoch_ends[end.header.epoch] = end
        header = block.header
        if ends_epoch(header):
            self.epoch_ends[header.epoch] = SignedHeader(header, certificate, state.seats)
        self.blocks.clear()
        self.first_height = header.height
        self._put(block, certificate, state)

    def _put(self, block: Block, certificate: Certificate, state: State) -> None:
        self.blocks[block.header.height] = (block, certificate)
        self.head = block
        self.tip_hash = header_hash(block.header)
        self.state = state

    def signed(self, height: int) -> SignedHeader:
        """A header with what a light client wants to see."""
        block, certificate = self.blocks[height]
        if certificate is None:
            raise KeyError(height)
        header = block.header
        return (
            self.epoch_ends[header.epoch]
            if ends_epoch(header)
            else SignedHeader(header, certificate)
        )

    def run(self, first: int, count: int) -> range:
        """The heights of a run that are here; genesis is never sent."""
        if first < max(self.first_height, 1):
            return range(0)
        return range(first, min(first + count, self.height + 1))
