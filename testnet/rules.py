"""A file of a market's rules (docs/howto/rules.md): what `--rules` names."""

from pathlib import Path
from typing import Any

from node.config import read_toml
from node.errors import GenesisError
from node.genesis import market_rules
from testnet.street import StreetError


def rules_of(file: Path | None) -> dict[str, Any] | None:
    """Return what a file says of a market, for `StreetPlan.rules`; None without one.

    Raises
    ------
    ConfigError
        It cannot be read, or is no TOML.
    StreetError
        There is no such rule, or it is of another kind.
    """
    if file is None:
        return None
    rules = read_toml(file)
    try:
        market_rules(rules)
    except GenesisError as error:
        raise StreetError(f"{file}: {error}") from None
    return rules
