"""Events: rendered once for all, nobody is waited for, everything ends."""

import asyncio
import json
from typing import Any

import pytest

from consensus.messages import Block, Certificate
from market.app import BlockResult
from market.receipts import Event
from node.web import stream as module
from node.web.problems import ProblemError
from node.web.stream import Stream

CLEARED = dict.fromkeys(
    (
        *("tariff_micro_per_kwh", "feed_in_micro_per_kwh", "bids", "asks", "bid_wh", "ask_wh"),
        *("trades", "traded_wh", "traded_micro", "low_micro_per_kwh", "high_micro_per_kwh"),
        *("price_micro_per_kwh", "fees_micro", "curtailed_wh", "backstop_wh", "rounds"),
    ),
    0,
)


class Named:
    """An object of the given attributes, in place of a block's many."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


def tell(stream: Stream, height: int, *events: Event) -> None:
    header = Named(height=height, time_ms=1, proposer=2)
    block: Any = Named(header=header, txs=(b"",))
    certificate: Any = Named(block_hash=b"\xab")
    result: Any = Named(receipts=(), events=events)
    applied: tuple[Block, Certificate, BlockResult] = (block, certificate, result)
    stream.applied(*applied)


async def rest(said: Any) -> list[bytes]:
    return [data async for data in said]


async def test_a_block_and_its_slots_are_told() -> None:
    stream = Stream()
    said = stream.listen()
    await anext(said)
    known = Event("market", "slot_cleared", CLEARED | {"slot": 7})
    tell(stream, 3, known, Event("tariff", "of_no_interest", {}))
    events = (await anext(said)).decode().split("\n\n")
    assert events[0].startswith("id: 3\nevent: block\ndata: ")
    assert json.loads(events[0].partition("data: ")[2]) == {
        "height": 3, "hash": "ab", "time_ms": 1, "proposer": 2, "transactions": 1
    }  # fmt: skip
    slot = json.loads(events[1].partition("data: ")[2])
    assert (slot["slot"], slot["became"]) == (7, "cleared")
    assert events[2:] == [""]


async def test_it_is_rendered_once_for_all_and_not_at_all_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered = []

    def events(*applied: Any) -> list[bytes]:
        rendered.append(applied)
        return [b"data"]

    monkeypatch.setattr(module, "_events", events)
    stream = Stream()
    tell(stream, 1)
    assert not rendered
    listeners = [stream.listen() for _ in range(3)]
    for said in listeners:
        await anext(said)
    tell(stream, 2)
    assert [await anext(said) for said in listeners] == [b"data"] * 3
    assert len(rendered) == 1


async def test_who_does_not_keep_up_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 3)
    stream = Stream()
    slow, quick = stream.listen(), stream.listen()
    for height in range(5):
        tell(stream, height)
        await anext(quick)
    assert len(stream) == 1
    # What was queued for it is sent before it ends.
    assert len(await rest(slow)) == 1 + 2


async def test_listeners_are_bounded_and_their_places_come_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LISTENERS_MAX", 1)
    stream = Stream()
    said: Any = stream.listen()
    await anext(said)
    with pytest.raises(ProblemError, match="at most 1 listen"):
        stream.listen()
    await said.aclose()
    stream.listen()


async def test_a_silent_chain_keeps_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.001)
    said = Stream().listen()
    await anext(said)
    assert await anext(said) == b": still here\n\n"


def test_what_others_say_ends_no_event() -> None:
    evil = "a\n\nevent: block\r\rdata: {}\u2028"
    said = module._event("slot", 3, {"name": evil})
    assert said.startswith(b"id: 3\nevent: slot\ndata: ")
    assert said.count(b"\n") == 4
    assert b"\r" not in said
    assert said.endswith(b"\n\n")


@pytest.mark.parametrize("queued", [0, 2])
async def test_closing_ends_all(monkeypatch: pytest.MonkeyPatch, queued: int) -> None:
    monkeypatch.setattr(module, "QUEUE_MAX", 2)
    stream = Stream()
    said = stream.listen()
    ended = asyncio.create_task(rest(said))
    for height in range(queued):
        tell(stream, height)
    stream.close()
    stream.close()
    await ended
    with pytest.raises(ProblemError):
        stream.listen()
