"""Each block is executed once, however many ask for its result."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from consensus.errors import BlockRefused
from node.chain.replica import Head, Replica

BLOCK_HASH = b"\x01" * 32
WAIT_S = 60.0


class Maker:
    """Executes when it is let to."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.executed = 0
        self.go_on = threading.Event()

    def execute(self, block: Any, parent: Any, known: Any) -> str:
        self.executed += 1
        if not self.go_on.wait(WAIT_S):
            raise TimeoutError("nobody let it go on")
        if self.refuses:
            raise BlockRefused("roots", "it is another's")
        return f"the result of {block.header.height}"


class App:
    def __init__(self) -> None:
        self.height = 4
        self.asked = 0

    def next_deadline_ms(self, after_ms: int) -> int:
        self.asked += 1
        return after_ms + self.height


def replica_at_4(maker: Maker, app: App | None = None) -> Replica:
    parts = (cast(Any, None), cast(Any, app or App()), cast(Any, None), cast(Any, maker))
    replica = Replica("chain", *parts)
    replica._head = Head(cast(Any, SimpleNamespace(height=4)), b"\x04" * 32, None, b"")
    return replica


BLOCK = cast(Any, SimpleNamespace(header=SimpleNamespace(height=5), txs=()))


async def asked(replica: Replica, maker: Maker, times: int) -> list[asyncio.Task[bool]]:
    """Ask for the check of one block, several times while it is under way."""
    jobs = [asyncio.create_task(replica.check(BLOCK, BLOCK_HASH)) for _ in range(times)]
    async with asyncio.timeout(WAIT_S):
        # The worker's thread sets no event of ours.
        while not maker.executed:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return jobs


async def test_who_asks_while_a_block_is_executed_waits_for_that() -> None:
    maker = Maker()
    replica = replica_at_4(maker)
    jobs = await asked(replica, maker, 3)
    maker.go_on.set()
    assert await asyncio.gather(*jobs) == [True] * 3
    assert await replica.check(BLOCK, BLOCK_HASH)
    assert maker.executed == 1
    replica.close()


async def test_a_refusal_reaches_everybody_and_is_not_remembered() -> None:
    maker = Maker(refuses=True)
    replica = replica_at_4(maker)
    jobs = await asked(replica, maker, 2)
    maker.go_on.set()
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        assert isinstance(outcome, BlockRefused)
    with pytest.raises(BlockRefused):
        await replica.check(BLOCK, BLOCK_HASH)
    assert maker.executed == 2
    replica.close()


async def test_one_who_is_stopped_stops_nobody_else() -> None:
    maker = Maker()
    replica = replica_at_4(maker)
    first, second = await asked(replica, maker, 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    maker.go_on.set()
    assert await second
    replica.close()


async def test_a_deadline_is_worked_out_once_for_each_state() -> None:
    app = App()
    replica = replica_at_4(Maker(), app)
    assert [replica.next_deadline_ms(100) for _ in range(5)] == [104] * 5
    assert app.asked == 1
    app.height = 5
    assert replica.next_deadline_ms(100) == 105
    assert replica.next_deadline_ms(200) == 205
    assert app.asked == 3
    replica.close()
