"""Addresses at work: names, IPv6, all interfaces, and what peers tell each other of them."""

import socket

import pytest

from node.network.base import NetworkError
from node.network.libp2p import Libp2pNetwork
from tests.node.network.homes import PSK, Home, Street, connect, key_of, on_side, until


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def port_of(home: Home) -> str:
    return home.address.split("/")[4]


async def test_a_name_of_the_hosts_file_can_be_dialled(real: Street) -> None:
    first, second = await real.start(0), await real.start(1)
    second.network.want(f"/dns4/localhost/tcp/{port_of(first)}/p2p/{first.peer_id}")
    await until(lambda: first.network.peers() and second.network.peers())


async def test_an_unknown_name_is_a_failed_dial(real: Street) -> None:
    home = await real.start(0)
    home.network.want(f"/dns4/no-such-home.invalid/tcp/4001/p2p/{key_of(1).peer_id}")
    await until(lambda: home.count("dials_failed") >= 1)
    assert home.count("restarts") == 0


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
async def test_ipv6(real: Street) -> None:
    first = await real.start(0, listen="/ip6/::1/tcp/0")
    second = await real.start(1, listen="/ip6/::1/tcp/0")
    await connect(second, first)
    assert first.network.peers()[0].address.startswith("/ip6/::1/tcp/")


async def test_a_home_on_all_interfaces_is_told_of_by_where_it_is_seen(real: Street) -> None:
    hub = await real.start(0)
    everywhere = await real.start(1, listen="/ip4/0.0.0.0/tcp/0")
    await connect(everywhere, hub)
    late = await real.start(2)
    await connect(late, hub)
    await until(lambda: everywhere.peer_id in late.peer_ids())


async def test_announced_addresses_are_told_in_place_of_others(real: Street) -> None:
    key = key_of(5)
    announce = ["/dns4/localhost/tcp/4001"]
    network = Libp2pNetwork(key, "/ip4/0.0.0.0/tcp/0", PSK, announce=announce)
    home = Home(network)
    real.homes.append(home)
    await network.start()
    assert home.address == f"/dns4/localhost/tcp/4001/p2p/{key.peer_id}"

    async def told(side: object) -> list[str]:
        return list(side._exchange._told().own)  # type: ignore[attr-defined]

    assert await on_side(home, told) == [home.address]
    with pytest.raises(NetworkError, match="no address of a peer"):
        Libp2pNetwork(key, "/ip4/0.0.0.0/tcp/0", PSK, announce=["localhost:4001"])


async def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(NetworkError, match="32 bytes, not 5"):
        Libp2pNetwork(key_of(0), "/ip4/127.0.0.1/tcp/0", b"short")
