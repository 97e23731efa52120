"""The table of threats: every row names tests, and they are there."""

import re

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
