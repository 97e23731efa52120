"""Who is in a grid, and whom a scenario means by its words."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from testnet.chaos.errors import ScenarioError

WORDS: Final = ("all", "authorities", "followers", "f", "f+1", "authorities:N", "random:N")


class Roster(NamedTuple):
    """The nodes of a grid in their order; `groups` are named sets of them, such as regions."""

    names: tuple[str, ...]
    authorities: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]

    @property
    def faulty_max(self) -> int:
        """f: as many authorities may fail."""
        return (len(self.authorities) - 1) // 3

    @property
    def quorum(self) -> int:
        """As many authorities decide."""
        return len(self.authorities) - self.faulty_max

    def select(self, words: Iterable[str], draw: random.Random, where: str) -> tuple[str, ...]:
        """Return the nodes that `words` mean, each once, in the roster's order.

        Raises
        ------
        ScenarioError
            One is unknown, or asks for more nodes than there are. `where` begins the sentence.
        """
        chosen: set[str] = set()
        for word in words:
            chosen.update(self._meant(word, draw, where))
        if not chosen:
            raise ScenarioError(f"{where}: {', '.join(words)} means no node of this grid")
        return tuple(name for name in self.names if name in chosen)

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
                return [name for name in self.names if name not in self.authorities]
            case "f":
                return self.authorities[-self.faulty_max :]
            case "f+1":
                return self.authorities[-self.faulty_max - 1 :]
        kind, _, count = word.partition(":")
        if kind in ("authorities", "random") and count.isdecimal() and len(count) <= 4:
            among = self.authorities if kind == "authorities" else self.names
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
        if name in roster.names or name in found or name in ("rest", *WORDS) or ":" in name:
            raise ScenarioError(f"groups.{name}: the name is taken")
        found[name] = roster.select(words, random.Random(0), f"groups.{name}")  # noqa: S311
    return roster._replace(groups=found)
