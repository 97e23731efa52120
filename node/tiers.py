"""One chain that a node keeps, with all its parts; a node keeps one, or two.

A region's homes keep their region. Its authorities keep the main chain too, to post what the region
has settled and to see what came of it, and some of them have a seat there; neutral authorities keep
the main chain only (docs/spec/regions.md). Each chain is the same driver over the same core and
application, with a directory, a genesis, a write-ahead log and a network of its own: who is in one
is no peer in the other, and what one hears costs the other nothing.
"""

import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from market.app import Application
from market.errors import StateError
from node.chain.announcer import Announcer
from node.chain.blocks import BlockMaker
from node.chain.catching_up import CatchingUp
from node.chain.driver import Chain
from node.chain.epochs import Epochs
from node.chain.evidence import EvidencePool
from node.chain.replica import Replica
from node.chain.snapshots import Snapshots
from node.chain.store import Store
from node.chain.sync import Sync
from node.chain.wal import Wal
from node.config import SyncSection
from node.errors import GenesisError
from node.genesis import Genesis, community_key
from node.membership.joining import Doorkeeper
from node.membership.members import Members
from node.network.base import Network
from node.network.libp2p import Libp2pNetwork
from node.pool.courier import Courier
from node.pool.intake import Intake
from node.pool.mempool import Mempool
from node.pool.verifier import TransactionVerifier
from node.proofs.bill import Bills
from node.proofs.receipts import Receipts
from node.regions.certifier import natives
from node.regions.succession import INHERITED_NAME, inherited_pairs
from node.setup import DATABASE_NAME, EVIDENCE_NAME, PEERS_NAME, WAL_NAME
from node.status import Finality, NodeStatus
from wire.keys import SigningKey

# Above this many homes the gossip mesh is wider.
LARGE_COMMUNITY: Final = 50


class Tier:
    """The parts of one chain. Use as an asynchronous context manager, then `start`, then `tasks`.

    Parameters
    ----------
    name : str
        How this node is called.
    genesis : Genesis
    origin : Path
        Where the genesis was read, for what is said of it.
    key : SigningKey
        The node's; it has a seat where the chain's authorities have it.
    data : Path
        The directory of this chain.
    network : Network
        Not started yet; nobody else uses it.
    bootstrap : sequence of str
        Multiaddresses of first neighbours.
    sync : SyncSection
    now_ms : callable
        Real time, UTC. [ms]
    account : str, optional
        The home's address, if it is not the key's.
    members : Members, optional
        Who is let in where the community is closed; it looks into this chain.
    """

    def __init__(
        self,
        name: str,
        genesis: Genesis,
        origin: Path,
        key: SigningKey,
        data: Path,
        network: Network,
        bootstrap: tuple[str, ...],
        sync: SyncSection,
        now_ms: Callable[[], int],
        account: str | None = None,
        members: Members | None = None,
    ) -> None:
        self._members = members
        self.account = account
        self.name = name
        self.genesis = genesis
        self.key = key
        self.data = data
        self.network = network
        self._origin = origin
        self._bootstrap = bootstrap
        self._sync_settings = sync
        self._now_ms = now_ms
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Tier":
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        """Make all parts, each before those that listen to it."""
        epochs = await self._open_chain()
        self._open_pools(epochs)
        self._open_sync()
        self._open_answers()
        if self._members is not None:
            self._members.bind(self.app.value)
            self.chain.on_applied(self._dismiss)

    async def _open_chain(self) -> Epochs:
        """Open what is on disk, and make the chain over it."""
        genesis, data = self.genesis, self.data
        self.store = await Store.open(data / DATABASE_NAME, genesis.hash)
        self._stack.push_async_callback(self.store.close)
        wal = Wal.open(data / WAL_NAME)
        self._stack.callback(wal.close)
        self.app = Application(genesis.market, founding=genesis.founding(), natives=natives())
        try:
            self.app.check_machine(beginning=self.store.height < 0)
        except StateError as error:
            raise GenesisError(f"{self._origin}: {error}") from None
        epochs = Epochs(genesis, self.app)
        self._verifier = TransactionVerifier(genesis.chain_id)
        maker = BlockMaker(genesis, epochs, self.app, self._verifier)
        inherited = data / INHERITED_NAME
        replica = Replica(
            genesis.chain_id,
            self.store,
            self.app,
            epochs,
            maker,
            lambda: inherited_pairs(inherited),
        )
        self.chain = Chain(genesis, self.key, replica, wal, self.network, self._now_ms)
        self._stack.callback(self.chain.close)
        return epochs

    def _open_pools(self, epochs: Epochs) -> None:
        """Make what waits for a block: transactions, and proofs against authorities."""
        transactions, _ = topics(self.genesis)
        self.mempool = Mempool(
            self._verifier,
            self.app.check,
            lambda batch: self.network.publish(transactions, batch),
            self._now_ms,
            self.chain.consider_block,
            lambda batch: courier.hand_over(batch),
            lambda: courier.weight(),
            Intake(lambda peer: peer in self.chain.other_authorities),
            lambda: self.chain.index is not None,
        )
        courier = Courier(self.chain, self.network, self.mempool.gossip_check, self.mempool.receive)
        self.network.on_gossip(transactions, self.mempool.receive, self.mempool.gossip_check)
        proofs = evidence_topic(self.genesis)
        self.evidence = EvidencePool(
            self.genesis.chain_id,
            epochs,
            self.app,
            self.data / EVIDENCE_NAME,
            lambda notice: self.network.publish(proofs, notice),
            self.chain.consider_block,
        )
        self.network.on_gossip(proofs, self.evidence.receive, self.evidence.gossip_check)
        self.chain.on_applied(self.evidence.applied)

    def _open_sync(self) -> None:
        """Make what tells others of decided blocks, and what fetches those that are missing."""
        settings, data = self._sync_settings, self.data
        snapshots = Snapshots(data, settings.snapshot_every, self.app.state_copy)
        snapshots.open()
        self._stack.push_async_callback(snapshots.close)
        self.chain.on_applied(snapshots.applied)
        self.sync = Sync(
            self.chain, self.store, self.network, snapshots, data, settings.snapshot_behind
        )
        _, blocks = topics(self.genesis)
        self.announcer = Announcer(
            self.genesis.chain_id, blocks, self.chain, self.sync, self.network
        )
        self._stack.callback(self.announcer.close)

    def _open_answers(self) -> None:
        """Make what tells owners, strangers and newcomers of the chain."""
        self.finality = Finality()
        self.chain.on_applied(self.finality.applied)
        self.catching_up = CatchingUp(
            self.genesis.chain_id,
            lambda: self.chain.height,
            lambda: self.sync.behind,
            lambda: self.sync.fetching_snapshot,
        )
        self.status = NodeStatus(
            self.name,
            self.genesis,
            self.key,
            self.chain,
            self.mempool,
            self.sync,
            self.network,
            self.finality,
            self.catching_up,
            self.account,
        )
        self.bills = Bills(self.chain, self.app, self.sync, self.network)
        self.receipts = Receipts(self.store, self.sync, self.network)
        self.doorkeeper = Doorkeeper(
            self.genesis, self.app.query, self.network, submit=self.mempool.submit
        )

    def _dismiss(self, *_: object) -> None:
        if self._members is not None:
            self._members.dismiss(self.network)

    async def start(self) -> None:
        """Load the chain and connect; whoever listens to parts of it has said so before."""
        await self.chain.open(self.mempool, self.evidence)
        self.evidence.load()
        await self.network.start()
        self._stack.push_async_callback(self.network.stop)
        for address in self._bootstrap:
            self.network.want(address)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what runs for ever; if one of them fails, the node must stop."""
        return [
            self.chain.run(),
            self.mempool.run(),
            self.evidence.run(),
            self.sync.run(),
            self.catching_up.run(),
        ]


def libp2p_of(
    genesis: Genesis,
    key: SigningKey,
    data: Path,
    listen: str,
    announce: tuple[str, ...],
    psk: bytes | None = None,
    allowed: Callable[[str], bool] | None = None,
) -> Libp2pNetwork:
    """Return the network of a chain's community, not started yet.

    `psk` is the community's own key, `allowed` tells its members' peer ids where it is closed.
    """
    return Libp2pNetwork(
        key,
        listen,
        community_key(genesis.hash, psk),
        data / PEERS_NAME,
        allowed=allowed,
        announce=announce,
        large=len(genesis.market.homes) > LARGE_COMMUNITY,
    )


def check_main(region: Genesis, main: Genesis, origin: Path) -> None:
    """Check that a region belongs to this main chain.

    Raises
    ------
    GenesisError
        One of them is of no second tier, or they are of different ones.
    """
    if region.market.main is not None:
        raise GenesisError(
            f"{origin}: [main] is for a region's node; this one keeps the main chain"
        )
    member = region.market.region
    if member is None:
        raise GenesisError(f"{origin}: [main] is for a region's node; this chain is no region")
    if main.market.main is None:
        raise GenesisError(f"{origin}: chain {main.chain_id} is no main chain")
    if (member.main_chain_id, member.main_authorities) != (main.chain_id, main.authorities):
        raise GenesisError(
            f"{origin}: region {member.region} belongs to main chain {member.main_chain_id} and "
            f"its first authorities, this genesis is of {main.chain_id} or of others"
        )


def topics(genesis: Genesis) -> tuple[str, str]:
    """Return the gossip topics of a chain: transactions, decided blocks."""
    chain = hashlib.sha256(genesis.hash).hexdigest()[:12]
    return f"commonwatt/{chain}/transactions", f"commonwatt/{chain}/blocks"


def evidence_topic(genesis: Genesis) -> str:
    """Return the gossip topic of proofs against authorities."""
    return topics(genesis)[0].replace("transactions", "evidence")
