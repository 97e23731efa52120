"""docs/spec/consensus.md is true: its rules are those of the code and of the tests, which exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from consensus import height, light, messages, params, repair, sync_messages
from tests.sim.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
SPEC = (ROOT / "docs" / "spec" / "consensus.md").read_text()
PROMISES = SPEC[SPEC.index("## What is promised") :]
STATED = re.compile(r"^\*\*([RS]\d+) ", re.MULTILINE)
# "R1 to R32" names no rule.
RANGE = re.compile(r"\b[RS]\d+ to [RS]\d+\b")


def stated() -> list[str]:
    return STATED.findall(SPEC)


@cache
def text_of(*rooms: str) -> str:
    here = Path(__file__)
    files = [file for room in rooms for file in sorted((ROOT / room).rglob("*.py"))]
    return RANGE.sub("", "\n".join(file.read_text() for file in files if file != here))


@cache
def names_in(path: str) -> frozenset[str]:
    file = ROOT / path
    assert file.is_file(), f"{path} does not exist"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = ast.walk(ast.parse(file.read_text()))
    return frozenset(node.name for node in nodes if isinstance(node, functions))


def named_tests() -> list[tuple[str, str]]:
    """(file, test) of each `file::test`; a later `::test` of a row is of the same file."""
    found = []
    for line in PROMISES.splitlines():
        path = ""
        for name in re.findall(r"`([^`]+)`", line):
            file, mark, test = name.partition("::")
            path = file or path
            if mark:
                found.append((path, test))
    return found


def test_each_rule_is_stated_once_and_none_is_left_out() -> None:
    for letter in "RS":
        numbers = [int(rule[1:]) for rule in stated() if rule[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))
    assert len(stated()) == 32 + 9


@pytest.mark.parametrize("rule", stated())
def test_each_rule_is_named_by_code_and_by_a_test(rule: str) -> None:
    word = re.compile(rf"\b{rule}\b")
    assert word.search(text_of("consensus", "node")), f"no code names {rule}"
    if rule[0] == "R":
        name = re.compile(rf"^(async )?def test_{rule.lower()}_", re.MULTILINE)
        assert name.search(text_of("tests")), f"no test is named test_{rule.lower()}_..."
    else:
        assert word.search(text_of("tests")), f"no test names {rule}"


@pytest.mark.parametrize("room", ["consensus", "node", "tests"])
def test_no_rule_is_named_that_is_not_stated(room: str) -> None:
    named = set(re.findall(r"\b(R\d+)\b", text_of(room)))
    named |= {name.upper() for name in re.findall(r"def test_(r\d+)_", text_of(room))}
    assert named <= set(stated())


def test_every_test_that_a_promise_names_exists() -> None:
    named = named_tests()
    assert len(named) > 30
    assert [pair for pair in named if pair[1] not in names_in(pair[0])] == []


def test_every_promise_names_what_holds_it() -> None:
    rows = [line for line in PROMISES.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        held_by = row.strip("|").split("|")[-1]
        assert "::test_" in held_by or "every run (mutant" in held_by, row


def test_every_mutant_that_a_promise_names_exists() -> None:
    named = re.findall(r'"([^"]+)"', "".join(re.findall(r"\(mutants? [^)]*\)", PROMISES)))
    assert len(named) > 10
    assert set(named) <= set(MUTANTS)


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("authorities", f"{messages.AUTHORITIES_MAX}"),
        (
            "block",
            f"{messages.BLOCK_BYTES_MAX // 2**20} MiB, {messages.TRANSACTIONS_MAX:,} transactions, "
            f"{messages.EVIDENCE_MAX} pieces of evidence",
        ),
        ("vote sets in a summary", f"{messages.VOTE_SETS_MAX}"),
        ("votes in an answer", f"{repair.ANSWER_VOTES_MAX}"),
        ("peers asked by a summary", f"{repair.ASKED_MAX}"),
        ("rounds ahead", f"{params.ROUNDS_AHEAD_MAX:,}"),
        ("blocks in an epoch", f"{light.EPOCH_BLOCKS_MAX:,}"),
    ],
)
def test_limits_are_those_of_the_code(what: str, limit: str) -> None:
    assert f"| {what} | {limit} |" in SPEC


def test_times_are_those_of_the_code() -> None:
    times = params.Params()
    assert f"Propose: {times.propose_ms / 1000:g} s + {times.propose_growth_ms / 1000:g} s" in SPEC
    assert f"{times.vote_ms / 1000:g} s + {times.vote_growth_ms / 1000:g} s · round" in SPEC
    assert f"at most {times.timeout_max_ms / 1000:g} s" in SPEC
    assert f"a fifth of round 0's time ({times.absent_timeout_ms() / 1000:g} s)" in SPEC
    assert (
        f"rounds from {height.ROUNDS_KEPT_BEHIND} behind to {height.ROUNDS_KEPT_AHEAD} ahead"
        in (SPEC.replace("\n", " "))
    )
    assert f"at most {sync_messages.HEADERS_MAX} headers" in SPEC
