"""Whom there is room for, so that nobody can surround a node with peers of its own.

Pinned peers take nobody's place. Of the others, some places are kept for peers that this node has
dialled itself: whoever fills the rest from outside cannot keep it from those that it knows. And
when the places for who comes from outside are all taken, a range of addresses that has most of
them makes room for one that has fewer, its youngest first: so many places need many ranges.
"""

import ipaddress
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

# Of all places, one in so many is for peers that this node dials.
DIALLED_PART: Final = 4
IP4_RANGE_BITS: Final = 24
IP6_RANGE_BITS: Final = 48


class Guest(NamedTuple):
    """A peer that is here or wants to be: its id, the host it is seen at, and who dialled."""

    name: str
    host: str
    dialled: bool


class Place(NamedTuple):
    """There is room; `instead_of` must go for it, if it is not None."""

    instead_of: Guest | None = None


def place_for(
    newcomer: Guest, here: Sequence[Guest], pinned: Collection[str], peers_max: int
) -> Place | None:
    """Return whether there is room for one more peer; None if there is none.

    Parameters
    ----------
    newcomer : Guest
    here : sequence of Guest
        All who are connected, in the order in which they came.
    pinned : collection of str
        Peers that always have room.
    peers_max : int
        Places for all that are not pinned.
    """
    if newcomer.name in pinned:
        return Place()
    others = [guest for guest in here if guest.name not in pinned]
    came = [guest for guest in others if not guest.dialled]
    if newcomer.dialled:
        return Place() if len(others) < peers_max else None
    if len(others) < peers_max and len(came) < peers_max - peers_max // DIALLED_PART:
        return Place()
    crowds = Counter(range_of(guest.host) for guest in came)
    if not crowds:
        return None
    largest, most = crowds.most_common(1)[0]
    if crowds[range_of(newcomer.host)] + 1 >= most:
        return None
    return Place(next(guest for guest in reversed(came) if range_of(guest.host) == largest))


def range_of(host: str) -> str:
    """Return the range of addresses that a host's belongs to, as one owner has them."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = IP4_RANGE_BITS if address.version == 4 else IP6_RANGE_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))
