"""Where a seeded bug between the tiers may differ from the real thing."""

from tests.sim.mutation import Mutation
from tests.sim.tiers.machine import Change
from tests.sim.tiers.node import TierDatabase
from tests.sim.tiers.poster import Poster


class TierMutation(Mutation):
    """How a mutant differs. `contracts` are changes of their text."""

    database = TierDatabase
    contracts: tuple[Change, ...] = ()
    poster: type[Poster] = Poster
