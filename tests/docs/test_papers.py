"""The page that maps the papers to the program: what it names is there, and nothing is left out."""

import ast
import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from hems.agents.registry import BUILT_IN, DEFAULT, agent_class
from market import contracts
from study.ce import setting as ce_sdt
from study.hu import market as huang
from tests.docs.named import ROOT, cells, named_in, rows

PAGE = ROOT / "docs" / "spec" / "papers.md"
SECTIONS = ("CE-SDT (Wang et al. 2023)", "Yu et al.", "Huang et al. 2022", "Beyond the papers")
ROWS = [row for section in SECTIONS for row in rows(PAGE, section)]
# A file and its functions or classes: `hems/bid.py`: `value_curve`, `Band`
PLACE = re.compile(r"`([\w/]+\.(?:star|py))`: ((?:`\w+`(?:, )?)+)")
# The only thing that the papers name and that is not built.
NOT_BUILT = "it may lend part of its storage to producers"
WAYS = re.compile(r"`([^`]+)`")


@cache
def defined_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


@cache
def reference() -> str:
    """Return the pages on which every command, option, setting and rule stands."""
    pages = ("cli.md", "configuration.md", "howto/rules.md", "hems.md", "results.md")
    return "\n".join((ROOT / "docs" / page).read_text("utf-8") for page in pages)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: cells(row)[0][:40])
def test_what_a_row_names_is_there(row: str) -> None:
    source, says, where, way, tests = cells(row)
    assert source
    assert says
    places = PLACE.findall(where)
    assert places or says == NOT_BUILT, where
    for file, names in places:
        missing = set(re.findall(r"`(\w+)`", names)) - defined_in(ROOT / file)
        assert not missing, (file, missing)
    assert way
    assert len(set(named_in(tests))) == len(named_in(tests))


@cache
def settings() -> frozenset[str]:
    """Return the settings of agents and of the studies' sweeps."""
    kinds = [agent_class(name).Settings for name in BUILT_IN] + [ce_sdt.Setting, huang.Setting]
    return frozenset(field.name for kind in kinds for field in msgspec.structs.fields(kind))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: cells(row)[0][:40])
def test_the_way_to_it_is_one_that_there_is(row: str) -> None:
    *_, way, _ = cells(row)
    for text in WAYS.findall(way):
        for word in re.findall(r"--[\w-]+|\[[\w.]+\]|[a-z]\w*_\w+", text):
            called = any(word in contracts.source(name) for name in contracts.ALL)
            assert called or word in settings() or word in reference(), word


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name != DEFAULT])
def test_each_agents_settings_are_in_its_table(name: str) -> None:
    page = (ROOT / "docs" / "hems.md").read_text("utf-8")
    section = page.partition("\n## Agents\n")[2].partition("\n###")[0]
    (row,) = [line for line in section.splitlines() if line.startswith(f"| `{name}` |")]
    fields = {field.name for field in msgspec.structs.fields(agent_class(name).Settings)}
    # `seed` is said of all of them, below the table.
    assert set(re.findall(r"`(\w+)`", cells(row)[2])) == fields - {"seed"}


def test_nothing_of_the_papers_is_left_out() -> None:
    sources = " ; ".join(cells(row)[0] for row in ROWS)

    def named(kind: str) -> set[int]:
        found = re.findall(rf"(?:^|; |, ){kind} ?(\d+)(?:–(\d+))?(?=[,;]| ;|$)", sources)
        return {n for a, b in found for n in range(int(a), int(b or a) + 1)}

    assert named("CE") == set(range(1, 15))
    assert named("Hu") == set(range(1, 6))
    steps = {int(n) for n in re.findall(r"CE figure 2, step (\d)", sources)}
    assert steps == set(range(1, 10))
    for paper, figures, tables in (("CE", 10, 2), ("Yu", 2, 0), ("Hu", 9, 3)):
        own = [cells(row)[0] for row in ROWS if cells(row)[0].startswith(f"{paper} ")]
        text = " ; ".join(own)
        assert {int(n) for n in re.findall(r"figure (\d+)", text)} == set(range(1, figures + 1))
        assert {int(n) for n in re.findall(r"table (\d+)", text)} == set(range(1, tables + 1))
    for paper in ("Yu", "Hu"):
        assert {int(n) for n in re.findall(rf"{paper} step (\d)", sources)} == set(range(1, 6))
    for role in ("meter", "Ω¹", "Ω²", "regulator", "consumer", "speculator", "producer"):
        assert role in PAGE.read_text("utf-8")


def test_every_contract_of_a_region_s_market_has_its_place() -> None:
    text = "\n".join(ROWS)
    beside = {"governance"}  # of the chain under the market: docs/spec/consensus.md
    for name in set(contracts.CONTRACTS) - beside:
        assert f"`market/contracts/{name}.star`" in text, name
