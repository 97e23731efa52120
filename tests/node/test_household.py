"""What a home remembers comes back, or the file is refused in one line."""

import json
from pathlib import Path

import pytest

from hems.home import STORED_UWH_MAX, HomeState
from node.errors import StoreError
from node.household import MEMORY_CHARS_MAX, _remembered


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "home.json"
    assert _remembered(file) is None
    state = HomeState(5_000_000, 1_762_128_000_000, {1_762_128_000_000: -500})
    file.write_text(json.dumps(state.to_plain()))
    assert _remembered(file) == state


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"stored_uwh": ' + "9" * 5_000 + "}",
        json.dumps({"stored_uwh": STORED_UWH_MAX + 1}),
        json.dumps({"stored_uwh": -1}),
        json.dumps({"next_slot_ms": 2**60}),
        json.dumps({"committed_wh": {"1": -(2**60)}}),
        json.dumps({"committed_wh": {str(2**60): 1}}),
        '{"stored_uwh": 1}' + " " * MEMORY_CHARS_MAX,
    ],
    ids=["empty", "deep", "long", "full", "negative", "late", "much", "far", "large"],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "home.json"
    file.write_text(text)
    with pytest.raises(StoreError, match="what this home remembers cannot be read") as caught:
        _remembered(file)
    assert "\n" not in str(caught.value)
    assert file.read_text() == text
