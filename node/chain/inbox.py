"""What a chain's driver takes in: one queue, and who of the network is let into it.

Agreement must never see two things at once, so all of it waits here in the order it came: what
other authorities say, timers and answers of the driver's own work, blocks brought by sync.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from consensus import events as ev
from consensus.light import SignedHeader
from consensus.messages import Block, Certificate, ConsensusMessage, decode_message
from consensus.tally import height_of
from node.chain.epochs import Epochs
from node.chain.replica import Pairs
from node.network.base import Network
from wire.errors import DecodeError
from wire.keys import peer_id_of

PROTOCOL: Final = "consensus"
MESSAGES_MAX: Final = 4_096
# Messages of the next epoch from peers that may have a seat in it, and the largest kept of them.
EARLY_MAX: Final = 32
EARLY_BYTES_MAX: Final = 65_536


class Certified(NamedTuple):
    """A block that a quorum has signed, brought by sync or gossip, and who waits for it."""

    block: Block
    certificate: Certificate
    done: asyncio.Future[None]


class Jump(NamedTuple):
    """A certified block with the state after it, and who waits for it to be taken over."""

    block: Block
    certificate: Certificate
    epoch_ends: Sequence[SignedHeader]
    pairs: Pairs
    done: asyncio.Future[None]


class _Failed(NamedTuple):
    """A job that must not fail has: whoever takes it out gets its error."""

    error: BaseException


class _Heard(NamedTuple):
    """A message of another authority, and when it came."""

    peer: str
    message: ConsensusMessage
    now_ms: int


class Inbox:
    """The queue of one chain.

    Parameters
    ----------
    network : Network
        Whence the other authorities are heard; not started yet.
    epochs : Epochs
        Who decides which height.
    height : callable
        Height of the last applied block.
    now_ms : callable
        Real time, UTC. [ms]
    """

    def __init__(
        self,
        network: Network,
        epochs: Epochs,
        height: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        self._network = network
        self._epochs = epochs
        self._height = height
        self._now_ms = now_ms
        # What others send is bounded by `_hear`; timers, answers and failures are few and nobody
        # repeats them, so they always find room.
        self._waiting: asyncio.Queue[ev.Event | _Heard | Certified | Jump | _Failed] = (
            asyncio.Queue()
        )
        self._early: deque[_Heard] = deque(maxlen=EARLY_MAX)
        self._indices: dict[str, int] = {}
        # How many messages found no room.
        self.dropped = 0
        network.on_send(PROTOCOL, self._hear)

    async def take(self) -> ev.Event | Certified | Jump:
        """Wait for the next thing. Raises what was handed to `fail`."""
        while True:
            item = await self._waiting.get()
            if isinstance(item, _Failed):
                raise item.error
            if not isinstance(item, _Heard):
                return item
            # Now, not when it came: the set may have changed in between.
            sender = self._indices.get(item.peer)
            if sender is not None:
                return ev.Received(item.message, sender, item.now_ms)

    def put(self, item: ev.Event | Certified | Jump) -> None:
        """Add something of this node's own."""
        self._waiting.put_nowait(item)

    def fail(self, error: BaseException) -> None:
        """Let whoever takes from here fail with `error` when its turn comes."""
        self._waiting.put_nowait(_Failed(error))

    def seat(self, peers: Sequence[str]) -> None:
        """Hear these from now on, the authorities in the order of their seats."""
        self._indices = {peer: index for index, peer in enumerate(peers)}

    def release_early(self) -> None:
        """Put what came before its epoch in the queue; call when an epoch begins."""
        for heard in self._early:
            self._waiting.put_nowait(heard)
        self._early.clear()

    def _hear(self, peer: str, data: bytes) -> None:
        if self._waiting.qsize() >= MESSAGES_MAX:
            # Summaries bring it again once there is room.
            self.dropped += 1
            return
        try:
            message = decode_message(data)
        except DecodeError as error:
            self._network.penalize(peer, f"malformed consensus message: {error}")
            return
        height = height_of(message)
        heard = _Heard(peer, message, self._now_ms())
        if peer in self._indices:
            self._waiting.put_nowait(heard)
        elif self._is_stranger(peer, height):
            self._network.penalize(peer, "consensus messages are for authorities")
        elif height == self._height() + 2 and len(data) <= EARLY_BYTES_MAX:
            # It is one block ahead; should that block end the epoch, this may be its authority.
            self._early.append(heard)

    def _is_stranger(self, peer: str, height: int) -> bool:
        """Tell whether a peer has no seat at a height, nor had one just before (R29).

        Whoever is ahead of us may have a seat in an epoch that we do not know yet.
        """
        for near in (height, height - 1):
            known = self._epochs.of_height(near)
            if known is None or peer in map(peer_id_of, known.publics):
                return False
        return True
