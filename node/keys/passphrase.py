"""Where the passphrase of a key file comes from.

In this order: the file that the settings or the command name, the environment
(`COMMONWATT_PASSPHRASE`), a systemd credential (`LoadCredential=commonwatt-passphrase:…`), and the
terminal if somebody sits there. Never the command line, which everybody on the machine can read.
"""

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from node.errors import ConfigError
from node.keys.keyfile import check_passphrase
from node.keys.secret import read_credential, read_secret

ENVIRONMENT_NAME: Final = "COMMONWATT_PASSPHRASE"
CREDENTIAL_NAME: Final = "commonwatt-passphrase"
_WHAT: Final = "passphrase"


def find_passphrase(
    file: Path | None = None, environment: Mapping[str, str] | None = None
) -> str | None:
    """Return the passphrase that a file, the environment or systemd gives; None if none does.

    Raises
    ------
    ConfigError
        A file that is named cannot be read, is open to others, or is empty.
    """
    given = os.environ if environment is None else environment
    if file is not None:
        found = read_secret(file, _WHAT)
        origin = str(file)
    elif ENVIRONMENT_NAME in given:
        found, origin = given[ENVIRONMENT_NAME], ENVIRONMENT_NAME
    elif directory := given.get("CREDENTIALS_DIRECTORY"):
        credential = Path(directory) / CREDENTIAL_NAME
        if not credential.exists():
            return None
        found, origin = read_credential(credential, _WHAT), str(credential)
    else:
        return None
    if not found:
        raise ConfigError(f"{origin}: the passphrase is empty")
    return found


def passphrase_for(
    path: Path,
    address: str,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    ask: Callable[[str], str] | None = getpass.getpass,
) -> str:
    """Return the passphrase of a key file.

    Parameters
    ----------
    path, address : the key file, and whose key it holds, as the terminal is told
    ask : callable, optional
        How a person at the terminal is asked; None: nobody is.

    Raises
    ------
    ConfigError
        There is none.
    """
    found = find_passphrase(file, environment)
    if found is None and ask is not None and _is_terminal():
        found = _asked(ask, f"passphrase of {path} ({address}): ")
    if found is None:
        raise ConfigError(
            f"{path}: the key is encrypted and no passphrase is given; put it into a file that "
            f"only its owner may read and set passphrase_file in [node] (--passphrase-file), or "
            f"give it as {ENVIRONMENT_NAME} or as systemd's credential {CREDENTIAL_NAME}"
        )
    return found


def new_passphrase(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    ask: Callable[[str], str] = getpass.getpass,
) -> str:
    """Return the passphrase to encrypt with; at a terminal it is typed twice.

    Raises
    ------
    ConfigError
        None is given, it is too short, or the two are not the same.
    """
    found = find_passphrase(file, environment)
    if found is None:
        if not _is_terminal():
            raise ConfigError(
                "no passphrase is given: --passphrase-file FILE, or "
                f"{ENVIRONMENT_NAME} in the environment, or a terminal to type it at"
            )
        found = _asked(ask, "new passphrase: ")
        if found != _asked(ask, "once more: "):
            raise ConfigError("the two are not the same; nothing was changed")
    check_passphrase(found)
    return found


def _asked(ask: Callable[[str], str], prompt: str) -> str:
    try:
        return ask(prompt).strip()
    except (EOFError, OSError):
        raise ConfigError("no passphrase was typed; nothing was changed") from None


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
