"""Random governance on Starlark and on CPython: equal receipts, events, writes and terms."""

import hashlib
import random

import pytest

from market import client, governance
from market.app import Application, BlockEnv
from market.client import Call
from market.convictions import Conviction
from market.deployment import CHANGED_KEY
from market.invariants import count_money
from market.vm.executor import IDENTITY_KEY
from tests.market.street import HOME_KEYS, Street, params
from tests.market.test_differential import comparable
from tests.market.test_governance import CHAIN, Assembly, founding
from tests.market.vm.cpython import CPythonEngine
from wire.codec import decode_plain

SEATS = 5
COUNTER = """
EXPORTS = {"add": "execute", "value": "query"}
def instantiate(args):
    kv_put("value", args["start"])
def migrate(args):
    kv_put("value", args["start"] + kv_get("value") * 2)
def add(n):
    kv_put("value", kv_get("value") + n)
    emit("added", {"n": n, "value": kv_get("value")})
def value():
    return kv_get("value")
"""
TEXTS = (
    COUNTER,
    COUNTER.replace("+ n", "+ 3 * n"),
    COUNTER.replace("+ n", "- n") + 'def on_block():\n    kv_put("seen", env()["height"])\n',
    COUNTER.replace("* 2", "* 2.5"),
    COUNTER.replace("+ n", '+ 1 + "n"').replace(
        "def value", 'def more():\n    return 1 + "n"\ndef value'
    ),
    "def twice(x):\n    return x * 2\n",
)
TRANSACTIONS = 4


class Assemblage:
    """A seeded stream of what authorities and candidates may send, right and wrong."""

    def __init__(self, seed: int, street: Street, *, code: bool) -> None:
        self._of_code = code
        self.random = random.Random(seed)
        self._street = street
        self._texts: dict[str, str] = {}

    def call(self, sender: str) -> Call:
        random_ = self.random
        address = random_.choice(HOME_KEYS).address
        found = governance.proposals(self._street.query)
        if self._of_code:
            found = [proposal for proposal in found if proposal.status == "open"]
        numbers = [proposal.number for proposal in found] or [1]
        votes = [governance.vote(random_.choice(numbers[-4:]), random_.random() < 0.9)]
        if self._of_code:
            return votes[0] if random_.random() < 0.5 else self._code(sender)
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
                *votes * 6,
            ]
        )

    def _code(self, sender: str) -> Call:
        """Texts right and wrong, their proposals, and calls of what has come into force."""
        random_ = self.random
        name = random_.choice(["counter", "counter", "counter", "other", "ledger"])
        if random_.random() < 0.3:
            return Call(name, "add", {"n": random_.randrange(1, 5)})
        known = self._texts.pop(sender, None)
        if known is None:
            known = self._texts[sender] = random_.choice([*TEXTS[:3], *TEXTS])
            return governance.upload(known)[0]
        args = random_.choice([{"start": random_.randrange(9)}, {"start": 1}, {}])
        kind = random_.choice(["deploy", "deploy", "upgrade", "upgrade", "library"])
        return governance.propose_code(kind, name, known, args, 20)

    def conviction(self, height: int) -> list[Conviction]:
        random_ = self.random
        if self._of_code or random_.random() > 0.03:
            return []
        offenders = random_.sample([key.address for key in HOME_KEYS], random_.choice([1, 1, 3]))
        found = Conviction(hashlib.sha256(b"%d" % height).digest(), height - 1, tuple(offenders))
        return [found] if self._street.app.admissible([found])[0] else []


def run(seed: int, blocks: int, *, code: bool = False) -> tuple[dict[str, int], Assembly]:
    market = params(homes=8)
    street = Assembly(seats=SEATS, market=market)
    twin = Application(market, CPythonEngine(), founding(SEATS))
    twin.commit(twin.genesis())
    stream = Assemblage(seed, street, code=code)
    codes: dict[str, int] = {}
    for height in range(1, blocks + 1):
        street.time_ms += 1_000
        senders = HOME_KEYS[:SEATS] if code else HOME_KEYS
        chosen = [stream.random.choice(senders) for _ in range(TRANSACTIONS)]
        txs = [street.sign(key, stream.call(key.address)) for key in chosen]
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
            assert receipt.code != "fault", receipt
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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 15))
def test_much_random_governance(seed: int) -> None:
    _, street = run(seed, blocks=600)
    check_bonds(street)


def check_code(seed: int, blocks: int) -> None:
    codes, street = run(seed, blocks, code=True)
    changed = decode_plain(street.app.value(CHANGED_KEY) or b"", 16)
    assert changed >= 5
    # What is deployed has been used, and texts of every kind have been refused.
    assert street.app.value("counter/value") is not None
    assert codes["ok"] > 40
    assert {"literal", "types", "contract_fault", "busy"} <= codes.keys()
    again = Application(street.app.params, None, founding(SEATS))
    again.load(street.app.state_items(), street.app.height)
    assert again.query("vm", "overview", {}) == street.query("vm", "overview", {})


@pytest.mark.parametrize("seed", [1, 2])
def test_random_changes_of_code(seed: int) -> None:
    check_code(seed, blocks=150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 9))
def test_many_random_changes_of_code(seed: int) -> None:
    check_code(seed, blocks=600)
