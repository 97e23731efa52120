"""`python -m testnet.room SERVICE BESIDE`: whether this machine has the memory for this replica.

How many replicas a service was scaled to, no file says: the engine's name server knows. Beside
`BESIDE` other nodes, as many replicas of `SERVICE` run as there is memory for, those of the lowest
addresses; the others say why not, before they are made. It loads nothing but what that needs.
"""

import ipaddress
import socket
import sys
from collections.abc import Sequence
from typing import Final

from node.host import memory_mib

# What a node's container takes beside the pages that all of them share, once it trades.
NODE_MIB: Final = 100
EXIT_NO_ROOM: Final = 2


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
    ordered = sorted({own, *addresses}, key=lambda one: int(ipaddress.ip_address(one)))
    room = max(have_mib // NODE_MIB - beside, 0)
    if ordered.index(own) < room:
        return ""
    return (
        f"this machine has {have_mib} MiB of memory, and each node takes about {NODE_MIB}: beside "
        f"{beside} others there is room for {room} replicas, and there are {len(ordered)}; scale "
        f"to {room} at most"
    )


def addresses_of(name: str) -> list[str]:
    """Return the IPv4 addresses of a name; none where it is not known."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(row[4][0]) for row in found]


def main() -> None:
    """Say by the exit code whether there is room, and on stderr why not."""
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        sys.exit("usage: python -m testnet.room SERVICE BESIDE, a service's name and a number")
    own = addresses_of(socket.gethostname())
    if not own:
        # Without a network of the engine's there is nobody to count.
        return
    problem = no_room(own[0], addresses_of(sys.argv[1]), int(sys.argv[2]), memory_mib())
    if problem:
        print(f"commonwatt: {problem}", file=sys.stderr)  # noqa: T201 - for a person
        sys.exit(EXIT_NO_ROOM)


if __name__ == "__main__":
    main()
