"""What the pages tell people to ask a running home, asked of a running home."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from node.config import Config, settings_text
from node.genesis import write_genesis
from node.setup import GENESIS_NAME
from tests.docs.test_pages import PAGES, typed
from tests.node.grid import REGULATOR, Grid, at_height, make_genesis, running

# What asks a node, and changes nothing of it.
READING = {
    ("account",),
    ("community", "applications"),
    ("contracts", "list"),
    ("contracts", "show"),
    ("doctor",),
    ("export", "bills"),
    ("export", "slots"),
    ("export", "trades"),
    ("gov", "list"),
    ("market", "book"),
    ("market", "explain"),
    ("market", "trades"),
    ("status",),
}
# Of a street that has gone on for longer than this one, and of a main chain, which
# tests/node/regions/test_region_commands.py asks.
NOT_HERE = {("contracts", "show", "1"), ("gov", "list", "--main")}


def asked(settings: Path, out: Path) -> list[list[str]]:
    """Return the pages' reading commands, each once, for the home of these settings."""
    found: dict[tuple[str, ...], None] = {}
    for page in PAGES:
        for words in typed(page):
            rest = words[1:]
            known = tuple(rest[:1]) in READING or tuple(rest[:2]) in READING
            if words[0] != "commonwatt" or not known or tuple(rest[:3]) in NOT_HERE:
                continue
            for option, value in (("--config", str(settings)), ("--out", "")):
                if option in rest:
                    at = rest.index(option) + 1
                    name = "".join(char for char in rest[at] if char.isalnum() or char == ".")
                    rest[at] = value or (str(out / name) if name else "-")
            # A day by the shell's own clock is not this market's.
            found[tuple("2025-11-03" if "$(" in word else word for word in rest)] = None
    return [list(words) for words in found if not any("parquet" in word for word in words)]


@pytest.mark.slow
async def test_the_pages_reading_commands_are_answered(tmp_path: Path) -> None:
    grid = Grid(tmp_path, make_genesis(), households=True)
    async with running(grid, range(4)) as members:
        await at_height(members, 3)
        home = members[3]
        # The pages' homes are called as a testnet's are.
        settings = home.directory / "outside.toml"
        settings.write_text(settings_text(Config(node=home.config.node)))
        write_genesis(grid.genesis, home.directory / GENESIS_NAME)
        commands = asked(settings, tmp_path)
        assert len(commands) >= 15
        for words in commands:
            line = ["home-3" if word in ("home-01", "home-03") else word for word in words]
            result = await asyncio.to_thread(CliRunner().invoke, cli.app, line)
            # Another program of this machine may have the port that these settings name.
            well = (0, 1) if line[0] == "doctor" else (0,)
            assert result.exit_code in well, (line, result.output, result.exception)
            assert result.output or "--quiet" in line, line
        key, file = tmp_path / "regulator.key", tmp_path / "anna.invite"
        key.write_text(REGULATOR.seed.hex() + "\n")
        key.chmod(0o600)
        signed = ["--key", str(key), "--config", str(settings)]
        for line, said in (
            (["community", "admit", "--all", *signed], "nobody asks to be registered"),
            (["invite", "create", str(file), "--days", "7", *signed], "good until"),
            (["invite", "show", str(file)], REGULATOR.address),
            (["invite", "revoke", str(file), *signed], "lets nobody in any more"),
        ):
            result = await asyncio.to_thread(CliRunner().invoke, cli.app, line)
            assert (result.exit_code, said in result.output) == (0, True), (line, result.output)
