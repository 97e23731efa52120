"""What `commonwatt doctor` finds out about the network: ports, peers, and the clock against theirs.

The clock needs no time server: a block's time is what a quorum of authorities took for the present
(consensus spec, R16), so a clock before the newest block's time is wrong, and one far after it is
wrong or the chain stands still.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from consensus.messages import BLOCK_BYTES_MAX, Block
from consensus.sync_messages import Blocks, GetBlocks, GetStatus, Status, decode_answer
from node.chain.sync import PROTOCOL
from node.genesis import Genesis, community_key
from node.network.base import Network, NetworkError
from node.network.libp2p import Libp2pNetwork
from wire.codec import decode, encode
from wire.errors import WireError
from wire.keys import SigningKey

# Peers that are asked; more say no more.
ASKED_MAX: Final = 8
MEET_TIMEOUT_S: Final = 12.0
REQUEST_TIMEOUT_S: Final = 6.0
SOCKETS_MAX: Final = 65_536
PROCESSES_MAX: Final = 32_768
_LISTENING: Final = "0A"
# `TIME_ERROR` of adjtimex(2): nothing keeps the kernel's clock right.
_UNKEPT: Final = 5
_TIMEX_BYTES: Final = 512


class PortUse(NamedTuple):
    """Whether a port can be listened on; `problem` says why not, `pid` who has it."""

    problem: str = ""
    taken: bool = False
    pid: int | None = None
    process: str = ""


class Met(NamedTuple):
    """A peer that answered: its newest block's height, and that block's time. [ms, UTC]"""

    address: str
    height: int
    time_ms: int | None


def look_at_port(host: str, port: int, proc: Path = Path("/proc")) -> PortUse:
    """Find out whether TCP `host`:`port` could be listened on now, by listening for an instant."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
            tried.listen(1)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return PortUse(os.strerror(error.errno or 0))
        pid, process = _holder(port, proc)
        return PortUse("it is taken", True, pid, process)
    return PortUse()


def is_clock_kept() -> bool | None:
    """Tell whether something keeps the kernel's clock right; None where the kernel does not say."""
    try:
        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if answer < 0 else answer != _UNKEPT


async def meet(
    genesis: Genesis,
    addresses: Sequence[str],
    network: Network | None = None,
    timeout_s: float = MEET_TIMEOUT_S,
) -> list[Met]:
    """Visit peers as a stranger of a chain's community, and ask each for its newest block.

    Parameters
    ----------
    addresses : sequence of str
        Multiaddresses with `/p2p/`; at most `ASKED_MAX` are visited. One that is no such address
        is left out.
    network : Network, optional
        A fresh one instead of libp2p's, for tests.
    timeout_s : float
        How long to wait for them to be reached.

    Raises
    ------
    NetworkError
        The network does not start.
    """
    if network is None:
        network = Libp2pNetwork(SigningKey.generate(), None, community_key(genesis.hash))
    wanted: dict[str, str] = {}
    for address in addresses[:ASKED_MAX]:
        with contextlib.suppress(NetworkError):
            network.want(address)
            wanted[address.rpartition("/p2p/")[2]] = address
    came: asyncio.Queue[str] = asyncio.Queue()
    network.on_peer(lambda peer, here: came.put_nowait(peer) if here else None)
    asking: dict[str, asyncio.Task[Met | None]] = {}
    await network.start()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while wanted.keys() - asking.keys():
                    peer = await came.get()
                    if peer in wanted and peer not in asking:
                        asking[peer] = asyncio.create_task(_ask(network, peer, wanted[peer]))
        answers = await asyncio.gather(*asking.values())
    finally:
        await network.stop()
    return [answer for answer in answers if answer is not None]


async def _ask(network: Network, peer_id: str, address: str) -> Met | None:
    """Ask a connected peer for its newest block; None if it gives no answer that can be."""

    async def answer(question: GetStatus | GetBlocks) -> object:
        data = await network.request(peer_id, PROTOCOL, encode(question), REQUEST_TIMEOUT_S)
        return decode_answer(data)

    try:
        status = await answer(GetStatus())
        if not isinstance(status, Status):
            return None
        found = await answer(GetBlocks(status.height, 1)) if status.height else None
        # The genesis' block has no certificate, and says nothing of the time.
        if not isinstance(found, Blocks) or not found.blocks:
            return Met(address, status.height, None)
        block = decode(found.blocks[0], Block, BLOCK_BYTES_MAX)
        return Met(address, status.height, block.header.time_ms)
    except (NetworkError, WireError):
        return None


def _holder(port: int, proc: Path) -> tuple[int | None, str]:
    """Return the process that listens on a port, as far as the kernel shows it to this user."""
    inodes = {f"socket:[{inode}]" for inode in _listening(port, proc)}
    if not inodes:
        return None, ""
    for entry in _bounded(proc, PROCESSES_MAX):
        if not entry.name.isdecimal():
            continue
        for handle in _bounded(entry / "fd", SOCKETS_MAX):
            with contextlib.suppress(OSError):
                if os.readlink(handle) in inodes:
                    return int(entry.name), (entry / "comm").read_text().strip()
    return None, ""


def _listening(port: int, proc: Path) -> set[str]:
    found = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), (proc / "net" / name).open() as table:
            for _, line in zip(range(SOCKETS_MAX), table, strict=False):
                columns = line.split()
                if len(columns) < 10 or columns[3] != _LISTENING:
                    continue
                if columns[1].endswith(f":{port:04X}"):
                    found.add(columns[9])
    return found


def _bounded(directory: Path, count_max: int) -> list[Path]:
    """Return what is in a directory, if one may look."""
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for _, entry in zip(range(count_max), entries, strict=False)]
    except OSError:
        return []
