"""How a reader who trusts no node comes to one: by its control socket, or as a stranger by network.

The stranger makes a key for this one visit, proves the community's key like every peer, connects
to one address, asks, and goes. It listens to nothing, passes nothing on, and is in nobody's list of
authorities; nobody needs to know it. What it is told is checked by `node.proofs.bill.BillReader`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from consensus.sync_messages import GetPath
from node.api.control import ask
from node.chain.sync import PROTOCOL as SYNC_PROTOCOL
from node.errors import ConfigError, PeerError
from node.genesis import Genesis, community_key
from node.membership.joining import PROTOCOL as JOIN_PROTOCOL
from node.membership.joining import GetGenesis, JoiningAddress, read_shown
from node.network.base import Network, NetworkError
from node.network.libp2p import Libp2pNetwork
from node.proofs.anchoring import MAIN_PATH_PROTOCOL, AnchorReader, ProveCheckpoint, ProvenAnchor
from node.proofs.anchoring import PROTOCOL as ANCHOR_PROTOCOL
from node.proofs.bill import PROTOCOL, BillReader, ProveBill, ProvenBill, Source
from node.proofs.receipts import PROTOCOL as RECEIPT_PROTOCOL
from node.proofs.receipts import ProvenReceipt, ProveReceipt, ReceiptReader
from wire.codec import encode
from wire.keys import SigningKey, is_address

log = logging.getLogger("commonwatt.light")

CONNECT_TIMEOUT_S: Final = 15.0
REQUEST_TIMEOUT_S: Final = 20.0
RETRY_S: Final = 2.0
# Homes that are named when one is not found.
NAMES_SHOWN_MAX: Final = 8


class ControlSource:
    """The node of a data directory, asked on its control socket."""

    def __init__(self, data: Path) -> None:
        self._data = data

    async def proof(self, address: str, slot: int | None) -> bytes:
        """See `node.proofs.bill.Source`."""
        return _bytes(await ask(self._data, "bill_proof", address=address, slot=slot))

    async def receipt(self, tx_id: bytes) -> bytes:
        """See `node.proofs.receipts.ReceiptSource`."""
        return _bytes(await ask(self._data, "receipt_proof", id=tx_id.hex()))

    async def path(self, epoch: int, height: int) -> bytes:
        """See `node.proofs.bill.Source`."""
        return _bytes(await ask(self._data, "path", epoch=epoch, height=height))

    async def anchor(self, number: int) -> bytes:
        """See `node.proofs.anchoring.AnchorSource`."""
        return _bytes(await ask(self._data, "checkpoint_proof", number=number))

    async def main_path(self, epoch: int, height: int) -> bytes:
        """See `node.proofs.anchoring.AnchorSource`."""
        return _bytes(await ask(self._data, "main_path", epoch=epoch, height=height))


class PeerSource:
    """A connected peer, asked over the network."""

    def __init__(self, network: Network, peer_id: str) -> None:
        self._network = network
        self._peer_id = peer_id

    async def proof(self, address: str, slot: int | None) -> bytes:
        """See `node.proofs.bill.Source`."""
        return await self.ask(PROTOCOL, encode(ProveBill(address, slot)))

    async def receipt(self, tx_id: bytes) -> bytes:
        """See `node.proofs.receipts.ReceiptSource`."""
        return await self.ask(RECEIPT_PROTOCOL, encode(ProveReceipt(tx_id)))

    async def path(self, epoch: int, height: int) -> bytes:
        """See `node.proofs.bill.Source`."""
        return await self.ask(SYNC_PROTOCOL, encode(GetPath(epoch, height)))

    async def anchor(self, number: int) -> bytes:
        """See `node.proofs.anchoring.AnchorSource`."""
        return await self.ask(ANCHOR_PROTOCOL, encode(ProveCheckpoint(number)))

    async def main_path(self, epoch: int, height: int) -> bytes:
        """See `node.proofs.anchoring.AnchorSource`."""
        return await self.ask(MAIN_PATH_PROTOCOL, encode(GetPath(epoch, height)))

    async def ask(self, protocol: str, question: bytes) -> bytes:
        """Ask by any protocol. Raises `PeerError`."""
        try:
            return await self._network.request(self._peer_id, protocol, question, REQUEST_TIMEOUT_S)
        except NetworkError as error:
            raise PeerError(f"no answer: {error}") from None


@contextlib.asynccontextmanager
async def visit(
    genesis: Genesis,
    address: str,
    network: Network | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> AsyncIterator[PeerSource]:
    """Connect to one peer of a community as a stranger, for as long as the context lasts.

    Parameters
    ----------
    address : str
        The peer's multiaddress, with `/p2p/`.
    network : Network, optional
        A fresh one instead of libp2p's, for tests.

    Raises
    ------
    ConfigError
        `address` is none.
    PeerError
        It cannot be reached.
    """
    async with visit_community(genesis.hash, address, network, connect_timeout_s) as source:
        yield source


@contextlib.asynccontextmanager
async def visit_community(
    genesis_hash: bytes,
    address: str | Sequence[str],
    network: Network | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    key: SigningKey | None = None,
    psk: bytes | None = None,
) -> AsyncIterator[PeerSource]:
    """Do as `visit` does, knowing no more of the genesis than its hash.

    Of several addresses the first that lets it in is visited. Into a closed community with a `key`
    that it lets in, and its own `psk`.
    """
    if network is None:
        key = key or SigningKey.generate()
        network = Libp2pNetwork(key, None, community_key(genesis_hash, psk))
    here: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    network.on_peer(lambda peer, came: _arrive(here, peer, came))
    addresses = [address] if isinstance(address, str) else address
    try:
        for one in addresses:
            network.want(one)
    except NetworkError as error:
        raise ConfigError(str(error)) from None
    try:
        await network.start()
        try:
            async with asyncio.timeout(connect_timeout_s):
                peer_id = await here
        except TimeoutError:
            raise PeerError(
                f"{', '.join(addresses)} cannot be reached within {connect_timeout_s:g} s: nobody "
                "is there, it is a home of another genesis than the one given, or its community "
                "is closed, where members ask their own node (--config)"
            ) from None
        yield PeerSource(network, peer_id)
    except NetworkError as error:
        raise PeerError(f"the network does not start: {error}") from None
    finally:
        await network.stop()


async def prove_bill(
    genesis: Genesis,
    asked: Path | str,
    home: str,
    slot: int | None,
    not_before_ms: int,
    network: Network | None = None,
) -> ProvenBill:
    """Fetch a home's bill and check it against the genesis.

    Parameters
    ----------
    asked : Path or str
        The data directory of a running node, or the multiaddress of a peer.
    home : str
        The home's account address.
    slot : int or None
        None: the last settled one.
    not_before_ms : int
        Proofs by blocks before this are refused. [ms, UTC]
    network : Network, optional
        As `visit`.

    Raises
    ------
    ConfigError, ControlError, PeerError, ProofError
        As `visit` and `BillReader.fetch`.
    """
    reader = BillReader(genesis, not_before_ms)
    if isinstance(asked, Path):
        source: Source = ControlSource(asked)
        return await reader.fetch(source, home, slot)
    async with visit(genesis, asked, network) as source:
        return await reader.fetch(source, home, slot)


async def prove_receipt(
    genesis: Genesis, asked: Path | str, tx_id: bytes, network: Network | None = None
) -> ProvenReceipt:
    """Fetch how a transaction ended and check it against the genesis.

    Parameters
    ----------
    asked : Path or str
        The data directory of a running node, or the multiaddress of a peer.
    tx_id : bytes
        The transaction's 32-byte id.
    network : Network, optional
        As `visit`.

    Raises
    ------
    ConfigError, ControlError, PeerError, ProofError
        As `visit` and `ReceiptReader.fetch`.
    """
    reader = ReceiptReader(genesis)
    if isinstance(asked, Path):
        return await reader.fetch(ControlSource(asked), tx_id)
    async with visit(genesis, asked, network) as source:
        return await reader.fetch(source, tx_id)


async def prove_anchor(
    genesis: Genesis, asked: Path | str, number: int, network: Network | None = None
) -> ProvenAnchor:
    """Fetch a region's checkpoint and what has become of it, and check it against the genesis.

    Parameters
    ----------
    genesis : Genesis
        The region's.
    asked : Path or str
        The data directory of a running node, or the multiaddress of a peer; of one that keeps the
        main chain too.
    number : int
        The checkpoint's.
    network : Network, optional
        As `visit`.

    Raises
    ------
    ConfigError, ControlError, GenesisError, PeerError, ProofError
        As `visit` and `AnchorReader.fetch`.
    """
    reader = AnchorReader(genesis)
    if isinstance(asked, Path):
        return await reader.fetch(ControlSource(asked), number)
    async with visit(genesis, asked, network) as source:
        return await reader.fetch(source, number)


async def fetch_patiently(where: JoiningAddress, patience_s: float) -> Genesis:
    """Do as `fetch_genesis` does, again and again while the neighbour cannot be reached."""
    until_s = time.monotonic() + patience_s
    while True:
        try:
            return await fetch_genesis(where)
        except PeerError as error:
            if time.monotonic() >= until_s:
                raise
            log.debug("asking again: %s", error)
        await asyncio.sleep(RETRY_S)


async def fetch_genesis(where: JoiningAddress, network: Network | None = None) -> Genesis:
    """Ask a neighbour for the genesis and check that it is the one the address names.

    Parameters
    ----------
    network : Network, optional
        A fresh one instead of libp2p's, for tests.

    Raises
    ------
    ConfigError
        It is no address.
    PeerError
        The neighbour cannot be reached, or shows something else.
    GenesisError
        This program cannot use that genesis.
    """
    async with visit_community(where.genesis_hash, where.address, network) as source:
        answer = await source.ask(JOIN_PROTOCOL, encode(GetGenesis()))
    return read_shown(answer, where.genesis_hash)


def account_of(home: str, genesis: Genesis) -> str:
    """Return the account of a home that is named by its account, or by its name in the genesis.

    Raises
    ------
    ConfigError
        The genesis has no such name, or has it more than once.
    """
    if is_address(home):
        return home
    found = [entry.address for entry in genesis.market.homes if entry.name == home]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{len(found)} homes are called {home!r}; name it by its account, cw...")
    names = [entry.name for entry in genesis.market.homes]
    more = ", ..." if len(names) > NAMES_SHOWN_MAX else ""
    raise ConfigError(
        f"no home of the genesis is called {home!r}; there are "
        f"{', '.join(names[:NAMES_SHOWN_MAX])}{more}; who came later is named by its account, cw..."
    )


def names_of(genesis: Genesis) -> dict[str, str]:
    """Return what the genesis calls the accounts it knows: homes, their meters, the regulator."""
    found = {genesis.market.regulator: "regulator"}
    for home in genesis.market.homes:
        found |= {home.address: home.name, home.meter: f"{home.name}'s meter"}
    return found


def _arrive(here: "asyncio.Future[str]", peer: str, came: bool) -> None:
    if came and not here.done():
        here.set_result(peer)


def _bytes(served: object) -> bytes:
    try:
        return bytes.fromhex(served) if isinstance(served, str) else b""
    except ValueError:
        return b""
