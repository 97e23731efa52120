"""Transactions that wait for a block: taken in, pooled into batches, gossiped, handed out.

A transaction of this home is pooled for tens of milliseconds, longer while many come, and leaves
with its neighbours in one message, because a message costs far more than a transaction. One that
is refused here is never sent; one that is refused on its way is not passed on.

A batch is handed to the next proposers if they are all connected, else gossiped (`courier.py`).
What stays undecided is said again, by gossip: so no few can keep it from the others.

What a neighbour may bring is bounded before it is looked at (`intake.py`), and this home says no
more than others would take from it. Whose turn it is, and who makes room, is a matter of accounts
(`waiting.py`).
"""

import asyncio
import itertools
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

from node.chain.messages import BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, TransactionBatch
from node.network.base import GOSSIP_BYTES_MAX, Verdict
from node.pool.intake import Intake, own_allowance
from node.pool.verifier import TransactionVerifier
from node.pool.waiting import Waiting
from wire.codec import decode, encode
from wire.errors import DecodeError
from wire.transaction import CheckedTransaction, Refused, check_validity

log = logging.getLogger("commonwatt.mempool")

TRANSACTIONS_MAX: Final = 10_000
BYTES_MAX: Final = 16 * 1_048_576
PER_SENDER_MAX: Final = 64
POOL_S: Final = 0.05
# While they keep coming, batches leave no sooner after each other than this, times their weight.
BATCH_INTERVAL_S: Final = 0.2
BATCH_INTERVAL_MAX_S: Final = 1.0
# What has not been decided after this long was lost on the way: say it again. Where blocks are full
# all wait long, and repeating what waits would take the time that they need: then it is lost only
# after so many times as long as transactions of this home have lately taken.
REPEAT_S: Final = 4.0
REPEAT_FACTOR: Final = 3
REPEAT_MAX_S: Final = 60.0
# How often it is looked whether this home may say more.
ALLOWANCE_S: Final = 0.1
# The weight of the latest in what they usually take.
USUAL_WEIGHT: Final = 0.05
# The last refusals are kept for their owners to ask about: no block will ever tell them.
REFUSALS_KEPT_MAX: Final = 1_000
# The last ids of this home's own transactions, for it to ask what became of them.
OWN_KEPT_MAX: Final = 200
# No more at a time, nor sooner after each other than a quarter of that: what waits because there is
# too much of it must not be made more.
REPEATED_MAX: Final = 64
# No honest node sends these, whatever it has seen of the chain: contracts come with the genesis.
_DISHONEST: Final = ("unknown_contract", "unknown_entry", "bad_arguments")


class Mempool:
    """Pending transactions, from arrival to a block.

    Parameters
    ----------
    verifier : TransactionVerifier
    admit : callable
        The market's judgement against the committed state; raises `Refused`.
    publish : callable
        Gossips one encoded batch.
    now_ms : callable
        Real time, UTC. [ms]
    on_arrival : callable
        Called when transactions have been taken in: there is something to propose.
    hand_over : callable, optional
        Gives one encoded batch to those who need it; False if it must be gossiped.
    weight : callable, optional
        How much a batch costs the network, compared with one of four authorities' street.
    intake : Intake, optional
        What each neighbour may bring; without it, none is an authority.
    is_authority : callable, optional
        Whether this home is one: then others take more from it.
    """

    def __init__(
        self,
        verifier: TransactionVerifier,
        admit: Callable[[CheckedTransaction], None],
        publish: Callable[[bytes], Awaitable[None]],
        now_ms: Callable[[], int],
        on_arrival: Callable[[], None],
        hand_over: Callable[[bytes], bool] = lambda _batch: False,
        weight: Callable[[], float] = lambda: 1.0,
        intake: Intake | None = None,
        is_authority: Callable[[], bool] = lambda: False,
    ) -> None:
        self._verifier = verifier
        self._admit = admit
        self._publish = publish
        self._now_ms = now_ms
        self._on_arrival = on_arrival
        self._hand_over = hand_over
        self._weight = weight
        self._intake = intake or Intake(lambda _peer: False)
        self._is_authority = is_authority
        self._allowances = {seat: own_allowance(seat, time.monotonic()) for seat in (False, True)}
        self._pending = Waiting()
        # What this home submitted, and when it was last said; what was said last comes last.
        self._own: dict[bytes, float] = {}
        self._submitted_s: dict[bytes, float] = {}
        self._usual_s = 0.0
        self._outbox: list[CheckedTransaction] = []
        self._repeated_s = -math.inf
        self._wake = asyncio.Event()
        self._sequence = time.time_ns()
        self.refused: dict[str, int] = {}
        self._refusals: dict[bytes, tuple[CheckedTransaction, Refused]] = {}
        self._mine: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._pending)

    # -- coming in ---------------------------------------------------------------------------

    def gossip_check(self, peer: str, data: bytes) -> Verdict:
        """Tell whether a batch may be passed on. Runs in the network's thread."""
        try:
            batch = decode(data, TransactionBatch, GOSSIP_BYTES_MAX)
        except DecodeError as error:
            log.warning("peer %s sent a malformed batch: %s", peer, error)
            return False
        new = self._verifier.new_among(batch.transactions)
        verdict = self._intake.verdict(peer, new, len(self._pending)) if new else True
        if verdict is not True:
            return verdict
        results = self._verifier.check(batch.transactions, self._now_ms())
        return all(self._may_be_honest(result) for result in results)

    def _may_be_honest(self, result: CheckedTransaction | Refused) -> bool:
        if isinstance(result, Refused):
            # Delay, or a clock that is off.
            return result.code in ("expired", "valid_too_long")
        try:
            self._admit(result)
        except Refused as refused:
            return refused.code not in _DISHONEST
        return True

    def receive(self, peer: str, data: bytes) -> None:
        """Take in a batch that passed `gossip_check`."""
        batch = decode(data, TransactionBatch, GOSSIP_BYTES_MAX)
        self._take(batch.transactions)

    def submit(self, raw: bytes) -> CheckedTransaction:
        """Take in a transaction of this home and gossip it with the next batch.

        Raises
        ------
        Refused
            It is malformed, expired, signed wrong, or the market would refuse it. It is not sent.
        """
        result = self.submit_many([raw])[0]
        if isinstance(result, Refused):
            raise result
        return result

    def submit_many(self, raws: Sequence[bytes]) -> list[CheckedTransaction | Refused]:
        """Take in several at once; each is taken or refused by itself, as by `submit`."""
        results = self._take(raws, self._remember)
        for result in results:
            if isinstance(result, CheckedTransaction) and result.tx_id not in self._own:
                self._own[result.tx_id] = math.inf
                self._submitted_s[result.tx_id] = time.monotonic()
                self._outbox.append(result)
                self._wake.set()
        return results

    def _take(
        self, raws: Sequence[bytes], remember: Callable[[bytes], None] | None = None
    ) -> list[CheckedTransaction | Refused]:
        """Check and keep each of `raws`; return what became of them, in order."""
        before = len(self._pending)
        results = self._verifier.check(raws, self._now_ms())
        for place, result in enumerate(results):
            if isinstance(result, CheckedTransaction):
                if remember is not None:
                    remember(result.tx_id)
                try:
                    self._insert(result)
                except Refused as refused:
                    self._refuse(result, refused)
                    results[place] = refused
            else:
                self._count(result)
        if len(self._pending) > before:
            self._on_arrival()
        return results

    def _insert(self, checked: CheckedTransaction) -> None:
        if checked.tx_id in self._pending:
            return
        if self._pending.count(checked.sender) >= PER_SENDER_MAX:
            raise Refused("too_many_pending", f"at most {PER_SENDER_MAX} of an account may wait")
        self._admit(checked)
        self._make_room(checked)
        self._pending.add(checked)

    def _make_room(self, checked: CheckedTransaction) -> None:
        """Let go what those wait with who have more waiting than the sender of `checked` will."""
        more_than = self._pending.count(checked.sender) + 1
        while (
            len(self._pending) >= TRANSACTIONS_MAX
            or self._pending.bytes + len(checked.raw) > BYTES_MAX
        ):
            crowding = self._pending.most_of(more_than)
            if crowding is None:
                raise Refused("mempool_full", "too much is waiting for a block; try again later")
            self._drop(crowding.tx_id)
            self._refuse(
                crowding,
                Refused("mempool_full", "too much is waiting, and of this account most of all"),
            )

    # -- going out ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Say what this home submits, pooled; say again what stays undecided."""
        said_s = -BATCH_INTERVAL_MAX_S
        while True:
            try:
                # Not `wait_for`: it swallows a cancellation that comes with the event.
                async with asyncio.timeout(REPEAT_S):
                    await self._wake.wait()
                interval_s = min(self._weight() * BATCH_INTERVAL_S, BATCH_INTERVAL_MAX_S)
                rest_s = said_s + interval_s - time.monotonic()
                await asyncio.sleep(max(POOL_S, rest_s))
            except TimeoutError:
                pass
            self._wake.clear()
            fresh, self._outbox = self._outbox, []
            if fresh:
                said_s = time.monotonic()
            await self._say(fresh, self._hand_over)
            await self._say(self._overdue(), lambda _batch: False)

    async def _say(
        self, transactions: list[CheckedTransaction], hand_over: Callable[[bytes], bool]
    ) -> None:
        now_s = time.monotonic()
        for checked in transactions:
            if self._own.pop(checked.tx_id, None) is not None:
                self._own[checked.tx_id] = now_s
        for batch in _batches([checked.raw for checked in transactions]):
            while not self._may_say(len(batch)):  # noqa: ASYNC110 - a budget fills by the clock
                await asyncio.sleep(ALLOWANCE_S)
            self._sequence += 1
            data = encode(TransactionBatch(self._sequence, batch))
            if hand_over(data):
                continue
            try:
                await self._publish(data)
            except Exception:
                log.exception("a batch of %d transactions was not gossiped", len(batch))

    def _may_say(self, transactions: int) -> bool:
        return self._allowances[self._is_authority()].take(transactions, time.monotonic())

    def _overdue(self) -> list[CheckedTransaction]:
        """Return what was said and has stayed undecided for too long, the oldest first."""
        now_s = time.monotonic()
        if now_s - self._repeated_s < REPEAT_S / 4:
            return []
        lost_s = max(REPEAT_S, min(REPEAT_FACTOR * self._usual_s, REPEAT_MAX_S))
        overdue = (
            waiting
            for tx_id, said_s in self._own.items()
            if said_s <= now_s - lost_s and (waiting := self._pending.get(tx_id)) is not None
        )
        found = list(itertools.islice(overdue, REPEATED_MAX))
        if found:
            self._repeated_s = now_s
        return found

    def reap(self, time_ms: int, bytes_max: int, count_max: int) -> list[CheckedTransaction]:
        """Return what the next block may hold: whose turn it is, a sender's in order of nonce."""
        chosen: list[CheckedTransaction] = []
        size = 0
        for checked in self._pending.in_turn():
            try:
                check_validity(checked.tx, time_ms)
            except Refused:
                continue
            size += len(checked.raw)
            if size > bytes_max or len(chosen) >= count_max:
                break
            chosen.append(checked)
        return chosen

    def decided(self, tx_ids: Collection[bytes]) -> None:
        """Drop what a block has decided, what it made stale, and what has expired."""
        now_s = time.monotonic()
        for tx_id in tx_ids:
            submitted_s = self._submitted_s.get(tx_id)
            if submitted_s is not None:
                self._usual_s += USUAL_WEIGHT * (now_s - submitted_s - self._usual_s)
            self._drop(tx_id, used=True)
        self._pending.block_passed()
        for checked, refused in self._stale():
            self._refuse(checked, refused)
            self._drop(checked.tx_id)

    def skipped(self) -> None:
        """Drop the same after a jump over blocks that this node has not seen.

        What no longer fits is not called refused: one of those blocks may have decided it.
        """
        for checked, _ in self._stale():
            self._drop(checked.tx_id)

    def _stale(self) -> list[tuple[CheckedTransaction, Refused]]:
        """Return what waits and would be refused by now, and why."""
        now_ms = self._now_ms()
        found = []
        for checked in self._pending:
            try:
                if checked.tx.valid_until_ms < now_ms:
                    raise Refused("expired", "it was not decided in time")
                self._admit(checked)
            except Refused as refused:
                found.append((checked, refused))
        return found

    def pending(self) -> list[CheckedTransaction]:
        """Return all that waits, in order of arrival."""
        return list(self._pending)

    def find(self, tx_id: bytes) -> tuple[CheckedTransaction, Refused | None] | None:
        """Return a transaction that waits here, or one of the last refused and why.

        A transaction that a block has decided may be among the refused too, when a neighbour has
        said it again later: ask the store as well.
        """
        waiting = self._pending.get(tx_id)
        return self._refusals.get(tx_id) if waiting is None else (waiting, None)

    def _drop(self, tx_id: bytes, used: bool = False) -> None:
        self._own.pop(tx_id, None)
        self._submitted_s.pop(tx_id, None)
        self._pending.drop(tx_id, used)

    def own(self) -> list[bytes]:
        """Return the ids of the last transactions handed in at this node, oldest first."""
        return list(self._mine)

    def _remember(self, tx_id: bytes) -> None:
        self._mine[tx_id] = None
        while len(self._mine) > OWN_KEPT_MAX:
            del self._mine[next(iter(self._mine))]

    def _refuse(self, checked: CheckedTransaction, refused: Refused) -> None:
        self._count(refused)
        # Anew: the one that was raised has a traceback, and with it all that came in its batch.
        self._refusals[checked.tx_id] = (checked, Refused(refused.code, refused.message))
        while len(self._refusals) > REFUSALS_KEPT_MAX:
            del self._refusals[next(iter(self._refusals))]

    def _count(self, refused: Refused) -> None:
        self.refused[refused.code] = self.refused.get(refused.code, 0) + 1


def _batches(raws: list[bytes]) -> list[list[bytes]]:
    """Cut transactions into batches within both bounds."""
    batches: list[list[bytes]] = []
    size = 0
    for raw in raws:
        full = not batches or len(batches[-1]) >= BATCH_TRANSACTIONS_MAX
        if full or size + len(raw) > BATCH_BYTES_MAX:
            batches.append([])
            size = 0
        batches[-1].append(raw)
        size += len(raw)
    return batches
