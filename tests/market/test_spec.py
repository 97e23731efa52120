"""The page that maps the papers to code: each function and each test that it names exists."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PAGE = (ROOT / "docs" / "spec" / "market.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("## Where things are")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| from the papers")
]
# A file and its functions: `market.star`: `prices`, `clear`; `ledger.star`: `lock`
PLACE = re.compile(r"`([\w/]+\.(?:star|py))`: ((?:`\w+`(?:, )?)+)")


@functools.cache
def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.fixture(scope="module")
def tests_there_are() -> set[str]:
    return {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text("utf-8"), re.M)
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_what_a_row_names_exists(row: list[str], tests_there_are: set[str]) -> None:
    source, functions, tests = row
    assert source
    for file, names in PLACE.findall(functions):
        path = ROOT / file if "/" in file else ROOT / "market" / "contracts" / file
        missing = set(re.findall(r"`(\w+)`", names)) - functions_of(path)
        assert not missing, (file, missing)
    named = set(re.findall(r"`(test_\w+)`", tests))
    assert named <= tests_there_are, named - tests_there_are
    assert "hems.md" in functions or named, "no test is named"


def test_the_page_covers_the_papers() -> None:
    sources = " ".join(row[0] for row in ROWS)
    # Ranges name what lies between their ends.
    named = {
        f"{paper} {number}"
        for paper, first, last in re.findall(r"\b(CE|Hu) (\d+)(?:–(\d+))?", sources)
        for number in range(int(first), int(last or first) + 1)
    }
    assert {f"CE {number}" for number in range(1, 15)} <= named
    assert {f"Hu {number}" for number in range(1, 7)} <= named
    assert all(f"Yu, step {number}" in sources for number in range(1, 6))
    steps = re.findall(r"CE figure 2, steps? (\d)(?:–(\d))?", sources)
    covered = {n for first, last in steps for n in range(int(first), int(last or first) + 1)}
    assert covered == set(range(1, 10))
