"""The table of threats: every row names tests, and they are there."""

import ast
import re
from functools import cache

import pytest

from tests.docs.named import ROOT, cells, named_in, rows

PAGE = ROOT / "docs" / "security.md"
THREATS = rows(PAGE, "Threats")


@pytest.mark.parametrize("row", THREATS)
def test_each_threat_names_tests_that_are_there(row: str) -> None:
    actor, threat, defence, tests = cells(row)
    assert actor
    assert threat
    assert defence
    assert named_in(tests)


def test_there_are_threats() -> None:
    assert len(THREATS) > 25


@pytest.mark.parametrize("row", rows(PAGE, "Limits"))
def test_each_limit_names_where_it_is_and_tests_that_are_there(row: str) -> None:
    what, limit, where, beyond, tests = cells(row)
    assert what
    assert limit
    assert beyond
    files = re.findall(r"`([\w/.]+)`", where)
    assert files
    folder = (ROOT / files[0]).parent
    for file in files:
        assert (ROOT / file).exists() or (folder / file).exists(), file
    assert named_in(tests)


@cache
def said_anywhere() -> frozenset[str]:
    """Return every text that stands in the product's code, put together as the parser does."""
    found = set()
    for file in (*(ROOT / "node").rglob("*.py"), *(ROOT / "market").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    found |= {file.read_text(encoding="utf-8") for file in (ROOT / "market").rglob("*.star")}
    return frozenset(found)


@pytest.mark.parametrize("row", rows(PAGE, "Bad input"))
def test_each_bad_input_is_refused_with_what_is_written_and_tested(row: str) -> None:
    what, sentences, tests = cells(row)
    assert what
    quoted = re.findall(r"`([^`]+)`", sentences)
    assert quoted
    for sentence in quoted:
        assert any(sentence in text for text in said_anywhere()), f"nobody says {sentence!r}"
    assert named_in(tests)
