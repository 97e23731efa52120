"""Links between nodes with network namespaces: netfilter cuts them, the delayer does the rest.

What is cut is dropped where it would be heard, silently; what is delayed is queued where it is
sent, for `testnet.chaos.delayer`. All of it stands in the mangle table of the node's own namespace,
which nothing else uses there: the table is replaced in one step, and undone by emptying it. It is
set by `iptables`, since many a kernel has its queue target and lacks that of `nft`.
"""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from testnet.chaos.delayer import QUEUE, Orders, Shape
from testnet.chaos.errors import TargetError
from testnet.chaos.journal import Command, Journal
from testnet.chaos.plan import Pair, Wire

COMMAND_TIMEOUT_S: Final = 30.0
READY_TIMEOUT_S: Final = 15.0
# By these words tools say that what shall be removed is not there.
GONE: Final = ["No such file or directory", "No such process"]
NEEDED: Final = ("nsenter", "unshare", "iptables-restore")
RESTORE: Final = ("iptables-restore", "--wait", "5")


async def command(*argv: str, said: str = "", timeout_s: float = COMMAND_TIMEOUT_S) -> str:
    """Run a command with `said` on its input; return what it prints.

    Raises
    ------
    TargetError
        It failed, or took too long.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Ctrl-C is for us: what undoes must not be ended by it.
            process_group=0,
        )
    except OSError as error:
        raise TargetError(f"{argv[0]} cannot be run: {error.strerror}") from None
    try:
        out, err = await asyncio.wait_for(process.communicate(said.encode()), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise TargetError(f"{' '.join(argv)}: no end after {timeout_s:.0f} s") from None
    if process.returncode:
        lines = (err or out).decode(errors="replace").strip().splitlines()
        raise TargetError(f"{' '.join(argv)}: {lines[0] if lines else process.returncode}")
    return out.decode(errors="replace")


async def missing() -> list[str]:
    """Return what this machine lacks for wiring, in sentences. Nothing stays behind.

    Tried in a namespace of its own, which is gone at once.
    """
    if os.geteuid() != 0:
        return ["network faults need root, for namespaces and netfilter: run it with sudo"]
    absent = [tool for tool in NEEDED if shutil.which(tool) is None]
    if absent:
        return [f"the command {absent[0]} is missing: install iptables and util-linux"]
    try:
        await command("unshare", "--net", *RESTORE, said=rules(["10.0.0.1"], []))
    except TargetError as error:
        return [f"netfilter cannot be used in a namespace of its own ({error})"]
    return []


async def missing_queues() -> list[str]:
    """Return what this machine lacks for delays. Nothing stays behind."""
    try:
        await command("unshare", "--net", *RESTORE, said=rules([], ["10.0.0.1"]))
        orders = msgspec.json.encode(Orders({"/proc/self/ns/net": {}})).decode()
        said = await command("unshare", "--net", *_delayer(), said=orders + "\n")
    except TargetError as error:
        return [f"delay, loss and rate need the kernel's nfnetlink_queue ({error})"]
    return [] if said == "ready\n" else ["delay, loss and rate: the delayer did not start"]


def _delayer() -> list[str]:
    return [sys.executable, "-P", "-m", "testnet.chaos.delayer"]


def rules(cut: Iterable[str], queued: Iterable[str]) -> str:
    """Return the mangle table, whole, as `iptables-restore` takes it.

    cut : addresses that are not heard
    queued : addresses to which packets are queued
    """
    lines = ["*mangle"]
    lines += [f"-A INPUT -s {address} -j DROP" for address in sorted(cut)]
    queue = f"-j NFQUEUE --queue-num {QUEUE} --queue-bypass"
    lines += [f"-A OUTPUT -d {address} {queue}" for address in sorted(queued)]
    return "\n".join([*lines, "COMMIT"]) + "\n"


class Place(NamedTuple):
    """A node's namespace: its path, and the process it is of if it is not a named one."""

    path: str
    pid: int = 0
    born: int = 0


class Wiring:
    """The disturbed links of a grid.

    Parameters
    ----------
    journal : Journal
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._deeds: dict[str, int] = {}
        self._rules: dict[str, str] = {}
        self._places: dict[str, Place] = {}
        self._queued: set[str] = set()
        self._delayer: asyncio.subprocess.Process | None = None

    @property
    def used(self) -> bool:
        """Whether any link has been disturbed yet."""
        return bool(self._deeds) or self._delayer is not None

    async def make(
        self,
        wires: Mapping[Pair, Wire],
        namespaces: Mapping[str, Place],
        addresses: Mapping[str, str],
    ) -> None:
        """Make the links these. Nodes without a namespace or an address are down, and left out."""
        cut: dict[str, set[str]] = {name: set() for name in namespaces}
        shaped: dict[str, dict[str, Shape]] = {name: {} for name in namespaces}
        for (sender, hearer), wire in wires.items():
            if not {sender, hearer} <= namespaces.keys() & addresses.keys():
                continue
            if wire.cut:
                cut[hearer].add(addresses[sender])
            elif wire != Wire():
                shaped[sender][addresses[hearer]] = Shape(
                    wire.delay_ms, wire.jitter_ms, wire.loss_percent, wire.rate_kbit
                )
        await self._order(
            {namespaces[name].path: links for name, links in shaped.items()},
        )
        await asyncio.gather(
            *(
                self._rule(name, place, cut[name], set(shaped[name]))
                for name, place in namespaces.items()
            )
        )

    def forget(self, name: str) -> None:
        """A node's namespace is gone, and its rules with it."""
        self._rules.pop(name, None)
        self._places.pop(name, None)
        if (deed := self._deeds.pop(name, None)) is not None:
            self._journal.undone(deed)

    async def close(self) -> None:
        """Remove all rules, and end the delayer."""
        for name in list(self._deeds):
            with contextlib.suppress(TargetError):
                await self._remove(name)
        process, self._delayer = self._delayer, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _rule(self, name: str, place: Place, cut: set[str], queued: set[str]) -> None:
        if self._places.get(name, place) != place:
            # The node has begun anew, in another namespace.
            self.forget(name)
        if not cut and not queued:
            if name in self._deeds:
                await self._remove(name)
            return
        table = rules(cut, queued)
        if self._rules.get(name) == table:
            return
        if name not in self._deeds:
            argv = ["nsenter", f"--net={place.path}", "iptables", "-t", "mangle", "-F"]
            undo = Command(argv, GONE, place.pid, place.born)
            self._deeds[name] = self._journal.deed(f"links of {name} are disturbed", undo)
        self._places[name] = place
        try:
            await command("nsenter", f"--net={place.path}", *RESTORE, said=table)
        except TargetError as error:
            if not any(words in str(error) for words in GONE):
                raise
            # The node has just gone down, and its namespace with it.
            self.forget(name)
        else:
            self._rules[name] = table

    async def _remove(self, name: str) -> None:
        try:
            path = self._places[name].path
            await command("nsenter", f"--net={path}", *RESTORE, said=rules([], []))
        except TargetError as error:
            if not any(words in str(error) for words in GONE):
                raise
        self.forget(name)

    async def _order(self, links: dict[str, dict[str, Shape]]) -> None:
        """Tell the delayer; a queue that was opened stays open until its namespace is gone."""
        wanted = {path: shapes for path, shapes in links.items() if shapes or path in self._queued}
        if not wanted and self._delayer is None:
            return
        process = self._delayer
        if process is None or process.returncode is not None:
            process = self._delayer = await asyncio.create_subprocess_exec(
                *_delayer(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                process_group=0,
            )
        self._queued = set(wanted)
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise TargetError("the delayer has no pipes")
        process.stdin.write(msgspec.json.encode(Orders(wanted)) + b"\n")
        try:
            line = await asyncio.wait_for(process.stdout.readline(), READY_TIMEOUT_S)
        except TimeoutError:
            raise TargetError("the delayer does not answer") from None
        if line != b"ready\n":
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            raise TargetError(said[-1] if said else "the delayer ended")
