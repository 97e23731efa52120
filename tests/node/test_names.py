"""Names that others have chosen are shown as text: they move no cursor and make no lines."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
import node.api.control
import node.api.registrar
import node.cli.community
import node.cli.gov
import node.cli.region
from node.config import Config

EVIL = "attic\x1b[2J\r\ncw00  trusted: consumer\u202e"
ASKS = {
    "address": "cw" + "0f" * 20, "name": EVIL, "role": "consumer", "import_cap_w": 1,
    "export_cap_w": 1, "pv_w": 0, "battery_wh": 0,
}  # fmt: skip
REGION = {
    "number": 3, "name": EVIL, "chain_id": "r", "status": "live", "anchored": 1,
    "anchored_to_height": 2,
}  # fmt: skip


@pytest.mark.parametrize("command", [("community", "applications"), ("region", "list")])
def test_a_strangers_name_makes_no_line(
    command: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_: Any, **__: Any) -> Any:
        return [ASKS if command[0] == "community" else REGION]

    monkeypatch.setattr(node.api.registrar, "applications", asked)
    monkeypatch.setattr(node.api.control, "ask", asked)
    monkeypatch.setattr(node.cli.community, "settings", lambda config: Config())
    monkeypatch.setattr(node.cli.region, "data_of", lambda config, chosen: Path())
    shown = CliRunner().invoke(cli.app, [*command])
    assert shown.exit_code == 0, shown.output
    (line,) = shown.output.splitlines()
    assert line.isprintable()
    assert "attic" in line


def test_an_authoritys_name_makes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    member = {
        "address": "cw" + "0f" * 20, "name": EVIL, "seat": "seated", "convicted": False,
        "bond_micro": 0, "signed": 1,
    }  # fmt: skip
    epoch = {"epoch": 0, "first_height": 1, "last_height": 9, "quorum": 1, "addresses": ["a"]}
    found = {"epoch": epoch, "members": [member], "blocks_shown": 1}
    node.cli.gov._print_overview({**found, "parameters": [], "proposals": []})
    lines = capsys.readouterr().out.splitlines()
    # Not that what follows a break in the name looks like an authority of its own.
    (line,) = [one for one in lines if "attic" in one or "trusted" in one]
    assert line.isprintable()
    assert line.endswith("signed 1 of the last 1 blocks")
