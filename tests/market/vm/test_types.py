"""The type checker: what it says faults; what runs it lets pass; no text holds it up."""

import pytest

from market import contracts
from market.errors import Rejected
from market.vm import gate, types
from tests.market.vm.cpython import CPythonEngine
from tests.market.vm.machine import Machine

HEAD = 'EXPORTS = {"f": "execute"}\n'
HELPERS = """
def two(a, b):
    return a + b
def number():
    return 7
def words():
    return "w"
def nothing():
    kv_put("k", 1)
def either(n):
    if n > 1:
        return 5
    return "x"
def stops():
    revert("no", "never")
"""


def program(body: str) -> gate.Program:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return gate.check("c", HEAD + HELPERS + "def f():\n" + lines)


# Each of these is refused, and faults when it is run, on both engines.
WRONG = {
    "text to number": 'return 1 + "x"',
    "number to text": 'return "x" + 1',
    "list to number": "return [1] + 1",
    "number to a call's text": "return words() + 1",
    "number less text": 'return 1 - "x"',
    "text times number": 'x = "x"\nreturn x * 3',
    "text divided": 'x = "x"\nreturn x // 3',
    "minus text": 'x = "x"\nreturn -x',
    "too many": "return two(1, 2, 3)",
    "too few": "return two(1)",
    "unknown keyword": "return two(1, c=2)",
    "twice": "return two(1, a=2)",
    "host arity": 'return kv_get("k", "l")',
    "host type": "return kv_get(5)",
    "kept nothing": 'kv_put("k", None)',
    "length of a number": "return len(5)",
    "range of text": 'return range("x")',
    "sorted number": "return sorted(number())",
    "text of a list": "return str([1])",
    "number of a number": "return int(5)",
    "loop over a number": "for i in number():\n    pass",
    "look into a number": "return number()[0]",
    "look into nothing": "return {}.get",
    "place by text": 'return [1]["x"]',
    "text's place by text": 'return words()["x"]',
    "cut a map": "x = {}\nreturn x[1:2]",
    "key that is a list": "x = {}\nreturn x[[1]]",
    "assign into text": 'x = "abc"\nx[0] = "d"',
    "method of a list": 'x = [1]\nreturn x.get("a")',
    "method of a map": "x = {}\nx.append(1)",
    "method arity": "x = []\nx.append(1, 2)",
    "split by number": 'return "a,b".split(3)',
    "order of a list": "x = [1]\ny = [2]\nreturn x < y",
    "order of number and text": "return number() < words()",
    "equal lists": "x = [1]\ny = [1]\nreturn x == y",
    "number in text": 'return number() in "abc"',
    "in a number": "return 1 in number()",
    "nothing as a number": "return nothing() + 1",
    "before it is there": "y = x\nx = 1\nreturn y",
    "added before it is there": "x += 1\nreturn x",
    "sum in a loop": 'x = "a"\nfor i in range(3):\n    x = x + "b"\nreturn x - 1',
    "number of enumerate": 'for i, x in enumerate(["a"]):\n    y = i + "x"',
    "greatest of two kinds": 'return max(number(), "x")',
    "taken apart": "a, b = number()\nreturn a",
    "event name": "emit(5, {})",
    "call by number": 'return call(5, "x", {})',
    "arguments in a list": 'return call("c", "f", [])',
}
# Fault-free, but meant otherwise.
NEVER = {
    "never equal": 'return number() == "x"',
    "never unequal": "return words() != 5",
    "keeps nothing": "x = nothing()\nreturn 1",
    "keeps what append gives": "x = []\ny = x.append(1)\nreturn x",
}
RIGHT = {
    "either": "x = either(2)\nreturn x + 1",
    "from the state": 'x = kv_get("k") or 5\nreturn x + 1',
    "none at first": "x = None\nfor i in range(3):\n    x = i\nreturn x + 1",
    "two kinds by turns": 'x = 1\nif number() > 7:\n    x = "a"\nreturn x + 1',
    "late in a loop": "for i in range(2):\n    if i > 0:\n        last = last + i\n    else:\n"
    "        last = i\nreturn last",
    "nothing is nothing": "x = None\nreturn x == None",
    "map of numbers": 'x = {}\nx["a"] = 1\nfor k in x.keys():\n    x[k] = x[k] + 1\nreturn x["a"]',
    "comprehension": "return [i + 1 for i in range(3) if i != 1]",
    "nested": "return [[i, j] for i in range(2) for j in range(i)]",
    "cut": 'return [1, 2][:1] + [3] + ["a"]',
    "text": 'x = "a" + "b"\nreturn x.split(",")[0] + words()',
    "swap": "a, b = 1, 2\na, b = b, a\nreturn a - b",
    "keyword": "return sorted([2, 1], reverse=True)",
    "own keyword": "return two(a=1, b=2)",
    "bool": "x = number() > 3 and number() < 9\nreturn not x",
    "least of a list": "return min([number(), 2])",
    "items": 'return [k + "x" for k, v in {"a": 1}.items()]',
    "a name used twice": 'for x in [1]:\n    pass\nfor x in ["a"]:\n    y = x + "b"\nreturn y',
}


@pytest.mark.parametrize("name", [*WRONG, *NEVER])
def test_refused_with_its_line(name: str) -> None:
    body = (WRONG | NEVER)[name]
    try:
        checked = program(body)
    except Rejected:
        return  # the gate is first
    with pytest.raises(Rejected, match=r"^types: line \d+: ") as caught:
        types.check(checked, {})
    assert caught.value.reason == "types"


@pytest.mark.parametrize("engine", ["starlark", "cpython"])
@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused_faults(name: str, engine: str) -> None:
    """No complaint without a fault: the checker never stands in an honest contract's way."""
    lines = "".join(f"    {line}\n" for line in WRONG[name].splitlines())
    source = HEAD + HELPERS + "def f():\n" + lines
    try:
        machine = Machine(CPythonEngine() if engine == "cpython" else None, c=source)
    except Rejected:
        return  # neither gate nor engine take it
    outcome = machine.run("c", "f")
    assert outcome.error is not None, "it runs"
    assert outcome.error.kind == "fault"


@pytest.mark.parametrize("name", RIGHT)
def test_what_runs_is_let_pass(name: str) -> None:
    checked = program(RIGHT[name])
    types.check(checked, {})
    lines = "".join(f"    {line}\n" for line in RIGHT[name].splitlines())
    outcome = Machine(c=HEAD + HELPERS + "def f():\n" + lines).run("c", "f")
    assert outcome.error is None, outcome.detail


def test_our_own_contracts_have_no_complaints() -> None:
    shelf = tuple(gate.check_library(name, contracts.source(name)) for name in contracts.LIBRARIES)
    programs = {name: gate.check(name, contracts.source(name), shelf) for name in contracts.ALL}
    exports = {name: checked.exports for name, checked in programs.items()}
    for checked in programs.values():
        types.check(checked, exports)
    for name in contracts.LIBRARIES:
        types.check_library(name, contracts.source(name))


def test_calls_of_other_contracts_fit_their_entries() -> None:
    exports = {"other": gate.check("other", HEAD.replace("execute", "internal")
               + "def f(a, b):\n    return a\n").exports}  # fmt: skip
    right = program('x = call("other", "f", {"b": 1, "a": 2})\nreturn call("else", "g", {})')
    types.check(right, exports)
    for body in (
        'return call("other", "f", {"a": 1})',
        'return call("other", "f", {})',
        'return call("other", "f", {"a": 1, "b": 2, "c": 3})',
        'return call("other", "g", {})',
    ):
        with pytest.raises(Rejected, match=r"^types: c, line \d+: other\."):
            types.check(program(body), exports)


def test_libraries_are_known_by_what_they_give() -> None:
    library = gate.check_library("sums", 'NAME = "n"\ndef total(rows):\n    return len(rows)\n')
    head = 'LIBRARIES = ["sums"]\n' + HEAD
    good = gate.check("c", head + "def f():\n    return total([1]) + 1\n", (library,))
    types.check(good, {})
    for body in ("total([1], 2)", 'total([1]) + "x"', "NAME - 1"):
        bad = gate.check("c", head + f"def f():\n    return {body}\n", (library,))
        with pytest.raises(Rejected, match="types"):
            types.check(bad, {})


def growing(names: int) -> str:
    """Lists of lists of each other, in a loop: the engine's own checker never ends on three."""
    lines = ["x = [1]", *(f"y{i} = 1" for i in range(names)), "for i in range(3):", "    x = [x]"]
    lines += [
        f'    y{i} = [x, y{(i + 1) % names}, {{"a": y{(i + 3) % names}}}]' for i in range(names)
    ]
    return "\n".join(lines)


def chained(names: int) -> str:
    """A name's kind is known one turn after the next one's: as many turns as names."""
    lines = [f"y{i} = None" for i in range(names)] + ["for i in range(3):"]
    lines += [f"    y{i} = y{i + 1}" for i in range(names - 1)] + [f"    y{names - 1} = 1"]
    return "\n".join(lines)


@pytest.mark.parametrize("body", [growing(3), growing(60), chained(250)])
def test_no_text_holds_it_up(body: str) -> None:
    types.check(program(body), {})
