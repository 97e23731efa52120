"""The daemon's log: on standard error, as lines for people or as JSON for programs, by part.

A part is what follows `commonwatt.` in a logger's name. JSON is one object per line: `time` (UTC),
`level`, `part`, `message`, and `error` with a traceback where there is one.
"""

import logging
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO, TypeAlias

import msgspec

ROOT: Final = "commonwatt"
LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
PARTS: Final = (
    "announcer",
    "archive",
    "arrival",
    "audits",
    "beginning",
    "chain",
    "control",
    "daemon",
    "evidence",
    "hems",
    "household",
    "joining",
    "light",
    "members",
    "mempool",
    "mqtt",
    "network",
    "poster",
    "sensors",
    "shelf",
    "signatory",
    "snapshots",
    "sync",
    "web",
)
# On a terminal a line may stand that is drawn anew: a record takes its place.
CLEAR_LINE: Final = "\r\x1b[K"
_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


_Raised: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)


class TextFormatter(logging.Formatter):
    """Writes a record as one line, in which nothing moves a cursor; a traceback stands under it.

    What neighbours say comes into messages and errors: it shall not look like another line of this
    log, nor tell a terminal what to do.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the library
        """Return the line without a traceback."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - of the library
        """Return a traceback whose lines begin as no record does."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"    {printable(line)}" for line in lines)


def printable(text: str) -> str:
    """Return text with all that is not printed written as in Python's source."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        told: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix(f"{ROOT}."),
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told).decode()


def levels_of(texts: Sequence[str]) -> dict[str, str]:
    """Return levels by part, given as `network=debug`.

    Raises
    ------
    ValueError
        A part or a level is none, or a part is named twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        part, _, level = (piece.strip() for piece in text.partition("="))
        if part not in PARTS:
            raise ValueError(f"{text!r} names no part; parts are {', '.join(PARTS)}")
        if level not in LEVELS:
            raise ValueError(f"{text!r} gives no level; levels are {', '.join(LEVELS)}")
        if part in found:
            raise ValueError(f"{part} is named twice")
        found[part] = level
    return found


def set_up(level: str, parts: Sequence[str], style: str, to: TextIO | None = None) -> None:
    """Make the log what the settings say; libraries are heard from warnings on.

    Parameters
    ----------
    level : str
        One of `LEVELS`, of all parts that are not named.
    parts : sequence of str
        As `levels_of`; those named before and not now lose theirs.
    style : str
        One of `FORMATS`.
    """
    stream = to or sys.stderr
    handler = logging.StreamHandler(stream)
    text = CLEAR_LINE + _TEXT if stream.isatty() else _TEXT
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(level.upper())
    chosen = levels_of(parts)
    for part in PARTS:
        own = chosen.get(part)
        logging.getLogger(f"{ROOT}.{part}").setLevel(own.upper() if own else logging.NOTSET)


def terminal() -> TextIO | None:
    """Return the terminal on which the log is written for people; None if it is not."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream.isatty():
            is_text = not isinstance(handler.formatter, JsonFormatter)
            return handler.stream if is_text else None
    return None
