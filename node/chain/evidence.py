"""Proofs against authorities that wait for a block (R30): found, heard, checked, kept, handed out.

What the core finds here and what neighbours gossip is checked in full before it is kept or passed
on. A piece leaves the pool when it convicts nobody any more: a block has taken it, or its offender
has been convicted for something else, or it has become too old. The pool is on disk, so that a
restart forgets no offence.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

from msgspec import Meta

from consensus.errors import EvidenceRefused
from consensus.evidence import EVIDENCE_HEIGHTS_MAX, check_evidence, evidence_height
from consensus.messages import CERTIFICATE_BYTES_MAX, ConflictingCertificates, Evidence
from market.app import Application
from market.convictions import Conviction
from node.chain.epochs import Epochs
from node.durable import replace_file
from wire.codec import Message, decode, encode
from wire.errors import DecodeError
from wire.keys import address_of

log = logging.getLogger("commonwatt.evidence")

# Every piece convicts somebody else, so this is more than there are authorities.
POOL_MAX: Final = 64
EVIDENCE_BYTES_MAX: Final = 2 * CERTIFICATE_BYTES_MAX + 64
FILE_BYTES_MAX: Final = POOL_MAX * (EVIDENCE_BYTES_MAX + 16)
# In one block; with the largest pieces and the most transactions it still has its size.
PER_BLOCK_MAX: Final = 4
# Pieces of an epoch that is not known here yet, which the next blocks may bring.
EARLY_MAX: Final = 16
EARLY_BLOCKS_MAX: Final = 16
REPEAT_S: Final = 10.0


class EvidenceNotice(Message, frozen=True, tag="evidence"):
    """A piece of evidence, to all. `sequence` makes a repeated one a new gossip message."""

    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    evidence: Evidence


class EvidenceFile(Message, frozen=True, tag="evidence-file"):
    """What the pool held."""

    pieces: Annotated[tuple[Evidence, ...], Meta(max_length=POOL_MAX)]


class UnknownEpoch(Exception):
    """It cannot be said yet who the authorities of the evidence were."""


class _Piece(NamedTuple):
    evidence: Evidence
    conviction: Conviction


def conviction_of(evidence: Evidence, epochs: Epochs, chain_id: str) -> Conviction:
    """Check evidence and return what it proves, in the market's words.

    Raises
    ------
    EvidenceRefused
        It convicts nobody, is not of its height's epoch, or that epoch is not known (any more).
    """
    height, epoch = evidence_height(evidence), evidence.first.epoch
    if epoch != epochs.epoch_of(height):
        raise EvidenceRefused(f"height {height} is of epoch {epochs.epoch_of(height)}, not {epoch}")
    authorities = epochs.of_epoch(epoch)
    if authorities is None:
        raise EvidenceRefused(f"the authorities of epoch {epoch} are not known")
    offence = check_evidence(evidence, authorities, chain_id)
    return Conviction(offence.id, height, tuple(map(address_of, offence.offenders)))


class EvidencePool:
    """Evidence that is good and not in a block yet, by the offence's identity.

    Parameters
    ----------
    chain_id, epochs, app : the chain
    path : Path
        Where the pool is kept.
    publish : callable
        Gossips one encoded notice.
    on_arrival : callable
        Called when something has come that a block should hold.
    """

    def __init__(
        self,
        chain_id: str,
        epochs: Epochs,
        app: Application,
        path: Path,
        publish: Callable[[bytes], Awaitable[None]],
        on_arrival: Callable[[], None],
    ) -> None:
        self._chain_id = chain_id
        self._epochs = epochs
        self._app = app
        self._path = path
        self._publish = publish
        self._pieces: dict[bytes, _Piece] = {}
        self._early: list[Evidence] = []
        self._outbox: list[Evidence] = []
        self._wake = asyncio.Event()
        self._sequence = time.time_ns()
        self._on_arrival = on_arrival
        # Proof that the chain is broken, once there is any: nothing makes it less true, and it is
        # one even where it convicts nobody (two certificates of different rounds).
        self.conflict: ConflictingCertificates | None = None

    def __len__(self) -> int:
        return len(self._pieces)

    # -- coming in ---------------------------------------------------------------------------

    def load(self) -> None:
        """Take up what the last run kept; a damaged file is left aside, others know it too."""
        try:
            with self._path.open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
            pieces = decode(data, EvidenceFile, FILE_BYTES_MAX).pieces
        except FileNotFoundError:
            return
        except (OSError, DecodeError) as error:
            log.warning("%s: the kept evidence cannot be read: %s", self._path, error)
            return
        for evidence in pieces:
            self._take(evidence)

    def report(self, evidence: Evidence) -> None:
        """Take in what this node's core has found, and tell all others."""
        height = evidence_height(evidence)
        if isinstance(evidence, ConflictingCertificates):
            log.critical("two blocks are final at height %d: the chain is broken", height)
        else:
            kind = type(evidence).__name__
            log.warning("an authority broke the rules at height %d: %s", height, kind)
        if self._take(evidence):
            self._say(evidence)

    def gossip_check(self, peer: str, data: bytes) -> bool:
        """Tell whether a notice may be passed on. Runs in the network's thread."""
        try:
            evidence = decode(data, EvidenceNotice, EVIDENCE_BYTES_MAX + 64).evidence
            self._judge(evidence)
        except UnknownEpoch:
            return True
        except (DecodeError, EvidenceRefused) as error:
            log.warning("peer %s sent bad evidence: %s", peer, error)
            return False
        return True

    def receive(self, peer: str, data: bytes) -> None:
        """Take in a notice that passed `gossip_check`."""
        self._take(decode(data, EvidenceNotice, EVIDENCE_BYTES_MAX + 64).evidence)

    def _judge(self, evidence: Evidence) -> Conviction:
        """Return what the evidence proves.

        Raises
        ------
        EvidenceRefused
            No honest node sends it.
        UnknownEpoch
            This node is a few blocks behind the end of an epoch, and cannot tell.
        """
        height, known = evidence_height(evidence), self._app.height
        if height > known + EARLY_BLOCKS_MAX:
            raise EvidenceRefused(f"height {height} is far ahead of {known}")
        # Whoever is a little behind still counts what has just become too old.
        if height < known - EVIDENCE_HEIGHTS_MAX - EARLY_BLOCKS_MAX:
            raise EvidenceRefused(f"height {height} is too long ago")
        if (
            evidence.first.epoch == self._epochs.epoch_of(height)
            and self._epochs.of_height(height) is None
        ):
            if height > known:
                raise UnknownEpoch
            raise EvidenceRefused(f"height {height} is too long ago")
        conviction = conviction_of(evidence, self._epochs, self._chain_id)
        if self.conflict is None and isinstance(evidence, ConflictingCertificates):
            self.conflict = evidence
        if not conviction.offenders:
            raise EvidenceRefused("it convicts nobody")
        return conviction

    def _take(self, evidence: Evidence) -> bool:
        """Keep evidence that is good and news."""
        try:
            conviction = self._judge(evidence)
        except UnknownEpoch:
            if len(self._early) < EARLY_MAX and evidence not in self._early:
                self._early.append(evidence)
            return False
        except EvidenceRefused as refused:
            log.info("evidence is not kept: %s", refused)
            return False
        if conviction.offence in self._pieces or len(self._pieces) >= POOL_MAX:
            return False
        others = [piece.conviction for piece in self._pieces.values()]
        if not self._is_fresh(conviction) or not self._app.admissible([*others, conviction])[-1]:
            return False
        self._pieces[conviction.offence] = _Piece(evidence, conviction)
        self._keep()
        self._on_arrival()
        return True

    def _is_fresh(self, conviction: Conviction) -> bool:
        return conviction.height >= self._app.height + 1 - EVIDENCE_HEIGHTS_MAX

    # -- going out ---------------------------------------------------------------------------

    def due(self, height: int) -> list[Evidence]:
        """Return what the block at `height` may hold: the evidence of heights before it."""
        found = [p.evidence for p in self._pieces.values() if p.conviction.height < height]
        return found[:PER_BLOCK_MAX]

    def applied(self, *_: Any) -> None:
        """Drop what convicts nobody any more, after each block; look again at what came early."""
        early, self._early = self._early, []
        for evidence in early:
            self._take(evidence)
        if not self._pieces:
            return
        pieces = list(self._pieces.values())
        admitted = self._app.admissible(piece.conviction for piece in pieces)
        kept = {
            piece.conviction.offence: piece
            for piece, good in zip(pieces, admitted, strict=True)
            if good and self._is_fresh(piece.conviction)
        }
        if len(kept) < len(pieces):
            self._pieces = kept
            self._keep()

    async def run(self) -> None:
        """Gossip what was found here; say again what stays out of the blocks."""
        while True:
            try:
                # Not `wait_for`: it swallows a cancellation that comes with the event.
                async with asyncio.timeout(REPEAT_S):
                    await self._wake.wait()
                found = self._outbox
            except TimeoutError:
                found = [piece.evidence for piece in self._pieces.values()]
            self._wake.clear()
            self._outbox = []
            for evidence in found:
                self._sequence += 1
                try:
                    await self._publish(encode(EvidenceNotice(self._sequence, evidence)))
                except Exception:
                    log.exception("evidence was not gossiped")

    def _say(self, evidence: Evidence) -> None:
        self._outbox.append(evidence)
        self._wake.set()

    def _keep(self) -> None:
        data = encode(EvidenceFile(tuple(piece.evidence for piece in self._pieces.values())))
        replace_file(self._path, data)
