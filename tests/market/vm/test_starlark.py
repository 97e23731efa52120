"""Bombs are stopped, always at the same tick; faults are faults; our bugs are nobody's fault."""

import json
import signal

import pytest

from market.errors import HostFailure
from market.vm.gas import COST, HOOK_CAPS, Caps
from market.vm.host import Host
from market.vm.journal import Journal
from tests.market.vm.machine import Machine

BOMBS = """
EXPORTS = {"spin": "execute", "grow": "execute", "bigint": "execute", "minus": "execute",
           "lists": "execute", "equal": "execute", "dag": "execute", "dag_put": "execute",
           "dag_equal": "execute", "dag_sorted": "execute", "dag_in": "execute", "ring": "execute",
           "wide": "execute", "sorts": "execute", "cat": "execute", "split": "execute",
           "format": "execute", "emits": "execute", "stores": "execute", "scans": "execute",
           "comprehension": "execute", "big_put": "execute", "uint": "execute"}
def spin():
    n = 0
    for i in range(60000):
        for j in range(60000):
            n += 1
    return n
def grow():
    s = "x"
    for i in range(60):
        s = s + s
    return len(s)
def bigint():
    x = 3
    for i in range(40):
        x = x * x
    return 1
def minus():
    x = 3
    for i in range(100000):
        x = x - (0 - x)
    return 1
def lists():
    l = [1]
    for i in range(60):
        l = l + l
    return 1
def nest():
    l = [1]
    for i in range(40):
        l = [l, l]
    return l
def dag():
    return nest()
def dag_put():
    kv_put("k", nest())
def equal():
    a = [1]
    return a == [1]
def dag_equal():
    return nest() == nest()
def dag_sorted():
    return len(sorted([[nest()], [nest()]]))
def dag_in():
    return nest() in [nest()]
def ring():
    l = []
    l.append(l)
    return l
def wide():
    return list(range(100000000))
def sorts():
    l = list(range(60000))
    n = 0
    for i in range(1000):
        n += len(sorted(l))
    return n
def cat():
    s = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    for i in range(10):
        s = s + s
    for i in range(60000):
        y = s + "a"
    return 1
def split():
    s = "a,"
    for i in range(14):
        s = s + s
    for i in range(60000):
        y = s.split(",")
    return 1
def format():
    s = "%s"
    return s % 1
def emits():
    for i in range(5000):
        emit("e", {})
def stores():
    s = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    for i in range(8):
        s = s + s
    for i in range(20):
        kv_put(str(i), s)
def scans():
    s = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    for i in range(7):
        s = s + s
    kv_put("a/b", s)
    for i in range(10000):
        kv_scan("a/")
def comprehension():
    return len([[i, j] for i in range(60000) for j in range(60000)])
def big_put():
    x = 9223372036854775807
    kv_put("k", x + 1)
def uint():
    return 18446744073709551615
"""

STOPPED = {
    "spin": "out_of_gas",
    "grow": "fault",
    "bigint": "fault",
    "minus": "fault",
    "lists": "fault",
    "equal": "fault",
    "dag": "fault",
    "dag_put": "fault",
    "dag_equal": "fault",
    "dag_sorted": "fault",
    "dag_in": "fault",
    "ring": "fault",
    "wide": "fault",
    "sorts": "out_of_gas",
    "cat": "out_of_gas",
    "split": "out_of_gas",
    "format": "fault",
    "emits": "fault",
    "stores": "out_of_gas",
    "scans": "out_of_gas",
    "comprehension": "out_of_gas",
    "big_put": "fault",
    "uint": "fault",
}


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(bomb=BOMBS)


@pytest.mark.parametrize("name", STOPPED)
def test_bomb_is_stopped_at_the_same_gas_each_time(machine: Machine, name: str) -> None:
    first = machine.run("bomb", name)
    assert first.error is not None
    assert first.error.kind == STOPPED[name], first.detail
    again = Machine(bomb=BOMBS).run("bomb", name)
    assert (again.error.kind, again.error.reason, again.gas) == (
        first.error.kind,
        first.error.reason,
        first.gas,
    )
    assert machine.journal.get("bomb/k") is None


# A vector: the same on every machine, processor and version of Python that may run a chain.
STOPPED_AT_TURN = 235
LOOPS = """
EXPORTS = {"f": "execute"}
def f():
    n = 0
    for i in range(60000):
        for j in range(60000):
            n += 1
            if n % 1000 == 0:
                kv_put("n", n)
"""


@pytest.mark.parametrize(
    ("cap", "turns"), [(10_000, 4_000), (50_000, 22_000), (200_000, 90_000), (1_000_000, 452_000)]
)
def test_an_endless_loop_is_stopped_at_the_same_turn(
    monkeypatch: pytest.MonkeyPatch, cap: int, turns: int
) -> None:
    seen = []
    plain_put = Host.kv_put

    def put(self: Host, row: str) -> int:
        seen_now = plain_put(self, row)
        seen.append(int(row.rpartition("\n")[2]))
        return seen_now

    monkeypatch.setattr("market.vm.host.Host.kv_put", put)
    outcome = Machine(c=LOOPS).run("c", "f", Caps(cap, 10**9, 10))
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.error.reason) == ("out_of_gas", "compute")
    assert (outcome.gas, seen[-1]) == (cap, turns)


def test_gas_stops_after_the_same_number_of_turns() -> None:
    """A loop that reports each turn is cut at the same turn by a given cap, on every run."""
    source = """
EXPORTS = {"f": "execute"}
def f():
    for i in range(1000):
        emit("turn", i)
        for j in range(100):
            pass
"""
    turns = set()
    plain_emit = Host.emit
    for _ in range(3):
        machine = Machine(c=source)
        seen: list[int] = []

        def emit(self: Host, said: str, seen: list[int] = seen) -> int:
            seen.append(int(said.rpartition("\n")[2]))
            return plain_emit(self, said)

        Host.emit = emit  # type: ignore[method-assign]
        try:
            outcome = machine.run("c", "f", Caps(50_000, 1_000, 1_000))
        finally:
            Host.emit = plain_emit  # type: ignore[method-assign]
        assert outcome.error is not None
        assert outcome.error.kind == "out_of_gas"
        turns.add(seen[-1])
    assert turns == {STOPPED_AT_TURN}


def test_gas_counts_ticks_by_the_thousand(machine: Machine) -> None:
    source = """
EXPORTS = {"f": "execute"}
def f(n):
    for i in range(n):
        pass
"""
    machine = Machine(c=source)
    few, many = machine.run("c", "f", n=10), machine.run("c", "f", n=50_000)
    # Exact, on every machine: `enter` the arguments, and the callbacks by the
    # thousand ticks.
    assert few.gas == COST["enter"] + len('{"n":10}') // COST["bytes_per_gas"]
    assert many.gas == few.gas + 50_000


def test_storage_has_its_own_cap(machine: Machine) -> None:
    outcome = machine.run("bomb", "stores", HOOK_CAPS)
    assert outcome.error is None
    assert machine.run("bomb", "stores").error.reason == "storage"


FAULTY = """
EXPORTS = {"index": "execute", "key": "execute", "types": "execute", "unpack": "execute",
           "zero": "execute", "missing": "execute", "bad_key": "execute", "bad_scan": "execute",
           "bad_event": "execute", "null_put": "execute", "attribute": "execute"}
def index():
    return [][3]
def key():
    return {}["x"]
def types():
    return 1 + "x"
def unpack():
    a, b = [1, 2, 3]
    return a
def zero():
    return 1 // 0
def missing():
    return call("nowhere", "f", {})
def bad_key():
    return kv_get(5)
def bad_scan():
    return kv_scan("abc")
def bad_event():
    emit("", {})
def null_put():
    kv_put("k", None)
def attribute():
    return (5).get("x")
"""


@pytest.mark.parametrize(
    "entry",
    [
        "index",
        "key",
        "types",
        "unpack",
        "zero",
        "missing",
        "bad_key",
        "bad_scan",
        "bad_event",
        "null_put",
        "attribute",
    ],
)
def test_a_contract_bug_is_a_fault_without_the_engines_words(entry: str) -> None:
    outcome = Machine(c=FAULTY).run("c", entry)
    assert outcome.error is not None
    assert outcome.error.kind == "fault"
    assert "Traceback" not in outcome.error.message
    assert "error:" not in outcome.error.message


def test_a_host_failure_is_never_a_failed_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(c='EXPORTS = {"f": "execute"}\ndef f():\n    return kv_get("k")\n')

    plain_get = Journal.get

    def full_disk(self: Journal, key: str) -> bytes | None:
        if key == "c/k":
            raise OSError("no space left on device")
        return plain_get(self, key)

    monkeypatch.setattr("market.vm.journal.Journal.get", full_disk)
    with pytest.raises(HostFailure) as caught:
        machine.run("c", "f")
    assert isinstance(caught.value.__cause__, OSError) or caught.value.__context__ is not None


READS = 'EXPORTS = {"g": "internal"}\ndef g():\n    return kv_get("k")\n'
CALLS = 'EXPORTS = {"f": "execute"}\ndef f():\n    return call("b", "g", {})\n'


def test_an_interruption_is_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(a=CALLS, b=READS)
    # In the background of a script it is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        plain_get = Journal.get

        def interrupted(self: Journal, key: str) -> bytes | None:
            if key == "b/k":
                signal.raise_signal(signal.SIGINT)
            return plain_get(self, key)

        patch.setattr(Journal, "get", interrupted)
        try:
            with pytest.raises(KeyboardInterrupt):
                machine.run("a", "f")
        finally:
            signal.signal(signal.SIGINT, before)
    assert machine.value("a", "f") is None


def test_so_it_is_where_values_cross_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(a=CALLS, b=READS)
    with monkeypatch.context() as patch:
        plain_loads = json.loads

        def interrupted(text: str) -> object:
            value = plain_loads(text)
            if value == "k":
                raise KeyboardInterrupt
            return value

        patch.setattr(json, "loads", interrupted)
        with pytest.raises(KeyboardInterrupt):
            machine.run("a", "f")
    assert machine.value("a", "f") is None


def test_no_contract_can_say_that_it_was_interrupted() -> None:
    words = "x\nerror: KeyboardInterrupt: \n"
    index = 'EXPORTS = {"f": "execute"}\ndef f(text):\n    return {}[text]\n'
    number = 'EXPORTS = {"f": "execute"}\ndef f(text):\n    return int(text)\n'
    machine = Machine(index=index, number=number)
    for contract in ("index", "number"):
        outcome = machine.run(contract, "f", text=words)
        assert outcome.error is not None
        assert outcome.error.reason == "contract_fault"
        assert "KeyboardInterrupt" in outcome.detail


def test_a_host_failure_deep_in_a_call_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = 'EXPORTS = {"f": "execute"}\ndef f():\n    return call("b", "g", {})\n'
    inner = 'EXPORTS = {"g": "internal"}\ndef g():\n    return kv_scan("")\n'
    machine = Machine(a=outer, b=inner)

    def broken(self: object, prefix: str) -> list[str]:
        raise MemoryError

    monkeypatch.setattr("market.vm.journal.Journal.keys_under", broken)
    with pytest.raises(HostFailure):
        machine.run("a", "f")
