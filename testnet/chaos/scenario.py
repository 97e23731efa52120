"""What a scenario's file says, read strictly.

A scenario is TOML: `about`, then the tables `[grid]`, `[run]`, `[demands]`, `[groups]` and any
number of `[[fault]]`. Each table is a struct below, which gives its keys, units and defaults. What
is not known is refused; whether it fits a grid is `testnet.chaos.plan`'s to say.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from node.config import read_toml
from node.errors import ConfigError
from testnet.chaos.errors import ScenarioError

FAULTS_MAX: Final = 200
SECONDS_MAX: Final = 86_400.0
DELAY_MS_MAX: Final = 5_000
SKEW_MS_MAX: Final = 24 * 3_600_000
SHIPPED: Final = Path(__file__).parents[1] / "scenarios"

Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=SECONDS_MAX)]
Span: TypeAlias = Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)]
Percent: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=100)]
Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=DELAY_MS_MAX)]
Nodes: TypeAlias = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=200)]
Behaviour: TypeAlias = Literal["equivocate", "withhold", "flood", "nil"]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the tables."""


class Fault(Table, frozen=True, tag_field="kind"):
    """One `[[fault]]`: `at_s` after the warm-up it begins, `for_s` later it is undone. [s]

    `nodes` are names, groups, or `all`, `authorities`, `followers`, `f` (as many authorities as may
    fail), `f+1`, `authorities:N`, `followers:N`, `random:N`.
    """

    at_s: Seconds
    for_s: Span


class Silencing(Fault, frozen=True):
    """Base of faults under which a node says nothing. `stagger_s`: one node after another."""

    nodes: Nodes
    stagger_s: Seconds = 0.0


class Kill(Silencing, frozen=True, tag="kill"):
    """The daemon dies as by a power cut, and is started again."""


class Wipe(Silencing, frozen=True, tag="wipe"):
    """As `kill`, and its data directory is empty when it is started again; key and genesis stay."""


class Restart(Silencing, frozen=True, tag="restart"):
    """The daemon is stopped in order and started again at the end."""


class Stop(Silencing, frozen=True, tag="stop"):
    """The daemon stands still (SIGSTOP, a paused container), then goes on."""


class Disconnect(Silencing, frozen=True, tag="disconnect"):
    """The node's network cable is pulled."""


class Partition(Fault, frozen=True, tag="partition"):
    """Nodes of different `sides` do not hear each other; packets vanish silently.

    `one_way`: the first side is not heard by the others, but hears them. `flap_s`: cut and healed
    in turn for so long each. One side may have the word `rest`: all nodes that no side names. Where
    there are several regions, `outside` is every node that is not of the one that is watched.
    """

    sides: Annotated[tuple[Nodes, ...], msgspec.Meta(min_length=2, max_length=10)]
    one_way: bool = False
    flap_s: Seconds = 0.0


class Link(Fault, frozen=True, tag="link"):
    """What `nodes` send `to` the others is late, lost or slow; `both_ways`: what they get, too.

    `to` may be `outside`, as a partition's side.

    delay_ms, jitter_ms : mean delay each way and its standard deviation, order kept
    loss_percent : of packets
    rate_kbit : kbit/s of each direction of each pair; 0: as fast as it goes
    """

    nodes: Nodes
    to: Nodes = ("all",)
    both_ways: bool = True
    delay_ms: Milliseconds = 0
    jitter_ms: Milliseconds = 0
    loss_percent: Percent = 0.0
    rate_kbit: Annotated[int, msgspec.Meta(ge=0, le=10_000_000)] = 0


class Clock(Fault, frozen=True, tag="clock"):
    """The node's wall clock jumps by `skew_ms`, and back at the end."""

    nodes: Nodes
    skew_ms: Annotated[int, msgspec.Meta(ge=-SKEW_MS_MAX, le=SKEW_MS_MAX)]


class Disk(Fault, frozen=True, tag="disk"):
    """Whatever the node makes durable takes `delay_ms` longer."""

    nodes: Nodes
    delay_ms: Annotated[int, msgspec.Meta(ge=1, le=DELAY_MS_MAX)]


class Cpu(Fault, frozen=True, tag="cpu"):
    """The node gets `percent` of one core at most."""

    nodes: Nodes
    percent: Annotated[int, msgspec.Meta(ge=1, le=100)]


class Byzantine(Fault, frozen=True, tag="byzantine"):
    """An authority breaks the rules.

    `equivocate` says one thing to half of the others and another to the rest; `withhold` sends no
    proposals and no votes; `flood` repeats all it says and sends what cannot be read; `nil` votes
    against every block.
    """

    nodes: Nodes
    behaviour: Behaviour


class Burst(Fault, frozen=True, tag="burst"):
    """Made-up `homes` each post an order in the last moments before every gate (`testnet.load`)."""

    homes: Annotated[int, msgspec.Meta(ge=1, le=1_000)]
    nodes: Nodes = ("all",)


AnyFault: TypeAlias = (
    Kill
    | Wipe
    | Restart
    | Stop
    | Disconnect
    | Partition
    | Link
    | Clock
    | Disk
    | Cpu
    | Byzantine
    | Burst
)


class Grid(Table, frozen=True):
    """`[grid]`: the street that is started for the run, or what one that runs must have.

    homes, authorities : how many; a running street may have more
    regions : more than one: under a main chain, with so many authorities each, and `homes` of all;
        the first is the chain that is watched and disturbed
    time_lapse, slot_minutes : as of `commonwatt testnet up`
    """

    homes: Annotated[int, msgspec.Meta(ge=4, le=200)] = 8
    authorities: Annotated[int, msgspec.Meta(ge=4, le=32)] = 4
    regions: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    time_lapse: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60
    slot_minutes: int = 15


class Run(Table, frozen=True):
    """`[run]`: undisturbed time before the first fault and after the last, and chance's seed."""

    warm_up_s: Span = 20.0
    cool_down_s: Span = 20.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 1


class Demands(Table, frozen=True):
    """`[demands]`: what the verdict asks beside agreement, money, energy and kept transactions.

    gap_s : the longest time without a block while a quorum can work, beside the chain's heartbeat
    recovery_s : from when a fault's nodes answer again until they are at the head
    wiped_s : the same for nodes that were wiped
    anchored_s : of a region: from the last fault's end until the main chain has anchored what the
        region had closed by then
    finality_p95_ms : of transactions that were decided while disturbed; 0: not asked
    block_rate_percent : of blocks while disturbed, over those before, at least; 0: not asked
    rss_mib_per_h : how fast a node's memory may grow while it is not started anew; 0: not asked
    """

    gap_s: Span = 15.0
    recovery_s: Span = 15.0
    wiped_s: Span = 60.0
    anchored_s: Span = 60.0
    finality_p95_ms: Annotated[int, msgspec.Meta(ge=0)] = 0
    block_rate_percent: Percent = 0.0
    rss_mib_per_h: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Random(Table, frozen=True):
    """`[random]`: faults of these `kinds` on one node at a time, drawn from the seed.

    Each waits until all authorities vote again: two that lost their logs at once are more than f.

    length_s : for how long; every_s : one so often; for_s : shortest and longest; nodes : of whom
    """

    length_s: Span
    every_s: Span
    for_s: tuple[Span, Span]
    kinds: Annotated[
        list[Literal["kill", "wipe", "restart", "stop", "disconnect"]], msgspec.Meta(min_length=1)
    ]
    nodes: Nodes = ("all",)


class Scenario(Table, frozen=True):
    """A scenario's file. `name` is the file's."""

    about: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    name: str = ""
    grid: Grid = Grid()
    run: Run = Run()
    demands: Demands = Demands()
    groups: dict[str, Nodes] = msgspec.field(default_factory=dict)
    random: Random | None = None
    fault: Annotated[list[AnyFault], msgspec.Meta(max_length=FAULTS_MAX)] = msgspec.field(
        default_factory=list
    )


def load_scenario(file: Path) -> Scenario:
    """Read a scenario.

    Raises
    ------
    ScenarioError
        It cannot be read, or says what is not known. The text is one line.
    """
    try:
        tree = read_toml(file)
    except ConfigError as error:
        raise ScenarioError(str(error)) from None
    if "name" in tree:
        raise ScenarioError(f"{file}: name is the file's own; leave it out")
    return msgspec.structs.replace(read_scenario(tree, str(file)), name=file.stem)


def read_scenario(tree: dict[str, Any], origin: str) -> Scenario:
    """Return the scenario that parsed TOML says; errors as `load_scenario`."""
    try:
        scenario = msgspec.convert(tree, Scenario)
    except msgspec.ValidationError as error:
        what, _, where = _one_line(error).partition(" - at `$")
        raise ScenarioError(f"{origin}: {where.strip('.`') or 'scenario'}: {what}") from None
    if not scenario.fault and scenario.random is None:
        raise ScenarioError(f"{origin}: no [[fault]] and no [random]: nothing would happen")
    return scenario


def kinds_of(scenario: Scenario) -> list[str]:
    """Return the words of what a scenario does, each once, in the order of the file."""
    given = [str(fault.__struct_config__.tag) for fault in scenario.fault]
    drawn = list(scenario.random.kinds) if scenario.random is not None else []
    return list(dict.fromkeys([*given, *drawn]))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def find_scenario(text: str) -> Path:
    """Return the file that a person means: a path, or the name of a shipped scenario.

    Raises
    ------
    ScenarioError
        There is neither.
    """
    given, own = Path(text), SHIPPED / f"{text}.toml"
    if given.is_file():
        return given
    if "/" not in text and own.is_file():
        return own
    names = ", ".join(file.stem for file in shipped())
    raise ScenarioError(f"{text}: no such file, and no shipped scenario; those are {names}")


def shipped() -> list[Path]:
    """Return the scenarios that come with the program."""
    return sorted(SHIPPED.glob("*.toml"))
