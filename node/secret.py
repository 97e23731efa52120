"""Files that only their owner may read: keys, tokens, passwords."""

import stat
from pathlib import Path
from typing import Final

from node.errors import ConfigError

SECRET_CHARS_MAX: Final = 1_024


OTHERS: Final = 0o077
# A credential's file is the service's own by an access list, whose mask shows as the group's bits.
OTHERS_OF_CREDENTIAL: Final = 0o007


def read_credential(path: Path, what: str) -> str:
    """Do as `read_secret` does with a file of systemd's `$CREDENTIALS_DIRECTORY`."""
    return read_secret(path, what, OTHERS_OF_CREDENTIAL)


def read_secret(path: Path, what: str, others: int = OTHERS) -> str:
    """Return the first line of a file, without the blanks around it.

    Parameters
    ----------
    others : int
        Bits of the file's mode that must not be set.

    Raises
    ------
    ConfigError
        It is missing, open to others, too long, or no text. The message never shows what it holds.
    """
    try:
        mode = path.stat().st_mode
        with path.open(encoding="utf-8") as file:
            line = file.readline(SECRET_CHARS_MAX + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{path}: the {what} cannot be read ({reason})") from None
    if stat.S_IMODE(mode) & others:
        raise ConfigError(f"{path}: others may read this {what}; run chmod 600 {path}")
    if len(line) > SECRET_CHARS_MAX:
        raise ConfigError(f"{path}: a {what} has {SECRET_CHARS_MAX} characters at most")
    return line.strip()
