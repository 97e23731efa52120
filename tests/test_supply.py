"""What is installed is what was looked at: the container's pins, and what is said of an audit."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.audited import FOUND, UNKNOWN, judge

ROOT = Path(__file__).parents[1]
PINS = (ROOT / "deploy" / "pins.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in PINS.splitlines():
        if line and not line.startswith((" ", "#")):
            one = Requirement(line.removesuffix(" \\"))
            found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


def pinned(name: str) -> str | None:
    """Return the version of a library in the container."""
    here = dict(default_environment()) | {"python_version": "3.11", "sys_platform": "linux"}
    for one in pins()[canonicalize_name(name)]:
        if one.marker is None or one.marker.evaluate(here):
            (specifier,) = one.specifier
            assert specifier.operator == "=="
            return specifier.version
    return None


@pytest.mark.parametrize("text", PROJECT["project"]["dependencies"])
def test_what_the_project_asks_for_is_pinned_to_what_it_allows(text: str) -> None:
    asked = Requirement(text)
    version = pinned(asked.name)
    assert version is not None
    assert version in asked.specifier, f"{text}: pinned is {version}; run scripts/pins"


def test_overrides_hold_in_the_pins() -> None:
    for text in PROJECT["tool"]["uv"]["override-dependencies"]:
        asked = Requirement(text)
        assert pinned(asked.name) in asked.specifier


def test_every_pin_has_hashes_and_none_says_where_it_comes_from() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", PINS.strip())
    assert len(blocks) == sum(map(len, pins().values())) > 30
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:60]
    assert "://" not in PINS
    assert "index" not in PINS


def test_the_container_is_made_of_the_pins_only() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    installs = re.findall(r"uv pip install (.*)", dockerfile)
    assert any("--no-deps --require-hashes -r pins.txt" in line for line in installs)
    assert all("--no-deps" in line for line in installs)


def report(*libraries: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(libraries), "fixes": []}


GOOD = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
LOST = {"name": "c", "skip_reason": "not found"}


def test_an_audit_says_what_was_found_and_never_takes_silence_for_health() -> None:
    assert judge(report(GOOD)) == (0, "1 libraries, none with a known hole")
    assert judge(report(GOOD, BAD)) == (FOUND, "b 2: PYSEC-1, mended in 3")
    assert judge(report(GOOD, LOST)) == (UNKNOWN, "1 of 2 not looked up: c")
    assert judge(report(LOST, BAD))[0] == FOUND
    assert judge(report())[0] == UNKNOWN
    code, text = judge(report(*(LOST for _ in range(9))))
    assert code == UNKNOWN
    assert text.endswith("c, c, c, c, c and 4 more")
