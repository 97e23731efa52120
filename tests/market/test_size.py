"""The largest market that the limits allow still fits the caps of a block's hooks."""

import random

import msgspec
import pytest

from market import client
from market.app import BlockEnv
from market.genesis import HomeEntry
from market.vm.gas import HOOK_CAPS, Caps
from market.vm.journal import Journal
from tests.market.street import SLOT, SLOT_MS, START_MS, Street, params
from wire.codec import encode

# What one slot may use: hooks clear and settle up to eight in a block.
SLOT_CAPS = Caps(*(cap // 8 for cap in HOOK_CAPS))


def crowd(homes: int) -> Street:
    first = params(homes=1).homes[0]
    entries = tuple(
        msgspec.structs.replace(
            first, address=f"cw{number:040x}", meter=f"cw{number + 2**80:040x}", name=f"{number}"
        )
        for number in range(1, homes)
    )
    street = Street(params(homes=(*entries, first)))
    assert isinstance(entries[0], HomeEntry)
    return street


def fill(street: Street, orders: int, homes: int) -> None:
    random_ = random.Random(5)
    assert street.home(1, client.post_order(SLOT, "buy", 1, 1)).code == "ok"
    rows: dict[int, list[list[int]]] = {}
    demand = 0
    for number in range(2, orders + 2):
        home = number % (homes - 1) + 1
        energy = random_.randrange(1, 2_000)
        demand += 0 if home % 2 else energy
        price = random_.randrange(90_000, 201_000)
        rows.setdefault(home, []).append([number, home, home % 2, energy, price, START_MS, 0])
    writes = {f"market/orders/{SLOT}/{home}": encode(row) for home, row in rows.items()}
    writes |= {f"market/home/{home}": encode({"open": 99, "history": []}) for home in rows}
    round_now = street.query("market", "round", {"slot": SLOT})
    round_now.update(bid_wh=demand + 1, posted=orders + 1)
    street.app._state.apply({**writes, f"market/slot/{SLOT}": encode(round_now)})


@pytest.mark.slow
def test_the_largest_slot_clears_and_settles_within_an_eighth_of_the_caps() -> None:
    homes = 5_000
    street = crowd(homes)
    fill(street, orders=100_000, homes=homes)
    journal = Journal(street.app._state)
    for contract, at_ms in (("market", SLOT * SLOT_MS), ("settlement", (SLOT + 9) * SLOT_MS)):
        env = street.app._env(BlockEnv(2, at_ms))
        outcome = street.app._executor.run(journal, contract, "on_block", {}, env, SLOT_CAPS)
        assert outcome.error is None, (outcome.error, outcome.detail)
    assert len(journal.keys_under("settlement/bill/")) == homes
    assert len(journal.keys_under("market/trades/")) > 500
