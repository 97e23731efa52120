"""Libraries: what a contract may stand on, whose names are whose, and what the state keeps."""

import pytest

from market.errors import Rejected, StateError
from market.vm import gate
from market.vm.executor import IDENTITY_KEY, LIBRARIES_MAX, Executor
from market.vm.gate import Library
from market.vm.journal import Journal, State
from market.vm.starlark import StarlarkEngine
from tests.market.vm.cpython import CPythonEngine
from tests.market.vm.machine import Machine
from wire.codec import encode

SUMS = """
STEP = 3

def grown(n):
    out = STEP
    for i in range(n):
        out = out + one(i)
    return out

def one(n):
    return n + 1
"""

USER = """
EXPORTS = {"f": "query"}
LIBRARIES = ["sums"]

def f(n):
    out = [grown(i) for i in range(n)]
    return out + [STEP]
"""


def shelf(**texts: str) -> tuple[Library, ...]:
    return tuple(gate.check_library(name, text) for name, text in texts.items())


def refused(contract: str, **libraries: str) -> Rejected:
    with pytest.raises(Rejected) as caught:
        gate.check("c", contract, shelf(**libraries))
    return caught.value


def test_a_contract_calls_its_library_on_both_engines() -> None:
    for engine in (StarlarkEngine(), CPythonEngine()):
        machine = Machine(engine)
        machine.executor.deploy_library(machine.journal, "sums", SUMS)
        program = machine.executor.deploy(machine.journal, "c", USER)
        assert machine.value("c", "f", n=4) == [3, 4, 6, 9, 3]
        assert [library.name for library in program.libraries] == ["sums"]


def test_what_a_library_calls_local_a_contract_may_define() -> None:
    library = "def twice(n):\n    total = n + n\n    return total\n"
    user = 'EXPORTS = {"f": "query"}\nLIBRARIES = ["a"]\n'
    user += "def total():\n    return 5\ndef f():\n    return twice(total())\n"
    for engine in (StarlarkEngine(), CPythonEngine()):
        machine = Machine(engine)
        machine.executor.deploy_library(machine.journal, "a", library)
        machine.executor.deploy(machine.journal, "c", user)
        assert machine.value("c", "f") == 10


def test_a_librarys_function_is_no_entry() -> None:
    machine = Machine()
    machine.executor.deploy_library(machine.journal, "sums", SUMS)
    machine.executor.deploy(machine.journal, "c", USER)
    with pytest.raises(Rejected) as caught:
        machine.executor.find("c", "grown", ("query", "execute", "internal"))
    assert caught.value.reason == "unknown_entry"
    # Nor may it be declared one: it is not a function of the contract's own text.
    assert refused(USER.replace('"f"', '"grown"'), sums=SUMS).reason == "exports"


def test_an_unknown_library_is_named_and_the_known_ones_listed() -> None:
    error = refused(USER, products="def by(n):\n    return n\n")
    assert error.reason == "library"
    assert "no library sums; there are: products" in error.message
    assert "there are: none" in refused(USER).message


@pytest.mark.parametrize(
    "value", ['"sums"', "5", '["sums", "sums"]', "[1]", '{"sums": 1}', "None", '[["sums"]]']
)
def test_libraries_are_declared_as_a_list_of_names(value: str) -> None:
    error = refused(USER.replace('["sums"]', value), sums=SUMS)
    assert error.reason == "library"
    assert "list" in error.message


@pytest.mark.parametrize(
    "extra",
    [
        "STEP = 4\n",
        "def STEP():\n    return 1\n",
        "one = 1\n",
        "def one(n):\n    return n\n",
    ],
)
def test_no_name_is_defined_by_a_contract_and_its_library(extra: str) -> None:
    error = refused(USER + extra, sums=SUMS)
    assert error.reason == "redefined"
    assert "is in library sums" in error.message


@pytest.mark.parametrize("local", ["STEP", "one"])
def test_a_librarys_name_is_no_local_name_of_the_contract(local: str) -> None:
    error = refused(USER + f"def g():\n    {local} = 1\n    return {local}\n", sums=SUMS)
    assert error.reason in ("redefined", "function_value")
    assert local in error.message


def test_no_name_is_defined_by_two_libraries() -> None:
    both = USER.replace('["sums"]', '["sums", "more"]')
    error = refused(both, sums=SUMS, more="def one(n):\n    return 0\n")
    assert error.reason == "redefined"
    assert "sums and more" in error.message
    assert gate.check("c", both, shelf(sums=SUMS, more="def two():\n    return 2\n"))


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("def a():\n    return b()\ndef b():\n    return a()\n", "recursion"),
        ("def a():\n    return f()\n", "function_value"),  # the contract's f
        ("def a():\n    return RATE\n", "name"),
        ("def a():\n    return 1.5\n", "literal"),
        ("def a():\n    return 1\nB = a()\n", "top_level"),
        ('EXPORTS = {"a": "query"}\ndef a():\n    return 1\n', "library"),
        ('LIBRARIES = ["sums"]\ndef a():\n    return 1\n', "library"),
        ("def on_block():\n    return 1\n", "library"),
        ("def instantiate(args):\n    return 1\n", "library"),
        ("def a():\n    return '\\n'\n", "syntax"),
    ],
)
def test_a_library_passes_the_gate_on_its_own(library: str, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        gate.check_library("a", library)
    assert caught.value.reason == reason, caught.value.message


def test_no_recursion_leads_through_a_library() -> None:
    """A library calls nothing of a contract's, so a contract can only give it its own name."""
    library = "def a(n):\n    return back(n)\ndef back(n):\n    return n\n"
    user = 'EXPORTS = {"f": "query"}\nLIBRARIES = ["a"]\ndef f():\n    return a(1)\n'
    assert gate.check("c", user, shelf(a=library))
    error = refused(user + "def back(n):\n    return f()\n", a=library)
    assert error.reason == "redefined"


def test_the_hash_covers_the_libraries() -> None:
    first = gate.check("c", USER, shelf(sums=SUMS))
    assert gate.check("c", USER, shelf(sums=SUMS)).code_hash == first.code_hash
    other = gate.check("c", USER, shelf(sums=SUMS.replace("STEP = 3", "STEP = 4")))
    assert other.code_hash != first.code_hash
    # What is on the shelf but not declared changes nothing.
    wide = gate.check("c", USER, shelf(sums=SUMS, more="def two():\n    return 2\n"))
    assert wide.code_hash == first.code_hash


def _state(machine: Machine) -> State:
    machine.journal.put(IDENTITY_KEY, encode(machine.executor.identity()))
    state = State()
    state.apply(machine.journal.writes)
    return state


def test_restored_from_the_state_with_the_text_it_was_deployed_with() -> None:
    machine = Machine()
    executor, journal = machine.executor, machine.journal
    old = executor.deploy_library(journal, "sums", SUMS)
    before = executor.deploy(journal, "c", USER)
    executor.deploy_library(journal, "sums", SUMS.replace("STEP = 3", "STEP = 100"))
    executor.deploy(journal, "d", USER)
    state = _state(machine)
    again = Machine()
    again.journal = Journal(state)
    again.executor.restore(state)
    assert again.value("c", "f", n=1) == [3, 3]
    assert again.value("d", "f", n=1) == [100, 100]
    # What is deployed after the restart takes the library's latest text.
    again.executor.deploy(again.journal, "e", USER)
    assert again.value("e", "f", n=1) == [100, 100]
    for code_hash in (old.code_hash, before.code_hash):
        broken = _state(machine)
        broken.apply({f"vm/code/{code_hash}": None})
        with pytest.raises(StateError, match="missing"):
            Executor(StarlarkEngine()).restore(broken)
        broken.apply({f"vm/code/{code_hash}": encode({"source": "x", "libraries": {}})})
        with pytest.raises(StateError, match="not what its hash says"):
            Executor(StarlarkEngine()).restore(broken)


def test_names_and_number_of_libraries() -> None:
    machine = Machine()
    for name in ("", "a/b", "1a", "_a"):
        with pytest.raises(Rejected) as caught:
            machine.executor.deploy_library(machine.journal, name, SUMS)
        assert caught.value.reason == "name"
    for number in range(LIBRARIES_MAX):
        machine.executor.deploy_library(machine.journal, f"a{number}", SUMS)
    with pytest.raises(Rejected) as caught:
        machine.executor.deploy_library(machine.journal, "more", SUMS)
    assert caught.value.reason == "too_many"
