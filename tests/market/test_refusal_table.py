"""No refusal without a sentence that helps, and no sentence about a refusal that there is not."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from market import contracts
from market.refusals import (
    ADMISSION,
    ANYWHERE,
    GATE,
    MACHINE,
    REFUSALS,
    Refusal,
    accepted,
    refusals_of,
)

ROOT = Path(__file__).parents[2]
SPEC = ROOT / "docs" / "spec" / "market.md"
# Where refusals are made outside of contracts, and by which calls; the place of their code.
RAISERS = {
    "Refused": 0,
    "Rejected": 0,
    "Revert": 0,
    "Fault": 0,
    "CheckpointRefused": 0,
    "OutOfGas": 0,
    "_refuse": 1,
    "refuse": 1,
}
FILES = (
    *sorted((ROOT / "market").rglob("*.py")),
    *(ROOT / "wire").glob("*.py"),
    *sorted((ROOT / "node").rglob("*.py")),
    ROOT / "consensus" / "checkpoint.py",
)
WORDS_MIN = 3


class Found(NamedTuple):
    """A refusal as it stands in the source; `words` None where they are not written out."""

    code: str
    where: str
    contract: str
    words: int | None


def refusals_in(
    tree: ast.Module, where: str, contract: str, raisers: Mapping[str, int]
) -> Iterator[Found]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        place = raisers.get(node.func.id)
        if place is None or len(node.args) < place + 2:
            continue
        code, message = node.args[place], node.args[place + 1]
        if isinstance(code, ast.Constant):
            yield Found(code.value, f"{where}:{node.lineno}", contract, words_of(message))


def words_of(message: ast.expr) -> int | None:
    """How many words of the message are written out, each that is filled in being one."""
    parts = [
        part.value
        for part in ast.walk(message)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    if not parts:
        return None
    filled_in = sum(isinstance(part, ast.FormattedValue) for part in ast.walk(message))
    filled_in += isinstance(message, ast.BinOp)
    return len(" ".join(parts).split()) + filled_in


def in_contracts() -> list[Found]:
    found: list[Found] = []
    for name in (*contracts.ALL, *contracts.LIBRARIES):
        tree = ast.parse(contracts.source(name))
        found += refusals_in(tree, f"{name}.star", name, {"revert": 0})
    prelude = (ROOT / "market" / "vm" / "prelude.star").read_text()
    found += refusals_in(ast.parse(prelude), "prelude.star", ANYWHERE, {"_revert": 0})
    return found


def in_programs() -> list[Found]:
    found: list[Found] = []
    for file in FILES:
        found += refusals_in(ast.parse(file.read_text()), str(file.relative_to(ROOT)), "", RAISERS)
    return found


def test_the_search_finds_what_there_is() -> None:
    """The reverts are counted another way, so that none hides from the walk."""
    texts = [contracts.source(name) for name in (*contracts.ALL, *contracts.LIBRARIES)]
    assert len([f for f in in_contracts() if f.contract != ANYWHERE]) == sum(
        len(re.findall(r"\brevert\(", text)) for text in texts
    )
    assert {"bad_nonce", "mempool_full", "not_plain", "recursion", "compute"} <= {
        found.code for found in in_programs()
    }


def test_every_refusal_is_in_the_table() -> None:
    for found in in_contracts():
        rows = refusals_of(found.code)
        places = {place for row in rows for place in row.places}
        assert found.contract in places or ANYWHERE in places, f"{found.where}: {found.code}"
    for found in in_programs():
        assert refusals_of(found.code), f"{found.where}: {found.code} is not in market/refusals.py"


def test_no_row_is_about_what_nobody_refuses_with() -> None:
    written = {(found.code, found.contract) for found in in_contracts()}
    program = {found.code for found in in_programs()}
    for row in REFUSALS:
        for place in row.places:
            if place in (ADMISSION, GATE, MACHINE):
                assert row.code in program, f"nothing refuses with {row.code}"
            elif place != ANYWHERE:
                assert (row.code, place) in written, f"{place} does not refuse with {row.code}"
    keys = [(row.code, place) for row in REFUSALS for place in row.places]
    assert len(set(keys)) == len(keys)


def test_every_message_is_a_sentence() -> None:
    for found in in_contracts() + in_programs():
        if found.words is not None:
            assert found.words >= WORDS_MIN, f"{found.where}: what would the owner do about it?"


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.code}-{row.places[0]}")
def test_every_row_says_more_than_its_code(row: Refusal) -> None:
    said = re.findall(r"[a-z]{2,}", row.accepted.lower())
    assert len(said) >= WORDS_MIN
    assert set(said) - set(row.code.split("_"))
    assert not row.accepted.endswith(".")


def test_the_code_is_read_by_where_it_comes_from() -> None:
    assert "period" in accepted("closed", "carbon")
    assert "proposal" in accepted("closed", "governance")
    assert "balance" in accepted("no_margin", "market")
    assert accepted("of_another_world", "market") == ""


def test_the_specification_prints_the_table() -> None:
    """One row of the document for each of the table, in its order."""
    wanted = [f"| `{row.code}` | {', '.join(row.places)} | {row.accepted} |" for row in REFUSALS]
    text = SPEC.read_text()
    _, _, table = text.partition("| reason | from | what would be accepted |\n|---|---|---|\n")
    printed = table.partition("\n\n")[0].splitlines()
    assert printed == wanted, "docs/spec/market.md should print:\n" + "\n".join(wanted)
