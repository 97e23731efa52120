"""Small files that are there whole or not at all, over a crash or a power cut at any instant."""

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, durably: whoever opens it later finds the old bytes or these."""
    new = path.with_name(f"{path.name}.new")
    _write(new, data, os.O_TRUNC)
    new.rename(path)
    _sync_directory(path.parent)


def create_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, durably and for its owner alone, so that no key is lost with the power.

    Raises `FileExistsError` if the name is taken.
    """
    _write(path, data, os.O_EXCL)
    _sync_directory(path.parent)


def _write(path: Path, data: bytes, flag: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # Half of a file is none, and would be in the way of the next one.
        path.unlink(missing_ok=True)
        raise


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
