"""A relay in front of each home of a street, so that a home's wire can be cut without privileges.

Homes tell each other the relay's address only. A relay finds out which home is at the other end of
a connection by the process that owns its socket, so that a cut takes the connections that a home
has made, too.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from node.config import SyncSection, load_config, settings_text
from node.setup import CONFIG_NAME
from testnet.street import Street, free_ports

CHUNK_BYTES = 65_536
HOST = "127.0.0.1"


class _Link(NamedTuple):
    ends: frozenset[str]
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Relays:
    """The wires of a street. `pids` says which process each home is at the moment."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._servers: list[asyncio.Server] = []
        self._links: set[_Link] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._cut: set[str] = set()
        # Set while bytes flow to and from a home.
        self._flowing: dict[str, asyncio.Event] = {}

    async def open(self, street: Street, names: list[str], sync: SyncSection) -> None:
        """Put a relay before each of these homes; their settings then name relays only.

        `sync` becomes their way of catching up.
        """
        configs = {name: load_config(street.home(name) / CONFIG_NAME, {}) for name in names}
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        relayed = {
            configs[name].network.listen: f"/ip4/{HOST}/tcp/{port}" for name, port in ports.items()
        }
        for name, config in configs.items():
            network = msgspec.structs.replace(
                config.network,
                announce=(relayed[config.network.listen],),
                bootstrap=tuple(_through(address, relayed) for address in config.network.bootstrap),
            )
            text = settings_text(msgspec.structs.replace(config, network=network, sync=sync))
            (street.home(name) / CONFIG_NAME).write_text(text)
            self._flowing[name] = asyncio.Event()
            self._flowing[name].set()
            listen = int(config.network.listen.rpartition("/")[2])
            self._servers.append(await self._serve(name, ports[name], listen))

    async def close(self) -> None:
        """Let go of all connections."""
        for server in self._servers:
            server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    # -- what can happen to a wire

    def cut(self, name: str) -> None:
        """Reset all connections of a home and refuse new ones, whoever makes them."""
        self._cut.add(name)
        for link in self._links:
            if name in link.ends:
                for writer in link.writers:
                    _reset(writer)

    def silence(self, name: str) -> None:
        """Carry nothing to or from a home; its connections stay, as over a broken radio link."""
        self._flowing[name].clear()

    def heal(self, name: str) -> None:
        """End a cut or a silence; what waited in the wire goes on."""
        self._cut.discard(name)
        self._flowing[name].set()

    # -- carrying

    async def _serve(self, name: str, port: int, listen: int) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._serving.add(task)
            try:
                await self._carry(name, listen, reader, writer)
            except OSError:
                pass
            except asyncio.CancelledError:
                # The run is over; the server's own callback would log it.
                pass
            finally:
                self._serving.discard(task)
                _reset(writer)

        return await asyncio.start_server(accept, HOST, port)

    async def _carry(
        self, name: str, listen: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        dialler = _owner(writer.get_extra_info("peername")[1], self._pids())
        if dialler is None or self._cut & {name, dialler}:
            return
        ends = frozenset((name, dialler))
        far_reader, far_writer = await asyncio.open_connection(HOST, listen)
        link = _Link(ends, (writer, far_writer))
        self._links.add(link)
        try:
            if self._cut & ends:
                return
            pumps = [
                asyncio.create_task(self._pump(ends, reader, far_writer)),
                asyncio.create_task(self._pump(ends, far_reader, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._links.discard(link)
            _reset(far_writer)

    async def _pump(
        self, ends: frozenset[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                while not all(self._flowing[name].is_set() for name in ends):
                    for name in ends:
                        await self._flowing[name].wait()
                writer.write(data)
                await writer.drain()


def _through(address: str, relayed: Mapping[str, str]) -> str:
    head, mark, peer_id = address.partition("/p2p/")
    return relayed[head] + mark + peer_id


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def _owner(port: int, pids: Mapping[str, int]) -> str | None:
    """Return the home whose process has the socket at this local port."""
    inode = _inode(port)
    for name, pid in pids.items() if inode else ():
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(entry.path) == f"socket:[{inode}]":
                        return name
    return None


def _inode(port: int) -> str | None:
    packed = socket.inet_aton(HOST)[::-1].hex().upper()
    local = f"{packed}:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local:
            return fields[9]
    return None
