"""Multiaddresses of peers: what is accepted as one, from whomever it comes."""

import ipaddress
from collections.abc import Iterable
from typing import Final

from multiaddr import Multiaddr

from node.network._face import peer_id_in
from node.network.base import NetworkError

ADDRESS_CHARS_MAX: Final = 256
ADDRESSES_PER_PEER_MAX: Final = 4
_HOST_PROTOCOLS: Final = ("ip4", "ip6", "dns", "dns4", "dns6")


def check_listen(address: str) -> tuple[str, str, int]:
    """Return protocol, host and port of an address to listen on, `/ip4/HOST/tcp/PORT`.

    Raises
    ------
    NetworkError
        It is not of that form.
    """
    parts = address.split("/")
    if len(parts) == 5 and parts[0] == "" and parts[1] in ("ip4", "ip6") and parts[3] == "tcp":
        try:
            host = ipaddress.ip_address(parts[2])
            port = int(parts[4])
        except ValueError:
            host, port = None, -1
        if host is not None and 0 <= port <= 65_535 and (host.version == 4) == (parts[1] == "ip4"):
            return parts[1], parts[2], port
    raise NetworkError(f"{address!r} is no address to listen on: expected /ip4/127.0.0.1/tcp/4001")


def check_peer(address: str) -> str:
    """Return the peer id of a peer's address, `/ip4|ip6|dns4/HOST/tcp/PORT/p2p/PEER_ID`.

    Raises
    ------
    NetworkError
        It is not of that form.
    """
    peer_id = peer_id_in(address)
    parts = address.split("/")
    try:
        if len(address) > ADDRESS_CHARS_MAX or len(parts) != 7 or parts[3] != "tcp":
            raise ValueError
        if parts[1] not in _HOST_PROTOCOLS or not 0 < int(parts[4]) <= 65_535:
            raise ValueError
        Multiaddr(address)
    # multiaddr raises errors of many kinds, and what it parses may come from anyone.
    except Exception:
        raise NetworkError(
            f"{address[:ADDRESS_CHARS_MAX]!r} is no address of a peer: expected "
            "/ip4/HOST/tcp/PORT/p2p/PEER_ID"
        ) from None
    return peer_id


def told_by(peer_id: str, addresses: Iterable[str], seen_host: str) -> list[str]:
    """Return what of a peer's own listen addresses can be dialled, seen from here.

    `0.0.0.0` becomes the host the peer was seen at; a loopback address of a peer on another
    machine is dropped.
    """
    good: list[str] = []
    for address in addresses:
        try:
            if check_peer(address) != peer_id:
                continue
        except NetworkError:
            continue
        parts = address.split("/")
        if is_unspecified(parts[2]):
            if not seen_host:
                continue
            parts[1] = "ip6" if ":" in seen_host else "ip4"
            parts[2] = seen_host
        elif is_loopback(parts[2]) and seen_host and not is_loopback(seen_host):
            continue
        good.append("/".join(parts))
    return good[:ADDRESSES_PER_PEER_MAX]


def is_loopback(host: str) -> bool:
    """Tell whether `host` is an address of the machine itself."""
    return _is(host, "is_loopback")


def is_unspecified(host: str) -> bool:
    """Tell whether `host` means all interfaces (`0.0.0.0`)."""
    return _is(host, "is_unspecified")


def _is(host: str, what: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), what))
    except ValueError:
        return False
