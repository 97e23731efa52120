"""Code by vote: what is refused before anybody votes, what comes into force, what is undone."""

from collections.abc import Iterable

import pytest

from market import client, contracts, governance
from market.app import Application, BlockEnv, BlockResult, Receipt
from market.deployment import CHANGED_KEY, CODE_CHECKS_PER_BLOCK_MAX, PROPOSED_PREFIX
from market.errors import InvariantError, QueryError, StateError
from market.vm.executor import CODE_PREFIX, INSTANCE_PREFIX
from tests.market.street import REGULATOR, SLOT_MS, START_MS, TARIFF
from tests.market.test_governance import A1, A2, A3, A4, EPOCH, H5, Assembly, founding, refusal
from tests.market.vm.cpython import CPythonEngine
from wire.codec import encode
from wire.keys import SigningKey

COUNTER = """
EXPORTS = {"add": "execute", "value": "query", "read": "internal"}
def instantiate(args):
    kv_put("value", args["start"])
def add(n):
    expect_int("n", n, 1, 100)
    kv_put("value", kv_get("value") + n)
    emit("added", {"n": n})
def value():
    return kv_get("value")
def read():
    return kv_get("value")
"""
DOUBLER = COUNTER.replace("def instantiate(args):\n    kv_put", "def migrate(args):\n    kv_put")
DOUBLER = DOUBLER.replace('args["start"]', 'kv_get("value") * args["by"]')
DOUBLER = DOUBLER.replace('kv_get("value") + n', 'kv_get("value") + 2 * n')


def bring(
    street: Assembly, key: SigningKey, kind: str, name: str, source: str, args: dict[str, object]
) -> Receipt:
    """Upload a text and propose it."""
    for call in governance.upload(source):
        street.ok(key, call)
    if (street.height + 1) % EPOCH == 0:
        street.block()
    return street.send(key, governance.propose_code(kind, name, source, args, 50))


def approve(street: Assembly, receipt: Receipt, *keys: SigningKey) -> int:
    assert receipt.code == "ok", receipt
    number = int(next(e.data["number"] for e in receipt.events if e.name == "proposed"))
    for key in keys:
        street.ok(key, governance.vote(number, True))
    return number


def vote_in(
    street: Assembly, kind: str, name: str, source: str, args: dict[str, object] | None = None
) -> int:
    number = approve(street, bring(street, A1, kind, name, source, args or {}), A2, A3)
    street.to_epoch()
    return number


def code_of(street: Assembly, name: str) -> str:
    return str(street.query("vm", "contract", {"name": name})["code_hash"])


def call(name: str, entry: str, **args: object) -> client.Call:
    return client.Call(name, entry, dict(args))


def test_a_contract_is_voted_in_used_and_upgraded() -> None:
    street = Assembly()
    receipt = bring(street, A1, "deploy", "counter", COUNTER, {"start": 5})
    number = approve(street, receipt, A2)
    assert street.status(number) == "open"
    waiting = street.query("vm", "proposed", {"number": number})
    assert (waiting["source"], waiting["args"]) == (COUNTER, {"start": 5})
    street.ok(A3, governance.vote(number, True))
    assert street.status(number) == "passed"
    with pytest.raises(QueryError, match="no contract"):
        street.query("counter", "value", {})
    street.to_epoch()
    assert street.status(number) == "in_force"
    assert street.query("counter", "value", {}) == 5
    assert code_of(street, "counter") == waiting["code_hash"]
    street.ok(H5, call("counter", "add", n=3))
    old = code_of(street, "counter")
    vote_in(street, "upgrade", "counter", DOUBLER, {"by": 10})
    assert street.query("counter", "value", {}) == 80
    street.ok(H5, call("counter", "add", n=3))
    assert street.query("counter", "value", {}) == 86
    # Nothing of what is over is kept.
    keys = [key for key, _ in street.app.state_items()]
    assert CODE_PREFIX + old not in keys
    assert not [key for key in keys if key.startswith((PROPOSED_PREFIX, "governance/part/"))]
    deployed = street.query("vm", "overview", {})
    assert [row["name"] for row in deployed["contracts"]] == [*contracts.CONTRACTS, "counter"]


def test_a_vote_changes_the_mechanism() -> None:
    """The same market, and a `migrate` that sets its rules: from each pair's price to one."""
    street = Assembly()
    rules = """
def migrate(args):
    rules = kv_get("rules")
    rules["mechanism"] = args["mechanism"]
    kv_put("rules", rules)
"""
    source = contracts.source("market") + rules
    number = vote_in(street, "upgrade", "market", source, {"mechanism": "uniform"})
    assert street.status(number) == "in_force", governance.proposals(street.query)
    slot = street.time_ms // SLOT_MS + 2
    for key, side, price in ((A1, "sell", 110_000), (A2, "sell", 130_000), (A3, "buy", 150_000)):
        energy = 100 if side == "sell" else 200
        street.ok(key, client.post_order(slot, side, energy, price))
    street.to_gate(slot)
    paid = {trade.price_micro_per_kwh for trade in client.trades_of_slot(street.query, slot)}
    assert paid == {130_000}
    assert client.slot_summary(street.query, slot).price_micro_per_kwh == 130_000


def test_a_restart_and_a_newcomer_run_the_code_that_is_in_force() -> None:
    street = Assembly()
    vote_in(street, "deploy", "counter", COUNTER, {"start": 1})
    vote_in(street, "upgrade", "counter", DOUBLER, {"by": 3})
    other = Application(street.app.params, None, founding())
    other.load(street.app.state_items(), street.height)
    assert other.state_root == street.app.state_root
    assert other.query("counter", "value", {}) == 3
    street.time_ms += 1_000
    env = BlockEnv(street.height + 1, street.time_ms)
    txs = [street.sign(H5, call("counter", "add", n=4))]
    ours, theirs = street.app.execute(env, txs), other.execute(env, txs)
    assert ours.receipts[0].code == "ok"
    assert ours == theirs
    # A jump to a snapshot leaves what was loaded before.
    behind = Application(street.app.params, None, founding())
    behind.commit(behind.genesis())
    prepared = behind.prepare(street.app.state_items(), street.height, street.app.state_root)
    with pytest.raises(QueryError):
        behind.query("counter", "value", {})
    behind.adopt(prepared)
    assert behind.query("counter", "value", {}) == 3
    assert behind.execute(env, txs) == ours


def test_hooks_keep_their_order_over_a_restart() -> None:
    street = Assembly()
    before = street.query("vm", "overview", {})["contracts"]
    other = Application(street.app.params, None, founding())
    other.load(street.app.state_items(), street.height)
    assert other.query("vm", "overview", {})["contracts"] == before
    assert [row["name"] for row in before] == list(contracts.CONTRACTS)


def test_a_block_that_is_not_committed_deploys_nothing() -> None:
    street = Assembly()
    approve(street, bring(street, A1, "deploy", "counter", COUNTER, {"start": 5}), A2, A3)
    while (street.height + 1) % EPOCH:
        street.block()
    root = street.app.state_root
    env = BlockEnv(street.height + 1, street.time_ms + 1_000)
    tx = street.sign(H5, call("counter", "add", n=1), nonce=1_000)
    first, second = street.app.execute(env, [tx]), street.app.execute(env, [])
    assert first.receipts[0].code == "ok"  # the code is in force for the block's transactions
    assert street.app.execute(env, [tx]) == first
    assert first.state_root != second.state_root
    assert street.app.state_root == root
    with pytest.raises(QueryError, match="no contract"):
        street.query("counter", "value", {})
    street.app.commit(second)
    assert street.query("counter", "value", {}) == 5


HEAD = 'EXPORTS = {"f": "execute"}\n'
LOOP = """def f():
    n = 0
    for i in range(60000):
        for j in range(60000):
            n += 1
    return n
"""
START = "def f():\n    return 1\ndef instantiate(args):\n"
REFUSED = {
    "float": ("def f():\n    return 1.5\n", "literal"),
    "import": ("import os\ndef f():\n    return 1\n", "top_level"),
    "recursion": ("def f():\n    return f()\n", "recursion"),
    "while": ("def f():\n    while True:\n        pass\n", "syntax"),
    "class": ("class A:\n    pass\ndef f():\n    return 1\n", "top_level"),
    "big integer": (f"def f():\n    return {2**129}\n", "literal"),
    "too long": ("#" * 66_000, "source_size"),
    "wrong types": ('def f():\n    return 1 + "x"\n', "types"),
    "wrong arity": ("def f():\n    return g(1)\ndef g(a, b):\n    return a\n", "types"),
    "host arity": ("def f():\n    kv_put(1)\n", "types"),
    "no such entry": ('def f():\n    call("ledger", "print", {})\n', "types"),
    "other arguments": ('def f():\n    call("ledger", "lock", {"address": "x"})\n', "types"),
    "endless at start": (
        LOOP + "def instantiate(args):\n    f()\n",
        "compute",
    ),
    "endless in the hook": (LOOP + "def on_block():\n    f()\n", "compute"),
    "huge range": (START + "    n = len(range(100000000))\n", "contract_fault"),
    "text doubled": (
        START + '    s = "x"\n    for i in range(60):\n        s = s + s\n',
        "contract_fault",
    ),
    "list in itself": (
        START + '    x = [1]\n    for i in range(40):\n        x = [x, x]\n    kv_put("x", x)\n',
        "contract_fault",
    ),
    "big integer grown": (
        START + "    x = 3\n    for i in range(40):\n        x = x * x\n",
        "contract_fault",
    ),
    "fills the state": (
        START + '    s = "xxxxxxxxxxxxxxxx"\n    for i in range(11):\n        s = s + s\n'
        "    for i in range(2000):\n        kv_put(str(i), s)\n",
        "storage",
    ),
    "nested deep": (f"def f():\n    return {'(' * 90}1{')' * 90}\n", "nesting"),
    "refuses itself": (
        'def f():\n    return 1\ndef instantiate(args):\n    revert("not_yet", "come later")\n',
        "not_yet",
    ),
    "faults": (
        "def f():\n    return 1\ndef instantiate(args):\n    return [][1]\n",
        "contract_fault",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_the_vote_opens(name: str) -> None:
    body, reason = REFUSED[name]
    source = HEAD + body
    street = Assembly()
    for upload in governance.upload(source):
        street.ok(A1, upload)
    receipt = refusal(street, A1, governance.propose_code("deploy", "thing", source, {}, 50))
    assert receipt.reason == reason, receipt
    assert governance.proposals(street.query) == []


def proposal(kind: str, name: str, args: object = None, source: str = COUNTER) -> client.Call:
    given = {"start": 1} if args is None else args
    return governance.propose_code(kind, name, source, given, 50)  # type: ignore[arg-type]


def test_refusals_of_a_proposal() -> None:
    street = Assembly()
    assert refusal(street, A1, proposal("deploy", "counter")).reason == "bad_upload"
    for upload in governance.upload(COUNTER):
        street.ok(A1, upload)
    cases = [
        (H5, proposal("deploy", "counter"), "not_authority"),
        (A2, proposal("deploy", "counter"), "bad_upload"),
        (A1, proposal("deploy", "counter", source=DOUBLER), "bad_upload"),
        (A1, proposal("destroy", "counter"), "bad_argument"),
        (A1, proposal("deploy", "counter", []), "bad_argument"),
        (A1, proposal("deploy", "counter", {"start": "x" * 5_000}), "bad_argument"),
        (A1, proposal("deploy", "ledger"), "name"),
        (A1, proposal("deploy", "vm"), "name"),
        (A1, proposal("deploy", "Counter"), "name"),
        (A1, proposal("deploy", "a/b"), "name"),
        (A1, proposal("upgrade", "counter"), "unknown_contract"),
        (A1, proposal("upgrade", "ledger"), "types"),
        (A1, proposal("library", "counter"), "bad_arguments"),
        (A1, proposal("library", "counter", {}), "library"),
        (A1, proposal("deploy", "counter", {}), "contract_fault"),
        (A1, governance.propose_code("deploy", "counter", COUNTER, {}, 0), "bad_argument"),
        (A1, call("vm", "propose", number=1), "unknown_contract"),
        (A1, call("governance", "enacted", number=1, reason="", message=""), "unknown_entry"),
    ]
    for key, proposed, reason in cases:
        receipt = refusal(street, key, proposed)
        assert receipt.reason == reason, (proposed, receipt)
    assert street.send(A1, proposal("deploy", "counter")).code == "ok"
    for upload in governance.upload(COUNTER):
        street.ok(A2, upload)
    assert refusal(street, A2, proposal("deploy", "counter")).reason == "already_proposed"


def test_only_governance_reaches_the_machine() -> None:
    thief = """
EXPORTS = {"f": "execute"}
def f():
    call("vm", "propose", {"number": 1, "kind": "deploy", "name": "x", "source": "", "args": {}})
def instantiate(args):
    pass
"""
    street = Assembly()
    vote_in(street, "deploy", "thief", thief)
    receipt = street.send(H5, call("thief", "f"))
    assert (receipt.code, receipt.reason) == ("revert", "not_governance")


def test_uploads_are_bounded_and_expire() -> None:
    street = Assembly()
    parts = governance.upload("# " + "x" * 20_000 + COUNTER)
    assert len(parts) == 4
    street.ok(A1, parts[0])
    assert refusal(street, A1, parts[2]).reason == "bad_upload"
    street.ok(A1, parts[1])
    street.ok(A1, parts[0])  # begins anew
    assert refusal(street, A1, parts[2]).reason == "bad_upload"
    assert refusal(street, H5, parts[0]).reason == "not_authority"
    too_many = call("governance", "upload", index=0, count=17, text="x")
    assert refusal(street, A1, too_many).reason == "bad_argument"
    too_long = call("governance", "upload", index=0, count=1, text="x" * 6_001)
    assert refusal(street, A1, too_long).reason == "bad_argument"
    for _ in range(202):
        street.block()
    left = [key for key, _ in street.app.state_items() if "/part/" in key or "/upload/" in key]
    assert left == []
    with pytest.raises(ValueError, match="parts"):
        governance.upload("x" * 100_000)


def test_a_block_checks_only_so_many_texts() -> None:
    street = Assembly()
    keys = [A1, A2, A3, A4]
    for key in keys:
        for upload in governance.upload(HEAD + REFUSED["float"][0]):
            street.ok(key, upload)
    if (street.height + 1) % EPOCH == 0:
        street.block()
    source = HEAD + REFUSED["float"][0]
    txs = [
        street.sign(key, governance.propose_code("deploy", "thing", source, {}, 50)) for key in keys
    ]
    reasons = [receipt.reason for receipt in street.block(txs).receipts]
    # Refusals count: what a text costs is the checking.
    few = CODE_CHECKS_PER_BLOCK_MAX
    assert reasons == ["literal"] * few + ["busy"] * (len(keys) - few)


def ends(result: BlockResult, name: str) -> list[dict[str, object]]:
    return [dict(event.data) for event in result.events if event.name == name]


def test_what_has_become_impossible_leaves_the_old_code_and_says_why() -> None:
    street = Assembly()
    vote_in(street, "deploy", "counter", COUNTER, {"start": 5})
    picky = COUNTER.replace("def instantiate(args):\n", "def migrate(args):\n")
    picky = picky.replace(
        '    kv_put("value", args["start"])\n',
        '    if kv_get("value") != 5:\n        revert("moved", "the value has changed")\n',
    )
    number = approve(street, bring(street, A1, "upgrade", "counter", picky, {}), A2)
    before = code_of(street, "counter")
    street.ok(H5, call("counter", "add", n=1))
    street.ok(A3, governance.vote(number, True))
    while street.status(number) == "passed":
        result = street.block()
    failed = ends(result, "failed")
    assert failed == [{"number": number, "reason": "moved: counter.migrate: the value has changed"}]
    assert street.status(number) == "failed"
    assert code_of(street, "counter") == before
    street.ok(H5, call("counter", "add", n=1))
    assert street.query("counter", "value", {}) == 7


def test_two_changes_of_one_epoch_are_each_judged_by_themselves() -> None:
    street = Assembly()
    receipts = [
        bring(street, key, "deploy", "counter", COUNTER, {"start": start})
        for key, start in ((A1, 1), (A2, 2))
    ]
    assert receipts[1].reason == "already_proposed"
    other = COUNTER + "# another\n"
    second = bring(street, A2, "deploy", "counter", other, {"start": 2})
    one = approve(street, receipts[0], A2, A3)
    two = approve(street, second, A1, A3)
    street.to_epoch()
    assert (street.status(one), street.status(two)) == ("in_force", "failed")
    assert street.query("counter", "value", {}) == 1


def changed(name: str, *pairs: tuple[str, str]) -> str:
    text = contracts.source(name)
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


MIGRATE = "\ndef migrate(args):\n"
MINTS = MIGRATE + '    kv_put("account/" + args["to"], [1000000000, 0, 0])\n'
NO_SUPPLY = MIGRATE + '    kv_del("supply")\n'
GARBAGE = MIGRATE + '    kv_put("account/" + args["to"], "rich")\n'


@pytest.mark.parametrize("tail", [MINTS, NO_SUPPLY, GARBAGE])
def test_a_migration_that_breaks_a_law_never_comes_to_a_vote(tail: str) -> None:
    street = Assembly()
    source = contracts.source("ledger") + tail
    args = {"to": H5.address}
    receipt = bring(street, A1, "upgrade", "ledger", source, args)
    assert receipt.reason == "law", receipt


TRANSFER_OLD = (
    '[account[0] - amount_micro, account[1], account[2]])\n    kv_put("account/" + address'
)
TRANSFER_NEW = '[account[0], account[1], account[2]])\n    kv_put("account/" + address'


def test_voted_code_that_breaks_a_law_later_loses_the_call_not_the_chain() -> None:
    street = Assembly()
    counterfeit = changed("ledger", (TRANSFER_OLD, TRANSFER_NEW))
    vote_in(street, "upgrade", "ledger", counterfeit)
    before = street.account(5)
    receipt = street.send(H5, client.transfer(A1.address, 100))
    assert (receipt.code, receipt.reason) == ("fault", "law")
    assert street.account(5) == before
    # Another vote mends it.
    number = vote_in(street, "upgrade", "ledger", contracts.source("ledger"))
    assert street.status(number) == "in_force"
    street.ok(H5, client.transfer(A1.address, 100))
    assert street.account(5).balance_micro == before.balance_micro - 100


def test_no_two_calls_settle_a_slot_twice() -> None:
    """A bill deleted by one call and written by another: what is deleted is forgotten for good."""
    street = Assembly()
    text = """
EXPORTS = {"cut": "execute", "write": "execute"}
def cut(key, forgotten):
    kv_put("forgotten", forgotten)
    kv_del("bill/" + key)
def write(key, row):
    kv_put("bill/" + key, row)
"""
    names = ["import", "export", "bought", "sold", "grid", "fed_in", "shortfall"]
    names += ["green_bought", "green_sold"]
    bill: dict[str, object] = {f"{name}_wh": 0 for name in names}
    bill |= {"slot": 1, "home": 1, "total_micro": 0, "trades_cost_micro": 0, "penalty_micro": 0}
    bill |= {"fees_micro": 0}
    bill |= {"trades_income_micro": 0, "grid_cost_micro": 0, "feed_in_income_micro": 0}
    settlement = contracts.source("settlement")
    head, rest = settlement.split("EXPORTS = {", 1)
    more = text.split("}\n", 1)[1]
    source = f'{head}EXPORTS = {{\n    "cut": "execute",\n    "write": "execute",{rest}{more}'
    number = vote_in(street, "upgrade", "settlement", source)
    assert street.status(number) == "in_force", governance.proposals(street.query)
    street.ok(H5, call("settlement", "write", key="1/1", row=bill))
    again = street.send(H5, call("settlement", "write", key="1/1", row=bill))
    assert (again.code, again.reason) == ("fault", "law")
    txs = [
        street.sign(H5, call("settlement", "cut", key="1/1", forgotten=1)),
        street.sign(H5, call("settlement", "cut", key="1/1", forgotten=2)),
        street.sign(H5, call("settlement", "write", key="1/1", row=bill | {"home": 2})),
        street.sign(H5, call("settlement", "cut", key="1/1", forgotten=1)),
    ]
    ends = [(receipt.code, receipt.reason) for receipt in street.block(txs).receipts]
    assert ends == [("fault", "law"), ("ok", ""), ("fault", "law"), ("fault", "law")]
    street.block()


def test_the_founders_own_code_stops_the_node() -> None:
    street = Assembly()
    state = street.app._state
    assert state.items.get(CHANGED_KEY) is None
    state.apply({"ledger/supply": encode([7, 0])})
    with pytest.raises(InvariantError):
        street.send(REGULATOR, client.mint(H5.address, 1))


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([('"convict": "internal",\n', "")], "needed"),
        ([('    "enacted": "internal",\n', "")], "needed"),
        ([('    kv_put("epoch/" + str(KEY_BASE + epoch), seats)\n', "")], "terms"),
    ],
)  # fmt: skip
def test_governance_that_cannot_go_on_never_comes_to_a_vote(
    pairs: list[tuple[str, str]], reason: str | None
) -> None:
    street = Assembly()
    text = contracts.source("governance") + MIGRATE + "    pass\n"
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    receipt = bring(street, A1, "upgrade", "governance", text, {})
    assert receipt.reason == (reason or ""), receipt


def test_governance_may_be_upgraded_and_goes_on() -> None:
    street = Assembly()
    text = changed("governance", ("OPEN_PER_AUTHORITY_MAX = 4", "OPEN_PER_AUTHORITY_MAX = 1"))
    number = vote_in(street, "upgrade", "governance", text)
    assert street.status(number) == "in_force"
    street.ok(A1, governance.propose_set("heartbeat_ms", 20_000, 50))
    again = governance.propose_set("heartbeat_ms", 21_000, 50)
    assert refusal(street, A1, again).reason == "too_many_proposals"


def test_governance_that_fails_later_leaves_the_set_in_its_place() -> None:
    street = Assembly()
    late = 'def begin_epoch(height, rules):\n    if kv_get("count") > 1:\n        return\n'
    text = changed("governance", ("def begin_epoch(height, rules):\n", late))
    vote_in(street, "upgrade", "governance", text)
    street.ok(A1, governance.propose_set("heartbeat_ms", 20_000, 50))
    before = street.app.terms()
    for _ in range(3):
        street.to_epoch()
        terms = street.app.terms()
        assert terms.authorities == before.authorities
        assert terms.chain == before.chain
        assert terms.epoch == street.height // EPOCH


def test_an_upgrade_that_its_callers_could_not_call_is_refused() -> None:
    street = Assembly()
    renamed = changed("ledger", ("def lock(address,", "def lock(account_address,"))
    renamed = renamed.replace("def lock(account_address, amount_micro):\n",
                              "def lock(account_address, amount_micro):\n"
                              "    address = account_address\n", 1)  # fmt: skip
    receipt = bring(street, A1, "upgrade", "ledger", renamed, {})
    assert receipt.reason == "types"
    assert "ledger.lock takes" in receipt.message


LIB = "def twice(x):\n    return x * {0}\n"
USER = 'LIBRARIES = ["sums"]\nEXPORTS = {"f": "query"}\ndef f(n):\n    return twice(n)\n'


def test_libraries_come_by_vote_and_are_pinned_by_their_hash() -> None:
    street = Assembly()
    vote_in(street, "library", "sums", LIB.format(2))
    vote_in(street, "deploy", "user", USER)
    assert street.query("user", "f", {"n": 4}) == 8
    # What was voted on is the text with its libraries: another one is another contract.
    waiting = approve(street, bring(street, A1, "deploy", "later", USER, {}), A2)
    changed_library = approve(street, bring(street, A2, "library", "sums", LIB.format(3), {}), A1)
    for number in (changed_library, waiting):
        street.ok(A3, governance.vote(number, True))
    street.to_epoch()
    assert street.status(changed_library) == "in_force"
    found = {p.number: p for p in governance.proposals(street.query)}[waiting]
    assert found.status == "failed"
    assert found.reason.startswith("library_changed")
    assert street.query("user", "f", {"n": 4}) == 8


def test_proposals_that_do_not_pass_leave_nothing() -> None:
    street = Assembly()
    receipt = bring(street, A1, "deploy", "counter", COUNTER, {"start": 1})
    number = approve(street, receipt)
    for key in (A2, A3):
        street.ok(key, governance.vote(number, False))
    assert street.status(number) == "rejected"
    bring(street, A1, "deploy", "counter", COUNTER, {"start": 2})
    for _ in range(52):
        street.block()
    assert street.status(number + 1) == "expired"
    keys = [key for key, _ in street.app.state_items()]
    assert not [key for key in keys if key.startswith((PROPOSED_PREFIX, "counter/"))]
    assert INSTANCE_PREFIX + "counter" not in keys


def test_both_engines_agree_over_deploys_and_upgrades() -> None:
    street, twin = Assembly(), Application(Assembly().app.params, CPythonEngine(), founding())
    twin.commit(twin.genesis())

    def block(txs: Iterable[tuple[SigningKey, client.Call]] = ()) -> None:
        street.time_ms += 1_000
        street.height += 1
        signed = [street.sign(key, call_) for key, call_ in txs]
        env = BlockEnv(street.height, street.time_ms)
        ours, theirs = street.app.execute(env, signed), twin.execute(env, signed)
        assert [(r.code, r.reason, r.message, r.events) for r in ours.receipts] == [
            (r.code, r.reason, r.message, r.events) for r in theirs.receipts
        ]
        assert ours.events == theirs.events
        street.app.commit(ours)
        twin.commit(theirs)
        mine, other = dict(street.app.state_items()), dict(twin.state_items())
        assert {k: v for k, v in mine.items() if k != "vm/identity"} == {
            k: v for k, v in other.items() if k != "vm/identity"
        }

    sources = [COUNTER, DOUBLER, HEAD + REFUSED["wrong types"][0]]
    plan = [("deploy", sources[0], {"start": 7}), ("upgrade", sources[1], {"by": 2}),
            ("upgrade", sources[2], {})]  # fmt: skip
    for number, (kind, source, args) in enumerate(plan, start=1):
        for upload in governance.upload(source):
            block([(A1, upload)])
        block([(A1, governance.propose_code(kind, "counter", source, args, 50))])
        block([(key, governance.vote(number, True)) for key in (A2, A3)])
        while street.height % EPOCH:
            block([(H5, call("counter", "add", n=3))])
        block([(H5, call("counter", "add", n=3)), (H5, call("counter", "value"))])
    assert street.query("counter", "value", {}) == twin.query("counter", "value", {})
    assert street.query("counter", "value", {}) > 20


def test_another_machine_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    street = Assembly()
    other = Application(street.app.params, None, founding())
    monkeypatch.setattr("market.vm.gas.COST", {"enter": 1})
    with pytest.raises(StateError, match=r"executed with gas .* this program has"):
        other.load(street.app.state_items(), street.height)


def test_prices_stay_where_they_were() -> None:
    """The market goes on over an upgrade in the middle of a slot's life."""
    street = Assembly()
    slot = START_MS // 900_000 + 1
    street.ok(H5, client.post_order(slot, "buy", 500, TARIFF))
    margin = street.account(5).held_micro
    assert margin > 0
    source = contracts.source("market") + "# the same, and a line\n"
    number = vote_in(street, "upgrade", "market", source)
    assert street.status(number) == "in_force"
    assert street.account(5).held_micro == margin
    street.to_gate(slot)
    assert [trade.energy_wh for trade in client.trades_of_slot(street.query, slot)] == [500]
