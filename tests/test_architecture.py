"""The house's walls: who imports whom, and what the deterministic rooms never touch."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"cli", "consensus", "hems", "market", "node", "study", "testnet", "wire"}
MAY_IMPORT = {
    "wire": set(),
    "hems": set(),
    "consensus": {"wire"},
    "market": {"wire"},
    "node": {"consensus", "hems", "market", "wire"},
    "testnet": {"consensus", "hems", "market", "node", "wire"},
    "study": {"consensus", "hems", "market", "node", "wire"},
    "cli": {"node", "study", "testnet"},
}
DETERMINISTIC = ("consensus", "market")
OUTSIDE = {
    "asyncio",
    "datetime",
    "math",
    "multiprocessing",
    "numpy",
    "os",
    "pathlib",
    "random",
    "secrets",
    "selectors",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "time",
    "trio",
    "uuid",
}


def sources(room: str) -> list[Path]:
    if room == "cli":
        return [ROOT / "cli.py"]
    return sorted((ROOT / room).rglob("*.py"))


def imports(file: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_rooms_open_only_the_doors_they_have(room: str) -> None:
    assert sources(room)
    for file in sources(room):
        for line, name in imports(file):
            if name in ROOMS and name != room:
                assert name in MAY_IMPORT[room], f"{file}:{line} imports {name}"


@pytest.mark.parametrize("room", DETERMINISTIC)
def test_deterministic_rooms_touch_nothing_that_varies(room: str) -> None:
    for file in sources(room):
        for line, name in imports(file):
            assert name not in OUTSIDE, f"{file}:{line} imports {name}"
        for node in ast.walk(ast.parse(file.read_text())):
            where = f"{file}:{getattr(node, 'lineno', 0)}"
            is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
            assert not is_float, f"{where}: a float"
            is_division = isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(
                node.op, ast.Div
            )
            assert not is_division, f"{where}: division that makes floats"


def test_only_the_network_knows_libp2p_and_trio() -> None:
    for room in sorted(ROOMS):
        for file in sources(room):
            if (ROOT / "node" / "network") in file.parents:
                continue
            for line, name in imports(file):
                assert name not in ("libp2p", "trio", "multiaddr"), f"{file}:{line} imports {name}"


def test_only_the_test_build_of_the_daemon_knows_consensus_in_testnet() -> None:
    for file in sources("testnet"):
        if file != ROOT / "testnet" / "chaos" / "driver.py":
            assert "consensus" not in {name for _, name in imports(file)}, f"{file}"


def test_only_authorities_and_whole_homes_know_consensus_and_node_in_study() -> None:
    known = {
        ROOT / "study" / "agreed.py": {"consensus", "node"},
        ROOT / "study" / "compare" / "street.py": {"node"},
    }
    for file in sources("study"):
        found = {"consensus", "node"} & {name for _, name in imports(file)}
        assert found <= known.get(file, set()), f"{file}"


def test_signatures_are_checked_in_one_place() -> None:
    for room in sorted(ROOMS):
        for file in sources(room):
            for line, name in imports(file):
                if name == "nacl":
                    assert file == ROOT / "wire" / "keys.py", f"{file}:{line} imports {name}"


def test_each_exception_from_a_rule_has_its_reason() -> None:
    excepted = re.compile(r"#\s*(noqa|nosec)\b")
    for room in sorted(ROOMS):
        for file in sources(room):
            lines = file.read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines):
                if excepted.search(line):
                    above = lines[number - 1].strip()
                    told = " - " in line[line.index("#") :] or above.startswith("#")
                    assert told, f"{file}:{number + 1}: no reason stands there or above"
