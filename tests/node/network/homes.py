"""Networks with recorders, real or in memory, for the tests of this folder."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from node.network._limits import Limits
from node.network.base import GossipCheck, Network
from node.network.libp2p import Libp2pNetwork
from node.network.memory import Hub, MemoryNetwork
from wire.keys import SigningKey

PSK = bytes(range(32))
TOPIC = "region/1"
OTHER_TOPIC = "main"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
# Bites on failure only: tests must pass on a loaded machine too.
PATIENCE_S = 90.0


def key_of(number: int) -> SigningKey:
    return SigningKey(bytes([number + 1]) * 32)


class Home:
    """A network and what it heard."""

    def __init__(self, network: Network, check: GossipCheck | None = None) -> None:
        self.network = network
        self.gossip: list[tuple[str, bytes]] = []
        self.sends: list[tuple[str, bytes]] = []
        self.events: list[tuple[str, bool]] = []
        network.on_gossip(TOPIC, lambda peer, data: self.gossip.append((peer, data)), check)
        network.on_gossip(OTHER_TOPIC, lambda peer, data: self.gossip.append((peer, data)))
        network.on_send("vote", lambda peer, data: self.sends.append((peer, data)))
        network.on_send("bad", self._raise)
        network.on_request("double", self._double)
        network.on_request("bad", self._raise_later)
        network.on_peer(lambda peer, here: self.events.append((peer, here)))

    @property
    def peer_id(self) -> str:
        return self.network.peer_id

    @property
    def address(self) -> str:
        return self.network.listen_addresses()[0]

    def peer_ids(self) -> set[str]:
        return {peer.peer_id for peer in self.network.peers()}

    def heard(self) -> list[bytes]:
        return [data for _, data in self.gossip]

    def count(self, name: str) -> int:
        return self.network.counters()[name]

    def _raise(self, peer_id: str, data: bytes) -> None:
        raise RuntimeError("the application has a bug")

    async def _raise_later(self, peer_id: str, data: bytes) -> bytes:
        raise RuntimeError("the application has a bug")

    async def _double(self, peer_id: str, data: bytes) -> bytes:
        return data * 2


class Street:
    """Makes homes of one kind and stops them all at the end."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.hub = Hub()
        self.homes: list[Home] = []

    def make(
        self,
        number: int,
        check: GossipCheck | None = None,
        limits: Limits | None = None,
        allowed: Callable[[str], bool] | None = None,
        listen: str = LOOPBACK,
        psk: bytes = PSK,
        book: Path | None = None,
    ) -> Home:
        key = key_of(number)
        network: Network
        if self.kind == "memory":
            network = MemoryNetwork(key.peer_id, self.hub, limits, allowed)
        else:
            network = Libp2pNetwork(key, listen, psk, book, allowed, limits)
        home = Home(network, check)
        self.homes.append(home)
        return home

    async def start(self, number: int, **options: Any) -> Home:
        home = self.make(number, **options)
        await home.network.start()
        return home

    async def pair(self, **options: Any) -> tuple[Home, Home]:
        """Two connected homes; the options are the first one's."""
        first = await self.start(0, **options)
        second = await self.start(1)
        await connect(second, first)
        return first, second

    async def stop(self) -> None:
        await asyncio.gather(*(home.network.stop() for home in self.homes))


async def connect(dialler: Home, other: Home) -> None:
    dialler.network.want(other.address)
    await until(lambda: other.peer_id in dialler.peer_ids() and dialler.peer_id in other.peer_ids())


async def until(true: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    deadline_s = asyncio.get_running_loop().time() + timeout_s
    while not true():
        if asyncio.get_running_loop().time() > deadline_s:
            raise AssertionError("it did not come about in time")
        await asyncio.sleep(0.01)


async def say_until_heard(speaker: Home, text: bytes, hearers: list[Home]) -> None:
    """Gossip again and again, each time anew, until all have heard it.

    What is said while connections come and go may be lost with them.
    """
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    number = 0
    while not all(any(data.startswith(text) for data in home.heard()) for home in hearers):
        if asyncio.get_running_loop().time() > end_s:
            raise AssertionError(f"{text!r} did not reach everybody in time")
        await speaker.network.publish(TOPIC, text + b" %d" % number)
        number += 1
        await asyncio.sleep(0.2)


async def until_on_side(home: Home, work: Callable[[Any], Awaitable[Any]], wanted: object) -> None:
    """Wait until `work(side)` in a real home's trio thread returns what is wanted."""
    end_s = asyncio.get_running_loop().time() + PATIENCE_S
    while (found := await on_side(home, work)) != wanted:
        if asyncio.get_running_loop().time() > end_s:
            raise AssertionError(f"it did not become {wanted} in time, it is {found}")
        await asyncio.sleep(0.02)


async def on_side(home: Home, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run `work(side)` in a real home's trio thread, to misbehave or to look inside."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    async def run(side: Any) -> None:
        try:
            result, error = await work(side), None
        except Exception as raised:
            result, error = None, raised
        loop.call_soon_threadsafe(settle, result, error)

    def settle(result: Any, error: Exception | None) -> None:
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    network: Any = home.network
    assert network._orders.put(lambda side: side._manager.run_task(run, side))
    return await asyncio.wait_for(done, PATIENCE_S)
