"""Where a seeded bug between the tiers may differ from the real thing."""

import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.sim.mutation import Mutation
from tests.sim.tiers.machine import Change
from tests.sim.tiers.node import TierDatabase
from tests.sim.tiers.poster import Poster


class TierMutation(Mutation):
    """How a mutant differs. `contracts` are changes of their text."""

    database = TierDatabase
    contracts: tuple[Change, ...] = ()
    poster: type[Poster] = Poster
    # What a slanderer says, if it is always the same.
    lies: Sequence[str] = ()


class Contracts(TierMutation):
    """A mutant of contracts."""

    def __init__(self, *contracts: Change, lies: Sequence[str] = ()) -> None:
        self.contracts = contracts
        self.lies = lies


class Patched(TierMutation):
    """A mutant of other code: (module or class, name, what stands there)."""

    def __init__(self, *patches: tuple[Any, str, Any], lies: Sequence[str] = ()) -> None:
        self.patches = patches
        self.lies = lies


class Mutant(NamedTuple):
    """A seeded bug, and runs that find it: `seeds` of one kind of grid."""

    mutation: TierMutation
    kind: str
    seeds: int = 60
    regions: int = 1
    nodes: int = 4


def rewritten(function: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """Return a function with one place of its text changed.

    It sees its module as it is when it runs, with whatever is patched there.

    Raises
    ------
    ValueError
        The text is not there, or more than once.
    """
    text = textwrap.dedent(inspect.getsource(function))
    if text.count(old) != 1:
        raise ValueError(f"{function.__qualname__} has {old!r} {text.count(old)} times")
    found: dict[str, Any] = {}
    exec(text.replace(old, new), vars(sys.modules[function.__module__]), found)
    mutant: Callable[..., Any] = found[function.__name__]
    return mutant
