"""The pages made of the program are as the program is, and say of every command and setting."""

from pathlib import Path

import msgspec
import typer

import cli
from node.config import sections
from scripts.reference import commands_page, leaves, settings_page, stale

# Commands that write, or run until they are stopped, and have nothing to tell a program.
WITHOUT_JSON = {
    "backup",
    "chaos draw",
    "chaos undo",
    # Its answer is JSON and nothing else.
    "contracts query",
    "export bills",
    "export slots",
    "export trades",
    "init",
    "invite accept",
    "key decrypt",
    "key encrypt",
    "key recovery-code",
    "key restore",
    "region override genesis",
    "region prove",
    "restore",
    "run",
    "study ce-sdt",
    "study compare",
    "study huang",
    "study sweep",
    "testnet compose",
    "testnet create",
    "testnet kubernetes",
    "testnet operate",
    "testnet stack",
}


def test_the_pages_are_current() -> None:
    assert stale() == [], "run: uv run python -m scripts.reference"


def test_another_page_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "cli.md").write_text(commands_page())
    (tmp_path / "configuration.md").write_text(settings_page().replace("log_level", "loglevel"))
    lines = stale(tmp_path)
    assert lines[0] == "--- docs/configuration.md"
    assert any("loglevel" in line for line in lines)


def test_every_command_is_there_and_answers_programs() -> None:
    page = commands_page()
    found = dict(leaves(typer.main.get_command(cli.app), []))
    assert len(found) > 30
    for words, command in found.items():
        assert f"# commonwatt {words}\n" in page
        assert command.help, words
        for param in command.params:
            assert getattr(param, "help", None), f"{words}: {param.name} has no help"
    silent = {
        words
        for words, command in found.items()
        if not any("--json" in param.opts for param in command.params)
    }
    assert silent == WITHOUT_JSON


def test_every_setting_is_there_with_its_meaning() -> None:
    page = settings_page()
    for name, kind in sections().items():
        assert f"## [{name}]\n" in page
        for field in msgspec.structs.fields(kind):
            section = page.partition(f"## [{name}]\n")[2].partition("\n## ")[0]
            row = next(line for line in section.splitlines() if f"| `{field.name}` |" in line)
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            assert len(cells) == 5, row
            assert cells[3], f"{name}.{field.name} has no meaning"
            if not cells[1].startswith(("table ", "tables ")):
                assert cells[4] == f"`COMMONWATT_{name}_{field.name}`".upper()
    for table in ("[home]", "[home.source], kind replay", "[home.battery]"):
        assert f"## {table}\n" in page
    assert "| `capacity_wh` | whole number | `5000` | Energy it holds when full. [Wh] |" in page
