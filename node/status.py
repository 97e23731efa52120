"""What a node says of itself: one plain map, for people, the testnet and health checks."""

import importlib.metadata
import time
from collections import deque
from typing import Any, Final

from consensus.messages import Block, Certificate
from market.app import BlockResult
from node.chain.catching_up import CatchingUp
from node.chain.driver import Chain
from node.chain.sync import Sync
from node.genesis import Genesis
from node.network.base import Network
from node.pool.mempool import Mempool
from node.process import cpu_s, rss_mib
from wire.keys import SigningKey

LATENCIES_KEPT: Final = 2_000
SUBMITTED_MAX: Final = 2_000


def version() -> str:
    """Return the version of this program, as it was installed."""
    return importlib.metadata.version("commonwatt")


class Finality:
    """How long this home's own transactions took from being submitted to being decided. [ms]"""

    def __init__(self) -> None:
        self._submitted: dict[bytes, float] = {}
        self._latencies_ms: deque[float] = deque(maxlen=LATENCIES_KEPT)

    def submitted(self, tx_id: bytes) -> None:
        """Start the watch for a transaction."""
        self._submitted[tx_id] = time.monotonic()
        while len(self._submitted) > SUBMITTED_MAX:
            self._submitted.pop(next(iter(self._submitted)))

    def applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        """Stop the watches of a block's transactions."""
        del block, certificate
        now = time.monotonic()
        for receipt in result.receipts:
            begun = self._submitted.pop(receipt.tx_id, None)
            if begun is not None:
                self._latencies_ms.append((now - begun) * 1000)

    @property
    def latencies_ms(self) -> list[float]:
        """The last latencies, oldest first."""
        return list(self._latencies_ms)


class NodeStatus:
    """Gathers the status of one node's parts."""

    def __init__(
        self,
        name: str,
        genesis: Genesis,
        key: SigningKey,
        chain: Chain,
        mempool: Mempool,
        sync: Sync,
        network: Network,
        finality: Finality,
        catching_up: CatchingUp,
        account: str | None = None,
    ) -> None:
        self._account = account or key.address
        self._name = name
        self._chain_id = genesis.chain_id
        self._genesis_hash = genesis.hash
        self._key = key
        self._chain = chain
        self._mempool = mempool
        self._sync = sync
        self._network = network
        self._finality = finality
        self._catching_up = catching_up
        self._begun = time.monotonic()

    def snapshot(self) -> dict[str, Any]:
        """Return the status as a plain map."""
        head = self._chain.head
        return {
            "name": self._name,
            "version": version(),
            "chain_id": self._chain_id,
            "address": self._account,
            "peer_id": self._key.peer_id,
            "listens": self._network.listen_addresses(),
            "genesis_hash": self._genesis_hash.hex(),
            "epoch": self._chain.authorities.epoch,
            "authority": self._chain.index,
            "voting": self._chain.voting,
            "height": head.header.height,
            "block_hash": head.hash.hex(),
            "block_time_ms": head.header.time_ms,
            "state_root": self._chain.state_root.hex(),
            "behind": self._sync.behind,
            "catching_up": self._catching_up.state(),
            "mempool": len(self._mempool),
            "refused": dict(self._mempool.refused),
            "peers": [peer._asdict() for peer in self._network.peers()],
            "finality_ms": summary_ms(self._finality.latencies_ms),
            "counts": {**self._chain.counts, **self._network.counters()},
            "rss_mib": round(rss_mib(), 1),
            "cpu_s": round(cpu_s(), 2),
            "uptime_s": round(time.monotonic() - self._begun, 1),
        }


def summary_ms(latencies_ms: list[float]) -> dict[str, float | int | None]:
    """Return count, median and 95th percentile of latencies. [ms]"""
    ordered = sorted(latencies_ms)
    if not ordered:
        return {"count": 0, "p50": None, "p95": None}
    return {
        "count": len(ordered),
        "p50": round(ordered[len(ordered) // 2], 1),
        "p95": round(ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)], 1),
    }
