"""The log is by part, and for programs where that is set."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.logs import CLEAR_LINE, LEVELS, PARTS, levels_of, set_up, terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    names = [None, "commonwatt", *(f"commonwatt.{part}" for part in PARTS)]
    before = {name: logging.getLogger(name).level for name in names}
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_each_part_has_its_level() -> None:
    told = io.StringIO()
    set_up("warning", ["network=error", "sync = debug"], "text", told)
    for part in ("network", "sync", "chain"):
        for level in LEVELS:
            getattr(logging.getLogger(f"commonwatt.{part}"), level)("%s", level)
    logging.getLogger("elsewhere").info("a library")
    lines = [line.split("commonwatt.")[1] for line in told.getvalue().splitlines()]
    assert lines == [
        "network: error",
        *(f"sync: {level}" for level in LEVELS),
        "chain: warning",
        "chain: error",
    ]
    set_up("error", [], "text", told)
    assert not logging.getLogger("commonwatt.sync").isEnabledFor(logging.WARNING)


FORGED = "2026-11-22 12:00:00,000 INFO    commonwatt.chain: all is well"


@pytest.mark.parametrize(
    "evil",
    ["\n", "\r", "\x1b[2J", "\x9b2J", "\u2028", "\u202e", "\x00", "\x7f", "\udc80"],
    ids=ascii,
)
def test_what_others_say_makes_no_line_of_its_own(evil: str) -> None:
    told = io.StringIO()
    set_up("info", [], "text", told)
    log = logging.getLogger("commonwatt.network")
    log.warning("%s: refused", f"{evil}{FORGED}")
    try:
        raise ValueError(f"no {evil}{FORGED}")
    except ValueError:
        log.exception("it failed")
    text = told.getvalue()
    assert evil == "\n" or evil not in text
    assert FORGED in text
    assert not any(line.startswith(FORGED) for line in text.splitlines())
    assert text.splitlines()[0].endswith(": refused")


def test_json_is_an_object_per_line() -> None:
    told = io.StringIO()
    set_up("info", [], "json", told)
    log = logging.getLogger("commonwatt.chain")
    log.info('two\nlines and "quotes" at %d', 7)
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")
    first, second = (json.loads(line) for line in told.getvalue().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "info",
        "part": "chain",
        "message": 'two\nlines and "quotes" at 7',
    }
    assert "ValueError: broken" in second["error"]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["net=debug"], "'net=debug' names no part; parts are announcer, "),
        (["network"], "'network' gives no level; levels are debug, "),
        (["network=loud"], "gives no level"),
        (["sync=info", "sync=error"], "sync is named twice"),
    ],
)
def test_bad_levels_are_named(texts: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        levels_of(texts)


def test_the_parts_are_those_that_speak() -> None:
    named = re.compile(r'getLogger\("commonwatt\.(\w+)"\)')
    found = {
        part
        for room in ("node", "hems", "market", "consensus")
        for file in (ROOT / room).rglob("*.py")
        for part in named.findall(file.read_text())
    }
    assert found == set(PARTS)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_record_takes_the_place_of_a_line_that_is_drawn_anew() -> None:
    screen = Screen()
    set_up("info", [], "text", screen)
    assert terminal() is screen
    screen.write("half a line")
    logging.getLogger("commonwatt.sync").info("news")
    assert screen.getvalue().startswith(f"half a line{CLEAR_LINE}")
    set_up("info", [], "json", screen)
    assert terminal() is None
    plain = io.StringIO()
    set_up("info", [], "text", plain)
    assert terminal() is None
    logging.getLogger("commonwatt.sync").info("news")
    assert "\x1b" not in plain.getvalue()
