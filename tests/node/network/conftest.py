from collections.abc import AsyncIterator

import pytest

from tests.node.network.homes import Street


@pytest.fixture(params=["memory", "libp2p"])
async def street(request: pytest.FixtureRequest) -> AsyncIterator[Street]:
    """Homes of both kinds, one after the other: what holds for one must hold for its twin."""
    made = Street(request.param)
    yield made
    await made.stop()


@pytest.fixture
async def real() -> AsyncIterator[Street]:
    """Homes on libp2p."""
    made = Street("libp2p")
    yield made
    await made.stop()


@pytest.fixture
async def twins() -> AsyncIterator[Street]:
    """Homes in memory."""
    made = Street("memory")
    yield made
    await made.stop()
