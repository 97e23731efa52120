"""Checkpoints on disk, each in a file of its own, until they are anchored and for a while after.

A checkpoint can only be made while its block is the last one, so one that is lost is lost to this
node. Nothing rests on it: what a neighbour serves instead is checked as the main chain would check
it, and a file that is damaged counts as missing.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final

from consensus.checkpoint import CHECKPOINT_BYTES_MAX, RECORD_BYTES_MAX, Checkpoint, Record
from wire.codec import decode, encode
from wire.errors import DecodeError

log = logging.getLogger("commonwatt.shelf")

# Two weeks of a slot every five minutes: by then somebody has to have looked after the main chain.
KEPT_MAX: Final = 4_096
# Anchored ones, for who wants to verify them.
ANCHORED_KEPT: Final = 96
_SUFFIX: Final = ".chk"


class Shelf:
    """The checkpoints of one region, by number.

    Parameters
    ----------
    directory : Path
        Made if it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Written by `save`; looked up before the disk is.
        self._fresh: dict[int, Checkpoint] = {}
        self._numbers: set[int] = set()

    def open(self) -> None:
        """Learn what is there. Raises `OSError` if the directory cannot be used."""
        self._directory.mkdir(exist_ok=True, mode=0o700)
        for file in self._directory.glob(f"*{_SUFFIX}"):
            if file.stem.isdecimal():
                self._numbers.add(int(file.stem))

    @property
    def numbers(self) -> list[int]:
        """The numbers kept, ascending."""
        return sorted(self._numbers)

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def put(self, number: int, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; it is on disk after the next `save`."""
        self._fresh[number] = checkpoint
        self._numbers.add(number)

    async def get(self, number: int) -> Checkpoint | None:
        """Return a checkpoint, None if it is not here."""
        if number not in self._numbers:
            return None
        if number in self._fresh:
            return self._fresh[number]
        found = await asyncio.to_thread(self._read, number)
        if found is None:
            self._numbers.discard(number)
        return found

    async def save(self, anchored: int) -> None:
        """Write what is new, and forget what nobody needs any more.

        Parameters
        ----------
        anchored : int
            The number of the last anchored checkpoint.
        """
        fresh = dict(self._fresh)
        numbers = self.numbers
        past = {number for number in numbers if number <= anchored - ANCHORED_KEPT}
        past.update(numbers[:-KEPT_MAX])
        if fresh or past:
            await asyncio.to_thread(self._write, fresh, past)
        for number, checkpoint in fresh.items():
            if self._fresh.get(number) is checkpoint:
                del self._fresh[number]
        self._numbers -= past

    async def drop(self, number: int) -> None:
        """Forget a checkpoint."""
        self._fresh.pop(number, None)
        self._numbers.discard(number)
        await asyncio.to_thread(self._write, {}, {number})

    def _path(self, number: int) -> Path:
        return self._directory / f"{number}{_SUFFIX}"

    def _read(self, number: int) -> Checkpoint | None:
        try:
            data = self._path(number).read_bytes()
            checkpoint = decode(data, Checkpoint, CHECKPOINT_BYTES_MAX)
            if number_of(checkpoint) != number:
                raise DecodeError("it is another number's")
        except (OSError, DecodeError) as error:
            log.warning("checkpoint %d on this disk cannot be used: %s", number, error)
            return None
        return checkpoint

    def _write(self, fresh: dict[int, Checkpoint], past: set[int]) -> None:
        for number, checkpoint in fresh.items():
            if number in past:
                continue
            path = self._path(number)
            new = path.with_suffix(".new")
            new.write_bytes(encode(checkpoint))
            new.rename(path)
        for number in past:
            self._path(number).unlink(missing_ok=True)


def number_of(checkpoint: Checkpoint) -> int:
    """Return the number of a checkpoint's record. Raises `DecodeError`."""
    return decode(checkpoint.record, Record, RECORD_BYTES_MAX).number
