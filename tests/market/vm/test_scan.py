"""Texts are refused by the same words on every version of Python."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from market import contracts
from market.errors import Rejected
from market.vm import scan
from market.vm.scan import BRACKETS_MAX, parse_text

REFUSED = {
    "deep brackets": ("x = " + "(" * 60 + "1" + ")" * 60, "nesting"),
    "long sum": ("def f():\n    return 1" + " + 1" * 200, "nesting"),
    "very long sum": ("def f():\n    return 1" + " + 1" * 15_000, "nesting"),
    "many minuses": ("def f():\n    return " + "-" * 20_000 + "1", "nesting"),
    "type statement": ("type X = 1", "syntax"),
    "lazy import": ("lazy import os", "syntax"),
    "except without brackets": ("try:\n    x\nexcept A, B:\n    y", "syntax"),
    "f-text": ("def f():\n    return f'{1!r:{2}}'", "syntax"),
    "t-text": ("def f():\n    return t'{1}'", "syntax"),
    "raw text": ("def f():\n    return r'x'", "syntax"),
    "bytes": ("def f():\n    return rb'x'", "literal"),
    "unpacking in a comprehension": ("def f(x):\n    return [*y for y in x]", "syntax"),
    "hexadecimal": ("def f():\n    return 0x10", "literal"),
    "number and word": ("def f(x):\n    return 1if x else 2", "literal"),
    "float": ("def f():\n    return .5", "literal"),
    "tab": ("def f():\n\treturn 1", "syntax"),
    "carriage return": ("def f():\r\n    return 1", "syntax"),
    "form feed": ("def f():\n\x0c    return 1", "syntax"),
    "null": ("x = 1\x00", "syntax"),
    "escape": ("x = '\\p'", "syntax"),
    "open text": ("x = 'abc\n'", "syntax"),
    "name beyond ASCII": ("é = 1", "name"),
    "too long": ("#" * 65_001, "source_size"),
    "lone surrogate": ("x = '\ud800'", "syntax"),
    "many digits": ("x = " + "1" * 5_000, "syntax"),
    "deep indentation": ("def f():\n" + "".join(" " * i + "if 1:\n" for i in range(1, 99))
                         + " " * 99 + "pass", "nesting"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    source, reason = REFUSED[name]
    with pytest.raises(Rejected) as caught:
        parse_text("c", source)
    assert caught.value.reason == reason, caught.value


def test_the_line_is_named() -> None:
    with pytest.raises(Rejected, match=r"line 4: float literal 2\.5"):
        parse_text("c", 'x = 1\ny = """a\n1.5 # in a text"""\nz = 2.5 # and 3.5\n')


@pytest.mark.parametrize(
    "source",
    [
        'x = "1.5 ( ( ( ** except" # 1.5 ((( f"x" **\n',
        "x = '\"' # '\n",
        'x = """many\nlines (((\n"""\n',
        "def f(type_, a):\n    return type(a) == 'int' and a * 3 // 2 - 1_000\n",
        f"x = {'[' * BRACKETS_MAX}{']' * BRACKETS_MAX}\n",
        "x = 'é ü €'\n",
        "",
    ],
)
def test_let_pass(source: str) -> None:
    parse_text("c", source)


@pytest.mark.parametrize("name", [*contracts.CONTRACTS, *contracts.LIBRARIES])
def test_our_own_are_let_pass(name: str) -> None:
    parse_text(name, contracts.source(name))


def test_one_thread_parses_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, at_work, most = scan.ast.parse, 0, 0

    def slow(source: str) -> object:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        time.sleep(0.01)
        at_work -= 1
        return parse(source)

    monkeypatch.setattr(scan.ast, "parse", slow)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: parse_text("c", f"x = {number}\n"), range(8)))
    assert most == 1
