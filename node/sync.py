"""Catching up: ask the neighbours how far they are, fetch decided blocks, apply them in order.

Gossip and votes are lossy by design; this is what makes every home arrive at the same place
anyway. Nothing a neighbour sends is believed: each block is checked against its certificate, and
executed, before it counts. What a neighbour only claims is believed until it fails to show it.
"""

import asyncio
import logging
import random
from typing import Final

from consensus.messages import BLOCK_BYTES_MAX, CERTIFICATE_BYTES_MAX, Block, Certificate
from node.chain import BadBlock, Chain
from node.messages import (
    QUESTION_BYTES_MAX,
    SYNC_BLOCKS_MAX,
    SYNC_BYTES_MAX,
    Blocks,
    GetBlocks,
    GetStatus,
    Status,
)
from node.network.base import RESPONSE_BYTES_MAX, Network, NetworkError
from node.store import Store
from wire.codec import decode, encode
from wire.errors import DecodeError

log = logging.getLogger("commonwatt.sync")

PROTOCOL: Final = "sync"
ASK_EVERY_S: Final = 5.0
ASK_PEERS_MAX: Final = 3
FETCH_TIMEOUT_S: Final = 30.0


class Sync:
    """Answers questions about the chain, and asks them while this home is behind."""

    def __init__(self, chain: Chain, store: Store, network: Network) -> None:
        self._chain = chain
        self._store = store
        self._network = network
        self._heights: dict[str, int] = {}
        # Neighbours that did not show the blocks they claimed: still asked, no longer believed.
        self._doubted: set[str] = set()
        self._proven_height = 0
        self._newcomers: dict[str, None] = {}
        self._wake = asyncio.Event()
        network.on_request(PROTOCOL, self._answer)
        network.on_peer(self._on_peer)

    @property
    def behind(self) -> int:
        """How many blocks are known to be missing here: proven, or claimed by the credible."""
        claims = (height for peer, height in self._heights.items() if peer not in self._doubted)
        return max(max(claims, default=0), self._proven_height, self._chain.height) - (
            self._chain.height
        )

    def heard(self, peer: str, height: int) -> None:
        """Note that a block at `height` is proven to be decided; `peer` may have it."""
        self._proven_height = max(self._proven_height, height)
        if height > self._heights.get(peer, -1) and peer in {
            p.peer_id for p in self._network.peers()
        }:
            self._heights[peer] = height
        if height > self._chain.height:
            self._wake.set()

    def hinted(self, peer: str) -> None:
        """Ask this neighbour how far it is: it spoke of a block that cannot be judged here yet."""
        self._newcomers[peer] = None
        self._wake.set()

    def _on_peer(self, peer: str, came: bool) -> None:
        if came:
            self._newcomers[peer] = None
            self._wake.set()
        else:
            self._newcomers.pop(peer, None)
            self._heights.pop(peer, None)
            self._doubted.discard(peer)

    # -- answering ---------------------------------------------------------------------------

    async def _answer(self, peer: str, data: bytes) -> bytes:
        question = decode(data, GetStatus | GetBlocks, QUESTION_BYTES_MAX)  # type: ignore[arg-type]
        if isinstance(question, GetStatus):
            return encode(Status(self._chain.height, self._chain.head_hash))
        # Everybody makes the genesis block; it has no certificate and is never sent.
        first = max(question.first, 1)
        stored = await self._store.blocks(first, question.count, SYNC_BYTES_MAX)
        return encode(Blocks([(block.block, block.certificate) for block in stored]))

    # -- asking ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ask a few neighbours while no block comes by itself; fetch whenever one is ahead."""
        asked_at = -1
        while True:
            self._wake.clear()
            if self._chain.height == asked_at or self.behind or self._newcomers:
                peers = [peer.peer_id for peer in self._network.peers()]
                random.shuffle(peers)  # not for secrecy: only to spread the questions
                asked = dict.fromkeys([*self._newcomers, *peers][:ASK_PEERS_MAX])
                self._newcomers.clear()
                await asyncio.gather(*(self._ask_status(peer) for peer in asked))
            asked_at = self._chain.height
            while peer := self._one_ahead():
                await self._fetch(peer)
            try:
                # Not `wait_for`: it swallows a cancellation that comes with the event.
                async with asyncio.timeout(ASK_EVERY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
            # A notice usually brings its own block; fetch only what it did not.
            await asyncio.sleep(0.2)

    async def _ask_status(self, peer: str) -> None:
        try:
            answer = await self._network.request(peer, PROTOCOL, encode(GetStatus()), 5.0)
            self._heights[peer] = decode(answer, Status, QUESTION_BYTES_MAX).height
        except NetworkError:
            self._heights.pop(peer, None)
        except DecodeError as error:
            self._heights.pop(peer, None)
            self._network.penalize(peer, f"malformed status: {error}")

    def _one_ahead(self) -> str | None:
        """Return a neighbour that is ahead, if there is one; a doubted one only if no other is."""
        ahead = [peer for peer, height in self._heights.items() if height > self._chain.height]
        credible = [peer for peer in ahead if peer not in self._doubted]
        # Random to spread the load, not to keep a secret.
        return random.choice(credible or ahead) if ahead else None  # noqa: S311

    async def _fetch(self, peer: str) -> None:
        """Fetch one run of blocks and apply it; a neighbour that cannot is no longer ahead."""
        first = self._chain.height + 1
        try:
            question = encode(GetBlocks(first, SYNC_BLOCKS_MAX))
            answer = await self._network.request(peer, PROTOCOL, question, FETCH_TIMEOUT_S)
            pairs = decode(answer, Blocks, RESPONSE_BYTES_MAX).blocks
            if not pairs:
                # It may have passed a notice on before it had the block itself.
                self._doubt(peer)
                return
            for height, (raw_block, raw_certificate) in enumerate(pairs, first):
                block = decode(raw_block, Block, BLOCK_BYTES_MAX)
                certificate = decode(raw_certificate, Certificate, CERTIFICATE_BYTES_MAX)
                if block.header.height != height:
                    raise BadBlock(f"block {block.header.height} in the place of {height}")
                await self._chain.apply_certified(block, certificate)
        except NetworkError as error:
            log.info("fetching blocks from %s failed: %s", peer, error)
            self._doubt(peer)
        except (BadBlock, DecodeError) as error:
            log.warning("peer %s sent a bad block: %s", peer, error)
            self._doubt(peer)
            self._network.penalize(peer, str(error))
        else:
            self._doubted.discard(peer)

    def _doubt(self, peer: str) -> None:
        if self._heights.pop(peer, None) is not None:
            self._doubted.add(peer)
