"""The table of bad input between the tiers: its tests are there, and ask for the codes it names."""

import re

import pytest

from market.refusals import refusals_of
from tests.docs.named import ROOT, cells, named_in, rows

PAGE = ROOT / "docs" / "spec" / "regions.md"
BAD_INPUT = rows(PAGE, "Bad input")
CODE = re.compile(r"`(\w+)`")
# What a judgement says of a block that was executed again; nothing is refused by it.
VERDICTS = {"follows"}


@pytest.mark.parametrize("row", BAD_INPUT)
def test_each_refusal_names_tests_that_ask_for_its_codes(row: str) -> None:
    what, refused_with, tests = cells(row)
    assert what
    named = named_in(tests)
    asked = "".join((ROOT / file).read_text(encoding="utf-8") for file in {f for f, _ in named})
    codes = CODE.findall(refused_with)
    assert codes
    for code in codes:
        assert refusals_of(code) or code in VERDICTS, f"nothing is refused with {code}"
        assert f'"{code}"' in asked, f"no test named here asks for {code}"


def test_there_is_a_row_for_each_kind() -> None:
    assert len(BAD_INPUT) > 25


def test_what_the_page_names_elsewhere_is_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    files = set(re.findall(r"\btests/[\w/]+\.py", text))
    assert not [file for file in files if not (ROOT / file).exists()]
    there = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
    }
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 30
    assert not named - there
