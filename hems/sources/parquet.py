"""Files of measurements in Parquet, wide or long as the CSV formats are (extra `parquet`).

Times may be timestamps or text. A timestamp without a zone is the wall clock; one with a zone is a
moment, and is laid on the home's wall clock.
"""

from collections.abc import Iterator
from datetime import datetime, tzinfo
from itertools import chain
from pathlib import Path
from typing import Any, Final

from hems.errors import DataError
from hems.sources import table, wide
from hems.sources.grid import CELLS_MAX, COLUMNS_MAX, FILE_BYTES_MAX, WideData

_BATCH_ROWS: Final = 10_000


def read_parquet(
    path: Path, zone: tzinfo | None = None, only: str | None = None, missing_rows: bool = False
) -> WideData:
    """Read a Parquet file; parameters and errors as in `wide.read_wide`."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{path}: Parquet needs pyarrow: install commonwatt[parquet], or give a .csv file"
        ) from None
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DataError(f"{path}: larger than {FILE_BYTES_MAX} bytes; cut it to what is needed")
        with pyarrow.parquet.ParquetFile(path) as file:
            titles = [str(name).strip() for name in file.schema_arrow.names]
            rows = int(file.metadata.num_rows)
            if len(titles) > COLUMNS_MAX or rows * len(titles) > CELLS_MAX:
                raise DataError(
                    f"{path}: {rows} rows of {len(titles)} columns; at most {COLUMNS_MAX} columns "
                    f"and {CELLS_MAX} values"
                )
            if table.is_long(titles):
                at = table.titles_of(path, titles)
                return table.from_rows(path, at, _rows(file, zone), zone, only)
            rows_of_text = chain([titles], _rows(file, zone))
            return wide.from_rows(path, rows_of_text, zone, only, missing_rows)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{path}: cannot be read: {reason}") from None


def _rows(file: Any, zone: tzinfo | None) -> Iterator[list[str]]:
    """Yield rows of text, a batch in memory at a time."""
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield [_text(value, zone) for value in row]


def _text(value: object, zone: tzinfo | None) -> str:
    if isinstance(value, datetime) and value.tzinfo is not None and zone is not None:
        value = value.astimezone(zone).replace(tzinfo=None)
    return "" if value is None else str(value)
