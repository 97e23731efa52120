"""What stands against false proofs of fraud, and O6, each taken out once: a test notices.

What would freeze an honest region is hunted in the simulator, too (`tests/sim/tiers/`).
"""

from collections.abc import Callable
from typing import Any, Final

import pytest

from market.app import Application
from node.regions import replay
from tests.regions import test_fraud as fraud
from tests.regions import test_override as override
from tests.sim.tiers.mutation import rewritten

told = fraud.test_what_is_no_proof_is_told_without_executing_it
shown = fraud.test_what_does_not_show_enough_proves_nothing
begins = override.test_an_auditor_begins_with_what_the_successor_begins_with

# Where it stands, what is put in its place, and which test then fails.
MUTANTS: Final[dict[str, tuple[Any, str, str, str, Callable[[], None]]]] = {
    "A2 any chain": (
        replay, "checked",
        "(header.version, header.chain_id, header.height) != (PROTOCOL_VERSION, chain_id, height)",
        "False", told,
    ),
    "A2 any set": (
        replay, "checked",
        "(header.epoch, header.authorities_hash) != (authorities.epoch, authorities.hash)",
        "False", told,
    ),
    "A4 any genesis": (
        Application, "rested", "state.items.get(PARAMS_KEY) != self._fingerprint()", "False", shown,
    ),
    "A4 of no region": (replay, "_replay", "genesis.market.region is None", "False", shown),
    "A6 what is heavy": (
        replay,
        "_replay",
        'Verdict(False, "too_heavy"',
        'Verdict(True, "too_heavy"',
        shown,
    ),
    "O6 any beginning": (
        Application, "_succeed", "merkle.root_of(tree) != succeeds.state_root", "False", begins,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_rule_left_out_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, function, there, instead, noticing = MUTANTS[name]
    monkeypatch.setattr(where, function, rewritten(getattr(where, function), there, instead))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        noticing()
