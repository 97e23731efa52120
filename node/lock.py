"""One process per data directory: two on one key could sign two votes for one round."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final

from node.errors import LockedError

PID_CHARS_MAX: Final = 20


class DirectoryLock:
    """An advisory lock on `<directory>/lock`, held while the daemon runs.

    The kernel lets go of it when the process dies, however it dies; a stale file never blocks.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._fd: int | None = None

    def __enter__(self) -> "DirectoryLock":
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LockedError(f"{self._path}: cannot be opened ({error.strerror})") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(fd)
            os.close(fd)
            raise LockedError(
                f"{self._path.parent} is in use by another process (pid {holder}); "
                "stop it first, or give this node a directory of its own"
            ) from None
        except OSError as error:
            os.close(fd)
            raise LockedError(f"{self._path}: cannot be locked ({error.strerror})") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def held_by(directory: Path) -> str | None:
    """Return the process id of who holds a directory's lock, as it was written; None if nobody."""
    try:
        fd = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return None


def _holder(fd: int) -> str:
    return os.pread(fd, PID_CHARS_MAX, 0).decode("ascii", "replace").strip() or "unknown"
