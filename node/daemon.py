"""One home's daemon: builds the parts, starts them in order, stops them in the reverse.

    lock ─ store, wal ─ application ─ network ─ chain ─ mempool ─ sync ─ household ─ control

What cannot start raises a `StartError`. What fails while running ends the daemon: a node that no
longer knows what is true must not go on, and whoever runs it starts it again from its disk.
"""

import asyncio
import contextlib
import hashlib
import logging
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop

from consensus.errors import ConsensusError
from hems.config import HomeConfig
from hems.errors import HemsError
from market.app import Application
from market.errors import MarketError, StateError
from node.announcer import Announcer
from node.api.answers import Answers
from node.api.control import ControlServer
from node.bill import Bills
from node.blocks import BlockMaker
from node.certifier import natives
from node.chain import Chain
from node.config import Config
from node.courier import Courier
from node.epochs import Epochs
from node.errors import GenesisError, NodeError, StartError
from node.evidence import EvidencePool
from node.genesis import Genesis, community_key, read_genesis
from node.household import Household
from node.joining import Applicant, Doorkeeper, application_of
from node.lock import DirectoryLock
from node.mempool import Mempool
from node.network.base import Network, NetworkError
from node.network.libp2p import Libp2pNetwork
from node.process import collect_seldom
from node.receipts import Receipts
from node.replica import Replica
from node.setup import (
    DATABASE_NAME,
    EVIDENCE_NAME,
    HOME_NAME,
    PEERS_NAME,
    WAL_NAME,
    data_directory,
    read_key,
)
from node.snapshots import Snapshots
from node.status import Finality, NodeStatus
from node.store import Store
from node.sync import Sync
from node.verifier import TransactionVerifier
from node.wal import Wal
from wire.keys import SigningKey

log = logging.getLogger("commonwatt.daemon")

# Above this many homes the gossip mesh is wider.
LARGE_COMMUNITY: Final = 50
EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETUP: Final = 2


def now_ms() -> int:
    """Return the real time, UTC. [ms]"""
    return time.time_ns() // 1_000_000


def run(config: Config, until_stdin_closes: bool = False) -> int:
    """Run the daemon until it is told to stop; return its exit code.

    An error that a person can mend is one line on standard error and exit code 2.
    """
    _set_up_logging(config)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(config, until_stdin_closes))
    except (StartError, HemsError, NetworkError) as error:
        print(f"commonwatt: {error}", file=sys.stderr)  # noqa: T201 - for a person
        return EXIT_SETUP
    except (NodeError, MarketError, ConsensusError, OSError, sqlite3.Error):
        log.critical("stopped by an error that must not be", exc_info=True)
        return EXIT_FAILED
    return EXIT_OK


async def _main(config: Config, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    genesis = read_genesis(config.path(config.node.genesis))
    key = read_key(config.path(config.node.key))
    data = data_directory(config)
    with DirectoryLock(data):
        async with Node(config, genesis, key, data) as node:
            collect_seldom()
            if until_stdin_closes:
                node.start_task(_stdin_closed(stop))
            await node.run(stop)


async def _stdin_closed(stop: asyncio.Event) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stop.set()


class Node:
    """The parts of one node. Use as an asynchronous context manager.

    Parameters
    ----------
    config, genesis, key : what it is
    data : Path
        Its data directory, locked by the caller.
    network : Network, optional
        Instead of libp2p; for tests and grids inside one process.
    """

    def __init__(
        self,
        config: Config,
        genesis: Genesis,
        key: SigningKey,
        data: Path,
        network: Network | None = None,
    ) -> None:
        self._config = config
        self._genesis = genesis
        self._key = key
        self._data = data
        self.network: Network = network or Libp2pNetwork(
            key,
            config.network.listen,
            community_key(genesis.hash),
            data / PEERS_NAME,
            announce=config.network.announce,
            large=len(genesis.market.homes) > LARGE_COMMUNITY,
        )
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Node":
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _open(self) -> None:
        genesis, key, config, data = self._genesis, self._key, self._config, self._data
        chain_id = genesis.chain_id
        store = await Store.open(data / DATABASE_NAME, genesis.hash)
        self._stack.push_async_callback(store.close)
        wal = Wal.open(data / WAL_NAME)
        self._stack.callback(wal.close)
        self.app = Application(genesis.market, founding=genesis.founding(), natives=natives())
        try:
            self.app.check_machine(beginning=store.height < 0)
        except StateError as error:
            raise GenesisError(f"{config.path(config.node.genesis)}: {error}") from None
        epochs = Epochs(genesis, self.app)
        verifier = TransactionVerifier(chain_id)
        maker = BlockMaker(genesis, epochs, self.app, verifier)
        replica = Replica(chain_id, store, self.app, epochs, maker)
        self.chain = Chain(genesis, key, replica, wal, self.network, now_ms)
        self._stack.callback(self.chain.close)
        transactions, blocks = topics(genesis)
        self.mempool = Mempool(
            verifier,
            self.app.check,
            lambda batch: self.network.publish(transactions, batch),
            now_ms,
            self.chain.consider_block,
            lambda batch: courier.hand_over(batch),
        )
        courier = Courier(self.chain, self.network, self.mempool.gossip_check, self.mempool.receive)
        self.network.on_gossip(transactions, self.mempool.receive, self.mempool.gossip_check)
        proofs = evidence_topic(genesis)
        self.evidence = EvidencePool(
            chain_id,
            epochs,
            self.app,
            data / EVIDENCE_NAME,
            lambda notice: self.network.publish(proofs, notice),
            self.chain.consider_block,
        )
        self.network.on_gossip(proofs, self.evidence.receive, self.evidence.gossip_check)
        self.chain.on_applied(self.evidence.applied)
        snapshots = Snapshots(data, config.sync.snapshot_every, self.app.state_copy)
        snapshots.open()
        self._stack.push_async_callback(snapshots.close)
        self.chain.on_applied(snapshots.applied)
        self.sync = Sync(
            self.chain, store, self.network, snapshots, data, config.sync.snapshot_behind
        )
        doorkeeper = Doorkeeper(genesis, self.app.query, self.network)
        self._announcer = Announcer(chain_id, blocks, self.chain, self.sync, self.network)
        self._stack.callback(self._announcer.close)
        finality = Finality()
        self.chain.on_applied(finality.applied)
        self.household: Household | None = None
        if config.home is not None:
            self.household = Household(
                config.home,
                genesis.market,
                self.app.query,
                self.mempool.submit,
                finality,
                key,
                data / HOME_NAME,
                now_ms,
                lambda: self.sync.behind,
            )
            self.chain.on_applied(self.household.applied)
        self.status = NodeStatus(
            config.node.name,
            genesis,
            key,
            self.chain,
            self.mempool,
            self.sync,
            self.network,
            finality,
        )
        bills = Bills(self.chain, self.app, self.sync, self.network)
        receipts = Receipts(store, self.sync, self.network)
        parts = (self.app, self.mempool, store, finality, bills, receipts, doorkeeper)
        told = Answers(self.status, self.household, *parts)
        self._control = ControlServer(data, told.table())
        await self.chain.open(self.mempool, self.evidence)
        self.evidence.load()
        await self.network.start()
        self._stack.push_async_callback(self.network.stop)
        for address in config.network.bootstrap:
            self.network.want(address)
        await self._control.start()
        self._stack.push_async_callback(self._control.stop)

    def _applicant(self, home: HomeConfig) -> Applicant:
        name = self._config.node.name
        application = application_of(self._genesis.chain_id, name, home, self._key)
        return Applicant(application, self.app.query, self.network)

    def start_task(self, work: Any) -> None:
        """Run something beside the parts; if it fails, the node stops."""
        self._tasks.append(asyncio.create_task(work))

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or a part fails; its error is raised."""
        log.info(
            "%s is up: %s, height %d, %s",
            self._config.node.name,
            self._key.address,
            self.chain.height,
            "an authority" if self.chain.index is not None else "a follower",
        )
        self.start_task(self.chain.run())
        self.start_task(self.mempool.run())
        self.start_task(self.evidence.run())
        self.start_task(self.sync.run())
        if self.household is not None and self._config.home is not None:
            self.start_task(self.household.run())
            self.start_task(self._applicant(self._config.home).run())
        stopped = asyncio.create_task(stop.wait())
        endless = [task for task in self._tasks if not task.done()]
        await asyncio.wait([stopped, *endless], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        log.info("stopping at height %d", self.chain.height)


def topics(genesis: Genesis) -> tuple[str, str]:
    """Return the gossip topics of a chain: transactions, decided blocks."""
    chain = hashlib.sha256(genesis.hash).hexdigest()[:12]
    return f"commonwatt/{chain}/transactions", f"commonwatt/{chain}/blocks"


def evidence_topic(genesis: Genesis) -> str:
    """Return the gossip topic of proofs against authorities."""
    return topics(genesis)[0].replace("transactions", "evidence")


def _set_up_logging(config: Config) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("commonwatt").setLevel(config.node.log_level.upper())
