"""A neighbour that comes and goes leaves nothing behind."""

import gc
from collections import Counter

import pytest

from tests.node.network.homes import Home, Street, connect, until

VISITS = 4


def networks_objects() -> Counter[str]:
    """Count what is alive of the network's and its library's objects, by type."""
    gc.collect()
    names = (repr(type(one)) for one in gc.get_objects())
    return Counter(name for name in names if "libp2p." in name or "node.network." in name)


async def visit(street: Street, home: Home) -> None:
    visitor = await street.start(1)
    await connect(visitor, home)
    assert await visitor.network.request(home.peer_id, "double", b"x") == b"xx"
    assert await home.network.request(visitor.peer_id, "double", b"x") == b"xx"
    await visitor.network.stop()
    street.homes.remove(visitor)
    await until(lambda: not home.network.peers())


@pytest.mark.slow
async def test_a_neighbour_that_comes_and_goes_leaves_nothing(real: Street) -> None:
    home = await real.start(0)
    await visit(real, home)
    # What is made once, at the first visit, is there now; its tasks may end a moment later.
    before = networks_objects()

    def more() -> Counter[str]:
        return networks_objects() - before

    for _ in range(VISITS):
        await visit(real, home)
    await until(lambda: sum(more().values()) < VISITS)
