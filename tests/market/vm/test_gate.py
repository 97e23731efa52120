"""The gate: what it refuses, by reason; what it lets through still means the same."""

import re
import shutil
from pathlib import Path

import pytest

from market.errors import Rejected
from market.vm import gate
from tests.market.vm.cpython import CPythonEngine
from tests.market.vm.machine import Machine

VM = Path(gate.__file__).parent
HEAD = 'EXPORTS = {"f": "execute"}\n'

REFUSED = {
    "float": ("def f():\n    return 1.5\n", "literal"),
    "bytes": ("def f():\n    return b'x'\n", "literal"),
    "true division": ("def f():\n    return 4 / 2\n", "syntax"),
    "power": ("def f():\n    return 2 ** 999999\n", "syntax"),
    "shift": ("def f():\n    return 1 << 999999\n", "syntax"),
    "matrix": ("def f():\n    return 1 @ 2\n", "syntax"),
    "while": ("def f():\n    while True:\n        pass\n", "syntax"),
    "class": ("class A:\n    pass\ndef f():\n    return 1\n", "top_level"),
    "import": ("import os\ndef f():\n    return 1\n", "top_level"),
    "import inside": ("def f():\n    import os\n    return 1\n", "syntax"),
    "try": ("def f():\n    try:\n        pass\n    except:\n        pass\n", "syntax"),
    "lambda": ("def f():\n    return sorted([1], key=lambda x: x)\n", "syntax"),
    "f-string": ("def f():\n    x = 1\n    return f'{x}'\n", "syntax"),
    "formatting": ("def f():\n    return '%s' % 1\n", None),
    "generator": ("def f():\n    return any(x for x in [1])\n", "syntax"),
    "walrus": ("def f():\n    return (x := 1)\n", "syntax"),
    "star": ("def f():\n    return max(*[1, 2])\n", "syntax"),
    "double star": ("def f():\n    return max(**{})\n", "syntax"),
    "decorator": ("@f\ndef f():\n    return 1\n", "syntax"),
    "default": ("def f(a=1):\n    return a\n", "syntax"),
    "annotation": ("def f() -> int:\n    return 1\n", "syntax"),
    "varargs": ("def f(*a):\n    return a\n", "syntax"),
    "inner function": ("def f():\n    def g():\n        return 1\n    return g()\n", "syntax"),
    "recursion": ("def f():\n    return f()\n", "recursion"),
    "round about": ("def f():\n    return g()\ndef g():\n    return f()\n", "recursion"),
    "function value": ("def g():\n    return 1\ndef f():\n    return [g]\n", "function_value"),
    "built-in value": ("def f():\n    x = sorted\n    return x([1])\n", "function_value"),
    "computed call": ("def f():\n    return [1][0]()\n", "function_value"),
    "parameter called": ("def f(g):\n    return g()\n", "function_value"),
    "dunder": ("def f():\n    return (1).__class__\n", "method"),
    "dunder name": ("def f():\n    return __builtins__\n", "name"),
    "guard by name": ("def f():\n    return _big(1)\n", "function_value"),
    "hidden entry": ("def f():\n    return 1\ndef g__entry():\n    return 1\n", "name"),
    "method": ("def f():\n    return 'a'.join(['b'])\n", "method"),
    "method value": ("def f():\n    return [].append\n", "method"),
    "unknown name": ("def f():\n    return time()\n", "function_value"),
    "unknown variable": ("def f():\n    return clock\n", "name"),
    "open": ("def f():\n    return open('x')\n", "function_value"),
    "shadowed built-in": ("def f():\n    len = 1\n    return len\n", "function_value"),
    "shadowed constant": ("A = 1\ndef f():\n    A = 2\n    return A\n", "redefined"),
    "shadowed host": ("def kv_get(k):\n    return 1\ndef f():\n    return 1\n", "redefined"),
    "twice": ("def f():\n    return 1\ndef f():\n    return 2\n", "redefined"),
    "constant twice": ("A = 1\nA = 2\ndef f():\n    return A\n", "redefined"),
    "constant and function": ("f = 1\ndef f():\n    return 1\n", "redefined"),
    "top-level call": ("A = len([1])\ndef f():\n    return A\n", "top_level"),
    "top-level loop": ("for i in [1]:\n    pass\ndef f():\n    return 1\n", "top_level"),
    "top-level sum": ("A = 1 + 1\ndef f():\n    return A\n", "top_level"),
    "tuple of variables": ("def f():\n    a = 1\n    return (a, a)\n", "tuple"),
    "tuple as key": ("def f():\n    a = [1]\n    return {(a, a): 1}\n", "tuple"),
    "element +=": ("def f():\n    a = [[]]\n    a[0] += [1]\n    return a\n", "syntax"),
    "slice step": ("def f():\n    return [1][::2]\n", "syntax"),
    "slice write": ("def f():\n    a = [1]\n    a[0:1] = [2]\n    return a\n", "syntax"),
    "chained in": ("def f():\n    return 1 in [1] in [2]\n", "syntax"),
    "chain": ("def f():\n    return 0 < 1 < 2\n", "syntax"),
    "two targets": ("def f():\n    a = b = 1\n    return a\n", "syntax"),
    "big literal": (f"def f():\n    return {2**129}\n", "literal"),
    "long text": (f"def f():\n    return '{'x' * 1100}'\n", "literal"),
    "deep": (f"def f():\n    return {'-' * 80}1\n", "nesting"),
    "long function": ("def f():\n" + "    a = 1\n" * 2_000, "function_size"),
    "long text of code": ("#" * 70_000, "source_size"),
    "escape": ("def f():\n    return '\\p'\n", "syntax"),
    "name beyond ASCII": ("def f():\n    é = 1\n    return é\n", "name"),
    "broken": ("def f(:\n", "syntax"),
    "null byte": ("def f():\n    return 1\x00\n", "syntax"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    source, reason = REFUSED[name]
    if reason is None:
        # Let through by the gate, stopped by its guard.
        outcome = Machine(c=HEAD + source).run("c", "f")
        assert outcome.error is not None
        assert outcome.error.kind == "fault"
        return
    with pytest.raises(Rejected) as caught:
        gate.check("c", HEAD + source)
    assert caught.value.reason == reason, caught.value.message


@pytest.mark.parametrize(
    "head",
    [
        "",
        "EXPORTS = {}\n",
        "EXPORTS = 5\n",
        'EXPORTS = {[]: "execute"}\n',
        'EXPORTS = {"f": ["execute"]}\n',
        'EXPORTS = {"f": "public"}\n',
        'EXPORTS = {"g": "execute"}\n',
        'EXPORTS = {"on_block": "execute"}\n',
    ],
)
def test_exports_must_be_declared(head: str) -> None:
    with pytest.raises(Rejected) as caught:
        gate.check("c", head + "def f():\n    return 1\ndef on_block():\n    return 1\n")
    assert caught.value.reason == "exports"


def test_hooks_have_a_fixed_form() -> None:
    with pytest.raises(Rejected):
        gate.check("c", HEAD + "def f():\n    return 1\ndef on_block(x):\n    return 1\n")
    with pytest.raises(Rejected):
        gate.check("c", HEAD + "def f():\n    return 1\ndef instantiate(a, b):\n    return 1\n")


ALL = """
EXPORTS = {"f": "execute"}
RATES = {"a": [1, -2], "b": True}

def twice(x):
    return x * 2

def f(n, text, rows):
    out = []
    total = 0
    for i, row in enumerate(rows):
        if i == 3:
            continue
        total += row[0] * row[1] - row[0] // 3 + row[1] % 7
        out.append([row[0], twice(row[1])])
    a, b = 1, 2
    a, b = b, a
    total -= n
    total *= 2
    total //= 3
    best = sorted([[-r[1], r[0]] for r in rows], reverse=True)
    seen = {}
    for r in rows:
        key = str(r[0])
        seen[key] = seen.get(key, 0) + r[1]
    found = 5 in [r[0] for r in rows] and not "x" in text
    parts = text.split(",")
    return {
        "out": out, "total": total, "best": best[:2], "last": best[-1:], "ab": [a, b],
        "keys": sorted(seen.keys()), "items": [[k, v] for k, v in seen.items()],
        "found": found, "parts": parts, "min": min([r[0] for r in rows]), "max": max(a, b, n),
        "range": list(range(2, 9, 3)), "any": any([r[0] == 2 for r in rows]), "all": all([]),
        "back": reversed([1, 2, 3]), "abs": abs(-n), "int": int("42") + len(text),
        "rates": RATES["a"][1], "flag": RATES["b"], "chain": 0 < a and a <= 2, "none": None,
        "pick": "yes" if n > 3 else "no", "starts": text.startswith("a"), "type": type(text),
        "values": seen.values(), "where": [1, 2, 3].index(2), "neg": -n // 4, "mod": -n % 4,
    }
"""


def test_the_whole_language_means_the_same_on_both_engines() -> None:
    args = {"n": 7, "text": "ab,c,dé", "rows": [[i * 7 % 5, i * i % 11] for i in range(9)]}
    ours = Machine(c=ALL).value("c", "f", **args)
    theirs = Machine(CPythonEngine(), c=ALL).value("c", "f", **args)
    assert ours == theirs
    assert ours["best"] == [[0, 0], [-1, 2]]
    assert ours["neg"] == -2
    assert ours["mod"] == 1


def test_the_fingerprint_covers_every_module_that_judges_a_text() -> None:
    covered, waiting = set(), {"gate", "types"}
    while waiting:
        name = waiting.pop()
        covered.add(name)
        text = VM.joinpath(f"{name}.py").read_text("utf-8")
        waiting |= set(re.findall(r"^from market\.vm\.(\w+) import", text, re.M)) - covered
    assert {f"{name}.py" for name in covered} | {"prelude.star"} == set(gate._RULES)


@pytest.mark.parametrize("name", gate._RULES)
def test_a_changed_word_of_the_rules_is_another_fingerprint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gate.fingerprint()
    rules = shutil.copytree(VM, tmp_path / "vm")
    monkeypatch.setattr(gate.resources, "files", lambda package: rules)
    assert gate.fingerprint() == before
    with (rules / name).open("a") as file:
        file.write("# a word\n")
    assert gate.fingerprint() != before
