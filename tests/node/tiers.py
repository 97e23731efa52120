"""Regions and their main chain as real nodes in one process: a hub for each chain."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from market.client import Call, post_order, regions, sign_call
from market.genesis import GovernanceParams, HomeEntry, MarketParams
from market.tiers import ExchangeRules, ExportRules, MainRules, Membership
from node.config import Config, MainSection, NetworkSection, NodeSection, settings_text
from node.daemon import Node, now_ms
from node.genesis import GENESIS_VERSION, ChainParams, Genesis, write_genesis
from node.network.memory import Hub, MemoryNetwork
from node.regions.audits import Auditor
from node.regions.poster import Poster
from node.regions.registration import prove_possession, registration
from node.setup import DATA_NAME, GENESIS_NAME, MAIN_GENESIS_NAME, create_home
from node.tiers import Tier
from tests.node.grid import BALANCE_MICRO, MARKET_START_MS, QUICK, REGULATOR, until
from wire.keys import SigningKey

SEATS = 4
NEUTRAL = 4
SPONSOR_BALANCE = 500_000_000
BOND = 5_000_000
ESCROW = 20_000_000
MAIN_ID = "main"
SLOT_MS = 15 * 60_000
CHAIN = ChainParams(block_interval_ms=100, heartbeat_ms=1_000, consensus=QUICK)


def key(purpose: str) -> SigningKey:
    return SigningKey(hashlib.sha256(purpose.encode()).digest())


def address(one: SigningKey) -> str:
    return f"/memory/1/p2p/{one.peer_id}"


def entry(name: str, one: SigningKey) -> HomeEntry:
    return HomeEntry(
        one.address, one.derive("meter").address, name, "prosumer", 15_000, 10_000,
        balance_micro=BALANCE_MICRO,
    )  # fmt: skip


class TierNode:
    """What a process runs: a region, with or without the main chain, or the main chain only."""

    def __init__(self, grid: "TierGrid", name: str, genesis: Genesis, with_main: bool) -> None:
        self.grid = grid
        self.name = name
        self.key = key(name)
        self.genesis = genesis
        self.with_main = with_main
        self.directory = grid.directory / name
        known = [one for one in grid.keys_of(genesis) if one.public != self.key.public]
        main = None
        if with_main:
            delegates = [one for one in grid.main_keys if one.public != self.key.public]
            main = MainSection(bootstrap=tuple(map(address, delegates)))
        self.config = Config(
            node=NodeSection(name=name),
            network=NetworkSection(bootstrap=tuple(map(address, known))),
            main=main,
            directory=self.directory,
        )
        create_home(self.directory, settings_text(self.config), self.key, with_main)
        write_genesis(genesis, self.directory / GENESIS_NAME)
        if with_main:
            write_genesis(grid.main, self.directory / MAIN_GENESIS_NAME)
        self._node: Node | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def node(self) -> Node:
        assert self._node is not None, f"{self.name} is not running"
        return self._node

    @property
    def main(self) -> Tier:
        """The main chain, as this node keeps it."""
        return self.node.main or self.node.tier

    @property
    def poster(self) -> Poster:
        assert self.node.poster is not None
        return self.node.poster

    @property
    def auditor(self) -> Auditor:
        assert self.node.auditor is not None
        return self.node.auditor

    async def start(self) -> "TierNode":
        own = MemoryNetwork(self.key.peer_id, self.grid.hub_of(self.genesis))
        main = MemoryNetwork(self.key.peer_id, self.grid.main_hub) if self.with_main else None
        data = self.directory / DATA_NAME
        node = Node(self.config, self.genesis, self.key, data, own, main)
        await node.__aenter__()
        self._node, self._stop = node, asyncio.Event()
        self._task = asyncio.create_task(node.run(self._stop))
        return self

    def order(self, slot: int, side: str, energy_wh: int, price: int) -> None:
        """Hand in an order of this home. [micro per kWh]"""
        call = post_order(slot, side, energy_wh, price)
        now = now_ms()
        signed = sign_call(call, self.key, self.genesis.chain_id, now, now + 60_000)
        self.node.mempool.submit(signed.raw)

    async def stop(self) -> None:
        if self._node is None or self._task is None:
            return
        self._stop.set()
        try:
            await self._task
        finally:
            await self._node.__aexit__(None, None, None)
            self._node = None


class TierGrid:
    """Regions with homes, all of which keep the main chain too, and neutral authorities.

    The main chain's authorities are the first home of each region and neutral ones to fill up.
    """

    def __init__(
        self,
        directory: Path,
        count: int = 1,
        homes: int = SEATS,
        halt_ms: int = 600_000,
        hold_ms: int = 60_000,
        checkpoint_ms: int = 2_000,
        epoch_blocks: int = 100,
        chain: ChainParams = CHAIN,
        trading: bool = False,
        **market: Any,
    ) -> None:
        self.directory = directory
        delegates = [key(f"home-{region}-0") for region in range(1, count + 1)]
        neutral = [key(f"neutral-{n}") for n in range(max(NEUTRAL - count, 1))]
        self.main_keys = delegates + neutral
        self.sponsors = {region: key(f"sponsor {region}") for region in range(1, count + 1)}
        self.hubs: dict[str, Hub] = {}
        self.main_hub = Hub()
        governance = GovernanceParams(epoch_blocks=epoch_blocks, bond_micro=0)
        publics = tuple(one.public for one in self.main_keys)
        base: dict[str, Any] = {
            "genesis_ms": now_ms(),
            "market_start_ms": MARKET_START_MS,
            "time_lapse": 60,
            "slot_minutes": 15,
            "currency": "AUD",
            "utc_offsets": ((0, 660),),
            "tariffs": ((0, ((0, 277_100),)),),
            "feed_in": ((0, 100_000),),
            "regulator": REGULATOR.address,
            **market,
        }
        rules = MainRules(
            bond_micro=BOND,
            hold_ms=hold_ms,
            halt_ms=halt_ms,
            sponsors=tuple((one.address, SPONSOR_BALANCE) for one in self.sponsors.values()),
            exchange=ExchangeRules(close_ms=SLOT_MS) if trading else None,
        )
        main = MarketParams(chain_id=MAIN_ID, homes=(), main=rules, **base)
        self.main = Genesis(GENESIS_VERSION, publics, chain, main, governance)
        self.regions: dict[int, list[TierNode]] = {}
        self.genesis: dict[int, Genesis] = {}
        self.keys: dict[str, list[SigningKey]] = {MAIN_ID: self.main_keys}
        for number in range(1, count + 1):
            names = [f"home-{number}-{home}" for home in range(homes)]
            keys = [key(name) for name in names]
            market_here = MarketParams(
                chain_id=f"region-{number}",
                homes=tuple(entry(name, one) for name, one in zip(names, keys, strict=True)),
                region=Membership(
                    number, MAIN_ID, publics, checkpoint_ms, ExportRules() if trading else None
                ),
                **base,
            )
            seated = tuple(one.public for one in keys[:SEATS])
            genesis = Genesis(GENESIS_VERSION, seated, chain, market_here, governance)
            self.genesis[number] = genesis
            self.keys[genesis.chain_id] = keys[:SEATS]
            self.regions[number] = [TierNode(self, name, genesis, True) for name in names]
        self.neutral = [
            TierNode(self, f"neutral-{n}", self.main, False) for n in range(len(neutral))
        ]

    @property
    def nodes(self) -> list[TierNode]:
        return [node for nodes in self.regions.values() for node in nodes] + self.neutral

    def keys_of(self, genesis: Genesis) -> list[SigningKey]:
        return self.keys[genesis.chain_id]

    def hub_of(self, genesis: Genesis) -> Hub:
        if genesis.chain_id == MAIN_ID:
            return self.main_hub
        return self.hubs.setdefault(genesis.chain_id, Hub())

    def on_main(self, node: TierNode, one: SigningKey, call: Call) -> None:
        """Hand in a call at a node of the main chain."""
        signed = sign_call(call, one, MAIN_ID, now_ms(), now_ms() + 60_000)
        node.main.mempool.submit(signed.raw)

    async def admit(self, number: int) -> None:
        """Register a region and let it in."""
        here = self.neutral[0]
        genesis = self.genesis[number]
        proofs = {one.public: prove_possession(genesis, one) for one in self.keys_of(genesis)}
        call = registration(genesis, f"Region {number}", proofs, ESCROW)
        self.on_main(here, self.sponsors[number], call)
        await until(lambda: self.status(number) == "proposed", "the region is proposed")
        for one in self.main_keys[:3]:
            self.on_main(here, one, regions.approve(number))
        await until(lambda: self.status(number) == "live", "the region is let in")

    def status(self, number: int) -> str:
        """Return how the main chain knows a region."""
        found = self.neutral[0].main.app.query("regions", "regions", {"first": 1, "count": 100})
        return next((row["status"] for row in found if row["number"] == number), "")

    def last(self, number: int) -> dict[str, Any]:
        """Return the last anchored record of a region, as a neutral node has it."""
        found: dict[str, Any] = self.neutral[0].main.app.query("anchor", "last", {"region": number})
        return found


@contextlib.asynccontextmanager
async def running(grid: TierGrid) -> AsyncIterator[TierGrid]:
    """Run all nodes of a grid; a failure of any part fails the test."""
    try:
        for node in grid.nodes:
            await node.start()
        yield grid
    finally:
        for node in grid.nodes:
            await node.stop()
