"""Catching up as a pure state machine: `Sync.handle(event) -> effects`.

Nothing a peer sends is believed. Theory of operation (rules S1 to S9 in docs/spec/consensus.md):

    poll ─> Status ─> headers with certificates, verified in order by a light client (the window)
                        └─> bodies of the window, from several peers at once ─> applied in order
    far behind, or nobody has the next block ─> a snapshot (`sync_snapshot`), then as above

State: the head, the window of certified headers after it, the bodies that wait for their turn, the
peers with what they claim, the open requests. Each event first adds to what is known, then
`_advance` asks for whatever is missing and is not being asked for.

Two kinds of disappointment are kept apart. A *lie* is what no honest peer sends: it ends the peer
(`Drop`). A failure to show what was claimed, or to answer, is no proof of anything: the peer is
doubted, asked only where nobody else can be, and believed again when it delivers.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from consensus import sync_events as ev
from consensus.errors import HeaderRefused
from consensus.light import HEADERS_MAX, LightClient, SignedHeader
from consensus.messages import Block
from consensus.sync_events import Effect, Event, PeerId, Timer
from consensus.sync_messages import (
    ANSWER_BYTES_MAX,
    Blocks,
    Chunk,
    GetBlocks,
    GetChunk,
    GetHeaders,
    GetManifest,
    GetPath,
    GetStatus,
    Headers,
    Manifest,
    Nothing,
    Question,
    Status,
)
from consensus.sync_peers import PEERS_MAX, Peer, Peers
from consensus.sync_snapshot import SnapshotFetch, block_of

POLL_MS: Final = 5_000
STATUS_PEERS_MAX: Final = 3
# A notice usually brings its own block: what it did not bring is fetched after this time.
GRACE_MS: Final = 200
STATUS_TIMEOUT_MS: Final = 3_000
ANSWER_TIMEOUT_MS: Final = 15_000

HEADERS_AHEAD_MAX: Final = 512
BLOCKS_AHEAD_MAX: Final = 256
# Short runs, so that every peer that can has a part in them.
RUN_BLOCKS_MAX: Final = 16
BLOCKS_BUFFER_BYTES_MAX: Final = 32 * 1_048_576
REQUESTS_MAX: Final = 8
BAD_SNAPSHOTS_MAX: Final = 64
# A credible peer's offer counts more than those of all doubted ones together.
PEERS_WEIGHT: Final = PEERS_MAX + 1

_ANSWERS: Final[dict[type, tuple[type, ...]]] = {
    GetStatus: (Status,),
    GetHeaders: (Headers,),
    GetPath: (Headers,),
    GetBlocks: (Blocks,),
    GetManifest: (Manifest, Nothing),
    GetChunk: (Chunk, Nothing),
}


class _Request(NamedTuple):
    peer: PeerId
    question: Question
    heights: range


class _Body(NamedTuple):
    block: Block
    peer: PeerId
    size: int


class Sync:
    """One node's catching up.

    Parameters
    ----------
    trusted : LightClient
        At the last applied block, with the set of the height after it.
    snapshot_behind : int
        A node so many blocks behind takes a snapshot; 0: only where nobody has the next block.
    """

    def __init__(self, trusted: LightClient, snapshot_behind: int) -> None:
        self.head = trusted.height
        self.trusted = trusted
        self.peers = Peers()
        # Follows the window's last header; nothing in the window has been executed.
        self._client = trusted.copy()
        self._snapshot_behind = snapshot_behind
        self._window: dict[int, SignedHeader] = {}
        self._bodies: dict[int, _Body] = {}
        self._body_bytes = 0
        self._applying = 0
        self._proven = 0
        self._requests: dict[int, _Request] = {}
        self._last_request = 0
        self._in_grace = False
        self._polled_head = -1
        self._fetch: SnapshotFetch | None = None
        # Snapshots that turned out not to be what was certified.
        self._bad_snapshots: dict[bytes, None] = {}
        self._effects: list[Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            ev.Start: self._on_start,
            ev.PeerCame: self._on_peer_came,
            ev.PeerGone: self._on_peer_gone,
            ev.Heard: self._on_heard,
            ev.HeadMoved: self._on_head_moved,
            ev.Answered: self._on_answered,
            ev.BlockRefused: self._on_block_refused,
            ev.SpoolOpened: self._on_spool_opened,
            ev.SnapshotLoaded: self._on_snapshot_loaded,
            ev.TimerFired: self._on_timer,
        }

    # -- for the driver

    @property
    def behind(self) -> int:
        """How many blocks are known to be missing: proven, or claimed by the credible."""
        return max(self.peers.best_claim(), self._proven, self._client.height, self.head) - (
            self.head
        )

    @property
    def fetching_snapshot(self) -> bool:
        """Whether a snapshot is on its way."""
        return self._fetch is not None

    def handle(self, event: Event) -> list[Effect]:
        """Take one event in and return what the driver must do, in order."""
        self._handlers[type(event)](event)
        self._advance()
        effects, self._effects = self._effects, []
        return effects

    # -- for the snapshot

    def ask(self, peer: Peer, question: Question, heights: range = range(0)) -> int:
        """Ask a peer; return the request's number."""
        self._last_request += 1
        number = self._last_request
        self._requests[number] = _Request(peer.id, question, heights)
        peer.open[number] = question
        self.peers.take_turn(peer)
        timeout_ms = STATUS_TIMEOUT_MS if type(question) is GetStatus else ANSWER_TIMEOUT_MS
        self._effects.append(ev.Ask(number, peer.id, question))
        self._effects.append(ev.SetTimer(Timer(ev.TIMER_REQUEST, number), timeout_ms))
        return number

    def has_room(self) -> bool:
        """Tell whether one more request may be open."""
        return len(self._requests) < REQUESTS_MAX

    def is_asked(self, question: Question) -> bool:
        """Tell whether this very question is open."""
        return any(request.question == question for request in self._requests.values())

    def emit(self, effect: Effect) -> None:
        """Ask something of the driver."""
        self._effects.append(effect)

    def drop(self, peer: PeerId, reason: str) -> None:
        """A peer lied."""
        here = self.peers.condemn(peer)
        if here is not None:
            self._forget_requests(here)
        self._effects.append(ev.Drop(peer, reason))

    # -- events

    def _on_start(self, event: ev.Start) -> None:
        self._effects.append(ev.SetTimer(Timer(ev.TIMER_POLL), POLL_MS))

    def _on_peer_came(self, event: ev.PeerCame) -> None:
        self.peers.add(event.peer)
        peer = self.peers.get(event.peer)
        if peer is not None and not peer.open and self.has_room():
            self._ask_status(peer)

    def _on_peer_gone(self, event: ev.PeerGone) -> None:
        peer = self.peers.remove(event.peer)
        if peer is not None:
            self._forget_requests(peer)

    def _forget_requests(self, peer: Peer) -> None:
        for number in peer.open:
            self._requests.pop(number, None)

    def _on_heard(self, event: ev.Heard) -> None:
        was_level = self.behind == 0
        self._proven = max(self._proven, event.height)
        peer = self.peers.get(event.peer)
        if peer is not None:
            peer.height = max(peer.height, event.height)
        if was_level and event.height > self.head and not self._in_grace:
            self._in_grace = True
            self._effects.append(ev.SetTimer(Timer(ev.TIMER_GRACE), GRACE_MS))

    def _on_head_moved(self, event: ev.HeadMoved) -> None:
        height = event.header.height
        if height <= self.head:
            return
        self.head = height
        self.trusted = self.trusted.at(event.header, event.authorities)
        self._applying = 0 if self._applying <= height else self._applying
        if height >= self._client.height:
            self._client = self.trusted.copy()
        for known in [number for number in self._window if number <= height]:
            del self._window[known]
        for known in [number for number in self._bodies if number <= height]:
            self._body_bytes -= self._bodies.pop(known).size
        if self._fetch is not None and height >= self._fetch.height and not self._fetch.loading:
            self._fetch = None

    def _on_block_refused(self, event: ev.BlockRefused) -> None:
        if self._applying == event.height:
            self._applying = 0
        body = self._bodies.pop(event.height, None)
        if body is not None:
            self._body_bytes -= body.size
            self.drop(body.peer, f"block {event.height}: {event.reason}")

    def _on_timer(self, event: ev.TimerFired) -> None:
        kind = event.timer.kind
        if kind == ev.TIMER_GRACE:
            self._in_grace = False
        elif kind == ev.TIMER_POLL:
            self._poll()
            self._effects.append(ev.SetTimer(event.timer, POLL_MS))
        elif request := self._requests.pop(event.timer.request, None):
            peer = self.peers.get(request.peer)
            if peer is not None:
                peer.open.pop(event.timer.request, None)
                peer.doubt()

    def _poll(self) -> None:
        """Ask a few neighbours while no block comes by itself, and who is new (S4)."""
        for peer in self.peers:
            peer.resting = False
        if self._fetch is not None and self._fetch.is_stuck():
            self._fetch = None
        is_still = self.head == self._polled_head or self.behind > 0
        self._polled_head = self.head
        idle = [
            peer
            for peer in self.peers
            if GetStatus() not in peer.open.values() and (is_still or peer.is_new)
        ]
        idle.sort(key=lambda peer: (not peer.is_new, peer.asked))
        for peer in idle[:STATUS_PEERS_MAX]:
            self._ask_status(peer)

    def _ask_status(self, peer: Peer) -> None:
        peer.is_new = False
        self.ask(peer, GetStatus())

    # -- answers

    def _on_answered(self, event: ev.Answered) -> None:
        request = self._requests.pop(event.request, None)
        if request is None:
            return
        peer = self.peers.get(request.peer)
        if peer is None:
            return
        del peer.open[event.request]
        answer, question = event.answer, request.question
        if event.problem:
            self.drop(peer.id, event.problem)
        elif answer is None:
            peer.doubt()
        elif type(answer) not in _ANSWERS[type(question)]:
            self.drop(peer.id, f"{type(answer).__name__} for {type(question).__name__}")
        else:
            lie = self._take(peer, question, answer)
            if lie:
                self.drop(peer.id, lie)

    def _take(self, peer: Peer, question: Question, answer: Any) -> str | None:
        """Take an answer in; return the lie in it, if there is one."""
        if type(question) is GetStatus:
            return _take_status(peer, answer)
        if type(question) is GetHeaders:
            return self._take_headers(peer, question, answer.headers)
        fetch = self._fetch
        if type(question) is GetBlocks:
            if fetch is not None and question.first == fetch.height:
                return fetch.take_block(self, peer, question, answer.blocks)
            return self._take_blocks(peer, question, answer.blocks)
        return fetch.take(self, peer, question, answer) if fetch is not None else None

    def _take_headers(
        self, peer: Peer, question: GetHeaders, headers: tuple[SignedHeader, ...]
    ) -> str | None:
        if len(headers) > question.count:
            return f"{len(headers)} headers, {question.count} were asked for"
        if not headers:
            peer.retract()
            return None
        client = self._client
        for place, signed in enumerate(headers, question.first):
            height = signed.header.height
            if height != place:
                return f"header {height} in the place of {place}"
            if height <= client.height:
                continue
            if height != client.height + 1:
                return None
            try:
                client.accept(signed)
            except HeaderRefused as refused:
                return str(refused)
            self._window[height] = signed
        peer.doubted = False
        return None

    def _take_blocks(self, peer: Peer, question: GetBlocks, raws: tuple[bytes, ...]) -> str | None:
        if len(raws) > question.count:
            return f"{len(raws)} blocks, {question.count} were asked for"
        if not raws:
            peer.retract()
            return None
        for height, raw in enumerate(raws, question.first):
            signed = self._window.get(height)
            if signed is None or height in self._bodies:
                continue
            block = block_of(raw, signed.certificate.block_hash)
            if isinstance(block, str):
                return f"block {height}: {block}"
            self._bodies[height] = _Body(block, peer.id, len(raw))
            self._body_bytes += len(raw)
        peer.doubted = False
        return None

    # -- what is asked for next

    def _advance(self) -> None:
        if self._fetch is None:
            self._consider_snapshot()
        if self._fetch is not None:
            self._fetch.advance(self)
        elif not self._in_grace:
            self._ask_headers()
            self._ask_blocks()
        self._apply_next()

    def _ask_headers(self) -> None:
        """S5: the next run of headers; one at a time, as each is verified on the one before."""
        top = self._client.height
        count = min(HEADERS_MAX, HEADERS_AHEAD_MAX - len(self._window))
        if count <= 0 or any(type(r.question) is GetHeaders for r in self._requests.values()):
            return
        peer = self.peers.choose(lambda p: p.first_height <= top + 1 and p.height > top)
        if peer is not None:
            count = min(count, peer.height - top)
            self.ask(peer, GetHeaders(top + 1, count))

    def _ask_blocks(self) -> None:
        """S6: bodies of the window, in runs, from whoever has them."""
        asked: set[int] = set()
        open_runs = 0
        for request in self._requests.values():
            asked.update(request.heights)
            open_runs += bool(request.heights)
        end = min(self._client.height, self.head + BLOCKS_AHEAD_MAX)
        first = self.head + 1
        while first <= end and self.has_room():
            if first in asked or first in self._bodies:
                first += 1
                continue
            reserved = self._body_bytes + (open_runs + 1) * ANSWER_BYTES_MAX
            if reserved > BLOCKS_BUFFER_BYTES_MAX and first != self.head + 1:
                return
            peer = self.peers.choose(_has(first))
            if peer is None:
                return
            last = min(first + RUN_BLOCKS_MAX - 1, end, peer.height)
            stop = first + 1
            while stop <= last and stop not in asked and stop not in self._bodies:
                stop += 1
            run = range(first, stop)
            self.ask(peer, GetBlocks(first, len(run)), run)
            open_runs += 1
            first = stop

    def _apply_next(self) -> None:
        """S7: one block after the other, each executed before the next."""
        height = self.head + 1
        body = self._bodies.get(height)
        if body is not None and not self._applying:
            self._applying = height
            self._effects.append(ev.Apply(body.block, self._window[height].certificate))

    # -- snapshots

    def _consider_snapshot(self) -> None:
        """S8: begin with a snapshot if blocks would take too long, or nobody has them."""
        if any(type(request.question) is GetStatus for request in self._requests.values()):
            return
        offer = self._best_offer()
        if offer is None:
            return
        gap = offer[0] - self.head
        is_far = 0 < self._snapshot_behind < gap
        if is_far or (gap > 0 and not any(map(_has(self.head + 1), self.peers))):
            self._fetch = SnapshotFetch(*offer)

    def _best_offer(self) -> tuple[int, bytes] | None:
        """Return the (height, id) that most credible peers offer, the higher of equals."""
        votes: dict[tuple[int, bytes], int] = {}
        for peer in self.peers:
            offer = (peer.snapshot_height, peer.snapshot_id)
            if not offer[1] or peer.resting or offer[1] in self._bad_snapshots:
                continue
            votes[offer] = votes.get(offer, 0) + (PEERS_WEIGHT if not peer.doubted else 1)
        if not votes:
            return None
        return max(votes, key=lambda offer: (votes[offer], offer))

    def _on_spool_opened(self, event: ev.SpoolOpened) -> None:
        if self._fetch is not None and self._fetch.id == event.snapshot_id:
            self._fetch.spooled(event.indices)

    def _on_snapshot_loaded(self, event: ev.SnapshotLoaded) -> None:
        fetch = self._fetch
        if fetch is None or fetch.id != event.snapshot_id:
            return
        self._fetch = None
        if event.problem:
            self.condemn_snapshot(fetch, event.problem)

    def condemn_snapshot(self, fetch: SnapshotFetch, reason: str) -> None:
        """Every peer that offers this snapshot lies: honest ones offer only what they checked."""
        self._fetch = None
        self._bad_snapshots[fetch.id] = None
        while len(self._bad_snapshots) > BAD_SNAPSHOTS_MAX:
            del self._bad_snapshots[next(iter(self._bad_snapshots))]
        for peer in [peer for peer in self.peers if peer.snapshot_id == fetch.id]:
            self.drop(peer.id, f"the snapshot it offers: {reason}")


def _take_status(peer: Peer, status: Status) -> str | None:
    if len(status.snapshot_id) not in (0, 32):
        return f"a snapshot's id of {len(status.snapshot_id)} bytes"
    if status.first_height > status.height or status.snapshot_height > status.height:
        return "a status that offers more than its own height"
    peer.claim(status)
    return None


def _has(height: int) -> Callable[[Peer], bool]:
    """Return the question whether a peer claims the block at `height`."""
    return lambda peer: peer.first_height <= height <= peer.height
