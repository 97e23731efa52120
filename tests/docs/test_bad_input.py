"""The tables of what goes wrong: each row says what one sees, and names tests that are there."""

import pytest

from tests.docs.test_security import NAMED, ROOT, names_in


def rows(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = text.split("## What goes wrong\n", 1)[1].split("\n## ", 1)[0]
    return [line for line in section.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("page", ["api.md", "mqtt.md"])
def test_each_bad_input_is_answered_and_names_tests_that_are_there(page: str) -> None:
    found = rows(page)
    assert len(found) > 8
    for row in found:
        _, given, seen, tests, _ = (cell.strip() for cell in row.split("|"))
        assert given
        assert seen
        named = NAMED.findall(tests)
        assert named, f"{given}: no test is named"
        for file, name in named:
            assert name in names_in(file), f"{file} has no {name}"
