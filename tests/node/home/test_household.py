"""A home's readings and a crash: each slot's is settled once, wherever the daemon died."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from consensus.messages import BLOCK_BYTES_MAX, Block
from market.receipts import Receipt
from node.daemon import now_ms
from node.home.detail import read_details
from node.home.disclosure import Reading, compare
from node.home.memory import HomeMemory
from node.home.outbox import Outbox
from node.offline import readings as readings_in
from node.setup import DATABASE_NAME, DETAIL_NAME, HOME_NAME
from tests.node.grid import Grid, Member, home_config, make_genesis, running, until
from wire.codec import decode
from wire.transaction import TRANSACTION_BYTES_MAX, CheckedTransaction, SignedTransaction

# Readings are taken for minutes, so that a slow machine is not a late home.
WINDOW_MS = 200 * 900_000
PATIENCE_S = 120.0


class _Crash(Exception):
    """The daemon dies here."""


class Decided(NamedTuple):
    """A decided reading of the home."""

    tx_id: bytes
    slot: int
    code: str


def street(directory: Path) -> Grid:
    """Four authorities; the first one's home trades and delivers slots of a second."""
    grid = Grid(directory, make_genesis(4, time_lapse=900, settle_window_ms=WINDOW_MS))
    home = grid.members[0]
    home.config = msgspec.structs.replace(home.config, home=home_config(0))
    return grid


async def readings(member: Member, meter: bytes) -> list[Decided]:
    """Return what a member's chain holds of a meter."""
    found: list[Decided] = []
    store = member.node.chain._replica._store
    for stored in await store.blocks(0, 10_000, 2**40):
        block = decode(stored.block, Block, BLOCK_BYTES_MAX)
        receipts = decode(stored.receipts, tuple[Receipt, ...], len(stored.receipts))
        # After those of the transactions comes the block's own.
        for raw, receipt in zip(block.txs, receipts, strict=False):
            tx = decode(raw, SignedTransaction, TRANSACTION_BYTES_MAX).tx
            if tx.sender == meter:
                found.append(Decided(receipt.tx_id, tx.args["slot"], receipt.code))
    return found


def good(found: list[Decided], slot: int) -> int:
    """Return how many readings of a slot were accepted."""
    return sum(reading.slot == slot and reading.code == "ok" for reading in found)


async def accepted(member: Member, meter: bytes, slot: int) -> list[Decided]:
    """Wait for a slot's reading to be accepted; return what the chain holds of the meter."""
    async with asyncio.timeout(PATIENCE_S):
        found = await readings(member, meter)
        while not good(found, slot):
            await asyncio.sleep(0.1)
            found = await readings(member, meter)
    return found


def dies(member: Member) -> bool:
    assert member._task is not None
    return member._task.done()


def is_reading(signed: CheckedTransaction) -> bool:
    return signed.tx.entry == "post_reading"


async def test_a_reading_that_was_signed_and_not_said_is_said_after_the_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed: list[CheckedTransaction] = []
    say = Outbox.say

    def dying(home: Outbox, transaction: CheckedTransaction) -> None:
        if is_reading(transaction):
            signed.append(transaction)
            raise _Crash
        say(home, transaction)

    grid = street(tmp_path)
    home = grid.members[0]
    async with running(grid, range(1, 4)) as members:
        with monkeypatch.context() as patch:
            patch.setattr(Outbox, "say", dying)
            await home.start()
            await until(lambda: dies(home), "the crash", PATIENCE_S)
        assert isinstance(await home.ended(), _Crash)
        (lost,) = signed
        slot = lost.tx.args["slot"]
        assert lost.tx_id not in members[0].node.mempool._pending
        await home.start()
        found = await accepted(members[0], lost.tx.sender, slot)
        # The very transaction, or, if a later slot's overtook it, one in its place; never two.
        assert [reading.slot for reading in found].count(slot) == 1
    # What it keeps of the slot for an auditor is what the chain was told, the crash in between.
    told = readings_in(members[0].data / DATABASE_NAME, grid.genesis)
    settled = {one.slot: Reading(one.import_wh, one.export_wh) for one in told if one.home == 1}
    kept = [one for one in read_details(home.data / DETAIL_NAME) if one.slot in settled]
    assert slot in [one.slot for one in kept]
    assert compare(kept, settled) == []


async def test_a_reading_that_was_overtaken_is_signed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[CheckedTransaction] = []
    say = Outbox.say

    def holding(home: Outbox, transaction: CheckedTransaction) -> None:
        if is_reading(transaction) and not held:
            held.append(transaction)
        else:
            say(home, transaction)

    monkeypatch.setattr(Outbox, "say", holding)
    async with running(street(tmp_path), range(4)) as members:
        await until(lambda: bool(held), "a reading that is not said", PATIENCE_S)
        (lost,) = held
        app = members[1].node.app
        await until(lambda: app.nonce(lost.sender) > lost.tx.nonce, "a later one", PATIENCE_S)
        slot = lost.tx.args["slot"]
        found = await accepted(members[1], lost.tx.sender, slot)
        assert lost.tx_id not in {reading.tx_id for reading in found}
        household = members[0].node.household
        assert household is not None
        assert lost.tx_id not in {signed.tx_id for signed in household.outbox.undecided}


async def test_a_crash_before_the_reading_was_kept_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[CheckedTransaction] = []
    save = HomeMemory.save

    def dying(memory: HomeMemory, *args: Any) -> None:
        lost.extend(filter(is_reading, memory.outbox.values()))
        if lost:
            raise _Crash
        save(memory, *args)

    grid = street(tmp_path)
    home = grid.members[0]
    async with running(grid, range(1, 4)) as members:
        with monkeypatch.context() as patch:
            patch.setattr(HomeMemory, "save", dying)
            await home.start()
            await until(lambda: dies(home), "the crash", PATIENCE_S)
        assert isinstance(await home.ended(), _Crash)
        await home.start()
        slot = lost[0].tx.args["slot"]
        found = await accepted(members[0], lost[0].tx.sender, slot)
        # The slot is delivered again: the battery's state was not kept either.
        assert good(found, slot) == 1
        assert lost[0].tx_id not in {reading.tx_id for reading in found}


async def test_what_was_decided_before_the_crash_is_not_applied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = HomeMemory.save
    kept: list[CheckedTransaction] = []

    def once(memory: HomeMemory, *args: Any) -> None:
        if not kept:
            kept.extend(filter(is_reading, memory.outbox.values()))
            save(memory, *args)

    grid = street(tmp_path)
    home, other = grid.members[:2]
    async with running(grid, range(1, 4)):
        with monkeypatch.context() as patch:
            # From the first reading on nothing is kept any more: it stays in the file's outbox.
            patch.setattr(HomeMemory, "save", once)
            await home.start()
            await until(lambda: bool(kept), "a reading", PATIENCE_S)
            (first,) = kept
            own, app = home.node.app, other.node.app
            await until(lambda: own.nonce(first.sender) >= first.tx.nonce, "it here", PATIENCE_S)
            await until(lambda: app.nonce(first.sender) >= first.tx.nonce, "it there", PATIENCE_S)
            await home.stop()
        memory = HomeMemory(home.data / HOME_NAME, home.grid.genesis.chain_id, now_ms())
        assert first.tx_id in memory.outbox
        before = app.nonce(first.sender)
        await home.start()
        household = home.node.household
        assert household is not None
        await until(lambda: app.nonce(first.sender) > before, "a later reading", PATIENCE_S)
        # On a slow machine its time may be over by then, or was before it could be said again.
        is_late = first.tx.valid_until_ms <= now_ms()
        assert is_late or home.node.mempool.refused.keys() & {"bad_nonce", "expired"}
        assert first.tx_id not in {signed.tx_id for signed in household.outbox.undecided}
        found = await readings(other, first.tx.sender)
        slots = {reading.slot for reading in found}
        assert first.tx.args["slot"] in slots
        assert all(good(found, slot) == 1 for slot in slots)
        assert [reading.tx_id for reading in found].count(first.tx_id) == 1
