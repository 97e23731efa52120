"""What is wrong with a home, and what to do about it."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from node.cli.options import CONFIG, EXIT_FAILED, ConfigOption, JsonOption, print_json
from node.cli.tables import clean

if TYPE_CHECKING:
    from node.doctor import Finding


def doctor(config: ConfigOption = CONFIG, as_json: JsonOption = False) -> None:
    """Look at a home, running or not, and say what is wrong with it and what to do.

    Version, settings, memory, key, disk, genesis, log, database, daemon, ports, peers, clock. It
    changes nothing. Exit code 1: something fails.
    """
    from node.doctor import to_plain

    findings = asyncio.run(_look(config, as_json))
    told = to_plain(findings)
    if as_json:
        print_json(told)
    if not told["well"]:
        raise typer.Exit(EXIT_FAILED)


async def _look(config: Path, as_json: bool) -> "list[Finding]":
    from node.doctor import examine_home

    found = []
    async for finding in examine_home(config, os.environ):
        found.append(finding)
        if not as_json:
            _print(finding)
    return found


def _print(finding: "Finding") -> None:
    colour = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.verdict]
    mark = typer.style(f"{finding.verdict:<5}", fg=colour)
    typer.echo(f"{mark}{finding.check:<14} {clean(finding.says)}")
    if finding.remedy:
        typer.echo(f"{'':<19} -> {clean(finding.remedy)}")
