"""Tables of the pages whose rows name tests: what they name is there."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
NAMED: Final = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(page: Path, section: str) -> list[str]:
    """Return the lines of a section's table, without its head."""
    text = page.read_text(encoding="utf-8")
    table = text.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [line for line in lines[1:] if set(line) - set("|- ")]


def cells(row: str) -> list[str]:
    """Return what stands in a row."""
    return [cell.strip() for cell in row.strip("|").split("|")]


@cache
def functions_of(file: str) -> frozenset[str]:
    """Return the names of a file's functions."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def named_in(cell: str) -> list[tuple[str, str]]:
    """Return the tests that a cell names, as (file, function); at least one, all of them there."""
    named = NAMED.findall(cell)
    assert named, f"no test is named: {cell}"
    for file, name in named:
        assert name.startswith("test_")
        assert name in functions_of(file), f"{file} has no {name}"
    return named
