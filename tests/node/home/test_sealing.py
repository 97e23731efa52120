"""A household whose orders are sealed: what it says, what it keeps, and a crash in between."""

import json
from pathlib import Path

import msgspec
import pytest

from market import client
from market.client import sealed
from market.client.sealed import SealedOrder
from node.home import sealing
from node.home.memory import SEALED_MAX, HomeMemory, SealedBid
from tests.market.street import GATE_MS, HOME_KEYS, SLOT, SLOT_MS, START_MS, TARIFF
from tests.node.home.test_memory import NOW_MS, STATE, opened
from tests.node.home.test_trading import Lane, entries
from wire.codec import encode
from wire.transaction import CheckedTransaction

GATE = SLOT * SLOT_MS - GATE_MS - START_MS
OVER = GATE + GATE_MS * 2 // 3


def lane_in(directory: Path, **market: object) -> Lane:
    return Lane(directory / "home", sealed=True, **market)


def text_of(said: list[CheckedTransaction]) -> str:
    return repr([signed.tx.args for signed in said])


async def test_it_commits_and_reveals_once_a_block_is_past_the_gate(tmp_path: Path) -> None:
    lane = lane_in(tmp_path)
    said = await lane.think()
    assert entries(said) == [("commit_order", SLOT)]
    # 10 kW for a quarter of an hour at the tariff, whatever it orders.
    assert said[0].tx.args["margin_micro"] == sealed.margin_of(2_500, TARIFF, 10)
    lane.block()
    # Its own clock is past the gate; no block is.
    lane.street.time_ms = START_MS + GATE + 500
    assert await lane.think() == []
    lane.street.time_ms = START_MS + GATE - 1_000
    lane.block(at_ms=GATE)
    assert entries(lane.said) == [("reveal_order", SLOT)]
    lane.block()
    (order,) = lane.mine(SLOT)
    assert (order.side, order.energy_wh) == ("buy", 200)
    assert client.slot_summary(lane.street.query, SLOT).status == "cleared"
    lane.block()
    assert entries(await lane.think()) == [("commit_order", SLOT + 1)]


async def test_a_crash_between_the_two_loses_nothing(tmp_path: Path) -> None:
    lane = lane_in(tmp_path)
    await lane.think()
    lane.block()
    lane.wake_up()
    assert await lane.think() == []
    lane.block(at_ms=GATE)
    # It dies once more, with what it revealed undecided: it says the same again.
    revealed = lane.said
    assert entries(revealed) == [("reveal_order", SLOT)]
    lane.said = []
    lane.wake_up()
    lane.household.outbox.say_again()
    lane.household._reveal_due()
    # So it does with the commitment, which is decided: no block takes that twice.
    assert [signed for signed in lane.said if signed.tx.entry == "reveal_order"] == revealed
    lane.said = revealed
    lane.block()
    assert len(lane.mine(SLOT)) == 1


async def test_a_crash_over_the_gate_reveals_when_it_is_back(tmp_path: Path) -> None:
    lane = lane_in(tmp_path)
    await lane.think()
    lane.block()
    lane.street.block(at_ms=GATE)
    lane.said = []
    lane.wake_up()
    lane.household._reveal_due()
    assert entries(lane.said) == [("reveal_order", SLOT)]
    lane.block()
    assert len(lane.mine(SLOT)) == 1


async def test_what_commits_is_on_disk_before_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = lane_in(tmp_path)
    kept: list[SealedBid] = []
    submit = lane._submit

    def watched(raw: bytes) -> CheckedTransaction:
        memory = HomeMemory(lane.memory, "street", lane.street.time_ms)
        kept.append(memory.sealed[SLOT])
        return submit(raw)

    monkeypatch.setattr(lane.household.outbox, "_submit", watched)
    (said,) = await lane.think()
    (bid,) = kept
    digest = sealed.digest_of(SLOT, HOME_KEYS[0].address, bid.orders, bid.salt)
    assert said.tx.args["digest"] == digest


async def test_nothing_of_an_order_is_said_before_the_gate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it says, what it logs, what it tells of itself, and what the chain holds."""
    caplog.set_level("DEBUG")
    lane = lane_in(tmp_path)
    lane.needs(1_237)
    said = await lane.think()
    (bid,) = lane.household._memory.sealed.values()
    (order,) = bid.orders
    assert order.energy_wh == 1_237
    lane.block()
    price = str(order.price_micro_per_kwh)
    held = dict(lane.street.app.state_items())
    shown = [text_of(said), caplog.text, json.dumps(lane.household.snapshot(), default=str)]
    for text in shown:
        assert "1237" not in text
        assert bid.salt.hex() not in text
        assert sealed.base64url(bid.salt) not in text
    # The tariff is the price of a home without a battery; it is no secret in the tables.
    assert price not in text_of(said)
    for key, data in held.items():
        if key.split("/")[0] in ("sealed", "market", "ledger"):
            assert encode(1_237) not in data, key
    assert client.order_book(lane.street.query, SLOT) == []


async def test_the_same_orders_have_another_digest_each_time(tmp_path: Path) -> None:
    """Or whoever tries all prices and amounts would find the one that fits."""
    digests = set()
    for place in range(2):
        (said,) = await Lane(tmp_path / str(place), sealed=True).think()
        digests.add(said.tx.args["digest"])
    assert len(digests) == 2


async def test_homes_with_different_orders_put_the_same_aside(tmp_path: Path) -> None:
    margins = set()
    for place, load_wh in enumerate((20, 2_000)):
        lane = Lane(tmp_path / str(place), sealed=True)
        lane.needs(load_wh)
        (said,) = await lane.think()
        margins.add(said.tx.args["margin_micro"])
    assert len(margins) == 1


async def test_a_poor_home_commits_to_what_it_can_bear(tmp_path: Path) -> None:
    full = sealed.margin_of(2_500, TARIFF, 10)
    lane = lane_in(tmp_path)
    key = f"ledger/account/{HOME_KEYS[0].address}"
    lane.street.app._state.items[key] = encode([full // 2, 0, 0])
    lane.needs(2_400)
    (said,) = await lane.think()
    assert said.tx.args["margin_micro"] == full // 2
    lane.block()
    lane.block(at_ms=GATE)
    lane.block()
    assert [order.energy_wh for order in lane.mine(SLOT)] == [1_250]


async def test_a_home_that_is_told_not_to_trade_takes_it_back(tmp_path: Path) -> None:
    lane = lane_in(tmp_path)
    await lane.think()
    lane.block()
    lane.household.trade(False)
    assert entries(await lane.think()) == [("withdraw_commitment", SLOT)]
    lane.block()
    lane.block(at_ms=GATE)
    assert lane.said == []


async def test_what_is_taken_back_too_late_is_revealed(tmp_path: Path) -> None:
    lane = lane_in(tmp_path)
    await lane.think()
    lane.block()
    lane.household.trade(False)
    assert entries(await lane.think()) == [("withdraw_commitment", SLOT)]
    lane.said = []
    lane.block(at_ms=GATE)
    assert entries(lane.said) == [("reveal_order", SLOT)]


async def test_who_lost_its_memory_takes_back_what_it_cannot_reveal(tmp_path: Path) -> None:
    lane = lane_in(tmp_path)
    await lane.think()
    lane.block()
    lane.memory.unlink()
    lane.wake_up()
    assert entries(await lane.think()) == [("withdraw_commitment", SLOT)]
    lane.block()
    assert sealed.commitments(lane.street.query, SLOT) == []


async def test_what_is_over_is_forgotten_and_not_said_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "REVEALS_PER_SLOT_MAX", 2)
    lane = lane_in(tmp_path)
    await lane.think()
    lane.block()
    lane.block(at_ms=GATE)
    times = 0
    while lane.said and times < 5:
        times += 1
        # As if a node had no room: it is let go, and said anew after the next block.
        for signed in lane.said:
            lane.household._memory.drop(signed.tx_id)
        lane.said = []
        lane.block()
    assert times == 2
    lane.block(at_ms=OVER + 1)
    assert lane.household._memory.sealed == {}


def test_what_is_sealed_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "home.json"
    memory = opened(path)
    bid = SealedBid([SealedOrder("buy", 5, 6, {"green": True})], bytes(range(16)))
    memory.sealed = dict.fromkeys(range(SEALED_MAX + 5), bid)
    memory.save(STATE, NOW_MS)
    assert opened(path).sealed == dict.fromkeys(range(5, SEALED_MAX + 5), bid)
    assert path.stat().st_mode & 0o077 == 0


def test_a_bid_has_no_other_fields() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"orders": [], "salt": "", "more": 1}, SealedBid)
