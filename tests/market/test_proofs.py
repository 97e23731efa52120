"""The machine's hashes and proofs over state, as contracts call them."""

import hashlib

import pytest

from market import proofs
from market.vm import merkle
from market.vm.engine import Engine
from market.vm.starlark import StarlarkEngine
from tests.market.vm.cpython import CPythonEngine
from tests.market.vm.machine import Machine
from wire.codec import encode

ASKING = """
EXPORTS = {"put": "execute", "ask": "execute"}

def put(key, value):
    kv_put(key, value)

def ask(what, args):
    return call("vm", what, args)
"""


@pytest.fixture(params=[StarlarkEngine, CPythonEngine])
def machine(request: pytest.FixtureRequest) -> Machine:
    engine: Engine = request.param()
    found = Machine(engine, asking=ASKING, other=ASKING)
    found.executor.natives |= proofs.natives()
    for name, value in (("a/1", [1]), ("a/2", {"x": 2}), ("b", 3)):
        assert found.run("asking", "put", key=name, value=value).error is None
    return found


def refusal(machine: Machine, entry: str, **args: object) -> tuple[str, str]:
    error = machine.run("asking", "ask", what=entry, args=args).error
    assert error is not None
    return error.kind, error.reason


def test_the_hash_of_what_a_contract_keeps_itself(machine: Machine) -> None:
    found = machine.value("asking", "ask", what="value_hash", args={"key": "a/1"})
    assert found == hashlib.sha256(encode([1])).hexdigest()
    assert refusal(machine, "value_hash", key="c") == ("fault", "bad_key")
    assert refusal(machine, "value_hash", key=1) == ("fault", "bad_arguments")
    # Another contract's keys are not its own.
    error = machine.run("other", "ask", what="value_hash", args={"key": "a/1"}).error
    assert error is not None
    assert error.reason == "bad_key"


def test_the_root_of_a_folder_proves_each_value_in_it(machine: Machine) -> None:
    root = machine.value("other", "ask", what="folder_root", args={"folder": "asking/a/"})
    there: dict[str, bytes | None] = {"asking/a/1": encode([1]), "asking/a/2": encode({"x": 2})}
    tree = merkle.update(None, there)
    assert root == merkle.root_of(tree).hex()
    empty = machine.value("asking", "ask", what="folder_root", args={"folder": "asking/z/"})
    assert empty == merkle.EMPTY_ROOT.hex()
    assert refusal(machine, "folder_root", folder="asking/a") == ("fault", "bad_key")


def test_too_many_values_have_no_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "ROOTED_VALUES_MAX", 1)
    assert refusal(machine, "folder_root", folder="asking/a/") == ("fault", "batch_size")


def test_another_chains_state_is_believed_by_proof_only(machine: Machine) -> None:
    tree = merkle.update(None, {"k/1": encode({"n": 7}), "k/2": b"\x01", "k/3": b"\x02"})
    good = {
        "root": merkle.root_of(tree).hex(),
        "key": "k/1",
        "value": encode({"n": 7}).hex(),
        "proof": encode(merkle.prove(tree, "k/1")).hex(),
    }
    assert machine.value("asking", "ask", what="proven", args=good) == {"n": 7}
    wrong = {
        "root": merkle.EMPTY_ROOT.hex(),
        "key": "k/2",
        "value": encode({"n": 8}).hex(),
        "proof": encode(merkle.prove(tree, "k/2")).hex(),
    }
    for name, value in wrong.items():
        assert refusal(machine, "proven", **good | {name: value}) == ("revert", "not_proven")
    # An absence proves no value, and what is too long is not looked at.
    absent = {"key": "k/9", "value": "", "proof": encode(merkle.prove(tree, "k/9")).hex()}
    assert refusal(machine, "proven", **good | absent) == ("revert", "not_proven")
    for name in ("value", "proof"):
        assert refusal(machine, "proven", **good | {name: "00" * 5_000}) == ("revert", "not_proven")
        assert refusal(machine, "proven", **good | {name: "xyz"}) == ("revert", "malformed")
        assert refusal(machine, "proven", **good | {name: "AB"}) == ("revert", "malformed")
