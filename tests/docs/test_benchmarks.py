"""The page of benchmarks says what was measured, and each figure's command is one."""

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bench import table
from bench.catalogue import NAMES
from bench.figures import parser_of, read

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "figures.md"]
KEPT: Final = PAGES[0].with_suffix(".json")
KEPT_BYTES_MAX: Final = 256 << 10
OF_COMMANDS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK: Final = re.compile(r"```\w*\n(.*?)```", re.DOTALL)


def test_the_pages_say_what_is_kept_beside_them() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert texts == table.filled(texts, table.blocks(read(KEPT))), (
        "write them anew: python -m bench.table docs/benchmarks.json --into docs/benchmarks.md "
        "docs/figures.md"
    )
    assert KEPT.stat().st_size < KEPT_BYTES_MAX


def test_each_benchmark_is_on_a_page_or_it_is_said_why_not() -> None:
    kept = read(KEPT).benchmarks
    assert [one.name for one in kept] == list(NAMES)
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for one in kept:
        if one.figures:
            assert f"| **{one.name}**: `{table.command_of(one)}`;" in text
        else:
            assert f"- `{one.name}`: {one.error}\n" in text
            assert len(one.error) > len("no reason")


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the benchmarks that a page says to run: module and words."""
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`]+)`", BLOCK.sub("", text))
    for one in (*lines, *spans):
        if not re.search(r"python -m bench\b", one):
            continue
        words = shlex.split(one.partition("python -m ")[2], comments=True)
        # What may be left out, and what stands for a value of one's own.
        yield words[0], [word.strip("[]") for word in words[1:]]


PLACEHOLDERS: Final = {"N": "3", "R": "5", "FILE": "x"}
FOUND: Final = sorted(
    {(module, tuple(words)) for page in OF_COMMANDS for module, words in commands(page)}
)


def test_commands_are_found() -> None:
    assert ("bench.day", ()) in FOUND
    assert ("bench.throughput", ("--authorities", "4", "--profile")) in FOUND


@pytest.mark.parametrize(("module", "words"), FOUND, ids=lambda value: str(value))
def test_a_benchmark_that_a_page_names_can_be_run_so(
    module: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    found = importlib.import_module(module)
    # As a checkout of gsy-e has it.
    (tmp_path / "src" / "gsy_e").mkdir(parents=True)
    given = {**PLACEHOLDERS, "DIR": str(tmp_path)}
    if hasattr(found, "options"):
        parser = parser_of(found.__doc__, found.options)
        parser.parse_args([given.get(word, word) for word in words])
    else:
        # Those that measure nothing themselves; what they are asked has tests of its own.
        assert module in ("bench", "bench.compare", "bench.table")
