"""Pending transactions: what is refused and why, what is sent, repeated, handed out, forgotten."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

import node.pool.mempool
from market import client
from market.app import Application, BlockEnv
from node.chain.messages import BATCH_BYTES_MAX, BATCH_TRANSACTIONS_MAX, TransactionBatch
from node.network.base import EXCESS, GOSSIP_BYTES_MAX
from node.pool.mempool import PER_SENDER_MAX, Mempool
from node.pool.verifier import TransactionVerifier
from tests.node.grid import key_of, make_genesis, until
from wire.codec import decode, encode
from wire.keys import SigningKey
from wire.transaction import VALIDITY_MS_MAX, CheckedTransaction, Refused

GENESIS = make_genesis()
START_MS = GENESIS.market.genesis_ms
TRANSFER = client.transfer(key_of(1).address, 5)


def founded() -> Application:
    app = Application(GENESIS.market)
    app.commit(app.genesis())
    return app


def signed(
    nonce: int = 1,
    sender: int | SigningKey = 0,
    call: client.Call = TRANSFER,
    valid_ms: int = 60_000,
    chain_id: str = "grid",
) -> CheckedTransaction:
    key = key_of(sender) if isinstance(sender, int) else sender
    return client.sign_call(call, key, chain_id, nonce, START_MS + valid_ms)


class Home:
    """A mempool over a real market, with what it published."""

    def __init__(self) -> None:
        self.app = founded()
        self.now_ms = START_MS
        self.published: list[bytes] = []
        self.handed: list[bytes] = []
        self.near = False
        self.arrivals = 0
        self.attempts = 0
        self.fail = False
        self.pool = Mempool(
            TransactionVerifier("grid"),
            self.app.check,
            self._publish,
            lambda: self.now_ms,
            self._arrived,
            self._hand_over,
        )

    async def _publish(self, data: bytes) -> None:
        self.attempts += 1
        if self.fail:
            raise RuntimeError("no network")
        self.published.append(data)

    def _hand_over(self, data: bytes) -> bool:
        if self.near:
            self.handed.append(data)
        return self.near

    def _arrived(self) -> None:
        self.arrivals += 1

    def batches(self) -> list[list[bytes]]:
        return [self.opened(data).transactions for data in self.published]

    def said(self) -> list[bytes]:
        """Return all transactions that left, as often as they did."""
        return [raw for batch in self.batches() for raw in batch]

    async def has_said(self, count: int) -> None:
        """Wait until so many transactions have left."""
        await until(lambda: len(self.said()) >= count, f"{count} transactions have left")

    @staticmethod
    def opened(data: bytes) -> TransactionBatch:
        return decode(data, TransactionBatch, GOSSIP_BYTES_MAX)

    def refused(self, checked: CheckedTransaction | bytes) -> str:
        raw = checked if isinstance(checked, bytes) else checked.raw
        with pytest.raises(Refused) as caught:
            self.pool.submit(raw)
        assert caught.value.message
        return caught.value.code

    def decide(self, *transactions: CheckedTransaction) -> None:
        env = BlockEnv(self.app.height + 1, self.now_ms + 1)
        self.app.commit(self.app.execute(env, transactions))
        self.pool.decided([checked.tx_id for checked in transactions])

    def reaped(self, bytes_max: int = 10**6, count_max: int = 1_000) -> list[int]:
        return [item.tx.nonce for item in self.pool.reap(self.now_ms, bytes_max, count_max)]


@contextlib.asynccontextmanager
async def running(home: Home) -> AsyncIterator[None]:
    task = asyncio.create_task(home.pool.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that says nothing twice, however slow the machine."""
    monkeypatch.setattr(node.pool.mempool, "POOL_S", 0.01)
    monkeypatch.setattr(node.pool.mempool, "BATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(node.pool.mempool, "REPEAT_S", 3_600.0)
    return Home()


@pytest.fixture
def repeating(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that soon says again what stays undecided."""
    monkeypatch.setattr(node.pool.mempool, "REPEAT_S", 0.05)
    return home


BAD = {
    "malformed": b"junk",
    "bad_signature": signed().raw[:-1] + bytes([signed().raw[-1] ^ 1]),
    "wrong_chain": signed(chain_id="other"),
    "expired": signed(valid_ms=-1),
    "valid_too_long": signed(valid_ms=VALIDITY_MS_MAX + 1),
    "unknown_contract": signed(call=client.Call("lottery", "play", {})),
    "unknown_entry": signed(call=client.Call("ledger", "play", {})),
    "bad_arguments": signed(call=client.Call("ledger", "transfer", {"address": "x"})),
    "stranger": signed(sender=SigningKey(b"x" * 32)),
}


@pytest.mark.parametrize("code", BAD)
async def test_what_is_refused_says_why_and_is_never_sent(home: Home, code: str) -> None:
    async with running(home):
        assert home.refused(BAD[code]) == code
        assert home.pool.refused == {code: 1}
        assert len(home.pool) == home.arrivals == 0
        # Once a later one has left, whatever was to leave has left.
        home.pool.submit(signed(7).raw)
        await home.has_said(1)
    assert home.said() == [signed(7).raw]


async def test_a_transaction_too_large_is_refused_before_it_is_read(home: Home) -> None:
    fat = signed(call=client.Call("ledger", "transfer", {"address": "x" * 9_000}))
    assert home.refused(fat) == "malformed"
    assert home.refused(b"\x93" * 100_000) == "malformed"


async def test_a_used_nonce_is_refused(home: Home) -> None:
    home.decide(signed(5))
    assert home.refused(signed(5)) == "bad_nonce"
    assert home.refused(signed(4)) == "bad_nonce"
    home.pool.submit(signed(6).raw)


async def test_what_is_remembered_of_a_refusal_holds_nothing_else(home: Home) -> None:
    home.decide(signed(5))
    assert home.refused(signed(5)) == "bad_nonce"
    found = home.pool.find(signed(5).tx_id)
    assert found is not None
    refused = found[1]
    assert refused is not None
    assert (refused.code, refused.__traceback__) == ("bad_nonce", None)


async def test_one_sender_cannot_fill_the_pool(home: Home) -> None:
    for nonce in range(1, PER_SENDER_MAX + 1):
        home.pool.submit(signed(nonce).raw)
    assert home.refused(signed(PER_SENDER_MAX + 1)) == "too_many_pending"
    home.pool.submit(signed(1, sender=1).raw)
    home.decide(signed(1))
    home.pool.submit(signed(PER_SENDER_MAX + 1).raw)
    assert len(home.pool) == home.arrivals - 1 == PER_SENDER_MAX + 1


@pytest.mark.parametrize("bound", ["TRANSACTIONS_MAX", "BYTES_MAX"])
async def test_a_full_pool_refuses(home: Home, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    size = len(signed().raw)
    monkeypatch.setattr(node.pool.mempool, bound, 3 if bound == "TRANSACTIONS_MAX" else 3 * size)
    for nonce in range(1, 4):
        home.pool.submit(signed(nonce).raw)
    assert home.refused(signed(4)) == "mempool_full"
    home.decide(signed(1), signed(2))
    home.pool.submit(signed(4).raw)
    home.pool.submit(signed(5).raw)
    assert home.refused(signed(6)) == "mempool_full"


async def test_in_a_full_pool_who_has_most_makes_room(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.pool.mempool, "TRANSACTIONS_MAX", 6)
    for nonce in (1, 2, 5, 4):
        home.pool.submit(signed(nonce).raw)
    home.pool.submit(signed(1, sender=1).raw)
    home.pool.submit(signed(2, sender=1).raw)
    home.pool.submit(signed(1, sender=2).raw)
    left = {(item.sender, item.tx.nonce) for item in home.pool.pending()}
    assert left == {
        (key_of(sender).address, nonce)
        for sender, nonce in ((0, 1), (0, 2), (0, 4), (1, 1), (1, 2), (2, 1))
    }
    found = home.pool.find(signed(5).tx_id)
    assert found is not None
    assert found[1] is not None
    assert found[1].code == "mempool_full"
    # What the market would refuse puts nobody out, nor does who would then have as many.
    assert home.refused(signed(1, sender=SigningKey(b"x" * 32))) == "stranger"
    assert home.refused(signed(3, sender=1)) == "mempool_full"
    home.pool.submit(signed(2, sender=2).raw)
    assert home.refused(signed(3, sender=2)) == "mempool_full"
    assert [item.tx.nonce for item in home.pool.pending()] == [1, 2, 1, 2, 1, 2]


async def test_a_batch_is_paid_for_before_it_is_checked(home: Home) -> None:
    batches = [
        encode(TransactionBatch(place, [signed(nonce + 1, sender).raw for nonce in range(64)]))
        for place, sender in enumerate(range(5))
    ]
    said = [home.pool.gossip_check("peer", batch) for batch in batches]
    # The first 256 are a newcomer's; what is known by now costs nothing more.
    assert said == [True] * 4 + [EXCESS]
    # No signature of what is not paid for was looked at.
    assert len(home.pool._verifier) == 4 * 64
    assert home.pool.gossip_check("peer", batches[0]) is True
    assert home.pool.gossip_check("other", batches[4]) is True
    assert home.pool.gossip_check("peer", batches[4]) is True


async def test_a_home_says_no_more_than_others_take_from_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.pool.mempool, "ALLOWANCE_S", 0.01)
    asked: list[int] = []
    denied = iter((True, True))

    class Allowance:
        def take(self, amount: float, now_s: float) -> bool:
            asked.append(int(amount))
            return not next(denied, False)

    monkeypatch.setattr(home.pool, "_allowances", {False: Allowance(), True: None})
    async with running(home):
        home.pool.submit_many([signed(1).raw, signed(2).raw])
        await home.has_said(2)
    assert asked == [2, 2, 2]


async def test_what_is_handed_in_together_leaves_together(home: Home) -> None:
    async with running(home):
        raws = [home.pool.submit(signed(nonce).raw).raw for nonce in range(1, 6)]
        await home.has_said(5)
        assert home.batches() == [raws]


async def test_batches_keep_both_bounds(home: Home) -> None:
    senders = range(5)
    small = [signed(n, sender) for sender in senders for n in range(1, PER_SENDER_MAX)]
    for checked in small:
        home.pool.submit(checked.raw)
    async with running(home):
        await home.has_said(len(small))
    sizes = [len(batch) for batch in home.batches()]
    assert sizes[:-1] == [BATCH_TRANSACTIONS_MAX] * (len(sizes) - 1)
    assert home.said() == [checked.raw for checked in small]


async def test_large_transactions_leave_in_more_batches(home: Home) -> None:
    call = client.Call("ledger", "transfer", {"address": "x" * 7_900, "amount_micro": 1})
    large = [signed(nonce, call=call) for nonce in range(1, 31)]
    for checked in large:
        home.pool.submit(checked.raw)
    async with running(home):
        await home.has_said(len(large))
    assert len(home.published) >= 3
    assert home.said() == [checked.raw for checked in large]
    for data, batch in zip(home.published, home.batches(), strict=True):
        assert sum(map(len, batch)) <= BATCH_BYTES_MAX
        assert len(data) <= GOSSIP_BYTES_MAX


async def test_what_is_handed_in_twice_is_sent_once(home: Home) -> None:
    async with running(home):
        for _ in range(50):
            home.pool.submit(signed().raw)
        await home.has_said(1)
        home.pool.submit(signed().raw)
        home.pool.submit(signed(2).raw)
        await home.has_said(2)
        assert home.batches() == [[signed().raw], [signed(2).raw]]
    assert home.arrivals == 2


async def test_what_stays_undecided_is_said_again_until_it_is_decided(repeating: Home) -> None:
    home, first, second = repeating, signed(1), signed(1, sender=1)
    async with running(home):
        home.pool.submit(first.raw)
        home.pool.submit(second.raw)
        await home.has_said(2)
        home.decide(first)
        before = len(home.batches())
        await until(lambda: len(home.batches()) >= before + 3, "it is said again and again")
    assert home.batches()[:before] == [[first.raw, second.raw]] * before
    assert all(batch == [second.raw] for batch in home.batches()[before:])
    # Said again it is another message, or nobody would pass it on.
    assert len(set(home.published)) == len(home.published)


async def test_it_is_said_again_also_while_new_ones_keep_coming(repeating: Home) -> None:
    home, nonces = repeating, itertools.count(2)

    def goes_on() -> bool:
        home.pool.submit(signed(next(nonces)).raw)
        return home.said().count(signed(1).raw) > 1

    async with running(home):
        home.pool.submit(signed(1).raw)
        await until(goes_on, "the first is said again")


async def test_what_came_from_others_is_not_said_by_this_home(repeating: Home) -> None:
    home = repeating
    async with running(home):
        home.pool.receive("peer", encode(TransactionBatch(1, [signed().raw])))
        home.pool.submit(signed(2).raw)
        await home.has_said(4)
    assert len(home.pool) == 2
    assert set(home.said()) == {signed(2).raw}


async def test_a_network_that_fails_once_is_tried_again(repeating: Home) -> None:
    home = repeating
    home.fail = True
    async with running(home):
        home.pool.submit(signed().raw)
        await until(lambda: home.attempts > 0, "it is tried")
        assert not home.published
        home.fail = False
        await home.has_said(1)
    assert home.batches()[0] == [signed().raw]


@pytest.mark.parametrize("code", BAD)
async def test_a_batch_with_one_bad_transaction_is_not_passed_on(home: Home, code: str) -> None:
    bad = BAD[code]
    raw = bad if isinstance(bad, bytes) else bad.raw
    batch = encode(TransactionBatch(1, [signed(1).raw, raw, signed(2).raw]))
    # Late, early or from a home this node has not heard of yet: that may be honest.
    honest = code in ("expired", "valid_too_long", "stranger")
    assert home.pool.gossip_check("peer", batch) == honest
    home.pool.receive("peer", batch)
    assert [item.tx.nonce for item in home.pool.pending()] == [1, 2]
    assert home.pool.refused == {code: 1}


async def test_what_is_no_batch_is_not_passed_on(home: Home) -> None:
    raw = signed().raw
    good = encode(TransactionBatch(1, [raw]))
    assert home.pool.gossip_check("peer", good)
    many = [signed(nonce).raw for nonce in range(1, BATCH_TRANSACTIONS_MAX + 2)]
    assert home.pool.gossip_check("peer", encode(TransactionBatch(1, many[:-1])))
    for bad in (
        b"",
        b"junk",
        good + b"\0",
        good[:-1],
        raw,
        encode(TransactionBatch(1, [])),
        encode(TransactionBatch(-1, [raw])),
        encode(TransactionBatch(1, many)),
        encode(["txs", 1, [raw], 2]),
        encode(["txs", 1, "x"]),
        b"\xdd\xff\xff\xff\xff",
        good + bytes(GOSSIP_BYTES_MAX),
    ):
        assert not home.pool.gossip_check("peer", bad)


async def test_a_block_takes_each_senders_in_order_of_nonce(home: Home) -> None:
    for nonce, sender in ((30, 0), (5, 1), (10, 0), (20, 0), (4, 1)):
        home.pool.submit(signed(nonce, sender).raw)
    assert home.reaped() == [10, 4, 20, 5, 30]
    assert home.reaped(count_max=3) == [10, 4, 20]
    size = len(signed(10).raw)
    assert home.reaped(bytes_max=2 * size + size // 2) == [10, 4]
    assert home.reaped(bytes_max=1) == []


async def test_a_block_takes_only_what_is_valid_at_its_time(home: Home) -> None:
    home.pool.submit(signed(1, valid_ms=50).raw)
    home.pool.submit(signed(2).raw)
    assert home.reaped() == [1, 2]
    home.now_ms += 51
    assert home.reaped() == [2]


async def test_a_block_clears_what_it_decided_made_stale_or_outlived(home: Home) -> None:
    home.pool.submit(signed(5).raw)
    home.pool.submit(signed(7).raw)
    home.pool.submit(signed(9).raw)
    home.pool.submit(signed(1, sender=1, valid_ms=50).raw)
    home.pool.submit(signed(1, sender=2).raw)
    home.now_ms += 51
    home.decide(signed(7))
    left = [(item.sender, item.tx.nonce) for item in home.pool.pending()]
    assert left == [(key_of(0).address, 9), (key_of(2).address, 1)]
    assert home.pool.refused == {"bad_nonce": 1, "expired": 1}
    home.decide(signed(9), signed(1, sender=2))
    assert len(home.pool) == 0
    # All room is given back.
    for nonce in range(10, 10 + PER_SENDER_MAX):
        home.pool.submit(signed(nonce).raw)


async def test_several_are_taken_or_refused_one_by_one(home: Home) -> None:
    bad = signed(call=client.Call("ledger", "play", {}))
    raws = [signed(1).raw, b"junk", signed(1).raw, bad.raw, signed(2).raw]
    results = home.pool.submit_many(raws)
    kinds = [item.code if isinstance(item, Refused) else item.tx.nonce for item in results]
    assert kinds == [1, "malformed", 1, "unknown_entry", 2]
    assert home.pool.refused == {"malformed": 1, "unknown_entry": 1}
    assert [item.tx.nonce for item in home.pool.pending()] == [1, 2]
    assert home.arrivals == 1
    home.pool.submit_many([signed(1).raw, b"junk"])
    assert home.arrivals == 1


async def test_what_can_be_handed_over_is_not_gossiped_unless_it_stays_undecided(
    repeating: Home,
) -> None:
    home = repeating
    home.near = True
    async with running(home):
        home.pool.submit(signed(1).raw)
        await until(lambda: bool(home.published), "it is said again")
    assert [home.opened(data).transactions for data in home.handed] == [[signed(1).raw]]
    assert home.batches()[0] == [signed(1).raw]


async def test_of_a_backlog_only_the_oldest_are_said_again_at_a_time(
    repeating: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.pool.mempool, "REPEATED_MAX", 2)
    home = repeating
    home.near = True
    for nonce in range(1, 6):
        home.pool.submit(signed(nonce).raw)
    async with running(home):
        await until(lambda: len(home.batches()) >= 4, "they are said again")
    assert all(len(batch) <= 2 for batch in home.batches())
    again = [raw for batch in home.batches() for raw in batch]
    assert again[:6] == [signed(nonce).raw for nonce in (1, 2, 3, 4, 5, 1)]


async def test_batches_that_weigh_more_leave_more_rarely(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noting(pause_s: float) -> None:
        pauses.append(pause_s)
        await sleep(0)

    monkeypatch.setattr(node.pool.mempool, "BATCH_INTERVAL_S", 100.0)
    monkeypatch.setattr(node.pool.mempool, "BATCH_INTERVAL_MAX_S", 1_000.0)
    fake = SimpleNamespace(Event=asyncio.Event, timeout=asyncio.timeout, sleep=noting)
    monkeypatch.setattr(node.pool.mempool, "asyncio", fake)
    for weight, longest in ((1.0, 100.0), (4.0, 400.0), (40.0, 1_000.0)):
        home.pool._weight = lambda weight=weight: weight
        async with running(home):
            for nonce in (1, 2):
                home.pool.submit(signed(nonce).raw)
                await until(lambda: not home.pool._outbox, "it has left")
        for nonce in (1, 2):
            home.pool._drop(signed(nonce).tx_id)
        # The first leaves soon, the second after what is left of the interval.
        assert pauses[-2] == node.pool.mempool.POOL_S
        assert 0.5 * longest < pauses[-1] <= longest


async def test_where_all_wait_long_what_waits_is_not_lost(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now_s=100.0)
    fake = SimpleNamespace(monotonic=lambda: clock.now_s, time_ns=time.time_ns)
    monkeypatch.setattr(node.pool.mempool, "time", fake)
    monkeypatch.setattr(node.pool.mempool, "REPEAT_S", 4.0)

    async def waited_s(nonce: int) -> float:
        """Return after how long a transaction that stays undecided is said again."""
        checked = signed(nonce)
        home.pool.submit(checked.raw)
        await home.pool._say([checked], lambda _batch: True)
        begun_s = clock.now_s
        while not home.pool._overdue():
            clock.now_s += 1
        home.pool._drop(checked.tx_id)
        return clock.now_s - begun_s

    assert await waited_s(1) == 4
    for nonce in range(2, 62):
        home.pool.submit(signed(nonce, valid_ms=3_000_000).raw)
        clock.now_s += 10
        home.decide(signed(nonce, valid_ms=3_000_000))
    assert 25 <= await waited_s(62) <= 31
    for nonce in range(63, 163):
        home.pool.submit(signed(nonce).raw)
        clock.now_s += 1
        home.decide(signed(nonce))
    assert await waited_s(163) <= 5
