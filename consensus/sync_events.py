"""What the driver tells the sync machine (events) and what the machine asks of it (effects).

The driver's duties:

1. Feed events one at a time to `Sync.handle` and carry the effects out in order.
2. Tell of each applied block (`HeadMoved`), whoever brought it, before anything else.
3. Answer each `Ask` once, with `Answered`, unless its timer has fired (then it may stay silent);
   `OpenSpool` with `SpoolOpened`; `LoadSnapshot` with `SnapshotLoaded`, after `HeadMoved` if it
   went well; an `Apply` that the chain refuses with `BlockRefused`.
"""

from typing import Final, TypeAlias

import msgspec

from consensus.authorities import AuthoritySet
from consensus.light import SignedHeader
from consensus.messages import Block, Certificate, Header
from consensus.sync_messages import Answer, Manifest, Question

PeerId: TypeAlias = str


class _Plain(msgspec.Struct, frozen=True):
    pass


# Timer kinds.
TIMER_POLL: Final = 0
TIMER_GRACE: Final = 1
TIMER_REQUEST: Final = 2


class Timer(_Plain, frozen=True):
    """A timer's name; `request` is 0 but for `TIMER_REQUEST`."""

    kind: int
    request: int = 0


# -- events


class Start(_Plain, frozen=True):
    """The first event: begin to ask."""


class PeerCame(_Plain, frozen=True):
    """A peer is connected."""

    peer: PeerId


class PeerGone(_Plain, frozen=True):
    """A peer is connected no more; its requests fail."""

    peer: PeerId


class Heard(_Plain, frozen=True):
    """A certificate proves that `height` is decided; `peer`, who brought it, may have the block."""

    peer: PeerId
    height: int


class HeadMoved(_Plain, frozen=True):
    """The block with this header is applied; `authorities` decide the height after it."""

    header: Header
    authorities: AuthoritySet


class Answered(_Plain, frozen=True):
    """The answer to a request; None if there was none, with `problem` if it was malformed."""

    request: int
    answer: Answer | None
    problem: str = ""


class BlockRefused(_Plain, frozen=True):
    """The chain refuses the block of an `Apply`, by whoever brought it."""

    height: int
    reason: str


class SpoolOpened(_Plain, frozen=True):
    """These chunks of the snapshot are here already, checked, from before a restart."""

    snapshot_id: bytes
    indices: frozenset[int]


class SnapshotLoaded(_Plain, frozen=True):
    """The snapshot is the state now; or `problem` says why its pairs are not those certified."""

    snapshot_id: bytes
    problem: str = ""


class TimerFired(_Plain, frozen=True):
    """A timer's time has come."""

    timer: Timer


Event: TypeAlias = (
    Start
    | PeerCame
    | PeerGone
    | Heard
    | HeadMoved
    | Answered
    | BlockRefused
    | SpoolOpened
    | SnapshotLoaded
    | TimerFired
)


# -- effects


class Ask(_Plain, frozen=True):
    """Ask a peer; the request's number is used once."""

    request: int
    peer: PeerId
    question: Question


class SetTimer(_Plain, frozen=True):
    """Answer `TimerFired(timer)` after `delay_ms`."""

    timer: Timer
    delay_ms: int


class Apply(_Plain, frozen=True):
    """Execute and apply the next block. Its header is certified and its body is its own."""

    block: Block
    certificate: Certificate


class OpenSpool(_Plain, frozen=True):
    """Make room for this snapshot's chunks; drop those of any other."""

    manifest: Manifest


class SpoolChunk(_Plain, frozen=True):
    """Keep a chunk; its hash has been checked."""

    snapshot_id: bytes
    index: int
    data: bytes


class LoadSnapshot(_Plain, frozen=True):
    """All chunks are here: if their pairs have the header's state root, make them the state.

    `path` are the last headers of the epochs between the present head's and this block's.
    """

    manifest: Manifest
    block: Block
    certificate: Certificate
    path: tuple[SignedHeader, ...]
    authorities: AuthoritySet


class Drop(_Plain, frozen=True):
    """The peer sent what no honest node sends; it will not be asked again."""

    peer: PeerId
    reason: str


Effect: TypeAlias = Ask | SetTimer | Apply | OpenSpool | SpoolChunk | LoadSnapshot | Drop
