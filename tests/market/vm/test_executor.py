"""Host API, cross-contract calls, caps and the identity in the state."""

import hashlib

import pytest

from market.errors import Rejected, StateError
from market.vm.engine import Module
from market.vm.executor import IDENTITY_KEY, TRIALS_MAX, Executor
from market.vm.gas import QUERY_CAPS
from market.vm.gate import Program
from market.vm.host import CALL_DEPTH_MAX
from market.vm.journal import KEY_CHARS_MAX, Journal, State
from market.vm.starlark import StarlarkEngine
from tests.market.vm.cpython import CPythonEngine
from tests.market.vm.machine import ENV, Machine
from wire.codec import encode
from wire.keys import SigningKey

HOST = """
EXPORTS = {"put": "execute", "get": "query", "many": "execute", "scan": "query",
           "delete": "execute", "say": "execute", "refuse": "execute", "where": "query",
           "hash": "query", "verify": "query", "checks": "execute",
           "write_then_fail": "execute", "secret": "internal"}
def put(key, value):
    kv_put(key, value)
def get(key):
    return kv_get(key)
def many(values):
    kv_put_many(values)
    return kv_get_many(values.keys() + ["nothing"])
def scan(folder):
    return [kv_keys(folder), kv_scan(folder)]
def delete(key):
    kv_del(key)
    return kv_get(key)
def say(data):
    emit("said", data)
def refuse():
    kv_put("k", 1)
    emit("said", {})
    revert("no_way", "not today")
def where():
    return env()
def hash(text):
    return sha256(text)
def verify(key, message, signature):
    return verify_signature(key, message, signature)
def checks(n, text, address):
    expect_int("n", n, 0, 9)
    expect_text("text", text, 3)
    expect_address("address", address)
def write_then_fail():
    kv_put("k", 1)
    return [][0]
def secret():
    return 1
"""


@pytest.fixture(params=[StarlarkEngine, CPythonEngine])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param(), c=HOST)


def test_values_come_back_as_they_were_put(machine: Machine) -> None:
    value = {"b": [1, -(2**63), 2**63 - 1, 'é\n"', None, True], "a": {"x": []}}
    machine.value("c", "put", key="k", value=value)
    assert machine.value("c", "get", key="k") == value
    assert machine.journal.get("c/k") == encode(value)


def test_scan_is_in_key_order_and_of_one_folder(machine: Machine) -> None:
    values = {"a/2": 2, "a/10": 10, "a/1/x": 1, "ab/1": 5, "b": 6}
    assert machine.value("c", "many", values=values) == [1, 10, 2, 5, 6, None]
    assert machine.value("c", "scan", folder="a/") == [["a/1/x", "a/10", "a/2"], [1, 10, 2]]
    assert machine.value("c", "scan", folder="")[0] == sorted(values)
    assert machine.value("c", "delete", key="a/10") is None
    assert machine.value("c", "scan", folder="a/")[0] == ["a/1/x", "a/2"]


def test_refusal_keeps_code_and_message_and_drops_the_rest(machine: Machine) -> None:
    outcome = machine.run("c", "refuse")
    assert (outcome.error.kind, outcome.error.reason) == ("revert", "no_way")
    assert outcome.error.message == "not today"
    assert outcome.events == []
    assert machine.journal.get("c/k") is None
    assert machine.run("c", "write_then_fail").error.kind == "fault"
    assert machine.journal.get("c/k") is None


def test_events_and_env(machine: Machine) -> None:
    outcome = machine.run("c", "say", data={"x": [1]})
    assert outcome.events == [("c", "said", {"x": [1]})]
    assert machine.value("c", "where") == {
        "sender": "tester",
        "height": 1,
        "time_ms": 5,
        "caller": "",
    }


def test_hash_and_signature(machine: Machine) -> None:
    assert machine.value("c", "hash", text="é") == hashlib.sha256("é".encode()).hexdigest()
    key = SigningKey(bytes([7]) * 32)
    good = {
        "key": key.public.hex(),
        "message": b"hello".hex(),
        "signature": key.sign(b"hello").hex(),
    }
    assert machine.value("c", "verify", **good) is True
    assert machine.value("c", "verify", **good | {"message": b"hallo".hex()}) is False
    assert machine.value("c", "verify", **good | {"signature": "zz"}) is False
    assert machine.value("c", "verify", **good | {"key": 5}) is False


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"n": 10, "text": "a", "address": ""}, "from 0 to 9, not 10"),
        ({"n": True, "text": "a", "address": ""}, "must be an integer"),
        ({"n": "1", "text": "a", "address": ""}, "must be an integer"),
        ({"n": 1, "text": "", "address": ""}, "1 to 3 characters"),
        ({"n": 1, "text": 5, "address": ""}, "must be text"),
        ({"n": 1, "text": "abc", "address": "cw12"}, "must be an address"),
        ({"n": 1, "text": "abc", "address": "cw" + "g" * 40}, "must be an address"),
        ({"n": 1, "text": "abc", "address": ["cw"]}, "must be an address"),
    ],
)
def test_argument_checks_say_what_would_be_right(machine: Machine, args: dict, words: str) -> None:
    outcome = machine.run("c", "checks", **args)
    assert outcome.error.reason == "bad_argument"
    assert words in outcome.error.message


def test_find_says_what_there_is() -> None:
    machine = Machine(c=HOST)
    executor, journal = machine.executor, machine.journal
    with pytest.raises(Rejected, match="there are: c"):
        executor.find(journal, "d", "put", ("execute",))
    with pytest.raises(Rejected, match="delete, many, put"):
        executor.find(journal, "c", "secret", ("execute",))
    export = executor.find(journal, "c", "put", ("execute",))
    for wrong in ({"key": 1}, {"key": 1, "value": 2, "x": 3}, [], None):
        with pytest.raises(Rejected, match="takes key, value"):
            executor.check_arguments("c", "put", export, wrong)


OUTER = """
EXPORTS = {"go": "execute", "bad_args": "execute", "entry": "execute", "again": "internal"}
def go(deeper, fail):
    kv_put("outer", 1)
    emit("outer", {})
    return call("inner", "go", {"deeper": deeper, "fail": fail})
def bad_args():
    return call("inner", "go", {"deeper": 1})
def entry():
    return call("inner", "outside", {})
def again(deeper, fail):
    return call("inner", "go", {"deeper": deeper, "fail": fail})
"""
INNER = """
EXPORTS = {"go": "internal", "outside": "execute"}
def go(deeper, fail):
    kv_put("inner", env()["caller"])
    emit("inner", {})
    if deeper > 0:
        return call("outer", "again", {"deeper": deeper - 1, "fail": fail})
    if fail:
        revert("inner_no", "stop")
    return [env()["caller"], kv_get("outer")]
def outside():
    return 1
"""


@pytest.fixture(params=[StarlarkEngine, CPythonEngine])
def pair(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param(), outer=OUTER, inner=INNER)


def test_calls_between_contracts(pair: Machine) -> None:
    outcome = pair.run("outer", "go", deeper=0, fail=False)
    assert outcome.result == ["outer", None]
    assert [event.contract for event in outcome.events] == ["outer", "inner"]
    assert pair.journal.get("inner/inner") == encode("outer")
    assert pair.run("outer", "bad_args").error.reason == "bad_arguments"
    assert pair.run("outer", "entry").error.reason == "unknown_entry"


def test_an_inner_refusal_drops_everything(pair: Machine) -> None:
    outcome = pair.run("outer", "go", deeper=2, fail=True)
    assert (outcome.error.kind, outcome.error.reason) == ("revert", "inner_no")
    assert outcome.events == []
    assert pair.journal.get("outer/outer") is None
    assert pair.journal.get("inner/inner") is None


def test_depth_cap(pair: Machine) -> None:
    fits = (CALL_DEPTH_MAX - 2) // 2
    assert pair.run("outer", "go", deeper=fits, fail=False).error is None
    outcome = pair.run("outer", "go", deeper=fits + 1, fail=False)
    assert (outcome.error.kind, outcome.error.reason) == ("fault", "call_depth")


def test_names_of_contracts() -> None:
    machine = Machine(c=HOST)
    for name in ("c", "vm", "chain", "a/b", "", "1a"):
        with pytest.raises(Rejected) as caught:
            machine.executor.deploy(machine.journal, name, HOST)
        assert caught.value.reason == "name"


def test_restore_runs_the_stored_code_and_checks_the_rules() -> None:
    machine = Machine(c=HOST)
    machine.journal.put(IDENTITY_KEY, encode(machine.executor.identity()))
    machine.value("c", "put", key="k", value=7)
    state = State()
    state.apply(machine.journal.writes)
    again = Executor(StarlarkEngine())
    again.restore(state)
    assert set(again.exports(Journal(state))) == {"c"}
    with pytest.raises(StateError, match="engine"):
        Executor(CPythonEngine()).restore(state)
    code = next(key for key in state.items if key.startswith("vm/code/"))
    state.apply({code: None})
    with pytest.raises(StateError, match="missing"):
        Executor(StarlarkEngine()).restore(state)


def test_texts_on_trial_push_out_none_in_use() -> None:
    machine = Machine(c=HOST)
    state = State()
    machine.journal.put(IDENTITY_KEY, encode(machine.executor.identity()))
    state.apply(machine.journal.writes)
    engine = CountingEngine()
    executor = Executor(engine)
    executor.restore(state)
    assert engine.loaded == 1
    journal = Journal(state)
    for number in range(TRIALS_MAX + 5):
        mark = journal.mark()
        executor.upgrade(journal, "c", HOST + f"# {number}\n")
        journal.rollback(mark)
    assert engine.loaded == 1 + TRIALS_MAX + 5
    outcome = executor.run(journal, "c", "put", {"key": "k", "value": 1}, dict(ENV), QUERY_CAPS)
    assert outcome.error is None
    assert engine.loaded == 1 + TRIALS_MAX + 5


class CountingEngine(StarlarkEngine):
    """Counts what it loads."""

    loaded = 0

    def load(self, program: Program) -> Module:
        self.loaded += 1
        return super().load(program)


LINES = """
EXPORTS = {"outer": "execute", "inner": "internal", "keep": "execute", "say": "execute",
           "ask": "execute"}
def outer():
    return [caller(), call("c", "inner", {})]
def inner():
    return caller()
def keep(key):
    kv_put(key, 1)
    return kv_get(key)
def say(event, data):
    emit(event, data)
def ask(where, what):
    return call(where, what, {})
"""


@pytest.mark.parametrize("engine", [StarlarkEngine, CPythonEngine])
def test_names_and_values_that_cross_as_one_text_stay_apart(engine: type) -> None:
    machine = Machine(engine(), c=LINES)
    assert machine.value("c", "outer") == ["", "c"]
    assert machine.value("c", "keep", key="a\nb") == 1
    assert machine.journal.get("c/a\nb") == encode(1)
    assert machine.run("c", "say", event="x\ny", data="a\nb").events == [("c", "x\ny", "a\nb")]
    for odd in (None, 5, True, [], {}, ""):
        assert machine.run("c", "keep", key=odd).error.reason == "bad_key"
        assert machine.run("c", "say", event=odd, data=1).error.reason == "bad_name"
        assert machine.run("c", "ask", where=odd, what="inner").error.reason == "bad_name"
        assert machine.run("c", "ask", where="c", what=odd).error.reason == "bad_name"
    # However a name is cut, it finds nothing that it does not name.
    for where, what in (("c\ninner", "x"), ("x\nc", "inner"), ("c", "x\ninner"), ("c\n", "")):
        assert machine.run("c", "ask", where=where, what=what).error is not None


KEEPER = """
EXPORTS = {"keep": "execute"}
def keep(key, value):
    kv_put(key, value)
"""
READER = """
EXPORTS = {"one": "query", "several": "query", "keep": "execute", "forget": "execute",
           "listed": "query"}
def one(key):
    return kv_get(key)
def several(keys):
    return kv_get_many(keys)
def keep(key):
    kv_put(key, 1)
def forget(key):
    kv_del(key)
def listed(folder):
    return kv_scan(folder)
"""


@pytest.mark.parametrize("engine", [StarlarkEngine, CPythonEngine])
def test_another_contracts_keys_are_read_and_never_written(engine: type) -> None:
    machine = Machine(engine(), keeper=KEEPER, reader=READER)
    machine.value("keeper", "keep", key="home/a", value=[1, 2])
    machine.value("reader", "keep", key="home/a")
    assert machine.value("reader", "one", key="/keeper/home/a") == [1, 2]
    assert machine.value("reader", "one", key="/keeper/home/b") is None
    assert machine.value("reader", "one", key="/nobody/home/a") is None
    keys = ["home/a", "/keeper/home/a", "/reader/home/a"]
    assert machine.value("reader", "several", keys=keys) == [1, [1, 2], 1]
    before = dict(machine.journal.writes)
    for write in ("keep", "forget"):
        assert machine.run("reader", write, key="/keeper/home/a").error.reason == "bad_key"
    assert machine.journal.writes == before
    assert machine.value("reader", "listed", folder="/keeper/home/") == []


@pytest.mark.parametrize(
    "key",
    ["/", "//keeper/", f"/{IDENTITY_KEY}", "/chain/block", "/é", "/" + KEY_CHARS_MAX * "k"],
)
def test_what_is_no_contracts_is_not_read(key: str) -> None:
    machine = Machine(reader=READER)
    machine.journal.put("/keeper/", encode(1))
    machine.journal.put(IDENTITY_KEY, encode(1))
    machine.journal.put("chain/block", encode(1))
    assert machine.run("reader", "one", key=key).error.reason == "bad_key"
    assert machine.run("reader", "several", keys=["a", key]).error.reason == "bad_key"


def test_a_foreign_read_costs_what_an_own_one_does() -> None:
    machine = Machine(keeper=KEEPER, reader=READER)
    machine.value("keeper", "keep", key="k", value="v" * 400)
    machine.journal.put("reader/k", machine.journal.get("keeper/k"))
    own = machine.run("reader", "several", keys=["k"] * 9)
    foreign = machine.run("reader", "several", keys=["/keeper/k"] * 9)
    texts = len('"/keeper/k"') - len('"k"')
    assert foreign.gas == own.gas + 9 * texts // 4
    assert own.gas > 900
