"""A street of processes of this machine, started for the run and gone after it.

Signals need no privileges; the network between processes of one machine cannot be disturbed
without them (`testnet.chaos.targets.netns`).
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from node.api.control import ask
from node.durable import replace_file
from node.errors import ControlError
from node.genesis import ChainParams, read_genesis
from node.setup import DATA_NAME, GENESIS_NAME, MAIN_GENESIS_NAME
from testnet.chaos.anchoring import Keepers
from testnet.chaos.errors import TargetError
from testnet.chaos.journal import Journal, Signal, born
from testnet.chaos.plan import Pair, Plan, Wire
from testnet.chaos.roster import Roster
from testnet.chaos.scenario import Byzantine, Clock, Disconnect, Disk, Grid, Link, Partition
from testnet.chaos.targets.base import Drive
from testnet.processes import HomeProcess, stop_all
from testnet.regions import admit, create, main_directory, neutral_names, regions_of
from testnet.street import Street, StreetPlan, create_street, open_street
from testnet.up import serve_dashboard

ASK_TIMEOUT_S: Final = 5.0
DRIVE_NAME: Final = "chaos.json"
# A limited process runs for its share of this, and stands still for the rest.
CPU_PERIOD_S: Final = 0.1
# As long as a street waits for its blocks when nobody trades; a stall shows by itself then.
HEARTBEAT_MS: Final = 1_000
NEEDS_DRIVER: Final = (Byzantine, Clock, Disk)


class DrivenProcess(HomeProcess):
    """A home's daemon, or its test build, which does what `chaos.json` in its directory says."""

    driven = False

    def command(self) -> list[str]:
        """Return the command line."""
        if not self.driven:
            return super().command()
        drive = str(self.directory / DRIVE_NAME)
        module = "testnet.chaos.driver"
        config = str(self.directory / "node.toml")
        return [sys.executable, "-P", "-m", module, "--drive", drive, "--config", config]


class Processes:
    """The target `processes`: see `testnet.chaos.targets.base.Target`.

    With `dashboard` the last home, which is the last one that a scenario strikes, serves it; where
    is told by `say`.
    """

    name = "processes"

    def __init__(
        self,
        directory: Path,
        grid: Grid,
        journal: Journal,
        dashboard: bool = False,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.directory = directory
        self._grid = grid
        self._journal = journal
        self._dashboard = dashboard
        self._say = say
        self._homes: dict[str, DrivenProcess] = {}
        self._frozen: dict[str, int] = {}
        self._limits: dict[str, asyncio.Task[None]] = {}
        self.driven: set[str] = set()
        self._admitting: asyncio.Task[None] | None = None
        self.plan = StreetPlan(
            homes=grid.homes,
            authorities=grid.authorities,
            regions=grid.regions,
            time_lapse=grid.time_lapse,
            slot_minutes=grid.slot_minutes,
        )
        self.plan.check()
        mine, *others = (tuple(group.names) for group in regions_of(self.plan))
        outside = (*(name for names in others for name in names), *neutral_names(self.plan))
        self._roster = Roster(mine, mine[: grid.authorities], {}, outside, grid.regions)
        # A region's blocks come when there is reason for one; a street's faster than that.
        alone = grid.regions == 1
        self.quiet_s = (HEARTBEAT_MS if alone else ChainParams().heartbeat_ms) / 1000

    @property
    def roster(self) -> Roster:
        """Who is in it."""
        return self._roster

    async def lacking(self, plan: Plan) -> list[str]:
        """Return what is missing for a plan; notes which homes need the test build."""
        self.driven = plan.struck(*NEEDS_DRIVER)
        if plan.uses(Disconnect, Partition, Link):
            return [
                "disconnect, partition and link need a network of their own for each home: "
                "use --target netns (as root) or --target containers"
            ]
        return []

    # -- the grid

    async def __aenter__(self) -> "Processes":
        directory, plan = self.directory / "street", self.plan
        if plan.regions == 1:
            chain = ChainParams(heartbeat_ms=HEARTBEAT_MS)
            street = create_street(directory, plan, chain=chain)
        else:
            street = create(directory, plan)
        try:
            await self.prepare(street)
            names = (*self._roster.names, *self._roster.outside)
            self._homes = {name: self.make(name, street.home(name)) for name in names}
            if self._dashboard:
                address = serve_dashboard(self._homes[self._roster.names[-1]])
                self._say(f"the dashboard is at {address}testnet")
            for name, home in self._homes.items():
                home.driven = name in self.driven
                if home.driven:
                    await self.drive(name, Drive())
                await home.start()
            if plan.regions > 1:
                self._admitting = asyncio.create_task(admit(street))
        except BaseException as error:
            await self.__aexit__()
            if isinstance(error, OSError):
                raise TargetError(f"a home's process could not be started: {error}") from None
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._admitting is not None:
            self._admitting.cancel()
            await asyncio.gather(self._admitting, return_exceptions=True)
        for name in list(self._limits):
            await self.limit_cpu(name, None)
        for name in list(self._frozen):
            await self.thaw(name)
        await stop_all(list(self._homes.values()))

    async def prepare(self, street: Street) -> None:
        """Do what must be done between the making of the street and its start."""

    def make(self, name: str, directory: Path) -> DrivenProcess:
        """Return a home that is not started."""
        return DrivenProcess(name, directory)

    def data(self, name: str) -> Path:
        """Return a home's data directory."""
        return self.directory / "street" / name / DATA_NAME

    async def ask(self, name: str, question: str, **arguments: Any) -> Any:
        """Ask a home."""
        if self._homes[name].pid is None or name in self._frozen:
            # It would not answer, and waiting for it would keep the others waiting.
            raise ControlError(f"{name} is down")
        return await ask(self.data(name), question, timeout_s=ASK_TIMEOUT_S, **arguments)

    def failures(self) -> list[str]:
        """Return which homes have ended by themselves since the last time."""
        found = []
        for name, home in self._homes.items():
            if home.restarts or home.failure:
                found.append(home.failure or f"{name} ended by itself: {home.last_words()}")
                home.restarts, home.failure = 0, None
        return found

    def street(self) -> Street | None:
        """Return the street, once it is made."""
        return open_street(self.directory / "street")

    def keepers(self) -> Keepers | None:
        """Return who keeps the main chain: the neutral nodes first."""
        street = self.street()
        if street is None or street.plan.regions == 1:
            return None
        neutral = neutral_names(street.plan)
        found = {name: street.home(name) / DATA_NAME for name in neutral}
        found |= {
            name: main_directory(street, name)
            for name in street.names
            if (street.home(name) / MAIN_GENESIS_NAME).exists()
        }
        main = read_genesis(street.home(neutral[0]) / GENESIS_NAME)
        return Keepers(regions_of(street.plan)[0].number, found, main.chain.heartbeat_ms / 1000)

    async def save_logs(self, directory: Path) -> None:
        """Copy the homes' logs."""
        for name, home in self._homes.items():
            await asyncio.to_thread(shutil.copy, home.log_path, directory / f"{name}.log")

    # -- the process

    async def kill(self, name: str) -> None:
        """Kill it."""
        await self._homes[name].kill()

    async def stop(self, name: str) -> None:
        """Stop it in order."""
        await self._homes[name].stop()

    async def start(self, name: str) -> None:
        """Start it again."""
        await self._homes[name].start()

    async def wipe(self, name: str) -> None:
        """Empty its data directory."""
        await asyncio.to_thread(empty, self.data(name))

    async def freeze(self, name: str) -> None:
        """Send SIGSTOP."""
        pid = self._homes[name].pid
        if pid is not None:
            undo = Signal(pid, born(pid), signal.SIGCONT)
            self._frozen[name] = self._journal.deed(f"{name} stands still", undo)
            os.kill(pid, signal.SIGSTOP)

    async def thaw(self, name: str) -> None:
        """Send SIGCONT."""
        deed, pid = self._frozen.pop(name, None), self._homes[name].pid
        if deed is not None:
            if pid is not None:
                os.kill(pid, signal.SIGCONT)
            self._journal.undone(deed)

    # -- what is around it

    async def unplug(self, name: str) -> None:
        """Not here: `lacking` has said so."""
        raise TargetError(f"the target {self.name} has no cable of {name} to pull")

    async def plug(self, name: str) -> None:
        """Not here: `lacking` has said so."""
        raise TargetError(f"the target {self.name} has no cable of {name}")

    async def wire(self, wires: Mapping[Pair, Wire]) -> None:
        """Not here: `lacking` has said so."""
        if wires:
            raise TargetError(f"the target {self.name} has no links to disturb")

    async def limit_cpu(self, name: str, percent: int | None) -> None:
        """Let it stand still for a part of the time, as its share of a slow core."""
        task = self._limits.pop(name, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if percent is not None and percent < 100:
            self._limits[name] = asyncio.create_task(self._share(name, percent / 100))

    async def _share(self, name: str, share: float) -> None:
        home, pid, deed = self._homes[name], None, None
        try:
            while True:
                if home.pid != pid:
                    pid = home.pid
                    if deed is not None:
                        self._journal.undone(deed)
                        deed = None
                    if pid is not None:
                        undo = Signal(pid, born(pid), signal.SIGCONT)
                        deed = self._journal.deed(f"{name} is slowed", undo)
                _send(pid, signal.SIGSTOP)
                await asyncio.sleep(CPU_PERIOD_S * (1 - share))
                _send(pid, signal.SIGCONT)
                await asyncio.sleep(CPU_PERIOD_S * share)
        finally:
            _send(pid, signal.SIGCONT)
            if deed is not None:
                self._journal.undone(deed)

    async def drive(self, name: str, drive: Drive) -> None:
        """Write what the test build reads."""
        file = self.data(name).parent / DRIVE_NAME
        await asyncio.to_thread(replace_file, file, msgspec.json.encode(drive))


def _send(pid: int | None, number: int) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def empty(directory: Path) -> None:
    """Remove what is in a directory, as a new disk in its place."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
