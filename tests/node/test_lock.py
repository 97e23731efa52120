"""One process per data directory."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.errors import LockedError
from node.lock import DirectoryLock, held_by

HOLDER = """
import sys
from pathlib import Path
from node.lock import DirectoryLock
with DirectoryLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        with pytest.raises(LockedError) as caught, DirectoryLock(tmp_path):
            pass
        assert f"{tmp_path} is in use by another process (pid {process.pid})" in str(caught.value)
        process.communicate("")
    with DirectoryLock(tmp_path):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with hold(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / "lock").exists()
    with DirectoryLock(tmp_path):
        pass


def test_a_second_lock_in_one_process_is_refused_and_the_first_holds(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        for _ in range(2):
            with pytest.raises(LockedError), DirectoryLock(tmp_path):
                pass
    with DirectoryLock(tmp_path):
        pass


def test_a_directory_that_cannot_be_locked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(LockedError, match="lock: cannot be opened"), DirectoryLock(tmp_path):
        pass


def test_who_holds_it_can_be_asked_without_taking_it(tmp_path: Path) -> None:
    assert held_by(tmp_path) is None
    assert not list(tmp_path.iterdir())
    with hold(tmp_path) as process:
        assert held_by(tmp_path) == str(process.pid)
        process.communicate("")
    assert (tmp_path / "lock").exists()
    assert held_by(tmp_path) is None
