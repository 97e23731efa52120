"""What makes a home this home, in one file: its key, settings, genesis, and what it must remember.

The chain is not in it: a restored home fetches that from its neighbours, as one that lost its disk
does. Nor is the write-ahead log: a vote of before the restore is not remembered, so a restored
authority abstains until two heights have been decided without it (`node.chain.wal`).
"""

import gzip
import io
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import Final

from node.config import FILE_CHARS_MAX, load_config
from node.durable import create_file
from node.errors import ConfigError
from node.genesis import GENESIS_BYTES_MAX, read_genesis
from node.home.memory import MEMORY_BYTES_MAX
from node.keys.keyfile import load
from node.keys.secret import SECRET_CHARS_MAX
from node.setup import (
    ACCOUNT_KEY_NAME,
    CONFIG_NAME,
    DATA_NAME,
    GENESIS_NAME,
    HOME_NAME,
    KEY_NAME,
    MAIN_GENESIS_NAME,
    MAIN_NAME,
    MAIN_PSK_NAME,
    METER_KEY_NAME,
    PEERS_NAME,
    PSK_NAME,
    check_new,
    network_key,
)

# Name in the archive: the most bytes it may have, and whether there is no home without it.
_PARTS: Final = {
    CONFIG_NAME: (4 * FILE_CHARS_MAX, True),
    KEY_NAME: (SECRET_CHARS_MAX, True),
    GENESIS_NAME: (4 * GENESIS_BYTES_MAX, False),
    MAIN_GENESIS_NAME: (4 * GENESIS_BYTES_MAX, False),
    PSK_NAME: (SECRET_CHARS_MAX, False),
    MAIN_PSK_NAME: (SECRET_CHARS_MAX, False),
    ACCOUNT_KEY_NAME: (SECRET_CHARS_MAX, False),
    METER_KEY_NAME: (SECRET_CHARS_MAX, False),
    f"{DATA_NAME}/{HOME_NAME}": (MEMORY_BYTES_MAX, False),
    f"{DATA_NAME}/{PEERS_NAME}": (1_048_576, False),
    f"{DATA_NAME}/{MAIN_NAME}/{PEERS_NAME}": (1_048_576, False),
}
BACKUP_BYTES_MAX: Final = 32 * 1_048_576
UNPACKED_BYTES_MAX: Final = sum(size for size, _ in _PARTS.values()) + 1_048_576


def back_up(config_file: Path, file: Path) -> list[str]:
    """Write a home's backup, readable by its owner only; the daemon may be running.

    Returns
    -------
    list of str
        What is in it.

    Raises
    ------
    ConfigError, GenesisError
        There is no whole home, its paths are not the usual ones, or `file` exists already.
    """
    config = load_config(config_file, {})
    load(config.path(config.node.key))
    places = {CONFIG_NAME: config_file, KEY_NAME: config.path(config.node.key)}
    if config.path(config.node.genesis).exists():
        read_genesis(config.path(config.node.genesis))
        places[GENESIS_NAME] = config.path(config.node.genesis)
    usual = [KEY_NAME, GENESIS_NAME, DATA_NAME, ACCOUNT_KEY_NAME, METER_KEY_NAME]
    own = config.node
    have = [own.key, own.genesis, own.data, own.account_key, own.meter_key]
    if network_key(config) is not None:
        usual.append(PSK_NAME)
        have.append(config.network.psk_file)
        places[PSK_NAME] = config.path(config.network.psk_file)
    for name in (ACCOUNT_KEY_NAME, METER_KEY_NAME):
        if config.path(name).exists():
            load(config.path(name))
            places[name] = config.path(name)
    if config.main is not None:
        # Of a region's authority, which does not start without it.
        read_genesis(config.path(config.main.genesis))
        places[MAIN_GENESIS_NAME] = config.path(config.main.genesis)
        usual.append(MAIN_GENESIS_NAME)
        have.append(config.main.genesis)
        if network_key(config, config.main) is not None:
            places[MAIN_PSK_NAME] = config.path(config.main.psk_file)
            usual.append(MAIN_PSK_NAME)
            have.append(config.main.psk_file)
    if have != usual:
        raise ConfigError(
            f"{config_file}: key, genesis and data of a backup are {', '.join(usual)}; this home "
            "has others: keep copies of its key and settings"
        )
    for name in (HOME_NAME, PEERS_NAME, f"{MAIN_NAME}/{PEERS_NAME}"):
        path = config.path(config.node.data) / name
        if path.exists():
            places[f"{DATA_NAME}/{name}"] = path
    try:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, path in places.items():
                _put(archive, name, path.read_bytes())
        create_file(file, packed.getvalue())
    except OSError as error:
        raise ConfigError(
            f"{error.filename or file}: {error.strerror}; no backup was made"
        ) from None
    return list(places)


def _put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    entry.mode = 0o600
    archive.addfile(entry, io.BytesIO(data))


def restore(file: Path, directory: Path) -> str:
    """Make a home again from its backup; return its account.

    A key that was encrypted comes back as it was, and takes the same passphrase.

    Raises
    ------
    ConfigError
        It is no backup, or the directory has a home already. Nothing was written.
    """
    check_new(directory)
    parts = _read(file)
    with tempfile.TemporaryDirectory() as trial:
        _write(parts, Path(trial))
        load_config(Path(trial) / CONFIG_NAME, {})
        address = load(Path(trial) / KEY_NAME).address
    _write(parts, directory)
    return address


def _write(parts: dict[str, bytes], directory: Path) -> None:
    try:
        (directory / DATA_NAME).mkdir(parents=True, mode=0o700)
        for name, data in parts.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True, mode=0o700)
            create_file(path, data)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from None


def _read(file: Path) -> dict[str, bytes]:
    """Return the parts of a backup by name; whatever else an archive could hold is refused."""
    parts: dict[str, bytes] = {}
    try:
        if file.stat().st_size > BACKUP_BYTES_MAX:
            raise ConfigError(f"{file}: more than the {BACKUP_BYTES_MAX} bytes a backup has")
        with gzip.open(file) as raw:
            # All of it first: a header of `tarfile` may be as long as it says.
            unpacked = io.BytesIO(raw.read(UNPACKED_BYTES_MAX + 1))
        if unpacked.getbuffer().nbytes > UNPACKED_BYTES_MAX:
            raise ConfigError(f"{file}: more is in it than a backup")
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for entry in archive:
                bytes_max, _ = _PARTS.get(entry.name, (0, False))
                content = archive.extractfile(entry) if entry.isreg() else None
                if content is None or entry.name in parts or entry.size > bytes_max:
                    raise ConfigError(f"{file}: {entry.name!r} is no part of a backup")
                parts[entry.name] = content.read(bytes_max)
            # The checksum stands at the very end, after what fills up the archive's last record.
            if len(unpacked.read(tarfile.RECORDSIZE + 1)) > tarfile.RECORDSIZE:
                raise ConfigError(f"{file}: more is in it than a backup")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error})") from None
    except (tarfile.TarError, zlib.error, EOFError, ValueError) as error:
        raise ConfigError(f"{file}: not a backup ({error})") from None
    missing = [name for name, (_, needed) in _PARTS.items() if needed and name not in parts]
    if missing:
        raise ConfigError(f"{file}: no backup of a home: {missing[0]} is missing in it")
    return parts
