"""A home's books as files: bills, slots and trades, for spreadsheets, databases and paper."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.cli.options import CONFIG, ConfigOption, settings

if TYPE_CHECKING:
    from node.exports.rows import Book, Kind, Row

export_app = typer.Typer(
    help="Write bills, slots and trades into files, whether the node runs or not.",
    no_args_is_help=True,
)


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    PARQUET = "parquet"
    HTML = "html"


OutOption = Annotated[Path, typer.Option("--out", help="The file to write; - is the screen.")]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="How. [default: by the file's ending, or csv]")
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="First local day, 2025-11-03, or month, 2025-11.")
]
ToOption = Annotated[str | None, typer.Option("--to", help="Last local day or month, included.")]
HomeOption = Annotated[str | None, typer.Option(help="Only this home's: its name or account.")]


@export_app.command("bills")
def export_bills(
    out: OutOption,
    first: FromOption = None,
    last: ToOption = None,
    home: HomeOption = None,
    style: FormatOption = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Write the homes' bills, slot by slot; as HTML to print, day by day per home and month."""
    from node.exports.rows import Kind

    _export(Kind.BILLS, out, first, last, home, style, config)


@export_app.command("slots")
def export_slots(
    out: OutOption,
    first: FromOption = None,
    last: ToOption = None,
    style: FormatOption = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Write what became of each slot: prices, sums of trades, energy of the grid, carbon."""
    from node.exports.rows import Kind

    _export(Kind.SLOTS, out, first, last, None, style, config)


@export_app.command("trades")
def export_trades(
    out: OutOption,
    first: FromOption = None,
    last: ToOption = None,
    home: HomeOption = None,
    style: FormatOption = None,
    config: ConfigOption = CONFIG,
) -> None:
    """Write who bought what of whom at which price."""
    from node.exports.rows import Kind

    _export(Kind.TRADES, out, first, last, home, style, config)


def _export(
    kind: "Kind",
    out: Path,
    first: str | None,
    last: str | None,
    home: str | None,
    style: Format | None,
    config: Path,
) -> None:
    from node.durable import replace_file
    from node.errors import ConfigError
    from node.exports.rows import Book, Kind, days_of
    from node.genesis import read_genesis
    from node.offline import load_application
    from node.setup import DATABASE_NAME

    how = style or _by_ending(out)
    if how is Format.HTML and kind is not Kind.BILLS:
        raise ConfigError(f"HTML is for bills; {kind} are written as csv or parquet: --format csv")
    if how is Format.PARQUET and str(out) == "-":
        raise ConfigError("Parquet is not for the screen: give --out FILE")
    try:
        days = days_of(first, last)
    except ValueError as error:
        raise ConfigError(f"--from, --to: {error}") from None
    own = settings(config)
    genesis = read_genesis(own.path(own.node.genesis))
    book = Book(load_application(own.path(own.node.data) / DATABASE_NAME, genesis))
    with _progress(f"reading {kind}") as on_slot:
        rows = book.rows(kind, days, home, on_slot)
    data = _written(how, kind, book, rows)
    if str(out) == "-":
        sys.stdout.buffer.write(data)
        return
    try:
        if out.exists() and not out.is_file():
            # A pipe or a device is written to, and stays what it is.
            out.write_bytes(data)
        else:
            replace_file(out, data)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from None
    typer.echo(f"{out}: {len(rows)} {kind} as of block {book.height}")


def _written(how: Format, kind: "Kind", book: "Book", rows: "list[Row]") -> bytes:
    from node.exports.formats import to_csv, to_parquet
    from node.exports.page import to_html

    match how:
        case Format.CSV:
            return to_csv(kind, rows)
        case Format.PARQUET:
            return to_parquet(kind, rows)
        case Format.HTML:
            return to_html(book, rows)


def _by_ending(out: Path) -> Format:
    ending = out.suffix.lower().removeprefix(".")
    endings = {"": Format.CSV, "htm": Format.HTML, "pq": Format.PARQUET}
    with contextlib.suppress(ValueError):
        return endings.get(ending) or Format(ending)
    from node.errors import ConfigError

    raise ConfigError(f"{out}: how is that written? Give --format csv, parquet or html")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal's standard error how far it is."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(what)

        def on_slot(done: int, of: int) -> None:
            shown.update(task, completed=done, total=of)

        yield on_slot
