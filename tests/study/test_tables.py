"""Tables as CSV and Parquet."""

import sys
from pathlib import Path

import pytest

from study.tables import Table, write_table

TABLE = Table(("hour", "name", "wh"), [[0, "a, b", 1.5], [1, "c", 2.0]])


def test_a_table_is_csv_where_there_is_no_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert write_table(tmp_path, "table", TABLE) == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == 'hour,name,wh\n0,"a, b",1.5\n1,c,2.0\n'
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_and_parquet_where_there_is(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_table(tmp_path, "table", TABLE) == ["table.csv", "table.parquet"]
    read = parquet.read_table(tmp_path / "table.parquet").to_pydict()
    assert read == {"hour": [0, 1], "name": ["a, b", "c"], "wh": [1.5, 2.0]}
