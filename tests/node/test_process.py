"""What a node drops in cycles is collected, however little of it there is."""

import asyncio
import gc
import weakref

import pytest

from node import process
from tests.node.network.homes import until


class Thing:
    """Something that holds itself."""

    def __init__(self) -> None:
        self.me = self


async def test_cycles_are_collected_regularly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "COLLECT_ALL_S", 0.001)
    gc.disable()
    collecting = asyncio.create_task(process.collect_regularly())
    try:
        dropped = weakref.ref(Thing())
        await until(lambda: dropped() is None)
    finally:
        gc.enable()
        collecting.cancel()
