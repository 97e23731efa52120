"""Cells: the many small runs a study is made of, each kept in a file of its own once it is done.

A directory of results belongs to one study, of one set of data, by one version of the contracts;
its `study.json` says which. A cell's file is named by a hash of its setting and appears whole or
not at all, so a study that was interrupted goes on with what is missing.
"""

import hashlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import FrameType
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from study.errors import OutputError

CELLS_MAX: Final = 100_000
CELL_BYTES_MAX: Final = 10_000_000
MANIFEST: Final = "study.json"
# Enough for the workers never to wait, few enough to stop soon.
AHEAD: Final = 2
# How often somebody's wish to stop is looked for.
LOOK_S: Final = 0.5

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


class Results(Generic[S, R]):
    """A directory of results.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    about : mapping of str to str
        What its results are of: the study, the data, the contracts.
    kind : type
        Of what a cell's file holds.

    Raises
    ------
    OutputError
        It holds something else, or cannot be written to.
    """

    def __init__(self, folder: Path, about: Mapping[str, str], kind: type[R]) -> None:
        self.folder = folder
        self._kind = kind
        try:
            _claim(folder, dict(about))
            (folder / "cells").mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{folder}: {error.strerror}; name a directory that can be written"
            ) from None

    def find(self, setting: S) -> R | None:
        """Return a cell that is done, None if it is not.

        Raises
        ------
        OutputError
            Its file is not what a study writes.
        """
        path = self._path(setting)
        if not path.exists():
            return None
        if path.stat().st_size <= CELL_BYTES_MAX:
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
                return msgspec.convert(kept["result"], self._kind)
            except (msgspec.DecodeError, msgspec.ValidationError, KeyError):
                pass
        raise OutputError(f"{path}: no result of this study; remove it, and it is made again")

    def keep(self, setting: S, result: R) -> None:
        """Write a cell, whole or not at all."""
        kept = {"setting": msgspec.to_builtins(setting), "result": msgspec.to_builtins(result)}
        write(self._path(setting), msgspec.json.format(msgspec.json.encode(kept)))

    def _path(self, setting: S) -> Path:
        name = hashlib.sha256(msgspec.json.encode(setting, order="sorted")).hexdigest()[:24]
        return self.folder / "cells" / f"{name}.json"


class Progress(NamedTuple):
    """How far a study is: cells done before it began, done now, and all of them."""

    before: int
    done: int
    cells: int


def run_cells(
    results: Results[S, R],
    settings: Sequence[S],
    work: Callable[[S], R],
    jobs: int,
    tell: Callable[[Progress], None] = lambda progress: None,
    executor: Executor | None = None,
) -> dict[S, R]:
    """Return all cells' results, running those that are missing, `jobs` at a time.

    Parameters
    ----------
    work : callable
        Makes a cell; a function of a module, as it is called in other processes where `jobs` > 1.
    executor : Executor, optional
        Runs the cells instead of processes here: any engine with `concurrent.futures`' interface.
    """
    wanted = list(dict.fromkeys(settings))
    if len(wanted) > CELLS_MAX:
        raise OutputError(f"{len(wanted)} cells: at most {CELLS_MAX} in one study")
    found: dict[S, R] = {}
    for setting in wanted:
        kept = results.find(setting)
        if kept is not None:
            found[setting] = kept
    missing = [setting for setting in wanted if setting not in found]
    before = len(found)
    tell(Progress(before, 0, len(wanted)))
    with _interruptible() as check:
        for setting, result in _run(missing, work, jobs, executor, check):
            results.keep(setting, result)
            found[setting] = result
            tell(Progress(before, len(found) - before, len(wanted)))
            check()
    return {setting: found[setting] for setting in wanted}


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back to where nothing runs: hand out what raises `KeyboardInterrupt` then.

    So what a cell has cost is not lost. Whoever asks again does not want to wait for it.
    """
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        del number, frame
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    def check() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def _ignore_interrupts() -> None:
    """In a worker: Ctrl-C reaches all processes of a terminal, and the first one decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run(
    missing: Sequence[S],
    work: Callable[[S], R],
    jobs: int,
    executor: Executor | None,
    check: Callable[[], None],
) -> Iterator[tuple[S, R]]:
    if executor is None and (jobs == 1 or len(missing) < 2):
        for setting in missing:
            yield setting, work(setting)
        return
    with _pool(executor, min(jobs, len(missing))) as pool:
        left = list(reversed(missing))
        running: dict[Future[R], S] = {}
        while left or running:
            while left and len(running) < jobs * AHEAD:
                setting = left.pop()
                running[pool.submit(work, setting)] = setting
            done, _ = wait(running, LOOK_S, return_when=FIRST_COMPLETED)
            check()
            for future in done:
                yield running.pop(future), future.result()


@contextmanager
def _pool(executor: Executor | None, jobs: int) -> Iterator[Executor]:
    if executor is not None:
        yield executor
        return
    pool = ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_ignore_interrupts
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all. Raises `OutputError`."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
        path.chmod(0o644)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}") from None


def _claim(folder: Path, about: dict[str, str]) -> None:
    """Make a directory this study's, or find that it is."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    if not manifest.exists():
        if any(not path.name.startswith(".writing-") for path in folder.iterdir()):
            raise OutputError(
                f"{folder} holds other files and no {MANIFEST}: name a new or an empty directory"
            )
        write(manifest, msgspec.json.format(msgspec.json.encode(about)))
        return
    try:
        known = msgspec.json.decode(manifest.read_bytes(), type=dict[str, str])
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise OutputError(f"{manifest} is not a study's: name another directory") from None
    for name in sorted(known.keys() | about.keys()):
        if known.get(name) != about.get(name):
            raise OutputError(
                f"{folder} holds other results: their {name} is {known.get(name)!r}, this study's "
                f"is {about.get(name)!r}; name another directory"
            )
