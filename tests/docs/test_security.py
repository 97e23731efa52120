"""The table of threats: every row names tests, and they are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows(section: str = "Threats") -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@pytest.mark.parametrize("row", rows())
def test_each_threat_names_tests_that_are_there(row: str) -> None:
    _, actor, threat, defence, tests, _ = (cell.strip() for cell in row.split("|"))
    assert actor
    assert threat
    assert defence
    named = NAMED.findall(tests)
    assert named, "no test is named"
    for file, name in named:
        assert name.startswith("test_")
        assert name in names_in(file), f"{file} has no {name}"


def test_there_are_threats() -> None:
    assert len(rows()) > 25


@pytest.mark.parametrize("row", rows("Limits"))
def test_each_limit_names_where_it_is_and_tests_that_are_there(row: str) -> None:
    _, what, limit, where, beyond, tests, _ = (cell.strip() for cell in row.split("|"))
    assert what
    assert limit
    assert beyond
    files = re.findall(r"`([\w/.]+)`", where)
    assert files
    folder = (ROOT / files[0]).parent
    for file in files:
        assert (ROOT / file).exists() or (folder / file).exists(), file
    named = NAMED.findall(tests)
    assert named, "no test is named"
    for file, name in named:
        assert name in names_in(file), f"{file} has no {name}"
