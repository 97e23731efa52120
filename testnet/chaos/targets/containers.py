"""The containers of a Compose project that runs already; it is left running.

Processes are disturbed through the engine (kill, stop, update) and by signals, cables by taking a
container out of its network, links in the containers' network namespaces, entered from the host by
root: no container gets a privilege that it does not have in production. Control sockets and data
are in the containers' volumes.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from node.api.control import ask
from node.durable import replace_file
from node.errors import ControlError, GenesisError
from node.genesis import Genesis, read_genesis
from node.setup import CONFIG_NAME, DATA_NAME, GENESIS_NAME, MAIN_GENESIS_NAME, MAIN_NAME
from testnet.chaos.anchoring import Keepers
from testnet.chaos.errors import TargetError
from testnet.chaos.journal import Command, Journal, Signal, born
from testnet.chaos.plan import Pair, Plan, Wire
from testnet.chaos.roster import Roster
from testnet.chaos.scenario import Burst, Byzantine, Clock, Cpu, Disconnect, Disk, Link, Partition
from testnet.chaos.targets.base import Drive
from testnet.chaos.targets.processes import DRIVE_NAME, empty
from testnet.chaos.wiring import Place, Wiring, command, missing, missing_queues
from testnet.street import Street

ASK_TIMEOUT_S: Final = 5.0
FIRST_TIMEOUT_S: Final = 30.0
ENGINE_TIMEOUT_S: Final = 120.0
LOOK_S: Final = 5.0
HOME: Final = "/home-data"
PROJECT_LABEL: Final = "com.docker.compose.project"
SERVICE_LABEL: Final = "com.docker.compose.service"
NUMBER_LABEL: Final = "com.docker.compose.container-number"
DRIVER: Final = "testnet.chaos.driver"
CPU_PERIOD_US: Final = 100_000


class Container(NamedTuple):
    """A home's container as the engine tells of it; `address` and `pid` are 0 or empty if down."""

    id: str
    name: str
    home: Path
    running: bool
    pid: int
    restarts: int
    network: str
    address: str
    aliases: tuple[str, ...]
    limited: bool
    driven: bool


def container_of(told: Mapping[str, Any]) -> Container | None:
    """Return a home's container from what `docker inspect` tells, None if it is another's."""
    homes = [mount for mount in told["Mounts"] if mount["Destination"] == HOME]
    if not homes:
        return None
    labels, state, host = told["Config"]["Labels"], told["State"], told["HostConfig"]
    service, number = labels[SERVICE_LABEL], labels.get(NUMBER_LABEL, "1")
    # A service without a number of its own may be scaled, and then has several of its name.
    name = service if service[-1:].isdecimal() else f"{service}.{number}"
    networks = sorted((told["NetworkSettings"]["Networks"] or {}).items())
    network, endpoint = networks[0] if networks else ("", {})
    started = [*(told["Config"]["Entrypoint"] or []), *(told["Config"]["Cmd"] or [])]
    return Container(
        told["Id"],
        name,
        Path(homes[0]["Source"]),
        state["Running"],
        state["Pid"],
        told["RestartCount"],
        network,
        endpoint.get("IPAddress") or "",
        tuple(alias for alias in endpoint.get("Aliases") or () if alias != told["Id"][:12]),
        host["NanoCpus"] > 0 or host["CpuQuota"] > 0,
        DRIVER in started,
    )


class Containers:
    """The target `containers`: see `testnet.chaos.targets.base.Target`. Made by `find`."""

    name = "containers"

    def __init__(
        self,
        found: Sequence[Container],
        authorities: Sequence[str],
        quiet_s: float,
        journal: Journal,
        outside: Sequence[Container] = (),
        main: Keepers | None = None,
        regions: int = 1,
    ) -> None:
        self._containers = {one.name: one for one in sorted(found, key=lambda one: one.name)}
        self._outside = {one.name: one for one in sorted(outside, key=lambda one: one.name)}
        names = tuple(self._containers)
        self.roster = Roster(
            names,
            tuple(n for n in names if n in authorities),
            {},
            outside=tuple(self._outside),
            regions=regions,
        )
        self._main = main
        self.quiet_s = quiet_s
        self._journal = journal
        self._wiring = Wiring(journal)
        self._wires: Mapping[Pair, Wire] = {}
        self._down: dict[str, int] = {}
        self._frozen: dict[str, int] = {}
        self._unplugged: dict[str, tuple[int, Container]] = {}
        self._limits: dict[str, int] = {}
        self._failures: list[str] = []
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    async def find(cls, project: str, chain: str, journal: Journal) -> "Containers":
        """Return the target of a Compose project: the nodes of one chain.

        `chain` is the beginning of its id; empty: the chain with the most nodes.

        Raises
        ------
        TargetError
            There is no such project, or not all of it runs, or we may not look into it.
        """
        if os.geteuid() != 0:
            raise TargetError(
                "the containers' control sockets lie in volumes that root may open only: run it "
                "with sudo, on the engine's host"
            )
        found = await _look(["--filter", f"label={PROJECT_LABEL}={project}"])
        if not found:
            raise TargetError(
                f"no homes of the Compose project {project!r} were found: start them with "
                "`docker compose up --detach --wait`, or name another with --project"
            )
        if down := [one.name for one in found if not one.running]:
            raise TargetError(f"{down[0]} is not running: all of the project must be up")
        members, authorities = await _members(found)
        chosen = [name for name in sorted(members) if name.startswith(chain)]
        if not chosen:
            raise TargetError(
                f"--chain {chain}: no chain of {project!r} begins so; there are "
                f"{', '.join(sorted(members))}"
            )
        most = max(chosen, key=lambda name: len(members[name]))
        mine = members[most]
        genesis = _genesis(mine[0], GENESIS_NAME)
        outside = [one for name, all_ in members.items() if name != most for one in all_]
        region, main = genesis.market.region, None
        if region is not None:
            main = _keepers(region.region, region.main_chain_id, members)
        return cls(
            mine,
            authorities,
            genesis.chain.heartbeat_ms / 1000,
            journal,
            outside,
            main,
            len(members) - (main is not None),
        )

    async def lacking(self, plan: Plan) -> list[str]:
        """Return what is missing for a plan."""
        lacking = []
        production = [
            name
            for name in sorted(plan.struck(Byzantine, Clock, Disk))
            if not self._containers[name].driven
        ]
        if production:
            lacking.append(
                f"{production[0]} runs the production daemon: clock, disk and byzantine need its "
                "test build, which --target processes and netns start where it is needed"
            )
        if limited := [n for n in sorted(plan.struck(Cpu)) if self._containers[n].limited]:
            lacking.append(f"{limited[0]} has a CPU limit of its own, which would be overwritten")
        if adrift := [n for n in sorted(plan.struck(Disconnect)) if not self.network(n)]:
            lacking.append(f"{adrift[0]} is in no network")
        if plan.uses(Burst):
            lacking.append("burst needs the regulator's key: use --target processes or netns")
        if plan.uses(Partition, Link):
            lacking += await missing()
        if not lacking and plan.uses(Link):
            lacking += await missing_queues()
        return lacking

    def network(self, name: str) -> str:
        """Return the network that a home is in."""
        return self._containers[name].network

    # -- the grid

    async def __aenter__(self) -> "Containers":
        self._looking = asyncio.create_task(self._look_for_ever())
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        # What cannot be undone here the journal tries once more, and tells.
        for names, undo in (
            (self._limits, self._unlimit),
            (self._frozen, self.thaw),
            (self._unplugged, self.plug),
        ):
            for name in list(names):
                with contextlib.suppress(TargetError):
                    await undo(name)
        await self._wiring.close()
        self._wires = {}
        for name in list(self._down):
            with contextlib.suppress(TargetError):
                await self.start(name)

    async def _look_for_ever(self) -> None:
        """Notice containers that end, or begin anew, by themselves."""
        while True:
            await asyncio.sleep(LOOK_S)
            before = dict(self._containers)
            with contextlib.suppress(TargetError):
                await self._look_again()
            for name, one in self._containers.items():
                if one.restarts > before[name].restarts:
                    self._failures.append(f"{name} ended by itself and was started again")
                elif before[name].running and not one.running and name not in self._down:
                    self._failures.append(f"{name} ended by itself")

    async def _look_again(self) -> None:
        ids = [one.id for one in self._containers.values()]
        for one in await _inspect(ids):
            self._containers[one.name] = one

    def data(self, name: str) -> Path:
        """Return a node's data directory, in its volume; of any chain."""
        one = self._containers.get(name) or self._outside[name]
        return one.home / DATA_NAME

    async def ask(self, name: str, question: str, **arguments: Any) -> Any:
        """Ask a home."""
        if name in self._down or name in self._frozen:
            raise ControlError(f"{name} is down")
        return await ask(self.data(name), question, timeout_s=ASK_TIMEOUT_S, **arguments)

    def failures(self) -> list[str]:
        """Return what containers have done by themselves since the last time."""
        found, self._failures = self._failures, []
        return found

    def street(self) -> Street | None:
        """There is none: the regulator's key is in a volume of the operator's."""
        return None

    def keepers(self) -> Keepers | None:
        """Return who keeps the main chain of the watched region."""
        return self._main

    async def save_logs(self, directory: Path) -> None:
        """Write what each container has said into a directory."""
        for name, one in self._containers.items():
            file = directory / f"{name}.log"
            with contextlib.suppress(TargetError):
                file.write_text(await command("sh", "-c", f"docker logs {one.id} 2>&1"))

    # -- the process

    async def _engine(self, *arguments: str) -> None:
        await command("docker", *arguments, timeout_s=ENGINE_TIMEOUT_S)

    async def kill(self, name: str) -> None:
        """Kill it; the engine does not start a container again that was killed by its command."""
        await self._end(name, "kill")

    async def stop(self, name: str) -> None:
        """Stop it in order."""
        await self._end(name, "stop")

    async def _end(self, name: str, how: str) -> None:
        one = self._containers[name]
        undo = Command(["docker", "start", one.id], ["No such container"])
        self._down[name] = self._journal.deed(f"{name} is down", undo)
        await self._engine(how, one.id)
        self._wiring.forget(name)

    async def start(self, name: str) -> None:
        """Start it again; it has the links of the moment from its first packet but few."""
        await self._engine("start", self._containers[name].id)
        await self._look_again()
        self._journal.undone(self._down.pop(name))
        await self.wire(self._wires)

    async def wipe(self, name: str) -> None:
        """Empty its data directory."""
        await asyncio.to_thread(empty, self.data(name))

    async def freeze(self, name: str) -> None:
        """Stop its first process, the daemon; the engine's freezer can fail on a busy machine."""
        pid = self._containers[name].pid
        undo = Signal(pid, born(pid), signal.SIGCONT)
        self._frozen[name] = self._journal.deed(f"{name} stands still", undo)
        os.kill(pid, signal.SIGSTOP)

    async def thaw(self, name: str) -> None:
        """Let it go on."""
        deed = self._frozen.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._containers[name].pid, signal.SIGCONT)
        self._journal.undone(deed)

    # -- what is around it

    async def unplug(self, name: str) -> None:
        """Take it out of its network."""
        one = self._containers[name]
        argv = ["docker", *_connect(one)]
        undo = Command(argv, ["already exists", "No such container"])
        deed = self._journal.deed(f"{name} is out of its network", undo)
        self._unplugged[name] = (deed, one)
        await self._engine("network", "disconnect", one.network, one.id)

    async def plug(self, name: str) -> None:
        """Put it back, under the names it had."""
        deed, one = self._unplugged[name]
        await self._engine(*_connect(one))
        del self._unplugged[name]
        self._journal.undone(deed)
        await self._look_again()
        await self.wire(self._wires)

    async def wire(self, wires: Mapping[Pair, Wire]) -> None:
        """Make the links these."""
        self._wires = dict(wires)
        if not wires and not self._wiring.used:
            return
        up = {
            name: one
            for name, one in (self._containers | self._outside).items()
            if one.running and name not in self._down
        }
        places = {
            name: Place(f"/proc/{one.pid}/ns/net", one.pid, born(one.pid))
            for name, one in up.items()
        }
        addresses = {name: one.address for name, one in up.items() if one.address}
        await self._wiring.make(wires, places, addresses)

    async def limit_cpu(self, name: str, percent: int | None) -> None:
        """Give it a share of one core."""
        if percent is None:
            if name in self._limits:
                await self._unlimit(name)
            return
        one = self._containers[name]
        undo = Command(["docker", "update", "--cpu-quota", "-1", one.id], ["No such container"])
        self._limits[name] = self._journal.deed(f"{name} is slowed", undo)
        quota = str(CPU_PERIOD_US * percent // 100)
        period = str(CPU_PERIOD_US)
        await self._engine("update", "--cpu-period", period, "--cpu-quota", quota, one.id)

    async def _unlimit(self, name: str) -> None:
        await self._engine("update", "--cpu-quota", "-1", self._containers[name].id)
        self._journal.undone(self._limits.pop(name))

    async def drive(self, name: str, drive: Drive) -> None:
        """Write what the test build reads, for the user it runs as."""
        home = self._containers[name].home
        file, owner = home / DRIVE_NAME, home.stat()
        await asyncio.to_thread(replace_file, file, msgspec.json.encode(drive))
        os.chown(file, owner.st_uid, owner.st_gid)


def _connect(one: Container) -> list[str]:
    aliases = [part for alias in one.aliases for part in ("--alias", alias)]
    return ["network", "connect", *aliases, one.network, one.id]


async def _look(filters: Sequence[str]) -> list[Container]:
    if shutil.which("docker") is None:
        raise TargetError("the command docker is missing")
    listed = await command("docker", "ps", "--all", "--quiet", "--no-trunc", *filters)
    return await _inspect(listed.split()) if listed.split() else []


async def _members(
    found: Sequence[Container],
) -> tuple[dict[str, list[Container]], list[str]]:
    """Return the containers by the id of their chain, and the names of those with a seat.

    One that has no settings yet waits to be let in by others, and is left out.
    """
    members: dict[str, list[Container]] = {}
    authorities = []
    for one in found:
        if not (one.home / CONFIG_NAME).exists():
            continue
        try:
            status = await ask(one.home / DATA_NAME, "status", timeout_s=FIRST_TIMEOUT_S)
        except ControlError as error:
            raise TargetError(f"{one.name} does not answer: {error}") from None
        members.setdefault(status["chain_id"], []).append(one)
        if status["authority"] is not None:
            authorities.append(one.name)
    if not members:
        raise TargetError(f"{found[0].name} is not set up yet: wait until all are healthy")
    return members, authorities


def _genesis(one: Container, name: str) -> Genesis:
    try:
        return read_genesis(one.home / name)
    except GenesisError as error:
        raise TargetError(f"{one.name}: {error}") from None


def _keepers(
    region: int, main_chain_id: str, members: Mapping[str, Sequence[Container]]
) -> Keepers | None:
    """Return who keeps the main chain: alone, or beside a region's. None if nobody here does."""
    alone = members.get(main_chain_id, ())
    directories = {one.name: one.home / DATA_NAME for one in alone}
    genesis = [_genesis(one, GENESIS_NAME) for one in alone[:1]]
    for one in (one for all_ in members.values() for one in all_):
        if (one.home / MAIN_GENESIS_NAME).exists():
            directories[one.name] = one.home / DATA_NAME / MAIN_NAME
            genesis = genesis or [_genesis(one, MAIN_GENESIS_NAME)]
    if not genesis:
        return None
    return Keepers(region, directories, genesis[0].chain.heartbeat_ms / 1000)


async def _inspect(ids: Sequence[str]) -> list[Container]:
    told = msgspec.json.decode(await command("docker", "inspect", *ids))
    return [one for one in map(container_of, told) if one is not None]
