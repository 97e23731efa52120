"""One home's daemon: builds the parts, starts them in order, stops them in the reverse.

    lock ─ one chain or two (`node.tiers`) ─ household ─ poster ─ auditor ─ control ─ web

What cannot start raises a `StartError`. What fails while running ends the daemon: a node that no
longer knows what is true must not go on, and whoever runs it starts it again from its disk.
"""

import asyncio
import contextlib
import logging
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from consensus.errors import ConsensusError
from hems.config import HomeConfig, LiveHome
from hems.errors import HemsError
from hems.sources.live import LiveSource
from market.app import Application
from market.errors import MarketError
from node import logs
from node.api.answers import Answers
from node.api.control import Answer, ControlServer
from node.api.outlook import Outlook
from node.api.regions import Regions
from node.api.watched import WatchedGrid
from node.chain.beginning import Beginning, await_beginning
from node.chain.driver import Chain
from node.chain.evidence import EvidencePool
from node.chain.signatory import Signatory
from node.chain.sync import Sync
from node.config import Config, MainSection, NetworkSection, WebSection
from node.errors import ConfigError, NodeError, StartError
from node.genesis import Genesis, read_genesis
from node.home.detail import DetailBook
from node.home.household import Household
from node.keys.homekeys import home_keys
from node.lock import DirectoryLock
from node.membership.joining import Applicant, application_of
from node.membership.members import Members
from node.mqtt.discovery import topics
from node.mqtt.settings import MqttSection
from node.mqtt.source import open_live
from node.network.base import Network, NetworkError
from node.pool.mempool import Mempool
from node.process import collect_regularly, collect_seldom
from node.proofs.anchoring import Anchors
from node.regions.audits import Auditor
from node.regions.poster import Poster
from node.regions.showing import RegionServer
from node.regions.succession import INHERITED_NAME
from node.setup import (
    DETAIL_NAME,
    HOME_NAME,
    MAIN_NAME,
    data_directory,
    network_key,
    own_key,
)
from node.status import NodeStatus, version
from node.tiers import Tier, check_main, libp2p_of
from wire.keys import SigningKey

if TYPE_CHECKING:
    from fastapi import APIRouter

    from node.mqtt.bridge import Bridge
    from node.web.server import WebServer

log = logging.getLogger("commonwatt.daemon")

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
    node = config.node
    logs.set_up(node.log_level, node.log_levels, node.log_format)
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
    key = own_key(config)
    data = data_directory(config)
    with DirectoryLock(data):
        if not await await_beginning(_beginnings(config, genesis, data), now_ms, stop):
            return
        async with Node(config, genesis, key, data) as node:
            collect_seldom()
            node.start_task(collect_regularly())
            if until_stdin_closes:
                node.start_task(_stdin_closed(stop))
            await node.run(stop)


def _beginnings(config: Config, genesis: Genesis, data: Path) -> list[Beginning]:
    found = [Beginning(genesis.market.genesis_ms, data)]
    if config.main is not None:
        main = read_genesis(config.path(config.main.genesis))
        found.append(Beginning(main.market.genesis_ms, data / MAIN_NAME))
    return found


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
        Its data directory, locked by the caller; the main chain's is the folder `main` in it.
    network : Network, optional
        Instead of libp2p; for tests and grids inside one process.
    main_network : Network, optional
        The same for the main chain, if the settings name one.
    """

    def __init__(
        self,
        config: Config,
        genesis: Genesis,
        key: SigningKey,
        data: Path,
        network: Network | None = None,
        main_network: Network | None = None,
    ) -> None:
        if config.home is not None and genesis.market.main is not None:
            raise ConfigError(
                f"[home] is for a home of a region or a street; chain {genesis.chain_id} is a main "
                "chain, which has none"
            )
        if config.mqtt is not None and config.home is None:
            raise ConfigError("[mqtt] is for a home's meters, and there is no [home]")
        self._config = config
        self._data = data
        self._key = key
        self._keys = home_keys(config, key)
        self.tier = self._tier(
            genesis, config.path(config.node.genesis), data, network, config.network
        )
        self.main: Tier | None = None
        if config.main is not None:
            origin = config.path(config.main.genesis)
            main = read_genesis(origin)
            check_main(genesis, main, origin)
            self.main = self._tier(main, origin, data / MAIN_NAME, main_network, config.main)
        self.poster: Poster | None = None
        self._anchors: Anchors | None = None
        self.auditor: Auditor | None = None
        self.household: Household | None = None
        self.web: WebServer | None = None
        self.mqtt: Bridge | None = None
        self._live: LiveSource | None = None
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    def _tier(
        self,
        genesis: Genesis,
        origin: Path,
        data: Path,
        network: Network | None,
        settings: NetworkSection | MainSection,
    ) -> Tier:
        config, members = self._config, None
        psk = network_key(config, settings)
        if settings.closed:
            members = Members(genesis, settings.bootstrap, now_ms)
        if network is None:
            network = libp2p_of(
                genesis,
                self._key,
                data,
                settings.listen,
                settings.announce,
                psk,
                None if members is None else members.allowed,
            )
        return Tier(
            config.node.name,
            genesis,
            origin,
            self._key,
            data,
            network,
            settings.bootstrap,
            config.sync,
            now_ms,
            self._keys.address,
            members,
        )

    # -- the node's own chain: its region, or the only one

    @property
    def network(self) -> Network:
        """The network of the node's own chain."""
        return self.tier.network

    @property
    def app(self) -> Application:
        """The application of the node's own chain."""
        return self.tier.app

    @property
    def chain(self) -> Chain:
        """The driver of the node's own chain."""
        return self.tier.chain

    @property
    def mempool(self) -> Mempool:
        """What waits for the node's own chain."""
        return self.tier.mempool

    @property
    def evidence(self) -> EvidencePool:
        """What the node knows against authorities of its own chain."""
        return self.tier.evidence

    @property
    def sync(self) -> Sync:
        """How the node's own chain catches up."""
        return self.tier.sync

    @property
    def status(self) -> NodeStatus:
        """What the node says of its own chain."""
        return self.tier.status

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
        tiers = [self.tier] if self.main is None else [self.tier, self.main]
        for tier in tiers:
            tier.data.mkdir(exist_ok=True, mode=0o700)
            await self._stack.enter_async_context(tier)
        if self._config.home is not None:
            self._live = self._live_source(self._config.home)
            self.household = self._household(self._config.home)
            self.chain.on_applied(self.household.applied)
        if self.main is not None:
            own_nonce = self.household.outbox.next_nonce if self.household is not None else None
            in_region = Signatory(self.tier, now_ms, own_nonce)
            on_main = Signatory(self.main, now_ms)
            self.poster = Poster(self.tier, self.main, in_region, on_main)
            self._anchors = Anchors(
                self.poster.region,
                self.poster.shelf,
                self.tier.network,
                self.main.chain,
                self.main.app,
                self.main.sync,
            )
            inherited = self.tier.data / INHERITED_NAME
            RegionServer(self.tier.genesis, self.tier.sync, self.main.network, inherited)
            self.auditor = self._auditor(self.main, on_main)
        elif self.tier.genesis.market.main is not None:
            # The main chain's own authorities are drawn where there is no other region.
            self.auditor = self._auditor(self.tier, Signatory(self.tier, now_ms))
        if self._config.mqtt is not None and self.household is not None:
            self.mqtt = self._bridge(self._config.mqtt, self.household)
            self.chain.on_applied(self.mqtt.applied)
        tables = [self._table(tier) for tier in tiers]
        if self._config.web is not None:
            self.web = self._web(self._config.web, tiers, tables)
        for tier in tiers:
            await tier.start()
        for tier, table in zip(tiers, tables, strict=True):
            control = ControlServer(tier.data, table)
            await control.start()
            self._stack.push_async_callback(control.stop)
        if self.web is not None:
            self._stack.push_async_callback(self.web.stop)
            await self.web.start()

    def _table(self, tier: Tier) -> dict[str, Answer]:
        household = self.household if tier is self.tier else None
        outlook = Outlook(None)
        if household is not None:
            outlook = Outlook(household.manager, lambda: household.deliveries)
        answers = self._answers(tier, household)
        return answers.table() | self._regions(tier).table() | outlook.table()

    def _web(
        self, web: WebSection, tiers: list[Tier], tables: list[dict[str, Answer]]
    ) -> "WebServer":
        # Its libraries take memory that a node without it has better uses for.
        from node.web.app import Served, build_app
        from node.web.metrics import Metrics
        from node.web.server import WebServer, access_of, tls_context
        from node.web.stream import Stream

        streams = [Stream() for _ in tiers]
        for tier, stream in zip(tiers, streams, strict=True):
            tier.chain.on_applied(stream.applied)
        dashboard = None
        if web.dashboard:
            grid = WatchedGrid(streams[0].watched)
            # Of the same table the control socket answers, where it is told.
            tables[0] |= grid.table()
            dashboard = self._dashboard(tables, lambda: grid.count)
        app = build_app(
            [Served(table, stream) for table, stream in zip(tables, streams, strict=True)],
            tables[0],
            lambda: self.tier.sync.behind,
            Metrics(tiers, self.household).render,
            access_of(web, self._config.path(web.token_file)),
            dashboard,
        )
        return WebServer(web, app, streams, tls_context(web, self._config.directory))

    def _dashboard(
        self, tables: list[dict[str, Answer]], watched: Callable[[], int]
    ) -> "APIRouter":
        from node.web.dashboard.asks import Asks
        from node.web.dashboard.site import Site, dashboard_routes

        own, *others = (Asks(table) for table in tables)
        return dashboard_routes(
            Site(
                own,
                others[0] if others else None,
                lambda: self.chain.height,
                self.household is not None,
                self.tier.genesis.market.main is not None,
                watched,
            )
        )

    def _household(self, home: HomeConfig) -> Household:
        tier = self.tier
        detail = DetailBook(self._data / DETAIL_NAME)
        self._stack.callback(detail.close)
        return Household(
            home,
            tier.genesis.market,
            tier.app.query,
            tier.app.nonce,
            tier.mempool.submit,
            tier.finality,
            self._keys,
            self._data / HOME_NAME,
            now_ms,
            lambda: tier.sync.behind,
            self._live,
            detail,
        )

    def _live_source(self, home: HomeConfig) -> LiveSource | None:
        """Return where the readings of a live home's meters go; None for another home's."""
        if not isinstance(home.source, LiveHome):
            return None
        config, market = self._config, self.tier.genesis.market
        source = open_live(home, config.mqtt, market, self._data, config.node.name)
        self._stack.callback(source.close)
        return source

    def _bridge(self, mqtt: MqttSection, household: Household) -> "Bridge":
        # Only who has a broker has its library.
        try:
            from node.mqtt.bridge import Bridge
        except ImportError:
            raise ConfigError("[mqtt] needs the extra: pip install 'commonwatt[mqtt]'") from None
        name, params = self._config.node.name, self.tier.genesis.market
        clock = params.clock()
        return Bridge(
            mqtt,
            self._config.directory,
            topics(mqtt.base, name, params.chain_id),
            name,
            params.currency,
            version(),
            household,
            self._live,
            lambda: clock.market_ms(now_ms()),
        )

    def _auditor(self, main: Tier, on_main: Signatory) -> Auditor:
        auditor = Auditor(self._key.address, main.app, main.network, on_main.hand_in, now_ms)
        main.chain.on_applied(auditor.wake)
        return auditor

    def _answers(self, tier: Tier, household: Household | None) -> Answers:
        parts = (tier.app, tier.mempool, tier.store, tier.finality, tier.bills, tier.receipts)
        main = self.main.app if self.main is not None and tier is self.tier else None
        return Answers(tier.status, household, *parts, tier.doorkeeper, main)

    def _applicant(self, home: HomeConfig) -> Applicant:
        tier = self.tier
        application = application_of(tier.genesis.chain_id, tier.name, home, self._key)
        known = [at.rpartition("/p2p/")[2] for at in self._config.network.bootstrap]
        return Applicant(application, tier.app.query, tier.network, known)

    def _regions(self, tier: Tier) -> Regions:
        is_main = tier.genesis.market.main is not None
        kept = tier if is_main else self.main
        anchors = self._anchors if tier is self.tier else None
        return Regions(tier.app, None if kept is None else kept.app, anchors, tier.sync.path)

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
        works = self.tier.tasks()
        if self.main is not None:
            works += self.main.tasks()
        if self.poster is not None:
            works.append(self.poster.run())
        if self.auditor is not None:
            works.append(self.auditor.run())
        if self.household is not None and self._config.home is not None:
            works.append(self.household.run())
            # A key that took another's place is a registered home's.
            if self._keys.account is self._key and not self._config.node.account:
                works.append(self._applicant(self._config.home).run())
        if self.web is not None:
            works.append(self.web.run())
        if self.mqtt is not None:
            works.append(self.mqtt.run())
        for work in works:
            self.start_task(work)
        stopped = asyncio.create_task(stop.wait())
        endless = [task for task in self._tasks if not task.done()]
        await asyncio.wait([stopped, *endless], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        for task in self._tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        log.info("stopping at height %d", self.chain.height)
