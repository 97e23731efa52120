"""A scenario on a grid: who is struck when, whether that can be, and when blocks must come.

Times are seconds after the warm-up's end.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise
from typing import Final, NamedTuple

from testnet.chaos.errors import ScenarioError
from testnet.chaos.roster import Roster, with_groups
from testnet.chaos.scenario import (
    AnyFault,
    Burst,
    Byzantine,
    Clock,
    Cpu,
    Disconnect,
    Disk,
    Kill,
    Link,
    Partition,
    Random,
    Restart,
    Scenario,
    Silencing,
    Stop,
    Wipe,
)

STRIKES_MAX: Final = 5_000
TOGGLES_MAX: Final = 2_000
# A node that comes back is given this long before the next thing may happen to its process.
BETWEEN_S: Final = 1.0
REST: Final = "rest"

# Faults of the process itself: a node can have one of them at a time.
OF_PROCESS: Final = (Kill, Wipe, Restart, Stop)
Pair = tuple[str, str]


class Strike(NamedTuple):
    """One fault on some nodes at once, from `begin_s` to `end_s`; a partition's `sides`."""

    number: int
    fault: AnyFault
    nodes: tuple[str, ...]
    begin_s: float
    end_s: float
    sides: tuple[tuple[str, ...], ...] = ()

    @property
    def kind(self) -> str:
        """The fault's word."""
        return str(self.fault.__struct_config__.tag)

    @property
    def title(self) -> str:
        """What happens to whom, in short."""
        return f"{self.kind} {self.who}"

    @property
    def who(self) -> str:
        """Whom it strikes, or whose sides it parts, in short."""
        return " | ".join(map(names_in_short, self.sides or (self.nodes,)))

    def spans(self) -> list[tuple[float, float]]:
        """Return when it is in force: once, or again and again if it flaps."""
        flap_s = self.fault.flap_s if isinstance(self.fault, Partition) else 0.0
        if not flap_s:
            return [(self.begin_s, self.end_s)]
        spans = []
        begin = self.begin_s
        while begin < self.end_s:
            spans.append((begin, min(begin + flap_s, self.end_s)))
            begin += 2 * flap_s
        return spans

    def cuts(self, names: Sequence[str]) -> set[Pair]:
        """Return the ordered pairs (from, to) that it parts while in force."""
        if isinstance(self.fault, Disconnect):
            return {
                pair
                for mine in self.nodes
                for other in names
                if other != mine
                for pair in ((mine, other), (other, mine))
            }
        if not isinstance(self.fault, Partition):
            return set()
        found = set()
        first = self.sides[0]
        for one, two in combinations(self.sides, 2):
            for mine in one:
                for other in two:
                    if self.fault.one_way:
                        found |= {(mine, other)} if one is first else set()
                    else:
                        found |= {(mine, other), (other, mine)}
        return found

    def links(self) -> set[Pair]:
        """Return the ordered pairs whose link it changes while in force."""
        if not isinstance(self.fault, Link):
            return set()
        mine, others = self.sides
        there = {(one, two) for one in mine for two in others if one != two}
        return there | {(two, one) for one, two in there} if self.fault.both_ways else there


class Plan(NamedTuple):
    """All strikes of a scenario on a grid, in order of their beginning."""

    scenario: Scenario
    roster: Roster
    strikes: tuple[Strike, ...]

    @property
    def end_s(self) -> float:
        """When the last strike is undone."""
        return max(strike.end_s for strike in self.strikes)

    def struck(self, *kinds: type) -> set[str]:
        """Return the nodes that a fault of these kinds will hit."""
        return {
            name
            for strike in self.strikes
            if isinstance(strike.fault, kinds)
            for name in strike.nodes
        }

    def uses(self, *kinds: type) -> bool:
        """Tell whether there is a fault of these kinds."""
        return any(isinstance(strike.fault, kinds) for strike in self.strikes)

    def able(self) -> list[tuple[float, float, bool]]:
        """Return (begin, end, whether a quorum can work) from 0 to the last end, without gaps."""
        marks = {0.0, self.end_s}
        for strike in self.strikes:
            for begin, end in strike.spans():
                marks |= {begin, end}
        ordered = sorted(marks)
        found: list[tuple[float, float, bool]] = []
        for begin, end in pairwise(ordered):
            works = self._works((begin + end) / 2)
            if found and found[-1][2] == works:
                found[-1] = (found[-1][0], end, works)
            else:
                found.append((begin, end, works))
        return found

    def _works(self, moment_s: float) -> bool:
        """Tell whether enough authorities that are well hear each other, both ways."""
        well, cuts = set(self.roster.authorities), set[Pair]()
        for strike in self.strikes:
            if not any(begin <= moment_s < end for begin, end in strike.spans()):
                continue
            if isinstance(strike.fault, Silencing | Byzantine):
                well -= set(strike.nodes)
            cuts |= strike.cuts(self.roster.names)
        for one in well:
            near = [o for o in well if o == one or not {(one, o), (o, one)} & cuts]
            whole = all(not {(a, b), (b, a)} & cuts for a, b in combinations(near, 2))
            if whole and len(near) >= self.roster.quorum:
                return True
        return False


def make_plan(scenario: Scenario, roster: Roster) -> Plan:
    """Lay a scenario on a grid.

    Raises
    ------
    ScenarioError
        It names unknown nodes, needs a larger grid, or wants things that contradict each other.
    """
    grid = scenario.grid
    for what, have, need in (
        ("regions", roster.regions, grid.regions),
        ("homes", len(roster.names), grid.homes // grid.regions),
        ("authorities", len(roster.authorities), grid.authorities),
    ):
        if have < need:
            raise ScenarioError(f"the scenario needs {need} {what}; this grid has {have}")
    roster = with_groups(roster, scenario.groups)
    if roster.regions > 1 and any(isinstance(fault, Burst) for fault in scenario.fault):
        raise ScenarioError("burst: made-up homes trade on a street by itself only, not on regions")
    strikes: list[Strike] = []
    for number, fault in enumerate(scenario.fault, 1):
        strikes += _strikes(number, fault, roster, scenario.run.seed)
        _limit(strikes)
    if scenario.random is not None:
        strikes += _drawn(scenario.random, len(scenario.fault) + 1, roster, scenario.run.seed)
        _limit(strikes)
    strikes.sort(key=lambda strike: (strike.begin_s, strike.number))
    _check_overlaps(strikes)
    _check_links(strikes)
    liars = {n for s in strikes if isinstance(s.fault, Byzantine) for n in s.nodes}
    if strangers := sorted(liars - set(roster.authorities)):
        raise ScenarioError(f"byzantine {strangers[0]}: only authorities have votes to misuse")
    if len(liars) > roster.faulty_max:
        raise ScenarioError(
            f"byzantine {names_in_short(sorted(liars))}: agreement is promised while at most "
            f"{roster.faulty_max} of {len(roster.authorities)} authorities break the rules"
        )
    return Plan(scenario, roster, tuple(strikes))


def names_in_short(names: Iterable[str]) -> str:
    """Return up to four names, and how many more there are."""
    listed = list(names)
    if len(listed) <= 4:
        return ", ".join(listed)
    return f"{', '.join(listed[:3])} and {len(listed) - 3} more"


def _strikes(number: int, fault: AnyFault, roster: Roster, seed: int) -> Iterator[Strike]:
    where = f"fault {number}"
    draw = random.Random(f"{seed}/{number}")  # noqa: S311 - no secret  # nosec B311
    end_s = fault.at_s + fault.for_s
    if isinstance(fault, Partition):
        yield _partition(number, fault, roster, draw, where)
        return
    nodes = roster.select(fault.nodes, draw, where)
    if isinstance(fault, Link):
        if not (fault.delay_ms or fault.jitter_ms or fault.loss_percent or fault.rate_kbit):
            raise ScenarioError(f"{where}: a link with no delay, jitter, loss or rate is as it was")
        others = roster.select(fault.to, draw, where, outside=True)
        yield Strike(number, fault, nodes, fault.at_s, end_s, (nodes, others))
        return
    stagger_s = fault.stagger_s if isinstance(fault, Silencing) else 0.0
    if not stagger_s:
        yield Strike(number, fault, nodes, fault.at_s, end_s)
        return
    for place, name in enumerate(nodes):
        late_s = place * stagger_s
        yield Strike(number, fault, (name,), fault.at_s + late_s, end_s + late_s)


def _partition(
    number: int, fault: Partition, roster: Roster, draw: random.Random, where: str
) -> Strike:
    sides: list[tuple[str, ...]] = []
    for words in fault.sides:
        named = [word for word in words if word != REST]
        sides.append(roster.select(named, draw, where, outside=True) if named else ())
    counts = Counter(name for side in sides for name in side)
    if both := [name for name, count in counts.items() if count > 1]:
        raise ScenarioError(f"{where}: {both[0]} is on two sides")
    takers = [place for place, words in enumerate(fault.sides) if REST in words]
    if len(takers) > 1:
        raise ScenarioError(f"{where}: two sides are {REST!r}")
    for place in takers:
        sides[place] += tuple(name for name in roster.names if name not in counts)
    if not all(sides):
        raise ScenarioError(f"{where}: nobody is left for the side {REST!r}")
    if fault.flap_s and fault.for_s / fault.flap_s > TOGGLES_MAX:
        raise ScenarioError(f"{where}: flaps more than {TOGGLES_MAX} times")
    # Who is outside is not watched, and has nothing to recover that could be seen.
    nodes = tuple(name for name in roster.names if any(name in side for side in sides))
    if not nodes:
        raise ScenarioError(f"{where}: all of its sides are outside the chain that is watched")
    return Strike(number, fault, nodes, fault.at_s, fault.at_s + fault.for_s, tuple(sides))


def _drawn(asked: Random, number: int, roster: Roster, seed: int) -> Iterator[Strike]:
    shortest_s, longest_s = asked.for_s
    if not shortest_s <= longest_s or longest_s + BETWEEN_S > asked.every_s:
        raise ScenarioError(
            f"random: for_s is shortest and longest, which with {BETWEEN_S:g} s of rest are within "
            f"every_s, not {shortest_s:g}, {longest_s:g} within {asked.every_s:g}"
        )
    draw = random.Random(f"{seed}/random")  # noqa: S311 - no secret  # nosec B311
    kinds: dict[str, type[Kill | Wipe | Restart | Stop | Disconnect]] = {
        "kill": Kill,
        "wipe": Wipe,
        "restart": Restart,
        "stop": Stop,
        "disconnect": Disconnect,
    }
    nodes = roster.select(asked.nodes, draw, "random")
    deck: list[str] = []
    for place in range(min(int(asked.length_s / asked.every_s), STRIKES_MAX + 1)):
        if not deck:
            deck = list(asked.kinds)
            draw.shuffle(deck)
        name, begin_s = draw.choice(nodes), place * asked.every_s
        for_s = round(draw.uniform(shortest_s, longest_s), 1)
        fault = kinds[deck.pop()](nodes=(name,), at_s=begin_s, for_s=for_s)
        yield Strike(number, fault, (name,), begin_s, begin_s + for_s)


def _limit(strikes: Sequence[Strike]) -> None:
    if len(strikes) > STRIKES_MAX:
        raise ScenarioError(f"more than {STRIKES_MAX} strikes; make it shorter or rarer")


def _check_overlaps(strikes: Sequence[Strike]) -> None:
    """Raise `ScenarioError` for two things that cannot both be on one node."""
    running: dict[str, list[Strike]] = {}
    for strike in strikes:
        for name in strike.nodes:
            now = [s for s in running.get(name, ()) if s.end_s + _rest_s(s) > strike.begin_s]
            for other in now:
                if why := _contradiction(other, strike):
                    raise ScenarioError(
                        f"fault {strike.number} ({strike.kind} {name}, from {strike.begin_s:g} s) "
                        f"and fault {other.number} ({other.kind}, until {other.end_s:g} s): {why}"
                    )
            running[name] = [*now, strike]


def _rest_s(strike: Strike) -> float:
    return BETWEEN_S if isinstance(strike.fault, OF_PROCESS) else 0.0


def _contradiction(one: Strike, two: Strike) -> str:
    first, second = one.fault, two.fault
    if isinstance(first, OF_PROCESS) and isinstance(second, OF_PROCESS):
        return "one process can be down or still in one way at a time"
    for kind in (Clock, Disk, Cpu, Byzantine, Disconnect, Burst):
        if isinstance(first, kind) and isinstance(second, kind):
            return f"{one.kind} has one value at a time"
    still, slow = (Stop,), (Cpu,)
    if isinstance(first, still) and isinstance(second, slow):
        return "a node that stands still cannot be slowed as well"
    if isinstance(first, slow) and isinstance(second, still):
        return "a node that stands still cannot be slowed as well"
    return ""


def _check_links(strikes: Sequence[Strike]) -> None:
    """Raise `ScenarioError` for a pair of nodes with two links at once."""
    for one, two in combinations([s for s in strikes if isinstance(s.fault, Link)], 2):
        if two.begin_s < one.end_s and (both := sorted(one.links() & two.links())):
            raise ScenarioError(
                f"fault {two.number} (link, from {two.begin_s:g} s) and fault {one.number} (until "
                f"{one.end_s:g} s): both say how {both[0][0]} reaches {both[0][1]}"
            )


class Wire(NamedTuple):
    """What happens to packets from one node to another; `cut`: nothing arrives."""

    cut: bool = False
    delay_ms: int = 0
    jitter_ms: int = 0
    loss_percent: float = 0.0
    rate_kbit: int = 0


def wires(strikes: Iterable[Strike], roster: Roster) -> dict[Pair, Wire]:
    """Return the ordered pairs that are not as they should be while these strikes are in force.

    Cables that are pulled (`Disconnect`) are not among them.
    """
    found: dict[Pair, Wire] = {}
    cuts: set[Pair] = set()
    for strike in strikes:
        fault = strike.fault
        if isinstance(fault, Partition):
            cuts |= strike.cuts(roster.names)
        if isinstance(fault, Link):
            wire = Wire(False, fault.delay_ms, fault.jitter_ms, fault.loss_percent, fault.rate_kbit)
            for pair in strike.links():
                found[pair] = wire
    for pair in cuts:
        found[pair] = found.get(pair, Wire())._replace(cut=True)
    return found
