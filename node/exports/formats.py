"""Rows as files that other programs read: CSV and Parquet."""

import csv
import io
from collections.abc import Sequence
from typing import Final

from node.errors import ConfigError
from node.exports.rows import COLUMNS, TEXTS, Kind, Row

# What a spreadsheet would take for a formula, if a neighbour's name began with it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def to_csv(kind: Kind, rows: Sequence[Row]) -> bytes:
    """Return rows as CSV (RFC 4180, UTF-8), with a line of column names."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS[kind])
    for row in rows:
        writer.writerow([_harmless(row[name]) for name in COLUMNS[kind]])
    return text.getvalue().encode()


def to_parquet(kind: Kind, rows: Sequence[Row]) -> bytes:
    """Return rows as Parquet: whole numbers of 64 bits, and text.

    Raises
    ------
    ConfigError
        The extra `parquet` is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(
            "Parquet takes the extra: uv pip install 'commonwatt[parquet]'; or --format csv"
        ) from None
    fields = [
        pyarrow.field(name, pyarrow.string() if name in TEXTS else pyarrow.int64(), nullable=False)
        for name in COLUMNS[kind]
    ]
    table = pyarrow.Table.from_pylist(list(rows), schema=pyarrow.schema(fields))
    written = io.BytesIO()
    parquet.write_table(table, written)
    return written.getvalue()


def _harmless(value: int | str) -> int | str:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
