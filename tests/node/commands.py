"""The program's commands, typed against nodes that run in this process."""

import asyncio
from pathlib import Path
from typing import Protocol

import msgspec
from typer.testing import CliRunner

import cli
from node.config import Config, MainSection, NetworkSection, settings_text
from wire.keys import SigningKey


async def invoke(*line: str, fails: bool = False) -> str:
    """Type a command beside the running nodes; return what it said, or what it was refused for."""
    done = await asyncio.to_thread(CliRunner().invoke, cli.app, list(line))
    assert (done.exit_code != 0) == fails, (done.output, done.exception)
    return f"{done.output}{done.exception}" if fails else done.output


class Settled(Protocol):
    """A node with a directory of its own."""

    config: Config
    directory: Path


def settings_of(node: Settled) -> str:
    """Write settings for the commands: the hub's addresses are none that settings may have."""
    main = None if node.config.main is None else MainSection()
    written = msgspec.structs.replace(node.config, network=NetworkSection(), main=main)
    file = node.directory / "commands.toml"
    file.write_text(settings_text(written))
    return str(file)


def key_file(key: SigningKey, file: Path) -> str:
    """Write a key where only its owner reads it, as the commands want it."""
    file.touch(0o600)
    file.write_text(key.seed.hex() + "\n")
    return str(file)
