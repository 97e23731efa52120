"""Seeded bugs between the tiers are found; `python -m tests.mutants` hunts all of them."""

import pytest

from market import contracts
from tests.sim.tiers.mutants import MUTANTS, hunt

# One of each kind: of what the machine checks, of contracts of either tier, of posters.
SOME = (
    "M4 no signatures", "M7 any past", "F2 any proof", "F3 any record", "forgets rotation",
    "A2 any block",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_is_found(name):
    found = hunt(name)
    assert found is not None, f"{MUTANTS[name].seeds} seeds do not find {name!r}"


@pytest.mark.parametrize("name", MUTANTS)
def test_what_it_changes_is_there(name):
    for contract, old, new in MUTANTS[name].mutation.contracts:
        assert contracts.source(contract).count(old) == 1, old
        assert old != new


def test_each_rule_between_the_tiers_has_one():
    rules = {name.split()[0] for name in MUTANTS}
    assert rules >= {*(f"M{number}" for number in range(1, 14)), "S2", "F1", "F2", "F3"}
    assert rules >= {f"A{number}" for number in range(1, 7)}
