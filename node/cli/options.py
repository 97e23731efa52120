"""What the groups of commands share: options, whom to ask, how to print."""

import asyncio
import errno
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:
    from market.client import Call
    from node.config import Config

EXIT_FAILED: Final = 1
EXIT_SETUP: Final = 2

ConfigOption = Annotated[Path, typer.Option("--config", help="The home's settings file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")]
NodeOption = Annotated[
    Path | None, typer.Option("--node", help="Ask the node of this data directory instead.")
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option(help="File of the key's passphrase, readable by its owner only."),
]
CONFIG: Final = Path("node.toml")
# As contracts take them (`AMOUNT_MAX`), in the currency's unit.
AMOUNT_MAX: Final = 1e9


def settings(config: Path) -> "Config":
    """Load a home's settings. Raises `ConfigError`."""
    from node.config import load_config

    return load_config(config, os.environ)


def data_of(config: Path, node: Path | None) -> Path:
    """Return the data directory of the node to ask: that given, or that of the settings."""
    if node is not None:
        return node
    own = settings(config)
    return own.path(own.node.data)


def main_data_of(config: Path, node: Path | None) -> Path:
    """Return the data directory of a node on the main chain: the named one, or one's own.

    Raises `ConfigError` for a home that keeps no main chain.
    """
    from node.errors import ConfigError
    from node.genesis import read_genesis
    from node.setup import MAIN_NAME

    if node is not None:
        return node
    own = settings(config)
    data = own.path(own.node.data)
    if own.main is not None:
        return data / MAIN_NAME
    if read_genesis(own.path(own.node.genesis)).market.main is None:
        raise ConfigError(
            f"{config}: this home keeps no main chain; take the settings of one that does, such as "
            "an authority's of the region"
        )
    return data


def decide_on_main(
    config: Path, node: Path | None, call: "Call", key: Path | None
) -> dict[str, Any]:
    """Have a call decided on the main chain: as this key's owner, or as this node without one."""
    from node.api.governor import decide_as
    from node.setup import own_key, read_key

    signer = own_key(settings(config)) if key is None else read_key(key)
    return asyncio.run(decide_as(signer, call, main_data_of(config, node)))


def own_address(config: Path) -> str:
    """Return the account of the home of these settings. Raises `ConfigError`."""
    from node.setup import own_address as address_of

    return address_of(settings(config))


def file_words(error: OSError) -> str:
    """Say which file cannot be used, why, and what would help."""
    helps = {
        errno.ENOSPC: "make room there, or use a directory on another disk",
        errno.EACCES: "run this as who owns it, or use a directory of your own",
        errno.EPERM: "run this as who owns it, or use a directory of your own",
        errno.EROFS: "use a directory that can be written",
        errno.ENOTDIR: "it has to be a directory",
    }
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    help_ = helps.get(error.errno or 0)
    return f"{what}; {help_}" if help_ else what


def print_json(value: Any) -> None:
    """Print a value as people's programs want it."""
    typer.echo(json.dumps(value, indent=1))


def money(amount_micro: int) -> str:
    """Return an amount in the currency's unit."""
    return f"{amount_micro / 1e6:,.6f}"


def micro_of(amount: float, what: str) -> int:
    """Return what was typed in the currency's unit, in micro.

    Raises
    ------
    ConfigError
        It is negative, too much, or no number.
    """
    from node.errors import ConfigError

    # Written so that what is no number is refused, too.
    if not 0 <= amount <= AMOUNT_MAX:
        raise ConfigError(f"{what} {amount:g}: an amount is 0 to {AMOUNT_MAX:g}")
    return round(amount * 1_000_000)


def price(micro_per_kwh: int) -> str:
    """Return a price per kWh in the currency's unit."""
    return f"{micro_per_kwh / 1e6:.4f}"
