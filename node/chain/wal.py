"""The write-ahead log as a file: what this authority has signed, durable before it is said.

Framing and recovery rules are `consensus.wal`'s; here are only the bytes on disk. A node is born
with an empty log (`Wal.create`). One that is gone later is not the same as an empty one: it means
that this node no longer knows what it has signed, and must not vote until it can do no harm. That
duty is the first record of the log that replaces it.
"""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from consensus.wal import MAGIC, AbstainRecord, Framer, WalRecord, scan
from node.durable import replace_file
from node.errors import StoreError

BULKY_BYTES: Final = 1_048_576
# Two heights decided without this node: whatever it signed before is then about the past.
ABSTAIN_HEIGHTS: Final = 2


class Wal:
    """The open log. `records` are those it held when it was opened, `damage` what was wrong."""

    def __init__(self, path: Path, fd: int, records: list[WalRecord], damage: str | None) -> None:
        self._path = path
        self._fd = fd
        self._framer = Framer()
        self._size = 0
        # A node that stops closes the file while a thread may still be at it; the number of a
        # closed file is soon another file's.
        self._lock = threading.Lock()
        self.records = records
        self.damage = damage

    @classmethod
    def create(cls, path: Path) -> None:
        """Make the empty log of a node that has never signed anything."""
        replace_file(path, MAGIC)

    @classmethod
    def open(cls, path: Path) -> "Wal":
        """Open the log, dropping a torn tail. A missing or damaged one is replaced, see above."""
        damage: str | None
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data, damage = b"", "the file is missing"
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
        else:
            # The file is born whole, with its first bytes: one without them has lost what it held.
            begun = data.startswith(MAGIC)
            damage = scan(data).damage if begun else "the file does not begin as it was made"
        if damage is not None:
            if data:
                # Kept for whoever wants to know what happened.
                path.with_suffix(".damaged").write_bytes(data)
            data = MAGIC + Framer().frame(AbstainRecord(ABSTAIN_HEIGHTS))
            replace_file(path, data)
        found = scan(data)
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        wal = cls(path, fd, found.records, damage)
        wal._cut(found.good_length, found.crc)
        return wal

    def append(self, record: WalRecord) -> None:
        """Write one record; not durable before `sync`."""
        frame = self._framer.frame(record)
        view = memoryview(frame)
        while view:
            view = view[os.write(self._fd, view) :]
        self._size += len(frame)

    def sync(self) -> None:
        """Make everything appended durable. Blocks; call it off the event loop."""
        with self._lock:
            os.fdatasync(self._fd)

    @property
    def bulky(self) -> bool:
        """Whether forgetting decided heights is worth the trouble."""
        return self._size >= BULKY_BYTES

    def rewrite(self, records: Sequence[WalRecord]) -> None:
        """Replace the log, whole or not at all, by these records; does nothing once closed."""
        framer = Framer()
        data = MAGIC + b"".join(framer.frame(record) for record in records)
        with self._lock:
            if self._fd < 0:
                return
            replace_file(self._path, data)
            os.close(self._fd)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            self._cut(len(data), framer.crc)

    def close(self) -> None:
        """Close the file, after what a thread has begun; idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _cut(self, length: int, crc: int) -> None:
        os.ftruncate(self._fd, length)
        os.lseek(self._fd, 0, os.SEEK_END)
        os.fsync(self._fd)
        self._framer = Framer(crc)
        self._size = length
