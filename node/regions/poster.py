"""Carries what a region has settled to the main chain, and back what has become of it.

Runs at each of a region's authorities that keeps both chains. What is due is a pure rule
(`node.regions.due`); here it is looked up in the two committed states, signed and handed in.
Nothing rests on who does it: the main chain takes each checkpoint once, whoever posts it, and the
region believes a header by its certificate. So that not all of them say the same at once, they wait
in line: the seat whose turn it is by the checkpoint's number speaks at once, each after it a while
later, should the thing still be due.

A checkpoint is made when its block has just been applied, before the next one changes the state
that proves it; whoever misses one (a snapshot jumped over its block) asks the other authorities.
"""

import asyncio
import logging
import time
from typing import Annotated, Any, Final

from msgspec import Meta

from consensus.checkpoint import CHECKPOINT_BYTES_MAX, Checkpoint, verify_checkpoint
from consensus.errors import CheckpointRefused
from consensus.light import SignedHeader, ends_epoch
from consensus.messages import Block, Certificate, Header
from consensus.sync_messages import Nothing
from market.app import BlockResult
from market.client import Call, regions
from market.errors import QueryError
from node.chain.archive import SIGNED_HEADER_BYTES_MAX
from node.chain.epochs import set_of
from node.chain.signatory import Signatory
from node.errors import InvariantError
from node.network.base import NetworkError
from node.regions.certifier import proves
from node.regions.checkpoints import make_checkpoint
from node.regions.due import (
    CALLS_MAX,
    Proven,
    Shown,
    Standing,
    conflict_due,
    due_in_region,
    due_on_main,
)
from node.regions.exchange import Offer, ends_due, make_offers, offers_due, still_open, unresolved
from node.regions.shelf import Shelf, number_of
from node.tiers import Tier
from wire.codec import Message, decode, encode
from wire.errors import DecodeError

log = logging.getLogger("commonwatt.poster")

PROTOCOL: Final = "checkpoint"
QUESTION_BYTES_MAX: Final = 64
SHELF_NAME: Final = "checkpoints"
# Beside two block intervals, how long each authority waits for the one before it in line.
GRACE_MS: Final = 1_000
# Should nothing wake it.
IDLE_S: Final = 10.0
ASK_TIMEOUT_S: Final = 5.0
# Offers of slots that the main chain has not closed yet.
OFFERS_MAX: Final = 256


class GetCheckpoint(Message, frozen=True, tag="get-checkpoint"):
    """The region's checkpoint of this number, please."""

    number: Annotated[int, Meta(ge=1, le=10**9)]


_CheckpointAnswer: Any = Checkpoint | Nothing


def read_checkpoint(data: bytes) -> Checkpoint | Nothing:
    """Decode an untrusted answer. Errors as `wire.codec.decode`."""
    found: Checkpoint | Nothing = decode(data, _CheckpointAnswer, CHECKPOINT_BYTES_MAX)
    return found


class Turns:
    """When it is one's turn to say something that several could.

    Who stands at `place` of `count` waits `place` times its patience, and may say it again after
    `count` times, as long as it stays due.
    """

    def __init__(self) -> None:
        self._what: object = None
        self._due_s = 0.0
        self._said = 0

    def wait_s(self, what: object, place: int, count: int, patience_s: float) -> float:
        """Return how long to wait yet; not above 0: it is to be said now."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._due_s, self._said = what, now_s + place * patience_s, 0
        left_s = self._due_s - now_s
        if left_s <= 0:
            self._due_s = now_s + count * patience_s
        return left_s

    def take(
        self, what: object, calls: list[Call], place: int, count: int, patience_s: float
    ) -> tuple[float, list[Call]]:
        """Return how long to wait yet, and which of `calls` are to be said now.

        While `what` stays, calls only come to their end. Who has said those before says these at
        once: in one sender's order they follow each other in one block.
        """
        left_s = self.wait_s(what, place, count, patience_s)
        said = 0 if left_s <= 0 else self._said
        if left_s > 0 and not said:
            return left_s, []
        self._said = len(calls)
        return left_s, calls[said:]


def up_to_head(calls: list[Call], shown: Shown, proven: Proven) -> list[Call] | None:
    """Return `due_in_region`'s calls with what lets the region know the main chain's very head.

    None where these alone do not: ends of epochs are missing, or the region knows a later head.
    """
    head = proven.head.header
    if head.height <= shown.main_height:
        return calls if head.height == shown.main_height else None
    follow = regions.follow(encode(proven.head).hex())
    if follow in calls:
        return calls
    # Without it they are ends of epochs.
    return [*calls, follow] if shown.main_epoch + len(calls) == head.epoch else None


class Poster:
    """The work of one authority between its region and the main chain.

    Parameters
    ----------
    own, main : Tier
        The region's chain and the main chain, opened and not started.
    in_region, on_main : Signatory
        This authority's, on these chains.
    """

    def __init__(self, own: Tier, main: Tier, in_region: Signatory, on_main: Signatory) -> None:
        member = own.genesis.market.region
        if member is None:
            raise InvariantError("only a region has something to post")
        self.region = member.region
        self._own = own
        self._main = main
        self._in_region = in_region
        self._on_main = on_main
        self.shelf = Shelf(own.data / SHELF_NAME)
        self.shelf.open()
        self._proven: Proven | None = None
        # What is offered to other regions, and what is to be shown of what came of it.
        self._offers: list[Offer] = []
        self._ended: list[Call] = []
        self._turns_on_main = Turns()
        self._turns_in_region = Turns()
        # Where the missing checkpoint is asked for next.
        self._asked = 0
        self._wake = asyncio.Event()
        self.counts = {"posted": 0, "shown": 0, "fetched": 0}
        own.chain.on_applied(self._own_applied)
        main.chain.on_applied(self._main_applied)
        own.network.on_request(PROTOCOL, self._answer)

    # -- what is heard of both chains

    def _own_applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        if any(event.contract == "export" for event in result.events):
            self._keep(block.header, certificate)
        self._wake.set()

    def _keep(self, header: Header, certificate: Certificate) -> None:
        """Make the checkpoint that the last block of the region has closed, if it has."""
        found = make_checkpoint(self._own.app, header, certificate)
        if found is not None:
            self.shelf.put(number_of(found), found)
            # A later checkpoint proves again what is still open, so none of them need be kept.
            self._offers = [*self._offers, *make_offers(self._own.app, header)][-OFFERS_MAX:]

    def _main_applied(self, block: Block, certificate: Certificate, result: BlockResult) -> None:
        following = set_of(result.next) if ends_epoch(block.header) else None
        self._prove(SignedHeader(block.header, certificate, following))
        self._wake.set()

    def _prove(self, head: SignedHeader) -> None:
        """Keep what the main chain's last state proves of this region."""
        app, key = self._main.app, regions.anchored_key(self.region)
        value = app.value(key)
        if value is None or app.state_root != head.header.state_root:
            return
        number = app.query("anchor", "last", {"region": self.region})["number"]
        self._proven = Proven(head, number, value, encode(app.prove(key)))
        self._offers = still_open(self._offers, app)[-OFFERS_MAX:]
        self._ended = [
            call
            for call in ends_due(self._own.app, app, encode(head).hex())
            if call.entry != "follow"
        ]

    # -- running

    async def run(self) -> None:
        """Say what is due, for ever. Whatever escapes from here must stop the node."""
        own, main = self._own.chain, self._main.chain
        if own.head.certificate is not None:
            self._keep(own.head.header, own.head.certificate)
        if main.head.certificate is not None:
            header = main.head.header
            following = main.next_authorities if ends_epoch(header) else None
            self._prove(SignedHeader(header, main.head.certificate, following))
        while True:
            self._wake.clear()
            pause_s = min(await self._tell_main(), await self._tell_region(), IDLE_S)
            try:
                # Not `wait_for`: it swallows a cancellation that comes with the event.
                async with asyncio.timeout(max(pause_s, 0.0) + 0.002):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def standing(self) -> Standing | None:
        """Return how the main chain knows this region; None if it does not."""
        app = self._main.app
        try:
            with app.at_rest():
                shown = app.query("regions", "show", {"region": self.region})
                last = app.query("anchor", "last", {"region": self.region})
                funds = app.query("regions", "funds", {"region": self.region})
        except QueryError:
            return None
        if shown["chain_id"] != self._own.genesis.chain_id:
            return None
        newest = shown["epoch"]
        oldest, answers = min(last["epoch"], newest), any(funds.values())
        return Standing(shown["status"], last["number"], oldest, newest, answers)

    def shown(self) -> Shown:
        """Return what the region knows of the main chain."""
        app = self._own.app
        with app.at_rest():
            head = app.query("export", "main_head", {})
            anchored = app.query("export", "anchored", {})
        return Shown(head["epoch"], head["height"], anchored["number"])

    async def _tell_main(self) -> float:
        """Post what the main chain waits for, if it is this node's turn; return when to look."""
        standing = self.standing()
        await self.shelf.save(standing.anchored if standing is not None else 0)
        if standing is None or self._own.chain.index is None or self._main.sync.behind:
            return IDLE_S
        broken = conflict_due(self.region, standing, self._own.evidence.conflict)
        if broken:
            wait_s = self._wait_s(self._turns_on_main, "conflict", standing.anchored, self._main)
            if wait_s <= 0:
                self.counts["posted"] += self._on_main.hand_in(broken)
            return max(wait_s, GRACE_MS / 1000)
        first = standing.anchored + 1
        closed = self._own.app.query("export", "closed", {})["number"]
        if first not in self.shelf and first <= closed:
            return await self._fetch(first)
        held = {n: await self.shelf.get(n) for n in range(first, first + CALLS_MAX)}
        ends = await self._ends(self._own, standing.newest_epoch)
        calls = due_on_main(self.region, standing, held.get, ends.get)
        if not calls:
            calls = offers_due(self._offers, self._main.app)[:CALLS_MAX]
        if not calls:
            return IDLE_S
        slots = tuple(call.args.get("number") for call in calls if call.entry == "offer")
        line = self._line(first, self._main)
        wait_s, calls = self._turns_on_main.take((standing, slots), calls, *line)
        if calls:
            self.counts["posted"] += self._on_main.hand_in(calls)
        return wait_s if wait_s > 0 else IDLE_S

    async def _tell_region(self) -> float:
        """Show the region what is anchored, if it is this node's turn; return when to look."""
        proven, own = self._proven, self._own
        if proven is None or own.chain.index is None or own.sync.behind:
            return IDLE_S
        shown = self.shown()
        ends = await self._ends(self._main, shown.main_epoch)
        calls = due_in_region(shown, proven, ends.get)
        open_slots = set(unresolved(own.app))
        ended = [call for call in self._ended if call.args["slot"] in open_slots][:CALLS_MAX]
        if ended and (known := up_to_head(calls, shown, proven)) is not None:
            calls = known + ended
        if not calls:
            return IDLE_S
        slots = tuple(call.args["slot"] for call in ended)
        wait_s = self._wait_s(self._turns_in_region, (shown.anchored, slots), shown.anchored, own)
        if wait_s <= 0:
            self.counts["shown"] += self._in_region.hand_in(calls)
            return IDLE_S
        return wait_s

    def _wait_s(self, turns: Turns, what: object, number: int, there: Tier) -> float:
        return turns.wait_s(what, *self._line(number, there))

    def _line(self, number: int, there: Tier) -> tuple[int, int, float]:
        """Return this seat's place in line for a number, the line's length, and its patience."""
        chain = self._own.chain
        count = chain.authorities.n
        place = ((chain.index or 0) - number) % count
        patience_ms = 2 * there.chain.epochs.chain().block_interval_ms + GRACE_MS
        return place, count, patience_ms / 1000

    async def _ends(self, tier: Tier, epoch: int) -> dict[int, SignedHeader]:
        """Return the last headers of a chain's epochs from `epoch` on, by epoch."""
        found = {}
        for end in await tier.store.epoch_ends(epoch, CALLS_MAX):
            try:
                found[end.epoch] = decode(end.header, SignedHeader, SIGNED_HEADER_BYTES_MAX)
            except DecodeError as error:
                log.warning("the end of epoch %d cannot be read: %s", end.epoch, error)
                break
        return found

    # -- checkpoints that are missing here

    async def _fetch(self, number: int) -> float:
        """Ask an authority for a closed checkpoint that is not here; return when to look again."""
        others = self._own.chain.other_authorities
        if not others:
            return IDLE_S
        self._asked += 1
        peer = others[self._asked % len(others)]
        network = self._own.network
        try:
            data = await network.request(
                peer, PROTOCOL, encode(GetCheckpoint(number)), ASK_TIMEOUT_S
            )
            found = read_checkpoint(data)
            if isinstance(found, Checkpoint):
                self._check(number, found)
                self.shelf.put(number, found)
                self.counts["fetched"] += 1
                return 0.0
        except NetworkError as error:
            log.debug("%s: %s", peer, error)
        except (DecodeError, CheckpointRefused) as error:
            network.penalize(peer, f"checkpoint {number}: {error}")
        return GRACE_MS / 1000

    def _check(self, number: int, found: Checkpoint) -> None:
        """Raise `CheckpointRefused` unless it is what the main chain would take for `number`."""
        authorities = self._own.chain.epochs.of_epoch(found.header.epoch)
        if authorities is None:
            raise CheckpointRefused("stale_set", f"no set of epoch {found.header.epoch} is known")
        chain_id = self._own.genesis.chain_id
        record, _ = verify_checkpoint(encode(found), authorities, chain_id, proves)
        if record.number != number:
            raise CheckpointRefused("gap", f"it is checkpoint {record.number}")

    async def _answer(self, peer: str, data: bytes) -> bytes:
        del peer
        question = decode(data, GetCheckpoint, QUESTION_BYTES_MAX)
        return encode(await self.shelf.get(question.number) or Nothing())
