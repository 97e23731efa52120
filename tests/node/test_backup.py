"""A home is backed up while it runs and made again elsewhere; what is no backup is refused."""

import io
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

import cli
from node import backup
from node.backup import BACKUP_BYTES_MAX, back_up, restore
from node.chain.wal import Wal
from node.config import Config, MainSection, NetworkSection, NodeSection, settings_text
from node.errors import ConfigError, GenesisError
from node.genesis import read_genesis, write_genesis
from node.setup import create_home, read_key
from tests.node.grid import Grid as Street
from tests.node.grid import at_height, busy, key_of, make_genesis, running, until


def home(directory: Path) -> Path:
    """Make a home as `init` does, with something to remember; return its settings' file."""
    create_home(directory, settings_text(Config(node=NodeSection(name="attic"))), key_of(1))
    write_genesis(make_genesis(), directory / "genesis.json")
    (directory / "data" / "home.json").write_bytes(b'{"stored_uwh": 5}')
    return directory / "node.toml"


def test_a_home_is_made_again(tmp_path: Path) -> None:
    config = home(tmp_path / "home")
    file = tmp_path / "home.tar.gz"
    kept = back_up(config, file)
    assert kept == ["node.toml", "node.key", "genesis.json", "data/home.json"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert restore(file, tmp_path / "new") == key_of(1).address
    for name in kept:
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "home" / name).read_bytes()
    assert read_genesis(tmp_path / "new" / "genesis.json") == read_genesis(
        tmp_path / "home" / "genesis.json"
    )
    # What it has signed is not known any more: an authority abstains.
    wal = Wal.open(tmp_path / "new" / "data" / "wal")
    assert wal.damage == "the file is missing"
    wal.close()


def test_a_regions_authority_comes_back_with_its_main_chain(tmp_path: Path) -> None:
    config = home(tmp_path / "home")
    main = MainSection(psk_file="main.key")
    config.write_text(settings_text(Config(node=NodeSection(name="attic"), main=main)))
    (tmp_path / "home" / "main.key").touch(mode=0o600)
    (tmp_path / "home" / "main.key").write_text("ab" * 32)
    file = tmp_path / "home.tar.gz"
    with pytest.raises(GenesisError, match=r"main\.json"):
        back_up(config, file)
    write_genesis(make_genesis(chain_id="main"), tmp_path / "home" / "main.json")
    (tmp_path / "home" / "data" / "main").mkdir()
    (tmp_path / "home" / "data" / "main" / "peers.json").write_text("[]")
    kept = back_up(config, file)
    assert {"main.json", "main.key", "data/main/peers.json"} <= set(kept)
    restore(file, tmp_path / "new")
    for name in kept:
        assert (tmp_path / "new" / name).read_bytes() == (tmp_path / "home" / name).read_bytes()


def test_a_damaged_backup_is_refused_and_never_another_home(tmp_path: Path) -> None:
    file = tmp_path / "home.tar.gz"
    back_up(home(tmp_path / "home"), file)
    whole = file.read_bytes()
    # What is before is gzip's header, in which the time of making stands.
    for place in range(10, len(whole), max(len(whole) // 30, 1)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        file.write_bytes(damaged)
        with pytest.raises(ConfigError):
            restore(file, tmp_path / "new")
    for size in (len(whole) // 2, len(whole) - 4):
        file.write_bytes(whole[:size])
        with pytest.raises(ConfigError):
            restore(file, tmp_path / "new")
    file.write_bytes(whole)
    assert restore(file, tmp_path / "new") == key_of(1).address


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    config = home(tmp_path / "home")
    file = tmp_path / "home.tar.gz"
    back_up(config, file)
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="File exists"):
        back_up(config, file)
    assert file.read_bytes() == before
    with pytest.raises(ConfigError, match="exists already"):
        restore(file, tmp_path / "home")
    assert read_key(tmp_path / "home" / "node.key").address == key_of(1).address


def archive(file: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(file, "w:gz") as made:
        for entry, data in entries:
            entry.size = len(data) if entry.isreg() else 0
            made.addfile(entry, io.BytesIO(data) if entry.isreg() else None)


def named(name: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def linked(name: str) -> tuple[tarfile.TarInfo, bytes]:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return entry, b""


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda file: None, "cannot be read"),
        (lambda file: file.write_bytes(b"no archive"), "cannot be read|not a backup"),
        (lambda file: archive(file), "node.toml is missing"),
        (lambda file: archive(file, named("node.toml")), "node.key is missing"),
        (lambda file: archive(file, named("node.toml"), named("node.key")), "not TOML"),
        (lambda file: archive(file, named("../evil")), "no part of a backup"),
        (lambda file: archive(file, linked("node.key")), "no part of a backup"),
        (lambda file: archive(file, named("node.key"), named("node.key")), "no part of a backup"),
        (lambda file: archive(file, named("node.key", bytes(10**6))), "no part of a backup"),
        (lambda file: file.write_bytes(bytes(BACKUP_BYTES_MAX + 1)), "more than the"),
    ],
    ids=[
        "none",
        "text",
        "empty",
        "no key",
        "nonsense",
        "outside",
        "link",
        "twice",
        "large",
        "huge",
    ],
)
def test_what_is_no_backup_is_refused(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    file = tmp_path / "file"
    make(file)
    with pytest.raises(ConfigError, match=said):
        restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_backup_that_unpacks_to_more_than_a_home_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(home(tmp_path / "home"), tmp_path / "file")
    monkeypatch.setattr(backup, "UNPACKED_BYTES_MAX", 2_000)
    with pytest.raises(ConfigError, match="more is in it than a backup"):
        restore(tmp_path / "file", tmp_path / "new")


def test_other_paths_are_said(tmp_path: Path) -> None:
    config = home(tmp_path / "home")
    config.write_text(config.read_text().replace('data = "data"', 'data = "elsewhere"'))
    with pytest.raises(ConfigError, match="this home has others"):
        back_up(config, tmp_path / "file")


async def test_a_running_authority_is_backed_up_and_comes_back(tmp_path: Path) -> None:
    """It abstains for two heights, then votes; the street never had two of it."""
    street = Street(tmp_path / "street", make_genesis(homes=4))
    async with running(street, range(4)) as members:
        await at_height(members, 2)
        write_genesis(street.genesis, members[3].directory / "genesis.json")
        # The twin's addresses are no network's.
        plain = settings_text(replace(members[3].config, network=NetworkSection()))
        (members[3].directory / "node.toml").write_text(plain)
        back_up(members[3].directory / "node.toml", tmp_path / "file")
        await members[3].stop()
        members[3].directory.rename(tmp_path / "lost")
        restore(tmp_path / "file", members[3].directory)
        await members[3].start()
        assert not members[3].node.chain.voting
        async with busy(members[0]):
            await at_height(members, members[0].height + 4)
            await until(lambda: members[3].node.chain.voting, "it votes again")


def test_the_commands(tmp_path: Path) -> None:
    config = home(tmp_path / "home")
    runner = CliRunner()
    file = tmp_path / "file"
    made = runner.invoke(cli.app, ["backup", str(file), "--config", str(config)])
    assert made.exit_code == 0, made.output
    assert "holds the home's key" in made.output
    back = runner.invoke(cli.app, ["restore", str(file), str(tmp_path / "new")])
    assert back.exit_code == 0, back.output
    assert key_of(1).address in back.output
