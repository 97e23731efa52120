"""What is wrong before the start is one line, exit code 2, and nothing overwritten."""

import contextlib
import errno
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

import cli
from node.__main__ import main
from node.lock import DirectoryLock
from node.setup import DATA_NAME
from testnet.street import Street, StreetPlan, create_street


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


Command: TypeAlias = Callable[..., Done]
Runner: TypeAlias = Callable[[Path], Done]


@pytest.fixture
def commonwatt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return the command line, run inside this process."""

    def command(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["commonwatt", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out = capsys.readouterr()
        return Done(int(ended.value.code or 0), out.out, out.err)

    return command


def refused(done: Done, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Street:
    return create_street(tmp_path_factory.mktemp("setup") / "street", StreetPlan(homes=4))


@pytest.fixture
def home(made: Street, tmp_path: Path) -> Path:
    """Return a copy of one home's directory, to spoil."""
    return Path(shutil.copytree(made.home("home-01"), tmp_path / "home-01"))


def contents(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    """Return the daemon's start, inside this process."""

    def start(home: Path) -> Done:
        code = main(["--config", str(home / "node.toml")])
        out = capsys.readouterr()
        return Done(code, out.out, out.err)

    return start


def test_an_unknown_key(home: Path, run: Runner) -> None:
    config = home / "node.toml"
    config.write_text(config.read_text().replace("log_level", "loglevel"))
    before = contents(home)
    refused(run(home), "node.toml", "unknown key 'loglevel' in [node]", "log_level")
    assert contents(home) == before


def test_a_port_in_use(home: Path, run: Runner) -> None:
    port = int((home / "node.toml").read_text().partition("/tcp/")[2].partition('"')[0])
    with socket.socket() as other:
        with contextlib.suppress(OSError):  # somebody else has it by now: in use all the same
            other.bind(("127.0.0.1", port))
            other.listen()
        refused(run(home), str(port), "in use")


def test_a_directory_in_use(home: Path, run: Runner) -> None:
    with DirectoryLock(home / DATA_NAME):
        before = contents(home)
        refused(run(home), str(home / DATA_NAME), "in use by another process")
        assert contents(home) == before


def test_a_wrong_genesis(home: Path, run: Runner) -> None:
    genesis = home / "genesis.json"
    genesis.write_text(genesis.read_text().replace('"slot_minutes": 15', '"slot_minutes": 7'))
    refused(run(home), "genesis.json", "slot_minutes must divide 60")
    genesis.write_text("{}")
    refused(run(home), "genesis.json", "genesis.version is missing")
    genesis.unlink()
    refused(run(home), "genesis.json", "cannot be read")


def test_a_corrupt_database(home: Path, run: Runner) -> None:
    database = home / DATA_NAME / "chain.db"
    database.write_bytes(b"this is not a database, whatever its name says" * 100)
    before = database.read_bytes()
    refused(run(home), "chain.db", "damaged")
    assert database.read_bytes() == before


def test_a_key_that_others_may_read(home: Path, run: Runner) -> None:
    (home / "node.key").chmod(0o644)
    refused(run(home), "node.key", "chmod 600")


def test_init_overwrites_nothing(home: Path, commonwatt: Command, tmp_path: Path) -> None:
    before = contents(home)
    refused(commonwatt("init", str(home)), "exists already", "nothing was changed")
    assert contents(home) == before
    new = tmp_path / "new"
    done = commonwatt("init", str(new), "--name", "gate-7")
    assert done.returncode == 0, done.stderr
    assert (new / "node.key").stat().st_mode & 0o777 == 0o600
    assert 'name = "gate-7"' in (new / "node.toml").read_text()


def test_status_of_a_home_that_does_not_run(home: Path, commonwatt: Command) -> None:
    done = commonwatt("status", "--config", str(home / "node.toml"))
    assert done.returncode == 1
    assert "no node is running" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows[:40], ("too few days: 1", "needed")),
        (lambda rows: [*rows[:9], rows[8], *rows[9:]], ("line 10",)),
        (lambda rows: [*rows[:9], rows[9].replace(",0.2", ",-0.2"), *rows[10:]], ("line 10",)),
        (lambda rows: [*rows[:9], rows[9].replace(",0.2", ",some"), *rows[10:]], ("line 10",)),
        (lambda rows: [row.rpartition(",")[0] + "," for row in rows[:1]] + rows[1:], ("line 1",)),
        (lambda rows: rows[:1] + [row.rpartition(",")[0] + "," for row in rows[1:]], ("home_a",)),
    ],
    ids=["few days", "time twice", "negative", "text", "no column name", "gaps"],
)
def test_a_bad_data_file(
    tmp_path: Path, commonwatt: Command, change: object, words: tuple[str, ...]
) -> None:
    rows = ["local_time,home_a"]
    rows += [
        f"2024-11-{day:02d} {hour:02d}:00,0.2{hour}" for day in range(1, 31) for hour in range(24)
    ]
    file = tmp_path / "data.csv"
    file.write_text("\n".join(change(rows)) + "\n")  # type: ignore[operator]
    street = tmp_path / "street"
    done = commonwatt("testnet", "up", "--data", str(file), "--dir", str(street))
    refused(done, "data.csv", *words)
    assert not street.exists()


def test_a_street_that_cannot_be(tmp_path: Path, commonwatt: Command) -> None:
    refused(
        commonwatt("testnet", "up", "--homes", "3", "--dir", str(tmp_path / "s")),
        "4 authorities of 3 homes",
    )
    (tmp_path / "mine.txt").write_text("not yours")
    refused(commonwatt("testnet", "up", "--dir", str(tmp_path)), "mine.txt", "use another")
    assert (tmp_path / "mine.txt").read_text() == "not yours"


def test_what_is_named_is_not_what_it_should_be(
    home: Path, made: Street, commonwatt: Command, tmp_path: Path
) -> None:
    settings = str(home / "node.toml")
    absent = str(tmp_path / "absent")
    refused(commonwatt("status", "--config", absent), "cannot be read", "name it by --config")
    refused(commonwatt("status", "--config", str(home)), f"the home's settings are {settings}")
    refused(commonwatt("testnet", "up", "--dir", settings), settings, "has to be a directory")
    refused(
        commonwatt("community", "alarms", "--head", absent, "--config", settings),
        "cannot be read",
    )
    with DirectoryLock(made.home("home-02") / DATA_NAME):
        again = commonwatt("testnet", "up", "--dir", str(made.directory))
    refused(again, str(made.directory), "runs already (home-02 is process", "--dir")


def test_a_disk_without_room_is_one_line_and_a_fault_of_ours_is_not(
    commonwatt: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(number: int, *of: str) -> None:
        def command() -> None:
            raise OSError(number, os.strerror(number), *of)

        monkeypatch.setattr(cli, "app", command)

    failing(errno.ENOSPC)
    refused(commonwatt("status"), "No space left", "make room")
    failing(errno.EACCES, "/srv/home")
    refused(commonwatt("status"), "/srv/home: Permission denied; run this as who owns it")
    failing(errno.EBADF)
    with pytest.raises(OSError, match="Bad file"):
        cli.main()
