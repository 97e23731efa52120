"""What a person sees of a daemon that cannot start: one line, exit code 2, nothing changed."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.config import Config, load_config
from node.daemon import EXIT_SETUP, run
from node.genesis import write_genesis
from node.lock import DirectoryLock
from node.setup import CONFIG_NAME, DATABASE_NAME, GENESIS_NAME, KEY_NAME, create_home
from node.tiers import topics
from tests.node.grid import key_of, make_genesis


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_home(tmp_path, "[network]\nlisten = '/ip4/127.0.0.1/tcp/0'\n", key_of(4))
    write_genesis(make_genesis(), tmp_path / GENESIS_NAME)
    return tmp_path


def configured(home: Path) -> Config:
    return load_config(home / CONFIG_NAME, {})


def no_genesis(home: Path) -> None:
    (home / GENESIS_NAME).unlink()


def cut_genesis(home: Path) -> None:
    text = (home / GENESIS_NAME).read_text()
    (home / GENESIS_NAME).write_text(text[: len(text) // 2])


def open_key(home: Path) -> None:
    (home / KEY_NAME).chmod(0o644)


def broken_database(home: Path) -> None:
    (home / "data" / DATABASE_NAME).write_bytes(b"\x07" * 5_000)


def no_directory(home: Path) -> None:
    (home / "data" / "wal").unlink()
    (home / "data").rmdir()
    (home / "data").write_text("")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (no_genesis, "genesis.json: cannot be read (No such file"),
        (cut_genesis, "genesis.json: not JSON"),
        (open_key, "others may read this key; run chmod 600"),
        (broken_database, "chain.db: the database is damaged"),
        (no_directory, "data: File exists"),
    ],
)
def test_what_cannot_start_says_so_in_one_line(
    home: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None], words: str
) -> None:
    harm(home)
    before = contents(home)
    assert run(configured(home)) == EXIT_SETUP
    line = capsys.readouterr().err
    assert line.startswith("commonwatt: ")
    assert words in line
    assert line.count("\n") == 1
    assert contents(home) == before


def test_a_directory_in_use_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryLock(home / "data"):
        assert run(configured(home)) == EXIT_SETUP
    assert "is in use by another process" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """`run` takes over the root logger."""

    root = logging.getLogger()
    ours = logging.getLogger("commonwatt")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def contents(home: Path) -> dict[str, bytes]:
    found = {}
    for path in home.rglob("*"):
        with contextlib.suppress(IsADirectoryError):
            found[path.name] = path.read_bytes()
    # The lock says who tried last; it is no data.
    found.pop("lock", None)
    return found


def test_chains_have_topics_of_their_own() -> None:
    names = [*topics(make_genesis(5)), *topics(make_genesis(6))]
    assert len(set(names)) == 4
