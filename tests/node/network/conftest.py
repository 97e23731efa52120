from collections.abc import AsyncIterator

import pytest

from node.network import _peers, _swarm
from tests.node.network.homes import PATIENCE_S, Street


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time over a handshake: nothing here is about how fast it is."""
    monkeypatch.setattr(_peers, "GREETING_S", PATIENCE_S)
    monkeypatch.setattr(_swarm, "UPGRADE_TIMEOUT_S", PATIENCE_S)
    monkeypatch.setattr(_swarm, "NEGOTIATE_TIMEOUT_S", PATIENCE_S)


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
