"""Who is in a grid, and whom a scenario means by its words."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from testnet.chaos.errors import ScenarioError

WORDS: Final = (
    "all",
    "authorities",
    "followers",
    "f",
    "f+1",
    "authorities:N",
    "followers:N",
    "random:N",
)
OUTSIDE: Final = "outside"


class Roster(NamedTuple):
    """The nodes of the chain that is watched, in their order; `groups` are named sets of them.

    Of a grid with a main chain that is one of its `regions`; `outside` are all nodes of the grid
    that are not of it, those of the main chain only among them.
    """

    names: tuple[str, ...]
    authorities: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    outside: tuple[str, ...] = ()
    regions: int = 1

    @property
    def followers(self) -> tuple[str, ...]:
        """Who decides nothing."""
        return tuple(name for name in self.names if name not in self.authorities)

    @property
    def faulty_max(self) -> int:
        """f: as many authorities may fail."""
        return (len(self.authorities) - 1) // 3

    @property
    def quorum(self) -> int:
        """As many authorities decide."""
        return len(self.authorities) - self.faulty_max

    def select(
        self, words: Iterable[str], draw: random.Random, where: str, *, outside: bool = False
    ) -> tuple[str, ...]:
        """Return the nodes that `words` mean, each once, in the roster's order.

        Only if `outside` may some of them be of other chains.

        Raises
        ------
        ScenarioError
            One is unknown, or asks for more nodes than there are. `where` begins the sentence.
        """
        chosen: set[str] = set()
        for word in words:
            if word == OUTSIDE or word in self.outside:
                chosen.update(self._beyond(word, where, outside))
            else:
                chosen.update(self._meant(word, draw, where))
        if not chosen:
            raise ScenarioError(f"{where}: {', '.join(words)} means no node of this grid")
        return tuple(name for name in (*self.names, *self.outside) if name in chosen)

    def _beyond(self, word: str, where: str, outside: bool) -> Sequence[str]:
        if not self.outside:
            raise ScenarioError(
                f"{where}: {word}: this grid has one chain, and nobody is outside it; "
                "[grid] regions = 2 asks for a main chain"
            )
        if not outside:
            raise ScenarioError(
                f"{where}: {word}: only the sides of a partition and the `to` of a link may be "
                "nodes outside the chain that is watched"
            )
        return self.outside if word == OUTSIDE else (word,)

    def _meant(self, word: str, draw: random.Random, where: str) -> Sequence[str]:
        if word in self.names:
            return (word,)
        if word in self.groups:
            return self.groups[word]
        match word:
            case "all":
                return self.names
            case "authorities":
                return self.authorities
            case "followers":
                return self.followers
            case "f":
                return self.authorities[-self.faulty_max :]
            case "f+1":
                return self.authorities[-self.faulty_max - 1 :]
        kind, _, count = word.partition(":")
        sets = {
            "authorities": self.authorities,
            "followers": self.followers,
            "random": self.names,
        }
        if kind in sets and count.isdecimal() and len(count) <= 4:
            among = sets[kind]
            if not 1 <= int(count) <= len(among):
                raise ScenarioError(f"{where}: {word}: there are {len(among)} to choose from")
            return draw.sample(among, int(count)) if kind == "random" else among[: int(count)]
        known = [*WORDS, *self.groups, f"{self.names[0]} to {self.names[-1]}"]
        raise ScenarioError(f"{where}: unknown node {word!r}; known are {', '.join(known)}")


def with_groups(roster: Roster, groups: Mapping[str, Sequence[str]]) -> Roster:
    """Return the roster with a scenario's own groups.

    Raises
    ------
    ScenarioError
        A group has a taken name, or names unknown nodes.
    """
    found = dict(roster.groups)
    for name, words in groups.items():
        taken = (*roster.names, *roster.outside, *found, "rest", OUTSIDE, *WORDS)
        if name in taken or ":" in name:
            raise ScenarioError(f"groups.{name}: the name is taken")
        # The same each time; no secret.
        found[name] = roster.select(words, random.Random(0), f"groups.{name}")  # noqa: S311  # nosec B311
    return roster._replace(groups=found)
