"""Tables of results, as CSV and, where pyarrow is installed, as Parquet."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from study.cells import write

Value = int | float | str


class Table(NamedTuple):
    """Rows under titles, which name units."""

    titles: tuple[str, ...]
    rows: Sequence[Sequence[Value]]


def write_table(folder: Path, name: str, table: Table) -> list[str]:
    """Write `name`.csv and, if it can be, `name`.parquet; return the names written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.titles)
    writer.writerows(table.rows)
    write(folder / f"{name}.csv", text.getvalue().encode())
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return [f"{name}.csv"]
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.titles)
    made = pyarrow.table(dict(zip(table.titles, map(list, columns), strict=True)))
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(made, sink)
    write(folder / f"{name}.parquet", sink.getvalue().to_pybytes())
    return [f"{name}.csv", f"{name}.parquet"]


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [table.titles, ["---"] * len(table.titles), *table.rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)
