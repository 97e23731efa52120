"""Files that only their owner may read: keys, tokens, passwords."""

import os
import stat
from pathlib import Path
from typing import Final

from node.errors import ConfigError

SECRET_CHARS_MAX: Final = 1_024
# Of UTF-8.
SECRET_BYTES_MAX: Final = 4 * SECRET_CHARS_MAX
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
    data = read_owned(path, what, SECRET_BYTES_MAX + 1, others)
    first = data.replace(b"\r", b"\n").partition(b"\n")[0]
    try:
        # What is longer than any may be was cut off, perhaps within a character.
        line = first.decode(errors="strict" if len(first) <= SECRET_BYTES_MAX else "replace")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the {what} cannot be read (not text)") from None
    if len(line) > SECRET_CHARS_MAX or len(first) > SECRET_BYTES_MAX:
        raise ConfigError(f"{path}: a {what} has {SECRET_CHARS_MAX} characters at most")
    return line.strip()


def read_owned(path: Path, what: str, bytes_max: int, others: int = OTHERS) -> bytes:
    """Return what a file that is its owner's only begins with, at most `bytes_max` bytes.

    Raises
    ------
    ConfigError
        It is missing or open to others. The message never shows what it holds.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(bytes_max)
    except OSError as error:
        raise ConfigError(f"{path}: the {what} cannot be read ({error.strerror})") from None
    if stat.S_IMODE(mode) & others:
        raise ConfigError(f"{path}: others may read this {what}; run chmod 600 {path}")
    return data
