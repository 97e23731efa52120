"""Files for other systems' hands: they name commands that there are."""

import configparser
import shlex
from pathlib import Path

import typer.main

import cli
from node.daemon import EXIT_SETUP

ROOT = Path(__file__).parents[2]


def test_the_service_runs_a_command_that_there_is() -> None:
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "systemd" / "commonwatt.service")
    service = unit["Service"]
    program, name, option, config = shlex.split(service["ExecStart"])
    command = typer.main.get_command(cli.app).commands[name]  # type: ignore[attr-defined]
    assert program.endswith("/commonwatt")
    assert option in [name for one in command.params for name in one.opts]
    assert config.startswith(f"/var/lib/{service['StateDirectory']}/")
    assert service["RestartPreventExitStatus"] == str(EXIT_SETUP)
