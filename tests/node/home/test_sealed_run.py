"""A street whose orders are sealed, whole: nothing of an order leaves its home before the gate."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from market import client
from market.client import sealed
from market.client.sealed import SealedOrder
from node.daemon import now_ms
from node.errors import ControlError
from node.home.household import Household
from node.network.memory import MemoryNetwork
from tests.node.grid import Grid, Member, home_config, make_genesis, running, until
from wire.codec import encode

PATIENCE_S = 120.0
# Of each slot another price, which nothing else in the street is.
PRICE = 200_003
CHANGES = ("submit", "submit_many", "trade", "battery", "stop")


class Said(NamedTuple):
    """Bytes or text that left a home, and the real time by which it had. [ms]"""

    at_ms: int
    where: str
    data: bytes


class Bid(NamedTuple):
    """What a home has sealed in a slot."""

    orders: list[SealedOrder]
    salt: bytes


class Ear:
    """Hears all that homes say to each other, and what was sealed in which slot."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.said: list[Said] = []
        self.bids: dict[int, Bid] = {}
        send, publish, request = MemoryNetwork.send, MemoryNetwork.publish, MemoryNetwork.request
        digest_of, calls = sealed.digest_of, Household._calls

        def sends(network: MemoryNetwork, peer_id: str, protocol: str, data: bytes) -> bool:
            self.hear(protocol, data)
            return send(network, peer_id, protocol, data)

        async def publishes(network: MemoryNetwork, topic: str, data: bytes) -> None:
            self.hear(topic, data)
            await publish(network, topic, data)

        async def requests(
            network: MemoryNetwork, peer_id: str, protocol: str, data: bytes, timeout_s: float = 10
        ) -> bytes:
            self.hear(protocol, data)
            answer = await request(network, peer_id, protocol, data, timeout_s)
            self.hear(protocol, answer)
            return answer

        def digests(slot: int, address: str, orders: list[SealedOrder], salt: bytes) -> str:
            self.bids[slot] = Bid(orders, salt)
            return digest_of(slot, address, orders, salt)

        def priced(household: Household, target: int, orders: Any) -> list[client.Call]:
            price = {"price_micro_per_kwh": price_of(target)}
            return [
                call._replace(args=call.args | price) for call in calls(household, target, orders)
            ]

        patch.setattr(MemoryNetwork, "send", sends)
        patch.setattr(MemoryNetwork, "publish", publishes)
        patch.setattr(MemoryNetwork, "request", requests)
        patch.setattr(sealed, "digest_of", digests)
        patch.setattr(Household, "_calls", priced)

    def hear(self, where: str, data: bytes) -> None:
        self.said.append(Said(now_ms(), where, data))


def price_of(slot: int) -> int:
    return PRICE + slot % 10_000


def careless(bid: Bid, price: int) -> list[bytes]:
    """How orders, or their salt, could be written by somebody careless, but for numbers in text."""
    salts = [bid.salt, bid.salt.hex().encode(), sealed.base64url(bid.salt).encode()]
    return [*salts, *(encode(order) for order in bid.orders), encode(price)]


def search_for(bid: Bid, price: int) -> re.Pattern[bytes]:
    """Return what finds the orders of a slot, or their salt, in anything that was said."""
    texts = (f"{price}", f"{price:_}", f"{price:,}", f"{price / 1e6:.6f}")
    numbers = "|".join(map(re.escape, texts)).encode()
    found = b"|".join(map(re.escape, careless(bid, price)))
    return re.compile(found + rb"|(?<![\d.])(?:" + numbers + rb")(?!\d)", re.DOTALL)


def test_the_search_finds_what_is_there() -> None:
    bid, price = Bid([SealedOrder("buy", 5, 6)], bytes(range(16))), price_of(77)
    search = search_for(bid, price)
    for form in (*careless(bid, price), b"200080", b"200_080", b"0.200080", b'{"price": 200080}'):
        assert search.search(b"<" + form + b">"), form
    for other in (b"<1200080>", b"2000801", b"200081", bytes(16), encode(price + 1)):
        assert not search.search(other), other


async def all_answers(member: Member, slot: int) -> list[Said]:
    """Ask a home for all it tells, each question with all that any of them asks for."""
    with pytest.raises(ControlError, match="ask is one of: ") as refused:
        await member.ask("everything")
    names = str(refused.value).rpartition("ask is one of: ")[2].split(", ")
    assert len(names) > 20
    words: dict[str, Any] = {"slot": slot, "address": member.key.address, "home": 1, "count": 4}
    words |= {"height": 1, "from": 1, "number": 0}
    found = []
    for name in set(names) - set(CHANGES):
        try:
            told = json.dumps(await member.ask(name, **words), default=str)
        except ControlError as error:
            told = str(error)
        found.append(Said(now_ms(), f"answer to {name}", told.encode()))
    assert sum(len(one.data) > 200 for one in found) > 5
    return found


@pytest.mark.slow
async def test_nothing_of_an_order_leaves_its_home_before_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Gossip, hand-ins, blocks, answers of sync, what a neighbour is told, and all logs."""
    caplog.set_level("DEBUG", logger="commonwatt")
    ear = Ear(monkeypatch)
    # Slots of five seconds; who is late in one has the next.
    genesis = make_genesis(4, time_lapse=180, sealed=True, gate_lead_ms=600_000, reveal_ms=600_000)
    grid = Grid(tmp_path, genesis)
    grid.members[0].config = msgspec.structs.replace(grid.members[0].config, home=home_config(0))
    clock = genesis.market.clock()
    async with running(grid, range(4)) as members:
        app = members[1].node.app
        committed: set[int] = set()

        def is_committed() -> bool:
            committed.update(slot for slot in ear.bids if sealed.commitment(app.query, slot, 1))
            return bool(committed)

        await until(is_committed, "a commitment in a block", PATIENCE_S)
        told = await all_answers(members[1], max(committed))

        def is_revealed() -> bool:
            is_committed()
            return any(client.orders_of(app.query, slot, 1) for slot in committed)

        await until(is_revealed, "its orders in the book", PATIENCE_S)
    told += ear.said
    told += [
        Said(int(record.created * 1_000), record.name, record.getMessage().encode())
        for record in caplog.records
    ]
    leaks, heard_later = [], 0
    for slot in ear.bids:
        gate_ms = clock.gate_close_real_ms(slot)
        search = search_for(ear.bids[slot], price_of(slot))
        for one in told:
            if search.search(one.data):
                if one.at_ms < gate_ms:
                    leaks.append((slot, gate_ms - one.at_ms, one.where))
                else:
                    heard_later += 1
    assert leaks == []
    # The same search finds what was revealed, so that it would have found it before.
    assert heard_later > 0
