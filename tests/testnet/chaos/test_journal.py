"""Whatever becomes of a run, what it did is undone, once, and only that."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testnet.chaos import journal as journals
from testnet.chaos.errors import UndoError
from testnet.chaos.journal import (
    Command,
    Journal,
    Remove,
    Signal,
    alone,
    born,
    read_journal,
    undo_left,
    undoing,
    unfinished,
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def crashed(journal: Journal) -> None:
    """Leave the journal as a tool that was killed does: its process is another one now."""
    lines = journal.file.read_text().splitlines(keepends=True)
    lines[0] = '{"number":0,"what":"run of process 1.1"}\n'
    journal.file.write_text("".join(lines))


def test_deeds_are_undone_last_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines: list[str] = []
    with undoing(Journal.begin(), lines.append) as journal:
        for number in (1, 2, 3):
            undo = Command(["sh", "-c", f"echo {number} >> {log}"])
            deed = journal.deed(f"deed {number}", undo)
            if number == 2:
                journal.undone(deed)
        assert unfinished() == [journal.file]
    assert log.read_text().split() == ["3", "1"]
    assert lines == []
    assert unfinished() == []


def test_what_cannot_be_undone_is_said_and_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    with undoing(Journal.begin(), lines.append) as journal:
        journal.deed("a table", Command(["sh", "-c", "echo no such thing >&2; exit 1"]))
        gone = ["no such thing"]
        journal.deed("another", Command(["sh", "-c", "echo no such thing >&2; exit 1"], gone))
    assert lines == ["NOT undone: a table: sh -c echo no such thing >&2; exit 1: no such thing"]
    (deed,), alive = read_journal(journal.file)
    assert (deed.what, alive) == ("a table", True)


def test_undone_also_when_interrupted(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    def interrupted() -> None:
        with undoing(Journal.begin(), print) as journal:
            journal.deed("a file", Remove(str(file)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not file.exists()


def test_a_stopped_process_goes_on(sleeper: subprocess.Popen[bytes]) -> None:
    journal = Journal.begin()
    journal.deed("stands still", Signal(sleeper.pid, born(sleeper.pid), signal.SIGCONT))
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(sleeper.pid))
    assert journal.undo_all() == []
    until(lambda: not is_stopped(sleeper.pid))
    journal.close()


def test_another_process_of_the_same_number_is_left_alone(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    journal = Journal.begin()
    journal.deed("was killed", Signal(sleeper.pid, born(sleeper.pid) + 1, signal.SIGKILL))
    argv = ["touch", str(tmp_path / "touched")]
    journal.deed("had rules", Command(argv, [], sleeper.pid, born(sleeper.pid) + 1))
    assert journal.undo_all() == []
    assert sleeper.poll() is None
    assert not (tmp_path / "touched").exists()
    journal.deed("has rules", Command(argv, [], sleeper.pid, born(sleeper.pid)))
    assert journal.undo_all() == []
    assert (tmp_path / "touched").exists()
    journal.close()


def test_what_a_crash_left_is_undone(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    journal = Journal.begin()
    journal.deed("a file", Remove(str(file)))
    said: list[str] = []
    # Its run is this process, which lives.
    assert undo_left(said.append) == []
    assert file.exists()
    assert "goes on" in said[0]
    crashed(journal)
    with journal.file.open("a") as torn:
        torn.write('{"number": 2, "what": "to')
    said.clear()
    assert undo_left(said.append) == []
    assert said == ["undone: a file"]
    assert not file.exists()
    assert unfinished() == []


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text("rubbish\n")
    with pytest.raises(UndoError, match="not a journal"):
        read_journal(file)


def test_two_runs_do_not_disturb_the_same() -> None:
    Journal.begin().close()
    with alone("project-a/b"):
        with pytest.raises(UndoError, match="another run disturbs it"), alone("project-a/b"):
            pass
        with alone("project-c"):
            pass
    with alone("project-a/b"):
        pass
    assert unfinished() == []


def test_nothing_is_touched_without_a_journal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "blocked").touch()
    monkeypatch.setattr(journals, "state_directory", lambda: tmp_path / "blocked")
    with pytest.raises(UndoError, match=r"cannot be written .*XDG_STATE_HOME"):
        Journal.begin()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)
