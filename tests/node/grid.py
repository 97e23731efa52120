"""A small street of real nodes in one process, on the network's twin, for the tests of node/."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from consensus.messages import ConsensusMessage, Vote, decode_message
from consensus.params import Params
from hems.config import CommunityHome, HomeConfig
from hems.devices import Battery
from market import client
from market.genesis import HomeEntry, MarketParams
from node.api.control import ask
from node.chain.inbox import PROTOCOL
from node.config import Config, NetworkSection, NodeSection, SyncSection, settings_text
from node.daemon import Node, now_ms
from node.genesis import GENESIS_VERSION, ChainParams, Genesis
from node.network.memory import Hub, MemoryNetwork
from node.pool import courier
from node.setup import DATA_NAME, create_home
from wire.codec import encode
from wire.errors import DecodeError
from wire.keys import SigningKey
from wire.transaction import CheckedTransaction

Alter = Callable[[ConsensusMessage], ConsensusMessage]

MARKET_START_MS = 1_762_128_000_000  # a slot's start, 2025-11-03 00:00 UTC
BALANCE_MICRO = 100_000_000
QUICK = Params(
    propose_ms=400,
    propose_growth_ms=200,
    vote_ms=200,
    vote_growth_ms=100,
    timeout_max_ms=2_000,
    summary_ms=150,
)
# Bites on failure only: tests must pass on a loaded machine too.
PATIENCE_S = 90.0


def key_of(number: int) -> SigningKey:
    """Return home `number`'s key (from 0 on)."""
    return SigningKey(bytes([number + 1]) * 32)


REGULATOR = SigningKey(bytes([200]) * 32)


def home_config(number: int) -> HomeConfig:
    """Return a home of the built-in community; each second one has PV and a battery."""
    sunny = number % 2 == 0
    return HomeConfig(
        source=CommunityHome(home=number, pv_peak_w=5_000 if sunny else 0),
        battery=Battery() if sunny else None,
    )


def make_genesis(
    homes: int = 5,
    authorities: int = 4,
    *,
    chain: ChainParams | None = None,
    **market: Any,
) -> Genesis:
    """Return a street's genesis; keyword arguments replace fields of its market."""
    params = MarketParams(
        chain_id="grid",
        genesis_ms=now_ms(),
        market_start_ms=MARKET_START_MS,
        time_lapse=60,
        slot_minutes=15,
        currency="AUD",
        utc_offsets=((0, 660),),
        tariffs=((0, ((0, 277_100), (14 * 60, 541_100))),),
        feed_in=((0, 100_000),),
        regulator=REGULATOR.address,
        homes=tuple(home_entry(number) for number in range(homes)),
    )
    params = msgspec.structs.replace(params, **market)
    publics = tuple(key_of(number).public for number in range(authorities))
    chain = chain or ChainParams(block_interval_ms=100, heartbeat_ms=1_000, consensus=QUICK)
    return Genesis(GENESIS_VERSION, publics, chain, params)


def home_entry(number: int) -> HomeEntry:
    """Return what genesis says of a home."""
    key = key_of(number)
    return HomeEntry(
        address=key.address,
        meter=key.derive("meter").address,
        name=f"home-{number}",
        role="prosumer",
        import_cap_w=15_000,
        export_cap_w=10_000,
        battery_wh=5_000,
        pv_w=5_000,
        balance_micro=BALANCE_MICRO,
    )


class SpyNetwork(MemoryNetwork):
    """A network that notes what it says, and may alter the consensus messages in it."""

    def __init__(self, peer_id: str, hub: Hub, spoken: list[ConsensusMessage]) -> None:
        super().__init__(peer_id, hub)
        self.spoken = spoken
        self.published: list[tuple[str, bytes]] = []
        self.handed: list[bytes] = []
        self.penalties: list[tuple[str, str]] = []
        self.alter: Alter | None = None

    def send(self, peer_id: str, protocol: str, data: bytes) -> bool:
        if protocol == PROTOCOL:
            with contextlib.suppress(DecodeError):
                message = decode_message(data)
                if self.alter is not None:
                    message = self.alter(message)
                    data = encode(message)
                self.spoken.append(message)
        if protocol == courier.PROTOCOL:
            self.handed.append(data)
        return super().send(peer_id, protocol, data)

    async def publish(self, topic: str, data: bytes) -> None:
        self.published.append((topic, data))
        await super().publish(topic, data)

    def penalize(self, peer_id: str, reason: str, count: int = 1) -> None:
        self.penalties.append((peer_id, reason))
        super().penalize(peer_id, reason, count)


class Member:
    """One home of the grid, which may be started and stopped again and again."""

    def __init__(self, grid: "Grid", number: int, household: bool) -> None:
        self.grid = grid
        self.number = number
        self.key = key_of(number)
        self.peer_id = self.key.peer_id
        self.directory = grid.directory / f"home-{number}"
        self.data = self.directory / DATA_NAME
        self.spoken: list[ConsensusMessage] = []
        self.alter: Alter | None = None
        others = [other for other in range(grid.authorities) if other != number]
        self.config = Config(
            node=NodeSection(name=f"home-{number}"),
            network=NetworkSection(bootstrap=tuple(map(address_of, others))),
            sync=grid.sync,
            home=home_config(number) if household else None,
        )
        create_home(self.directory, settings_text(self.config), self.key)
        self._running: Node | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._nonce = 0
        self.network: SpyNetwork | None = None

    @property
    def node(self) -> Node:
        """The running node."""
        assert self._running is not None, f"{self.directory.name} is not running"
        return self._running

    @property
    def height(self) -> int:
        return self.node.chain.height

    @property
    def votes(self) -> list[Vote]:
        """All votes of its own that this home has sent, over all its lives."""
        return [
            message
            for message in self.spoken
            if isinstance(message, Vote) and message.voter == self.number
        ]

    async def start(self, bootstrap: Sequence[str] | None = None) -> "Member":
        """Start it from its directory; raises what the daemon would."""
        config = self.config
        if bootstrap is not None:
            network = msgspec.structs.replace(config.network, bootstrap=tuple(bootstrap))
            config = msgspec.structs.replace(config, network=network)
        self.network = SpyNetwork(self.peer_id, self.grid.hub, self.spoken)
        self.network.alter = self.alter
        node = Node(config, self.grid.genesis, self.key, self.data, self.network)
        await node.__aenter__()
        self._running = node
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(node.run(self._stop))
        return self

    async def stop(self) -> None:
        """Stop it, if it runs; raises what its parts have failed with."""
        if self._running is None or self._task is None:
            return
        self._stop.set()
        try:
            await self._task
        finally:
            await self._running.__aexit__(None, None, None)
            self._running = None

    async def ended(self) -> BaseException | None:
        """Wait until the node ends by itself; return its error."""
        assert self._task is not None
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self._task])
        error = self._task.exception()
        await self.node.__aexit__(None, None, None)
        self._running = None
        return error

    async def ask(self, name: str, **arguments: Any) -> Any:
        """Ask on its control socket."""
        return await ask(self.data, name, timeout_s=PATIENCE_S, **arguments)

    def sign(self, call: client.Call, **changes: Any) -> CheckedTransaction:
        """Sign a call with this home's key; keyword arguments replace what is usual."""
        self._nonce = max(self._nonce + 1, time.time_ns() // 1_000)
        usual = {
            "chain_id": self.grid.genesis.chain_id,
            "nonce": self._nonce,
            "valid_until_ms": now_ms() + 600_000,
        }
        return client.sign_call(call, self.key, **{**usual, **changes})


class Grid:
    """Homes on one hub. The first ones are the authorities."""

    def __init__(
        self,
        directory: Path,
        genesis: Genesis,
        households: bool = False,
        seed: int = 0,
        sync: SyncSection = SyncSection(),  # noqa: B008 - immutable
    ) -> None:
        self.sync = sync
        self.directory = directory
        self.genesis = genesis
        self.hub = Hub(seed)
        self.authorities = len(genesis.authorities)
        self.members = [
            Member(self, number, households) for number in range(len(genesis.market.homes))
        ]

    async def start(self, numbers: Iterable[int]) -> list[Member]:
        """Start some homes."""
        return [await self.members[number].start() for number in numbers]

    async def stop(self) -> None:
        """Stop whatever runs."""
        for member in self.members:
            await member.stop()


@contextlib.asynccontextmanager
async def running(grid: Grid, numbers: Iterable[int]) -> AsyncIterator[list[Member]]:
    """Run some homes of a grid; a failure of any part fails the test."""
    try:
        yield await grid.start(numbers)
    finally:
        await grid.stop()


def address_of(number: int) -> str:
    """Return a home's address on the hub."""
    return f"/memory/1/p2p/{key_of(number).peer_id}"


async def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds."""
    end = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {patience_s:g} s: {what}")
        await asyncio.sleep(0.01)


async def at_height(members: Iterable[Member], height: int) -> None:
    """Wait until all members have applied the block at `height`."""
    chosen = list(members)
    await until(
        lambda: all(member.height >= height for member in chosen),
        f"height {height} at homes {[member.number for member in chosen]}",
    )


async def level(members: Iterable[Member]) -> None:
    """Wait until all members know what any of them knows now."""
    chosen = list(members)
    await at_height(chosen, max(member.height for member in chosen))


async def same_snapshot(members: Iterable[Member], height: int) -> None:
    """Wait until all offer the same snapshot, of `height` or later; from now on none is made.

    Busy homes may leave a snapshot out, and would offer the next one at different times: which of
    them a joiner takes, if any, is not to depend on that.
    """
    offers = [member.node.sync._snapshots for member in members]

    def settled() -> bool:
        newest = {offer.newest for offer in offers}
        making = any(offer._making is not None and not offer._making.done() for offer in offers)
        return not making and len(newest) == 1 and newest.pop()[0] >= height

    await until(settled, "one late snapshot is on offer everywhere")
    for offer in offers:
        offer._every = 0


async def one_snapshot_loaded(member: Member) -> None:
    """Wait until a snapshot is in force and noted, then see that it was the only one."""
    counts = member.node.sync.counts
    await until(lambda: counts["snapshots_loaded"] > 0, "a snapshot is loaded")
    assert counts["snapshots_loaded"] == 1


def double_votes(votes: Iterable[Vote]) -> list[tuple[Vote, Vote]]:
    """Return pairs of different votes of one voter for one height, round and kind."""
    first: dict[tuple[int, int, int, int], Vote] = {}
    found = []
    for vote in votes:
        place = (vote.voter, vote.height, vote.round, vote.kind)
        earlier = first.setdefault(place, vote)
        if earlier.block_hash != vote.block_hash:
            found.append((earlier, vote))
    return found


@contextlib.asynccontextmanager
async def busy(member: Member) -> AsyncIterator[None]:
    """Keep the chain busy: a home gives a little away, again and again."""

    async def spend() -> None:
        while True:
            call = client.transfer(REGULATOR.address, 1)
            member.node.mempool.submit(member.sign(call).raw)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(spend())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
