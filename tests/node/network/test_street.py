"""A whole street on libp2p in one process."""

import pytest

from tests.node.network.homes import TOPIC, Street, say_until_heard, until

HOMES = 20


@pytest.mark.slow
async def test_a_street_meets_by_one_address_and_is_no_full_mesh(real: Street) -> None:
    homes = [await real.start(number) for number in range(HOMES)]
    for home in homes[1:]:
        home.network.want(homes[0].address)
    await until(lambda: all(len(home.network.peers()) >= 5 for home in homes), timeout_s=240)
    for number, home in enumerate(homes):
        await home.network.publish(TOPIC, b"%d" % number)
    await until(lambda: all(len(home.gossip) == HOMES - 1 for home in homes), timeout_s=240)
    links = [len(home.network.peers()) for home in homes[1:]]
    assert sum(links) / len(links) < HOMES * 0.75
    assert all(home.count("offences") == home.count("restarts") == 0 for home in homes)
    # The one everybody knew goes; the others stay connected among themselves.
    await homes[0].network.stop()
    await say_until_heard(homes[1], b"without the first", homes[2:])
