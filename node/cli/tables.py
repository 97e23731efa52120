"""Tables for people: in a terminal as wide as it is, in a pipe as wide as they need."""

from collections.abc import Iterable
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS: Final = 200


def table(*columns: str) -> Table:
    """Return an empty table; a column whose name ends in `>` holds numbers."""
    made = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        numbers = column.endswith(">")
        made.add_column(
            column.removesuffix(">"), justify="right" if numbers else "left", no_wrap=numbers
        )
    return made


def add_row(to: Table, cells: Iterable[object]) -> None:
    """Add a row; what came from neighbours is text, whatever it looks like."""
    to.add_row(*(Text(clean(cell)) for cell in cells))


def show(*parts: Table | str) -> None:
    """Print tables and lines, one under the other; no table without rows."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_COLUMNS
    for part in parts:
        if isinstance(part, str):
            console.print(Text(clean(part)), soft_wrap=True)
        elif part.row_count:
            console.print(part)


def clean(value: object) -> str:
    """Return a value as text that moves no cursor."""
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value)
    )


def dash(value: Any) -> Any:
    """Return a value, or a dash for none."""
    return "-" if value in (None, "", 0) else value
