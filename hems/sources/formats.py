"""Files of measurements in any format that is known, told apart by their name and header.

| format | told by | module |
|---|---|---|
| wide CSV | a time, then a column per home | `wide` |
| long CSV | columns `time`, `home`, `load` | `table` |
| Parquet, wide or long | `.parquet` | `parquet` (extra `parquet`) |
| CityLearn, or a folder of it | `month`, `hour`, `day_type`, `non_shiftable_load` | `citylearn` |

CSV may be compressed (`.csv.gz`). All are read within `grid.FILE_BYTES_MAX` and end on the same
civil grid.
"""

import csv
import gzip
import zlib
from datetime import tzinfo
from pathlib import Path

from hems.sources import citylearn, table, wide
from hems.sources.grid import WideData


def read_file(
    path: Path, zone: tzinfo | None = None, only: str | None = None, missing_rows: bool = False
) -> WideData:
    """Read measurements of a file or a folder; parameters as in `wide.read_wide`.

    Raises
    ------
    DataError
        Names the file and place, what is wrong there and what would be right.
    """
    if path.is_dir():
        return citylearn.read_folder(path, only)
    if path.suffix == ".parquet":
        from hems.sources import parquet

        return parquet.read_parquet(path, zone, only, missing_rows)
    header = _header(path)
    if citylearn.is_citylearn(header):
        return citylearn.read_citylearn(path, only)
    if table.is_long(header):
        return table.read_long(path, zone, only)
    return wide.read_wide(path, zone, only, missing_rows)


def _header(path: Path) -> list[str]:
    """Return the titles of a CSV file; none where it cannot be read, which its reader will say."""
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            line = file.readline(wide.LINE_CHARS_MAX)
        return [title.strip() for title in next(csv.reader([line]), [])]
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error):
        return []
