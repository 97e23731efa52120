"""What the pages tell people to type can be typed, and the examples on them are good.

Commands are parsed by the program itself, options and values; those of other programs are known by
name. Settings are loaded, SQL is run, the contract is the one that is deployed by a test.
"""

import re
import shlex
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

import cli
from node.chain.store import _SCHEMA
from node.config import load_config
from node.logs import PARTS
from node.mqtt.source import check_live
from testnet.chaos.scenario import load_scenario
from tests.node.test_contracts import COUNTER

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / "tutorial.md", *sorted((DOCS / "howto").glob("*.md"))]
OTHERS = {
    "cd", "date", "docker", "git", "gpg", "kill", "pip", "sha256sum", "sqlite3", "timedatectl",
    "uv",
}  # fmt: skip
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    """Return the code blocks of a kind, without their indent."""
    found = []
    for match in BLOCK.finditer(page.read_text()):
        if match[2] == kind:
            lines = match[3].splitlines()
            found.append("\n".join(line[len(match[1]) :] for line in lines) + "\n")
    return found


def typed(page: Path) -> Iterator[list[str]]:
    """Yield the words of each command, without what starts it."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and (words[0] == "sudo" or words[:2] == ["uv", "run"]):
                words = words[1 if words[0] == "sudo" else 2 :]
            # What a shell does with the output is none of the program's words.
            ends = [words.index(sign) for sign in (">", "|") if sign in words]
            if words:
                yield words[: min(ends, default=None)]


def parse(words: list[str]) -> None:
    """Parse a command of ours as the program does before it does it."""
    command = typer.main.get_command(cli.app)
    path = ["commonwatt"]
    rest = words
    while inner := getattr(command, "commands", None):
        assert rest, f"{' '.join(path)} wants a further word"
        assert rest[0] in inner, f"{' '.join(path)} has no {rest[0]}"
        command, path, rest = inner[rest[0]], [*path, rest[0]], rest[1:]
    command.make_context(" ".join(path), list(rest))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_to_be_typed_can_be(page: Path) -> None:
    ours = 0
    for words in typed(page):
        if words[0] == "commonwatt":
            parse(words[1:])
            ours += 1
        else:
            assert words[0] in OTHERS, words
    assert ours


def test_a_wrong_option_is_noticed() -> None:
    with pytest.raises(Exception, match=r"(?i)no such option"):
        parse(["status", "--jsn"])
    with pytest.raises(Exception, match=r"(?i)integer"):
        parse(["bill", "--slot", "last"])
    with pytest.raises(AssertionError, match="commonwatt has no stats"):
        parse(["stats"])


def test_settings_on_the_pages_are_settings(tmp_path: Path) -> None:
    (text,) = blocks(DOCS / "howto" / "monitoring.md", "toml")
    file = tmp_path / "node.toml"
    file.write_text(text)
    assert load_config(file, {}).node.log_format == "json"
    file.write_text("\n".join(blocks(DOCS / "mqtt.md", "toml")))
    live = load_config(file, {})
    assert live.home is not None
    assert check_live(live.home, live.mqtt) == live.mqtt
    (text,) = blocks(DOCS / "howto" / "agent.md", "toml")
    points = tomllib.loads(text)["project"]["entry-points"]["commonwatt.agents"]
    assert list(points) == ["patient"]
    assert text in (DOCS / "hems.md").read_text()


def test_the_parts_of_the_log_are_all_named() -> None:
    page = (DOCS / "howto" / "monitoring.md").read_text()
    line = page.partition("\nParts: ")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", line) == list(PARTS)


def test_the_scenario_is_one(tmp_path: Path) -> None:
    (text,) = blocks(DOCS / "howto" / "chaos.md", "toml")
    file = tmp_path / "my.toml"
    file.write_text(text)
    assert len(load_scenario(file).fault) == 1


def test_the_contract_is_the_one_that_a_test_deploys() -> None:
    (text,) = blocks(DOCS / "howto" / "contract.md", "python")
    assert [line for line in text.splitlines() if line] == COUNTER.strip().splitlines()


def test_the_store_answers_the_page_s_questions() -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(_SCHEMA)
    db.execute("INSERT INTO blocks VALUES (7, x'0a', x'0102', x'03', x'04')")
    db.execute("INSERT INTO transactions VALUES (x'01', 7)")
    db.execute("INSERT INTO state VALUES ('ledger/account/cw', x'0102')")
    duck, own = blocks(DOCS / "howto" / "exports.md", "sql")
    assert "'bills-*.parquet'" in duck
    answers = [db.execute(one).fetchall() for one in own.split(";") if one.strip()]
    assert answers == [[(1, 7, 7, 4)], [(7, 1)], [("ledger", 1, 2)], [("0a",)]]


def test_every_page_is_in_the_site_s_contents() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def pages(entries: object) -> Iterator[str]:
        if isinstance(entries, str):
            yield entries
        elif isinstance(entries, dict):
            for entry in entries.values():
                yield from pages(entry)
        elif isinstance(entries, list):
            for entry in entries:
                yield from pages(entry)

    listed = list(pages(settings["nav"]))
    there = {str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == there, "each page has a line in the nav of mkdocs.yml"
    assert settings["strict"] is True
    assert settings["theme"]["font"] is False


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_stay_on_the_site(page: Path) -> None:
    # In the repository a link to a file beside docs/ works, on the site it leads nowhere.
    text = re.sub(r"`[^`]*`", "", page.read_text())
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" in target:
            continue
        there = (page.parent / target).resolve()
        assert there.is_relative_to(DOCS), f"{target} is not on the site"
        assert there.exists(), f"{target} is not there"
