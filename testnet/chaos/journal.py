"""What was done and how to undo it, on disk before it is done.

One file per run, one JSON line per entry: a deed with its undoing, or the mark that it was undone.
Whatever became of the tool, `commonwatt chaos undo` finds the files and undoes what has no mark,
last deed first. Every undoing may be done twice, and to a thing that is gone by then.
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess  # nosec B404 - what undoes a fault, below
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote

import msgspec

from testnet.chaos.errors import UndoError

COMMAND_TIMEOUT_S: Final = 60.0
ENTRIES_MAX: Final = 100_000
FILE_BYTES_MAX: Final = 64 * 1_048_576
_NUMBER: Final = re.compile(r"[0-9]{1,18}")


class Signal(msgspec.Struct, frozen=True, tag="signal"):
    """Send a signal to the process with this id, if it is still the one that was `born` then."""

    pid: int
    born: int
    number: int


class Command(msgspec.Struct, frozen=True, tag="command"):
    """Run a command. `gone`: words by which it says that there is nothing to undo any more.

    With a `pid` only if that process is still the one that was `born` then.
    """

    argv: list[str]
    gone: list[str] = []
    pid: int = 0
    born: int = 0


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """Remove a file."""

    path: str


Undoing: TypeAlias = Signal | Command | Remove


class Entry(msgspec.Struct, frozen=True):
    """A line: a deed has `undo`, a mark does not."""

    number: int
    what: str = ""
    undo: Undoing | None = None


def state_directory() -> Path:
    """Return where journals are kept: `$XDG_STATE_HOME/commonwatt/chaos`."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "commonwatt" / "chaos"


def born(pid: int) -> int:
    """Return when a process began, in the kernel's ticks; 0 if there is none (any more)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The second field is a name in brackets, which may hold anything.
    return int(text.rpartition(")")[2].split()[19])


class Journal:
    """The open journal of one run. Its file is gone once all is undone."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.file = file
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._open: dict[int, Entry] = {}
        self._last = 0
        self._write(Entry(0, f"run of process {os.getpid()}.{born(os.getpid())}"))

    @classmethod
    def begin(cls) -> "Journal":
        """Begin a journal where `unfinished` looks.

        Raises
        ------
        UndoError
            Nothing can be written there.
        """
        file = state_directory() / f"{time.time_ns()}-{os.getpid()}.jsonl"
        try:
            return cls(file)
        except OSError as error:
            raise UndoError(
                f"{file}: cannot be written ({error.strerror}); without a journal nothing is "
                "touched. XDG_STATE_HOME says where it goes"
            ) from None

    def deed(self, what: str, undo: Undoing) -> int:
        """Note, durably, what is about to be done; return its number for `undone`."""
        self._last += 1
        entry = Entry(self._last, what, undo)
        self._write(entry)
        self._open[entry.number] = entry
        return entry.number

    def undone(self, number: int) -> None:
        """Note that a deed has been undone by other means, or need not be."""
        if self._open.pop(number, None) is not None:
            self._write(Entry(number))

    def undo_all(self) -> list[str]:
        """Undo what is left, last first; return what could not be, in sentences."""
        problems = []
        for entry in reversed(self._open.copy().values()):
            if problem := _undo(entry):
                problems.append(problem)
            else:
                self.undone(entry.number)
        return problems

    def close(self) -> None:
        """Close the file, and remove it if nothing is left to undo."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if not self._open:
            self.file.unlink(missing_ok=True)

    def _write(self, entry: Entry) -> None:
        os.write(self._fd, msgspec.json.encode(entry) + b"\n")
        os.fsync(self._fd)


def read_journal(file: Path) -> tuple[list[Entry], bool]:
    """Return the deeds without a mark, first deed first, and whether their run still goes on.

    Raises
    ------
    UndoError
        It is no journal. A last line that was cut off is what a crash leaves, and is dropped.
    """
    try:
        with file.open("rb") as stream:
            lines = stream.read(FILE_BYTES_MAX).splitlines(keepends=True)
        entries = [msgspec.json.decode(line, type=Entry) for line in lines if line.endswith(b"\n")]
    except OSError as error:
        raise UndoError(f"{file}: cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise UndoError(f"{file}: not a journal of a run ({said})") from None
    deeds: dict[int, Entry] = {}
    alive = False
    for entry in entries[:ENTRIES_MAX]:
        if entry.undo is not None:
            deeds[entry.number] = entry
        elif entry.number == 0:
            alive = _goes_on(entry.what)
        else:
            deeds.pop(entry.number, None)
    return list(deeds.values()), alive


def unfinished() -> list[Path]:
    """Return the journals that are left, oldest first."""
    return sorted(state_directory().glob("*.jsonl"))


def undo_left(say: Callable[[str], None]) -> list[str]:
    """Undo what crashed runs have left; return what could not be undone.

    Runs that still go on are named and left alone.
    """
    problems = []
    for file in unfinished():
        deeds, alive = read_journal(file)
        if alive:
            say(f"{file.name}: its run goes on; stop that with Ctrl-C")
            continue
        failed = []
        for entry in reversed(deeds):
            problem = _undo(entry)
            failed += [problem] if problem else []
            say(f"{'NOT ' if problem else ''}undone: {entry.what}")
        problems += failed
        if not failed:
            file.unlink(missing_ok=True)
    return problems


def _goes_on(what: str) -> bool:
    pid, _, birth = what.rpartition(" ")[2].partition(".")
    if not (_NUMBER.fullmatch(pid) and _NUMBER.fullmatch(birth)):
        return False
    return born(int(pid)) == int(birth) != 0


def _undo(entry: Entry) -> str:
    """Undo one deed; return what went wrong, empty if nothing did."""
    match entry.undo:
        case Signal(pid, birth, number):
            if born(pid) == birth != 0:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        case Remove(path):
            Path(path).unlink(missing_ok=True)
        case Command(argv, gone, pid, birth):
            if not pid or born(pid) == birth != 0:
                return _run(entry.what, argv, gone)
    return ""


def _run(what: str, argv: list[str], gone: list[str]) -> str:
    try:
        # Written by ourselves, into a file of the user's own.
        done = subprocess.run(  # noqa: S603  # nosec B603
            argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{what}: {' '.join(argv)}: {error}"
    said = (done.stderr or done.stdout).strip()
    if done.returncode == 0 or any(words in said for words in gone):
        return ""
    return f"{what}: {' '.join(argv)}: {said.splitlines()[-1] if said else done.returncode}"


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Hold `what` for this run: two that disturb the same thing would undo each other's deeds.

    Raises
    ------
    UndoError
        Another run holds it.
    """
    file = state_directory() / f"{quote(what, safe='')}.lock"
    with file.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UndoError(f"{what}: another run disturbs it; wait for its end") from None
        yield


@contextlib.contextmanager
def undoing(journal: Journal, say: Callable[[str], None]) -> Iterator[Journal]:
    """Undo everything at the end, however it comes; what could not be undone is said."""
    previous = signal.getsignal(signal.SIGHUP)
    # A terminal that closes is an end as Ctrl-C is.
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        yield journal
    finally:
        signal.signal(signal.SIGHUP, previous)
        for problem in journal.undo_all():
            say(f"NOT undone: {problem}")
        journal.close()
