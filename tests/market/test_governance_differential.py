"""Random governance on Starlark and on CPython: equal receipts, events, writes and terms."""

import hashlib
import random

import pytest

from market import client, governance
from market.app import Application, BlockEnv, Conviction
from market.client import Call
from market.invariants import count_money
from market.vm.executor import IDENTITY_KEY
from tests.market.street import HOME_KEYS, Street, params
from tests.market.test_differential import comparable
from tests.market.test_governance import CHAIN, Assembly, founding
from tests.market.vm.cpython import CPythonEngine

SEATS = 5
TRANSACTIONS = 4


class Assemblage:
    """A seeded stream of what authorities and candidates may send, right and wrong."""

    def __init__(self, seed: int, street: Street) -> None:
        self.random = random.Random(seed)
        self._street = street

    def call(self) -> Call:
        random_ = self.random
        address = random_.choice(HOME_KEYS).address
        numbers = [p.number for p in governance.proposals(self._street.query)] or [1]
        expiry = random_.choice([0, 3, 20, 20, 50, 51])
        name = random_.choice([*CHAIN, "colour"])
        return random_.choice(
            [
                governance.stand(),
                governance.step_down(),
                governance.propose_add(address, expiry),
                governance.propose_remove(address, expiry),
                governance.propose_set(name, random_.choice([0, 700, 1_000, 70_000]), expiry),
                client.transfer(address, random_.choice([1, 4_000_000])),
                *[governance.vote(random_.choice(numbers[-4:]), random_.random() < 0.8)] * 6,
            ]
        )

    def conviction(self, height: int) -> list[Conviction]:
        random_ = self.random
        if random_.random() > 0.03:
            return []
        offenders = random_.sample([key.address for key in HOME_KEYS], random_.choice([1, 1, 3]))
        found = Conviction(hashlib.sha256(b"%d" % height).digest(), height - 1, tuple(offenders))
        return [found] if self._street.app.admissible([found])[0] else []


def run(seed: int, blocks: int) -> tuple[dict[str, int], Assembly]:
    market = params(homes=8)
    street = Assembly(seats=SEATS, market=market)
    twin = Application(market, CPythonEngine(), founding(SEATS))
    twin.commit(twin.genesis())
    stream = Assemblage(seed, street)
    codes: dict[str, int] = {}
    for height in range(1, blocks + 1):
        street.time_ms += 1_000
        chosen = [stream.random.choice(HOME_KEYS) for _ in range(TRANSACTIONS)]
        txs = [street.sign(key, stream.call()) for key in chosen]
        env, convictions = BlockEnv(height, street.time_ms), stream.conviction(height)
        before = street.app.terms()
        ours = street.app.execute(env, txs, convictions)
        theirs = twin.execute(env, txs, convictions)
        assert comparable(ours) == comparable(theirs)
        assert ours.next == theirs.next
        check_step(before.authorities, ours.next.authorities, height)
        street.app.commit(ours)
        twin.commit(theirs)
        assert not [event for event in ours.events if event.name == "hook_failed"]
        for receipt in ours.receipts:
            codes[receipt.reason or receipt.code] = codes.get(receipt.reason or receipt.code, 0) + 1
    ours_items = [item for item in street.app.state_items() if item[0] != IDENTITY_KEY]
    assert ours_items == [item for item in twin.state_items() if item[0] != IDENTITY_KEY]
    count_money(street.app._state)
    return codes, street


def check_step(before: tuple[bytes, ...], after: tuple[bytes, ...], height: int) -> None:
    """Sets change at boundaries only, by at most f seats, and keep their order."""
    changed = set(before) ^ set(after)
    assert not changed or height % 5 == 0
    assert len(changed) <= max(1, (len(before) - 1) // 3)
    stayed = [public for public in before if public in after]
    assert list(after)[: len(stayed)] == stayed


def check_bonds(street: Assembly) -> None:
    """What is held is the bonds, to the last one."""
    bonds = {member.address: member.bond_micro for member in governance.members(street.query)}
    for number, key in enumerate(HOME_KEYS, start=1):
        assert street.account(number).held_micro == bonds.get(key.address, 0)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_governance(seed: int) -> None:
    codes, street = run(seed, blocks=120)
    check_bonds(street)
    assert codes["ok"] > 40
    assert len(codes) > 8
    assert "contract_fault" not in codes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 15))
def test_much_random_governance(seed: int) -> None:
    codes, street = run(seed, blocks=600)
    check_bonds(street)
    assert "contract_fault" not in codes
