"""The contracts of a market, as text, in the order in which they are instantiated, and the
libraries they stand on."""

from importlib import resources
from typing import Final

CONTRACTS: Final = (
    "ledger", "registry", "tariff", "market", "requests", "settlement", "carbon", "governance",
)  # fmt: skip

LIBRARIES: Final = ("matching",)


def source(name: str) -> str:
    """Return the text of a contract or a library."""
    return resources.files("market.contracts").joinpath(f"{name}.star").read_text("utf-8")
