"""Files that only their owner may read: keys, tokens, passwords."""

import stat
from pathlib import Path
from typing import Final

from node.errors import ConfigError

SECRET_CHARS_MAX: Final = 1_024


def read_secret(path: Path, what: str) -> str:
    """Return the first line of a file, without the blanks around it.

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
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"{path}: others may read this {what}; run chmod 600 {path}")
    if len(line) > SECRET_CHARS_MAX:
        raise ConfigError(f"{path}: a {what} has {SECRET_CHARS_MAX} characters at most")
    return line.strip()
