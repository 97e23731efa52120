"""Tells the neighbourhood what has been decided, and hears it.

The block's builder gossips block and certificate; should it fall silent, the next f authorities in
line do so after a moment. A home without a seat lives on these notices, and on sync for what they
miss.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from consensus.authorities import verify_certificate
from consensus.errors import CertificateRefused
from consensus.messages import (
    BLOCK_BYTES_MAX,
    CERTIFICATE_BYTES_MAX,
    Block,
    Certificate,
    header_hash,
)
from consensus.validate import body_problem
from market.app import BlockResult
from node.chain.driver import Chain
from node.chain.messages import GOSSIPED_BODY_BYTES_MAX, DecidedNotice
from node.chain.sync import Sync
from node.errors import BadBlock
from node.network.base import GOSSIP_BYTES_MAX, Network, NetworkError, Verdict
from wire.codec import decode, encode
from wire.errors import DecodeError

log = logging.getLogger("commonwatt.announcer")

# How long an authority waits for each one before it in line.
STAGGER_S: Final = 0.5
# Notices of epochs not known here that are passed on unverified: no more, or a stranger could make
# the whole neighbourhood carry what nobody has signed.
UNPROVEN_MAX: Final = 64
UNPROVEN_WINDOW_S: Final = 60.0
# Older notices are no news to anybody who listens: whoever lacks their blocks asks for them.
NOTICE_BEHIND_MAX: Final = 16


class Announcer:
    """Gossips decided blocks on `topic` and hands those of others to the chain."""

    def __init__(
        self, chain_id: str, topic: str, chain: Chain, sync: Sync, network: Network
    ) -> None:
        self._chain_id = chain_id
        self._topic = topic
        self._chain = chain
        self._sync = sync
        self._network = network
        self._heard_height = 0
        # The same as the network's thread knows it, before the event loop's turn comes.
        self._proven_height = 0
        self._applying_height = 0
        self._unproven = 0
        self._unproven_since = -math.inf
        self._tasks: set[asyncio.Task[None]] = set()
        network.on_gossip(topic, self._receive, self._check)
        chain.on_applied(self._applied)

    def close(self) -> None:
        """Drop what is still to be said or applied."""
        for task in self._tasks:
            task.cancel()

    def _applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        del result
        chain, header = self._chain, block.header
        # What came ready from a neighbour, as while catching up, is news to nobody else.
        if chain.index is None or header.height != chain.decided_height:
            return
        place = (chain.index - header.proposer) % chain.authorities.n
        if place <= chain.authorities.f:
            self._later(place * STAGGER_S, lambda: self._publish(block, certificate))

    async def _publish(self, block: Block, certificate: Certificate) -> None:
        height = block.header.height
        if max(self._heard_height, self._proven_height) >= height:
            return
        self._heard_height = height
        body = encode(block)
        if len(body) > GOSSIPED_BODY_BYTES_MAX:
            body = b""
        try:
            await self._network.publish(
                self._topic, encode(DecidedNotice(height, encode(certificate), body))
            )
        except NetworkError as error:
            log.info("the notice of block %d was not gossiped: %s", height, error)

    def _check(self, peer: str, data: bytes) -> Verdict:
        """Tell whether a notice may be passed on. Runs in the network's thread."""
        try:
            certificate, _ = _open(data)
            if certificate.height < self._chain.height - NOTICE_BEHIND_MAX:
                return None
            proven = self._is_proven(certificate)
        except (BadBlock, DecodeError, CertificateRefused) as error:
            log.warning("peer %s sent a bad notice: %s", peer, error)
            return False
        if proven:
            self._proven_height = max(self._proven_height, certificate.height)
        # Each who passes some on does so within its own bound; together they may exceed this one.
        return True if proven or self._may_pass_unproven() else None

    def _is_proven(self, certificate: Certificate) -> bool:
        """Verify a certificate; False if this node is too far behind to know its authorities.

        Raises
        ------
        CertificateRefused
            It proves nothing.
        """
        authorities = self._chain.epochs.of_height(certificate.height)
        if authorities is None:
            return False
        verify_certificate(certificate, authorities, self._chain_id)
        return True

    def _may_pass_unproven(self) -> bool:
        """Who lags behind an epoch's end passes on a few notices that it cannot judge."""
        now = time.monotonic()
        if now - self._unproven_since >= UNPROVEN_WINDOW_S:
            self._unproven_since, self._unproven = now, 0
        self._unproven += 1
        return self._unproven <= UNPROVEN_MAX

    def _receive(self, peer: str, data: bytes) -> None:
        certificate, block = _open(data)
        height = certificate.height
        is_next = height == self._chain.height + 1 and block is not None
        try:
            # The next block is verified again where it is applied.
            if not is_next and not self._is_proven(certificate):
                self._sync.hinted(peer)
                return
        except CertificateRefused as refused:
            self._network.penalize(peer, f"a notice's certificate: {refused}")
            return
        self._heard_height = max(self._heard_height, height)
        if block is not None and self._applying_height < height == self._chain.height + 1:
            self._applying_height = height
            self._later(0.0, lambda: self._apply(peer, block, certificate))
        else:
            self._sync.heard(peer, height)

    async def _apply(self, peer: str, block: Block, certificate: Certificate) -> None:
        try:
            await self._chain.apply_certified(block, certificate)
        except BadBlock as bad:
            log.warning("peer %s: %s", peer, bad)
            self._network.penalize(peer, str(bad))

    def _later(self, delay_s: float, work: Callable[[], Awaitable[None]]) -> None:
        async def wait() -> None:
            await asyncio.sleep(delay_s)
            await work()

        task = asyncio.create_task(wait())
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a notice could not be handled", exc_info=error)


def _open(data: bytes) -> tuple[Certificate, Block | None]:
    """Decode a notice; its parts must speak of one block."""
    notice = decode(data, DecidedNotice, GOSSIP_BYTES_MAX)
    certificate = decode(notice.certificate, Certificate, CERTIFICATE_BYTES_MAX)
    if certificate.height != notice.height:
        raise BadBlock("the notice and its certificate are of different heights")
    if not notice.body:
        return certificate, None
    block = decode(notice.body, Block, BLOCK_BYTES_MAX)
    if header_hash(block.header) != certificate.block_hash:
        raise BadBlock("the notice's block is not the one its certificate is for")
    problem = body_problem(block)
    if problem:
        raise BadBlock(f"the notice's block: {problem}")
    return certificate, block
