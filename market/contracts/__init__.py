"""The contracts of a chain, as text, in the order in which they are instantiated, and the
libraries they stand on."""

import hashlib
from importlib import resources
from typing import Final

CONTRACTS: Final = (
    "ledger", "registry", "tariff", "market", "requests", "settlement", "carbon", "governance",
)  # fmt: skip

# Beside them, where orders are sealed until their gate.
SEALED_CONTRACTS: Final = ("sealed",)

# Beside them, where the chain is a region of a main chain; and what a main chain has instead.
REGION_CONTRACTS: Final = ("export",)
MAIN_CONTRACTS: Final = (
    "ledger", "tariff", "regions", "anchor", "audit", "exchange", "footprint", "override",
    "governance",
)  # fmt: skip

ALL: Final = (
    *CONTRACTS,
    *SEALED_CONTRACTS,
    *REGION_CONTRACTS,
    *(name for name in MAIN_CONTRACTS if name not in CONTRACTS),
)

LIBRARIES: Final = (
    "homes", "matching", "feeder", "sharing", "book", "rounds", "suggested", "residual",
    "bands",
)  # fmt: skip


def source(name: str) -> str:
    """Return the text of a contract or a library."""
    return resources.files("market.contracts").joinpath(f"{name}.star").read_text("utf-8")


def fingerprint() -> str:
    """Return the hash of all contracts and libraries, in their order."""
    names = [*LIBRARIES, *ALL]
    return hashlib.sha256(
        "\0".join(f"{name}\0{source(name)}" for name in names).encode()
    ).hexdigest()
