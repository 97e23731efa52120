"""What every target can do; a fault is put together from these."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from testnet.chaos.anchoring import Keepers
from testnet.chaos.plan import Pair, Plan, Wire
from testnet.chaos.roster import Roster
from testnet.street import Street


class Drive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the test build of the daemon does differently (`testnet.chaos.driver`).

    skew_ms : added to the wall clock
    fsync_ms : added to whatever is made durable
    behaviour : how an authority breaks the rules; empty: it does not
    """

    skew_ms: int = 0
    fsync_ms: int = 0
    behaviour: str = ""


# Beside the file that says what to do: how many messages the test build has changed.
LIES_NAME: Final = "chaos-lies.txt"
LIES_CHARS_MAX: Final = 20


class Target(Protocol):
    """A grid that can be disturbed. Use as an asynchronous context manager: it runs inside."""

    name: str
    # So long no block need come when nobody has anything to say.
    quiet_s: float

    async def __aenter__(self) -> "Target":
        """Start the grid, or find it. Raises `TargetError`."""

    async def __aexit__(self, *exc: object) -> None:
        """Stop what was started, whatever state it is in."""

    @property
    def roster(self) -> Roster:
        """Who is in it; known before it is started."""

    async def lacking(self, plan: Plan) -> list[str]:
        """Return what is missing for a plan, in sentences; empty if all of it can be done.

        Nothing is touched.
        """

    def data(self, name: str) -> Path:
        """Return the directory in which a node's control socket is."""

    async def ask(self, name: str, question: str, **arguments: Any) -> Any:
        """Ask a node. Raises `ControlError`."""

    def failures(self) -> list[str]:
        """Return what nodes have done that nobody asked them to, such as ending; once each."""

    def street(self) -> Street | None:
        """Return the street with its regulator's key, None if that is not at hand."""

    def keepers(self) -> Keepers | None:
        """Return who keeps the main chain of the watched region, None if it has none."""

    async def save_logs(self, directory: Path) -> None:
        """Write what each node has said into a directory; also after the target is left."""

    # -- the process
    async def kill(self, name: str) -> None:
        """End it at once; it stays down until `start`."""

    async def stop(self, name: str) -> None:
        """End it in order; it stays down until `start`."""

    async def start(self, name: str) -> None:
        """Start it again."""

    async def wipe(self, name: str) -> None:
        """Empty the data directory of a node that is down."""

    async def freeze(self, name: str) -> None:
        """Let it stand still."""

    async def thaw(self, name: str) -> None:
        """Let it go on."""

    # -- what is around it
    async def unplug(self, name: str) -> None:
        """Pull its network cable."""

    async def plug(self, name: str) -> None:
        """Put the cable back."""

    async def wire(self, wires: Mapping[Pair, Wire]) -> None:
        """Make the links between nodes these; a pair that is not named is as it should be."""

    async def limit_cpu(self, name: str, percent: int | None) -> None:
        """Give it so much of one core at most; None: as much as there is."""

    async def drive(self, name: str, drive: Drive) -> None:
        """Tell the test build what to do."""


def lies_told(target: Target, name: str) -> int:
    """Return how many consensus messages a node's test build has changed; 0 if it says nothing."""
    try:
        with (target.data(name).parent / LIES_NAME).open() as file:
            text = file.read(LIES_CHARS_MAX)
    except (OSError, ValueError):
        return 0
    return int(text) if text.isdecimal() else 0
