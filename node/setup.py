"""The files of one home: made by `commonwatt init` and the testnet, read by the daemon.

<directory>/
    node.toml      settings
    node.key       the node's key, readable by its owner only, encrypted if it has a passphrase
    genesis.json   the community's genesis
    main.json      the main chain's genesis, of a region's authorities
    data/          database, write-ahead log, peer book, control socket, lock
    data/main/     the same of the main chain, for nodes that keep it too
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from node.chain.wal import Wal
from node.config import Config, MainSection, NetworkSection
from node.durable import create_file
from node.errors import ConfigError
from node.keys.keyfile import load, text_of
from node.keys.passphrase import passphrase_for
from node.keys.secret import read_secret
from wire.keys import SigningKey

CONFIG_NAME: Final = "node.toml"
KEY_NAME: Final = "node.key"
ACCOUNT_KEY_NAME: Final = "account.key"
METER_KEY_NAME: Final = "meter.key"
GENESIS_NAME: Final = "genesis.json"
DATA_NAME: Final = "data"
WAL_NAME: Final = "wal"
DATABASE_NAME: Final = "chain.db"
PEERS_NAME: Final = "peers.json"
EVIDENCE_NAME: Final = "evidence"
HOME_NAME: Final = "home.json"
LIVE_NAME: Final = "measured.db"
DETAIL_NAME: Final = "detail.db"
MAIN_NAME: Final = "main"
MAIN_GENESIS_NAME: Final = "main.json"
PSK_NAME: Final = "network.key"
MAIN_PSK_NAME: Final = "main.key"
PSK_BYTES: Final = 32
_PSK: Final = re.compile(f"[0-9a-fA-F]{{{2 * PSK_BYTES}}}")


def create_home(
    directory: Path,
    settings: str,
    key: SigningKey | None = None,
    with_main: bool = False,
    passphrase: str | None = None,
    psk: bytes | None = None,
) -> SigningKey:
    """Make the files of a new home, with an empty write-ahead log: it has never signed anything.

    Parameters
    ----------
    with_main : bool
        Whether it keeps the main chain too, with a log of its own.
    passphrase : str, optional
        What its key is encrypted by; without, it is not.
    psk : bytes, optional
        The network key that its community shares.

    Raises
    ------
    ConfigError
        There are such files already, or the passphrase is none; nothing is overwritten.
    """
    check_new(directory)
    key = key or SigningKey.generate()
    line = text_of(key, passphrase)
    try:
        data = directory / DATA_NAME
        data.mkdir(parents=True, mode=0o700)
        create_file(directory / KEY_NAME, line.encode() + b"\n")
        if psk is not None:
            create_file(directory / PSK_NAME, psk.hex().encode() + b"\n")
        (directory / CONFIG_NAME).write_text(settings)
        Wal.create(data / WAL_NAME)
        if with_main:
            (data / MAIN_NAME).mkdir(mode=0o700)
            Wal.create(data / MAIN_NAME / WAL_NAME)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from None
    return key


def check_new(directory: Path) -> None:
    """Raise `ConfigError` if there is a home, or part of one, already."""
    for name in (CONFIG_NAME, KEY_NAME, DATA_NAME):
        if (directory / name).exists():
            raise ConfigError(f"{directory / name} exists already; nothing was changed")


def read_key(
    path: Path,
    passphrase_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> SigningKey:
    """Read a key file, encrypted or plain; where its passphrase comes from: `node.keys.passphrase`.

    Raises
    ------
    ConfigError
        It is missing, open to others or not a key, there is no passphrase for it, or another. The
        message never shows what it holds.
    """
    stored = load(path)
    if stored.plain is not None:
        return stored.plain
    passphrase = passphrase_for(path, stored.address, passphrase_file, environment)
    return stored.open(passphrase)


def own_key(config: Config) -> SigningKey:
    """Read the key of the node with these settings. Raises `ConfigError` as `read_key`."""
    return read_key(config.path(config.node.key), passphrase_file_of(config))


def own_address(config: Config) -> str:
    """Return the account of the node with these settings; it takes no passphrase.

    Raises `ConfigError` as `node.keys.keyfile.load`.
    """
    return config.node.account or load(config.path(config.node.key)).address


def passphrase_file_of(config: Config) -> Path | None:
    """Return the file that the settings name for the passphrase, None if they name none."""
    name = config.node.passphrase_file
    return config.path(name) if name else None


def network_key(config: Config, of: NetworkSection | MainSection | None = None) -> bytes | None:
    """Return the key that a chain's nodes share, None where the settings name no file of it.

    `of` says which chain's, by its section; without it, that of the home's own community.

    Raises
    ------
    ConfigError
        The file is missing, open to others, or no key. The message never shows what it holds.
    """
    named = (of or config.network).psk_file
    if not named:
        return None
    path = config.path(named)
    text = read_secret(path, "network key")
    if not _PSK.fullmatch(text):
        raise ConfigError(
            f"{path}: not a network key; it holds {2 * PSK_BYTES} hexadecimal digits, the same at "
            "all nodes of its chain"
        )
    return bytes.fromhex(text)


def data_directory(config: Config) -> Path:
    """Return the data directory, made if it is missing.

    Raises
    ------
    ConfigError
        It cannot be made.
    """
    data = config.path(config.node.data)
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"{data}: {error.strerror}") from None
    return data
