"""Small files: whole or not at all, nobody else's, and on the disk before anybody goes on."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from node.durable import create_file, replace_file


@pytest.mark.parametrize("put", [create_file, replace_file])
def test_what_was_put_is_on_the_disk_with_its_name(
    put: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, list[str]]] = []

    def fsync(fd: int) -> None:
        names = sorted(path.name for path in tmp_path.iterdir())
        synced.append((os.readlink(f"/proc/self/fd/{fd}"), names))

    monkeypatch.setattr(os, "fsync", fsync)
    put(tmp_path / "account.key", b"seed\n")
    assert (tmp_path / "account.key").read_bytes() == b"seed\n"
    assert stat.S_IMODE((tmp_path / "account.key").stat().st_mode) == 0o600
    assert [Path(name).parent for name, _ in synced] == [tmp_path, tmp_path.parent]
    # The directory is written when the name is in it.
    assert synced[-1][1] == ["account.key"]


def test_nothing_is_created_in_place_of_another(tmp_path: Path) -> None:
    create_file(tmp_path / "node.key", b"first")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "node.key", b"second")
    assert (tmp_path / "node.key").read_bytes() == b"first"


@pytest.mark.parametrize("put", [create_file, replace_file])
def test_a_full_disk_leaves_nothing_behind(
    put: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space"):
        put(tmp_path / "bills.csv", b"half")
    assert list(tmp_path.iterdir()) == []
