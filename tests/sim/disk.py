"""A node's disk: the WAL as the driver keeps it, and what crashes and rot do to it."""

from random import Random

from consensus import wal


class Disk:
    """The WAL's records; they become bytes, by the real framing, when a crash or rot needs them."""

    def __init__(self) -> None:
        self.records: list[wal.WalRecord] = []
        self._tail = b""
        self._image: bytes | None = None

    def append(self, record: wal.WalRecord) -> None:
        """Write one record and sync."""
        self.records.append(record)

    def replace(self, records: list[wal.WalRecord]) -> None:
        """Put a new file in the old one's place, as by rename."""
        self.records = list(records)
        self._tail = b""
        self._image = None

    def tear(self, record: wal.WalRecord, rng: Random) -> None:
        """Crash while a record is being written: any part of it may be there, or zeros."""
        framer = wal.Framer()
        for earlier in self.records:
            framer.frame(earlier)
        frame = framer.frame(record)
        cut = rng.randrange(len(frame) + 1)
        if cut == len(frame):
            self.records.append(record)
        else:
            self._tail = frame[:cut] if rng.random() < 0.8 else bytes(cut)

    def rot(self, rng: Random) -> bool:
        """Flip one bit of what was durable; False if there is nothing to flip."""
        image = bytearray(self.image())
        if len(image) <= len(wal.MAGIC):
            return False
        place = rng.randrange(len(image) * 8)
        image[place // 8] ^= 1 << place % 8
        self._image = bytes(image)
        return True

    def image(self) -> bytes:
        """The file's bytes."""
        if self._image is not None:
            return self._image
        framer = wal.Framer()
        return wal.MAGIC + b"".join(framer.frame(record) for record in self.records) + self._tail

    def read(self) -> wal.Scan:
        """Read the file after a start; a torn tail is cut off."""
        scan = wal.scan(self.image())
        self.records = list(scan.records)
        self._tail = b""
        self._image = None
        return scan
