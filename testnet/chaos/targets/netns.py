"""A street of processes, each in a network namespace of its own, on one bridge. Needs root.

    home-01 ── eth0 ═ veth ═ p1 ──┐
    home-02 ── eth0 ═ veth ═ p2 ──┼── bridge, in a namespace that belongs to nobody
    ...                           ┘

Nothing of it touches the machine's own network. The namespaces are in the journal before they are
made; removing them removes all that is in them.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from node.config import MainSection, NetworkSection, load_config, settings_text
from node.setup import CONFIG_NAME
from testnet.chaos.errors import TargetError
from testnet.chaos.journal import Command, Journal
from testnet.chaos.plan import Pair, Plan, Wire
from testnet.chaos.scenario import Grid, Link
from testnet.chaos.targets.processes import DrivenProcess, Processes
from testnet.chaos.wiring import GONE, Place, Wiring, command, missing, missing_queues
from testnet.street import Street

RUN_DIRECTORY: Final = Path("/run/netns")
PREFIX: Final = "commonwatt-"
BRIDGE: Final = "bridge"
PORT: Final = 4600
MAIN_PORT: Final = 4700
# Addresses that only the namespaces know.
NETWORK: Final = "10.77"


class NamespacedProcess(DrivenProcess):
    """A home's daemon in its namespace."""

    namespace = ""

    def command(self) -> list[str]:
        """Return the command line."""
        # `nsenter` becomes the daemon: signals reach it.
        return ["nsenter", f"--net={RUN_DIRECTORY / self.namespace}", "--", *super().command()]


class Namespaces(Processes):
    """The target `netns`: see `testnet.chaos.targets.base.Target`."""

    name = "netns"

    def __init__(self, directory: Path, grid: Grid, journal: Journal) -> None:
        super().__init__(directory, grid, journal)
        self._wiring = Wiring(journal)
        # Two runs at a time do not meet.
        self._prefix = f"{PREFIX}{directory.name[-8:]}-"
        self._hub = f"{self._prefix}hub"
        self._made: dict[str, int] = {}
        self.addresses = {
            name: f"{NETWORK}.{place // 250}.{place % 250 + 1}"
            for place, name in enumerate(self._everybody())
        }

    async def lacking(self, plan: Plan) -> list[str]:
        """Return what is missing for a plan; notes which homes need the test build."""
        await super().lacking(plan)
        lacking = await missing()
        if not lacking and shutil.which("ip") is None:
            lacking = ["the command ip is missing: install iproute2"]
        if not lacking and plan.uses(Link):
            lacking = await missing_queues()
        return lacking

    def _everybody(self) -> tuple[str, ...]:
        return (*self.roster.names, *self.roster.outside)

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}{name}"

    async def prepare(self, street: Street) -> None:
        """Make the namespaces, and let the homes listen and dial there."""
        await self._add(self._hub)
        await self._in(self._hub, "link", "add", BRIDGE, "type", "bridge")
        await self._in(self._hub, "link", "set", BRIDGE, "up")
        for place, name in enumerate(self._everybody(), 1):
            mine, port = self._namespace(name), f"p{place}"
            await self._add(mine)
            await self._in(
                self._hub, "link", "add", port, "type", "veth", "peer", "name", "eth0",
                "netns", mine,
            )  # fmt: skip
            await self._in(self._hub, "link", "set", port, "master", BRIDGE, "up")
            await self._in(mine, "address", "add", f"{self.addresses[name]}/16", "dev", "eth0")
            await self._in(mine, "link", "set", "lo", "up")
            await self._in(mine, "link", "set", "eth0", "up")
        homes = {name: street.home(name) / CONFIG_NAME for name in self._everybody()}
        configs = {name: load_config(file, {}) for name, file in homes.items()}
        moved: dict[str, str] = {}
        for name, config in configs.items():
            moved[config.network.listen] = f"/ip4/{self.addresses[name]}/tcp/{PORT}"
            if config.main is not None:
                moved[config.main.listen] = f"/ip4/{self.addresses[name]}/tcp/{MAIN_PORT}"
        for name, config in configs.items():
            there = msgspec.structs.replace(
                config,
                network=_settled(config.network, moved),
                main=None if config.main is None else _settled(config.main, moved),
            )
            homes[name].write_text(settings_text(there))

    async def _add(self, namespace: str) -> None:
        undo = Command(["ip", "netns", "delete", namespace], GONE)
        self._made[namespace] = self._journal.deed(f"namespace {namespace}", undo)
        await command("ip", "netns", "add", namespace)

    async def _in(self, namespace: str, *arguments: str) -> None:
        await command("ip", "-netns", namespace, *arguments)

    def make(self, name: str, directory: Path) -> DrivenProcess:
        """Return a home that is not started."""
        home = NamespacedProcess(name, directory)
        home.namespace = self._namespace(name)
        return home

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        await self._wiring.close()
        for namespace, deed in list(self._made.items()):
            try:
                await command("ip", "netns", "delete", namespace)
            except TargetError:
                # The journal tries once more, and tells.
                continue
            self._journal.undone(deed)
            del self._made[namespace]

    # -- what is around it

    async def unplug(self, name: str) -> None:
        """Take the far end of the cable down, as at a switch."""
        await self._in(self._hub, "link", "set", self._port(name), "down")

    async def plug(self, name: str) -> None:
        """Take it up again."""
        await self._in(self._hub, "link", "set", self._port(name), "up")

    def _port(self, name: str) -> str:
        return f"p{self._everybody().index(name) + 1}"

    async def wire(self, wires: Mapping[Pair, Wire]) -> None:
        """Make the links these."""
        places = {n: Place(str(RUN_DIRECTORY / self._namespace(n))) for n in self._everybody()}
        await self._wiring.make(wires, places, self.addresses)


Section = TypeVar("Section", NetworkSection, MainSection)


def _settled(section: Section, moved: Mapping[str, str]) -> Section:
    """Return how a home listens and dials where it is now."""
    return msgspec.structs.replace(
        section,
        listen=moved[section.listen],
        bootstrap=tuple(_moved(address, moved) for address in section.bootstrap),
    )


def _moved(address: str, moved: Mapping[str, str]) -> str:
    head, mark, peer_id = address.partition("/p2p/")
    return moved[head] + mark + peer_id
