"""So many proofs are made at once, whoever asks."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from node.network.memory import Hub, MemoryNetwork
from node.proofs import anchoring, receipts
from node.proofs.anchoring import Anchors, NoAnchor
from node.proofs.receipts import NoReceipt, Receipts
from tests.node.grid import key_of


class Slow:
    """A store, or a shelf, that has nothing, and takes its time to find out once."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self._waits = True

    async def height_of(self, tx_id: bytes) -> None:
        await self.get(0)

    async def get(self, number: int) -> None:
        if self._waits:
            self._waits = False
            await self.ready.wait()


def serving_receipts(slow: Any, network: MemoryNetwork) -> Callable[[], Awaitable[object]]:
    nobody: Any = None
    served = Receipts(slow, nobody, network)
    return lambda: served.proof(bytes(32))


def serving_anchors(slow: Any, network: MemoryNetwork) -> Callable[[], Awaitable[object]]:
    nobody: Any = None
    served = Anchors(1, slow, network, nobody, nobody, nobody)
    return lambda: served.proof(1)


@pytest.mark.parametrize(
    ("module", "serving", "none"),
    [(receipts, serving_receipts, NoReceipt), (anchoring, serving_anchors, NoAnchor)],
    ids=["receipts", "anchors"],
)
async def test_more_proofs_at_once_than_allowed_are_refused(
    module: Any,
    serving: Callable[[Any, MemoryNetwork], Callable[[], Awaitable[object]]],
    none: Callable[[str], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PROVING_MAX", 1)
    slow = Slow()
    ask = serving(slow, MemoryNetwork(key_of(0).peer_id, Hub()))
    first = asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    assert await ask() == none("busy")
    slow.ready.set()
    assert await first == none("unknown")
    assert await ask() == none("unknown")
