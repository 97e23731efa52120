"""Seeds that once found a bug: they hold now, and break again with the bug put back."""

import json
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS
from tests.sim.world import run_seed

FILES = sorted((Path(__file__).parent / "regressions").glob("*.json"))
FIELDS = {"what", "found", "seed", "nodes", "faults", "mutant"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_past_bug_stays_away(path):
    case = json.loads(path.read_text())
    assert case.keys() == FIELDS
    seed, nodes, faults = case["seed"], case["nodes"], case["faults"]
    assert run_seed(seed, nodes, faults=faults).violation is None
    if case["mutant"]:
        mutation = MUTANTS[case["mutant"]].mutation
        assert run_seed(seed, nodes, mutation, faults).violation is not None


def test_there_are_some():
    assert len(FILES) >= 4
