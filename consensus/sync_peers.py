"""The peers that can be asked, what they claim, and which of them to ask next."""

from collections.abc import Callable, Iterator
from typing import Final

from consensus.sync_events import PeerId
from consensus.sync_messages import Question, Status

PEERS_MAX: Final = 256
LIARS_REMEMBERED_MAX: Final = 1_024
REQUESTS_PER_PEER_MAX: Final = 2


class Peer:
    """One connected peer. `height` is what it claims to have, −1 if that is not known."""

    __slots__ = (
        "asked", "doubted", "first_height", "height", "id", "is_new", "open", "resting",
        "snapshot_height", "snapshot_id",
    )  # fmt: skip

    def __init__(self, id_: PeerId) -> None:
        self.id = id_
        self.height = -1
        self.first_height = 0
        self.snapshot_height = 0
        self.snapshot_id = b""
        # Did not show what it claimed, or did not answer: asked only where nobody else can be.
        self.doubted = False
        # Not asked again before the next poll.
        self.resting = False
        self.is_new = True
        self.open: dict[int, Question] = {}
        self.asked = 0

    def claim(self, status: Status) -> None:
        """Take over what the peer says of itself."""
        self.height, self.first_height = status.height, status.first_height
        self.snapshot_height, self.snapshot_id = status.snapshot_height, status.snapshot_id

    def retract(self) -> None:
        """It did not have what it claimed."""
        self.doubt()
        self.height = -1
        self.snapshot_height, self.snapshot_id = 0, b""

    def doubt(self) -> None:
        """It did not answer."""
        self.doubted = self.resting = True


class Peers:
    """All peers that have not lied."""

    def __init__(self) -> None:
        self._peers: dict[PeerId, Peer] = {}
        self._liars: dict[PeerId, None] = {}
        self._turns = 0

    def __iter__(self) -> Iterator[Peer]:
        # A copy: headers are verified in another thread while the driver asks how far behind it is.
        return iter(list(self._peers.values()))

    def add(self, peer: PeerId) -> None:
        """A peer came; known liars and those beyond the limit are not taken in."""
        if peer not in self._liars and len(self._peers) < PEERS_MAX:
            self._peers.setdefault(peer, Peer(peer))

    def get(self, peer: PeerId) -> Peer | None:
        """Return a peer that is here and has not lied."""
        return self._peers.get(peer)

    def remove(self, peer: PeerId) -> Peer | None:
        """A peer went."""
        return self._peers.pop(peer, None)

    def condemn(self, peer: PeerId) -> Peer | None:
        """A peer lied: it is not asked again while it is remembered."""
        self._liars[peer] = None
        while len(self._liars) > LIARS_REMEMBERED_MAX:
            del self._liars[next(iter(self._liars))]
        return self._peers.pop(peer, None)

    def best_claim(self) -> int:
        """Return the greatest height that a credible peer claims, −1 if none does."""
        return max((peer.height for peer in self if not peer.doubted), default=-1)

    def said(self, peer: PeerId) -> bool:
        """Tell whether a credible peer has said how far it is."""
        known = self._peers.get(peer)
        return known is not None and not known.doubted and known.height >= 0

    def choose(self, can: Callable[[Peer], bool]) -> Peer | None:
        """Return whom to ask: a credible peer if one can, the least busy and longest unasked."""
        found = [
            peer
            for peer in self
            if not peer.resting and len(peer.open) < REQUESTS_PER_PEER_MAX and can(peer)
        ]
        return min(found, key=lambda p: (p.doubted, len(p.open), p.asked), default=None)

    def take_turn(self, peer: Peer) -> None:
        """Note that a peer is asked now."""
        self._turns += 1
        peer.asked = self._turns
