"""Contracts with a rule left out: what a test is worth is what it notices."""

import pytest

from market import contracts


def mutate(monkeypatch: pytest.MonkeyPatch, contract: str, old: str, new: str) -> None:
    """Let the text of `contract` have `new` where it has `old`, which must stand there once."""
    source = contracts.source
    assert source(contract).count(old) == 1, (old, source(contract).count(old))

    def mutated(wanted: str) -> str:
        text = source(wanted)
        return text.replace(old, new) if wanted == contract else text

    monkeypatch.setattr(contracts, "source", mutated)
