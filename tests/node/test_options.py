"""What is typed at a command is understood, or refused in one line."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from node.cli.options import micro_of
from node.config import Config, NodeSection, settings_text
from node.errors import ConfigError
from node.genesis import write_genesis
from node.setup import GENESIS_NAME
from tests.node.grid import make_genesis


def test_an_amount_is_taken_to_the_micro() -> None:
    assert micro_of(0.0, "AMOUNT") == 0
    assert micro_of(12.345678, "AMOUNT") == 12_345_678
    assert micro_of(1e9, "AMOUNT") == 10**15


@pytest.mark.parametrize("amount", [-0.5, float("nan"), float("inf"), 1.1e9, 1e300])
def test_what_is_no_amount_is_refused(amount: float) -> None:
    with pytest.raises(ConfigError, match=r"--escrow .*: an amount is 0 to 1e\+09"):
        micro_of(amount, "--escrow")


def test_who_keeps_no_main_chain_is_told_so(tmp_path: Path) -> None:
    config = Config(node=NodeSection(name="alone"))
    (tmp_path / "node.toml").write_text(settings_text(config))
    write_genesis(make_genesis(), tmp_path / GENESIS_NAME)
    result = CliRunner().invoke(
        cli.app, ["gov", "list", "--main", "--config", str(tmp_path / "node.toml")]
    )
    assert isinstance(result.exception, ConfigError)
    assert "this home keeps no main chain" in str(result.exception)
