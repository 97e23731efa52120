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
BUILD_PINS = (ROOT / "deploy" / "build-pins.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(text: str = PINS) -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            one = Requirement(line.removesuffix(" \\"))
            found.setdefault(canonicalize_name(one.name), []).append(one)
    return found


def pinned(name: str, text: str = PINS) -> str | None:
    """Return the version of a library in the container."""
    here = dict(default_environment()) | {"python_version": "3.11", "sys_platform": "linux"}
    for one in pins(text)[canonicalize_name(name)]:
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


@pytest.mark.parametrize("text", ["uv", *PROJECT["build-system"]["requires"]])
def test_what_installs_and_builds_is_pinned(text: str) -> None:
    asked = Requirement(text)
    version = pinned(asked.name, BUILD_PINS)
    assert version is not None
    assert version in asked.specifier, f"{text}: pinned is {version}; run scripts/pins"


@pytest.mark.parametrize(("text", "least"), [(PINS, 30), (BUILD_PINS, 1)])
def test_every_pin_has_hashes_and_none_says_where_it_comes_from(text: str, least: int) -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(blocks) == sum(map(len, pins(text).values())) > least
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:60]
    assert "://" not in text
    assert "index" not in text


def test_the_container_is_made_of_the_pins_only() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install [^&\n]*", dockerfile)
    pinned_installs = [line for line in installs if "--no-deps --require-hashes -r" in line]
    assert [line.split()[-1] for line in pinned_installs] == ["build-pins.txt", "pins.txt"]
    # The third is our own text, built by what is pinned, which nobody fetches beside it.
    (own,) = [line for line in installs if line not in pinned_installs]
    assert "--no-deps" in own.split()
    assert own.split()[-1] == "/wheel/*.whl"
    (build,) = re.findall(r"uv build [^&\n]*", dockerfile)
    assert {"--no-build-isolation", "--out-dir", "/wheel"} <= set(build.split())
    assert build.split()[-1] == "."
    # What the build wants of this directory it is shown.
    shown = (ROOT / ".dockerignore").read_text()
    assert all(f"!deploy/{line.split()[-1]}\n" in shown for line in pinned_installs)
    # Nothing else is fetched.
    assert not re.search(r"\b(curl|wget|apt-get|git clone|ADD) ", dockerfile)


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
