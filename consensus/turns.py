"""Which authorities let their turns to propose pass in silence (R32).

It shortens waits and decides nothing, so it is neither logged nor agreed upon: nodes may differ.
"""

from collections.abc import Mapping
from typing import Final

# One lost turn may be the network's doing; nobody waits less for that.
MISSED_TURNS: Final = 2


class Turns:
    """Turns in a row that each authority has missed without being heard in between."""

    __slots__ = ("_missed",)

    def __init__(self) -> None:
        self._missed: list[int] = []

    def seat(self, n: int, indices: Mapping[int, int] | None = None) -> None:
        """Begin with a set of `n`; `indices` maps those of the last set who stay to their seats."""
        before, self._missed = self._missed, [0] * n
        for old, new in (indices or {}).items():
            self._missed[new] = before[old]

    def missed(self, index: int) -> None:
        """Note that an authority's turn has passed without its proposal."""
        self._missed[index] += 1

    def heard(self, index: int) -> None:
        """Note that an authority is here."""
        self._missed[index] = 0

    def is_absent(self, index: int) -> bool:
        """Tell whether an authority's next turn will hardly bring a proposal."""
        return self._missed[index] >= MISSED_TURNS
