"""`consensus/` is pure: what it imports, and that no float gets in."""

import ast
from pathlib import Path

import pytest

import consensus

FORBIDDEN = {
    "asyncio", "datetime", "multiprocessing", "os", "pathlib", "random", "secrets", "socket",
    "sqlite3", "subprocess", "threading", "time", "trio", "uuid", "hems", "market", "node",
    "study", "testnet", "tests", "cli",
}  # fmt: skip
MODULES = sorted(Path(consensus.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_clock_socket_disk_chance_or_float(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        assert not {name.split(".")[0] for name in names} & FORBIDDEN
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float))
        assert not isinstance(node, ast.Assert)
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div))
        assert not (isinstance(node, ast.Name) and node.id in {"open", "float"})
