"""Seeded bugs between the tiers, and the runs that find them."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from tests.sim.tiers.grid import GridResult, run_grid
from tests.sim.tiers.mutation import TierMutation


class Mutant(NamedTuple):
    """A seeded bug, and runs that find it: `seeds` of one kind of grid."""

    mutation: TierMutation
    kind: str
    seeds: int
    regions: int = 2
    nodes: int = 4


MUTANTS: Final[Mapping[str, Mutant]] = {}


def hunt(name: str) -> GridResult | None:
    """Run the seeds that should find a mutant; return the first run that does."""
    mutant = MUTANTS[name]
    for seed in range(1, mutant.seeds + 1):
        result = run_grid(seed, mutant.nodes, mutant.regions, mutant.mutation, mutant.kind)
        if result.violation:
            return result
    return None
