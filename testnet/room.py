"""`python -m testnet.room SERVICE BESIDE FILE`: this replica's room, and its place in `FILE`.

How many replicas a service was scaled to, no file says: the engine's name server knows. Beside
`BESIDE` other nodes, as many replicas of `SERVICE` run as there is memory for, those of the lowest
addresses; the others say why not, before they are made. For one that has room the line of `FILE`
is printed that is its turn: joining addresses of all regions, so that newcomers spread over them.
It loads nothing but what that needs.
"""

import ipaddress
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from node.host import machine_mib

# What a node's container takes beside the pages that all of them share, once it trades.
NODE_MIB: Final = 100
EXIT_NO_ROOM: Final = 2
FILE_CHARS_MAX: Final = 65_536


def no_room(own: str, addresses: Sequence[str], beside: int, have_mib: int | None) -> str:
    """Return why the replica at an address cannot run, in a sentence; empty if it can.

    Parameters
    ----------
    own, addresses : this replica's IP address, and those of all replicas
    beside : how many other nodes there are
    have_mib : the machine's memory, or None where nobody knows [MiB]
    """
    if have_mib is None:
        return ""
    room = max(have_mib // NODE_MIB - beside, 0)
    if place_of(own, addresses) < room:
        return ""
    return (
        f"this machine has {have_mib} MiB of memory, and each node takes about {NODE_MIB}: beside "
        f"{beside} others there is room for {room} replicas, and there are "
        f"{len({own, *addresses})}; scale to {room} at most"
    )


def place_of(own: str, addresses: Sequence[str]) -> int:
    """Return the place of a replica among all, from 0, in the order of their addresses."""
    ordered = sorted({own, *addresses}, key=lambda one: int(ipaddress.ip_address(one)))
    return ordered.index(own)


def addresses_of(name: str) -> list[str]:
    """Return the IPv4 addresses of a name; none where it is not known."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(row[4][0]) for row in found]


def main() -> None:
    """Print this replica's line, or say on stderr, and by the exit code, why it cannot run."""
    if len(sys.argv) != 4 or not sys.argv[2].isdecimal():
        sys.exit("usage: python -m testnet.room SERVICE BESIDE FILE")
    service, beside, file = sys.argv[1:]
    own = addresses_of(socket.gethostname())
    replicas = addresses_of(service)
    # Without a network of the engine's there is nobody to count.
    problem = no_room(own[0], replicas, int(beside), machine_mib()) if own else ""
    if problem:
        _refuse(problem)
    try:
        with Path(file).open(encoding="utf-8") as text:
            lines = text.read(FILE_CHARS_MAX).split()
    except (OSError, ValueError) as error:
        _refuse(f"{file}: no joining addresses can be read ({error})")
    if not lines:
        _refuse(f"{file}: no joining address is in it")
    print(lines[(place_of(own[0], replicas) if own else 0) % len(lines)])  # noqa: T201 - the answer


def _refuse(problem: str) -> NoReturn:
    print(f"commonwatt: {problem}", file=sys.stderr)  # noqa: T201 - for a person
    sys.exit(EXIT_NO_ROOM)


if __name__ == "__main__":
    main()
