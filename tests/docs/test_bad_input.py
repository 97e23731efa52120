"""The tables of what goes wrong: each row says what one sees, and names tests that are there."""

import pytest

from tests.docs.named import ROOT, cells, named_in, rows


@pytest.mark.parametrize("page", ["api.md", "mqtt.md"])
def test_each_bad_input_is_answered_and_names_tests_that_are_there(page: str) -> None:
    found = rows(ROOT / "docs" / page, "What goes wrong")
    assert len(found) > 8
    for row in found:
        given, seen, tests = cells(row)
        assert given
        assert seen
        assert named_in(tests), given
