"""Damaged contracts: the gate and the engine refuse them in one way only, and never fall over."""

import random

import pytest

from market import contracts
from market.errors import Rejected
from market.vm import gate
from market.vm.starlark import StarlarkEngine

PIECES = [
    "lambda x: x", "while True:", "1.5", "*", "**", "_add", "__class__", "(", ")", "[", "]", ":",
    "yield 1", "async def f():", "f'{x}'", "b''", "...", "@", ":=", "\x00", "é", "\ud800", "\t",
    "'", '"""', "#", "\\", "import os", "global x", "del x", "match x:\n    case 1: pass", "not",
    "0x", "1_000", "1j", "is", "None", "True", "print", "eval", "{*x}", "[*x]", "//", "%", "=",
    "==", "\n",
]  # fmt: skip


SHELF = tuple(gate.check_library(name, contracts.source(name)) for name in contracts.LIBRARIES)


def damaged(random_: random.Random, name: str) -> str:
    text = contracts.source(name)
    for _ in range(random_.randrange(1, 4)):
        place = random_.randrange(len(text))
        kind = random_.randrange(4)
        if kind == 0:
            text = text[:place] + random_.choice(PIECES) + text[place:]
        elif kind == 1:
            text = text[:place] + text[place + random_.randrange(1, 40) :]
        elif kind == 2:
            lines = text.splitlines(keepends=True)
            line = random_.randrange(len(lines))
            lines.insert(random_.randrange(len(lines)), lines[line])
            text = "".join(lines)
        else:
            other = random_.randrange(len(text))
            text = text[:place] + text[other : other + random_.randrange(1, 60)] + text[place:]
    return text


def run(seed: int, rounds: int) -> None:
    random_ = random.Random(seed)
    engine = StarlarkEngine()
    passed = refused = 0
    for _ in range(rounds):
        name = random_.choice(contracts.CONTRACTS + contracts.LIBRARIES)
        text = damaged(random_, name)
        try:
            if name in contracts.LIBRARIES:
                gate.check_library(name, text)
            else:
                engine.load(gate.check("c", text, SHELF))
            passed += 1
        except Rejected:
            refused += 1
    assert passed
    assert refused > passed


def test_damaged_contracts() -> None:
    run(seed=1, rounds=60)


@pytest.mark.slow
def test_many_damaged_contracts() -> None:
    run(seed=2, rounds=3_000)
