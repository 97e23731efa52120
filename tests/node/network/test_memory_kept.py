"""A neighbour that comes and goes leaves nothing behind."""

import gc
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import ref

import pytest

from node.network._bridge import Outbox
from node.network._patches import (
    BoundedRpcQueue,
    LeanNetStream,
    LeanTCPStream,
    LeanYamuxStream,
)
from node.network._peers import PeerState
from node.network._swarm import GuardedYamux
from tests.node.network.homes import Home, Street, connect, until

VISITS = 4
# What there is one of, or some, for each connection.
KINDS: tuple[type, ...] = (
    BoundedRpcQueue,
    GuardedYamux,
    LeanNetStream,
    LeanTCPStream,
    LeanYamuxStream,
    Outbox,
    PeerState,
)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """Counts what is alive of each kind, of all that were made since."""
    made: list[ref[Any]] = []

    def watched(make: Callable[..., None]) -> Callable[..., None]:
        def init(self: Any, *args: Any, **options: Any) -> None:
            # In any thread: a list may be read meanwhile.
            made.append(ref(self))
            make(self, *args, **options)

        return init

    for kind in KINDS:
        monkeypatch.setattr(kind, "__init__", watched(kind.__init__))  # type: ignore[misc]

    def count() -> Counter[str]:
        gc.collect()
        assert made
        there = [one for each in list(made) if (one := each()) is not None]
        return Counter(type(one).__name__ for one in there)

    return count


async def visit(street: Street, home: Home) -> None:
    visitor = await street.start(1)
    await connect(visitor, home)
    assert await visitor.network.request(home.peer_id, "double", b"x") == b"xx"
    assert await home.network.request(visitor.peer_id, "double", b"x") == b"xx"
    await visitor.network.stop()
    street.homes.remove(visitor)
    await until(lambda: not home.network.peers())


@pytest.mark.slow
async def test_a_neighbour_that_comes_and_goes_leaves_nothing(
    alive: Callable[[], Counter[str]], real: Street
) -> None:
    home = await real.start(0)
    for _ in range(VISITS):
        await visit(real, home)
    # The last visit's may be held for a moment by tasks that end.
    await until(lambda: all(count < VISITS for count in alive().values()))
