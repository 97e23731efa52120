"""A street's description is taken as it was written, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from testnet.street import STREET_NAME, StreetError, StreetPlan, open_street

GOOD: dict[str, Any] = {
    "plan": {"homes": 4, "seed": 7},
    "names": ["home-01", "home-02", "home-03", "home-04"],
}


def test_a_street_is_opened(tmp_path: Path) -> None:
    assert open_street(tmp_path) is None
    (tmp_path / STREET_NAME).write_text(json.dumps(GOOD))
    street = open_street(tmp_path)
    assert street is not None
    assert (street.plan, street.names) == (StreetPlan(homes=4, seed=7), GOOD["names"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "\udcff",
        '{"plan": ' + '{"a":' * 100_000,
        json.dumps(GOOD | {"names": GOOD["names"][:3]}),
        json.dumps(GOOD | {"names": ["../../etc", *GOOD["names"][1:]]}),
        json.dumps(GOOD | {"names": "home"}),
        json.dumps(GOOD | {"plan": {"homes": 4, "more": 1}}),
        json.dumps(GOOD | {"plan": {"homes": 10**9}}),
    ],
    ids=["empty", "list", "bytes", "deep", "few", "outside", "text", "unknown", "many"],
)
def test_what_is_no_street_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / STREET_NAME).write_text(text, errors="surrogateescape")
    with pytest.raises(StreetError) as caught:
        open_street(tmp_path)
    assert "\n" not in str(caught.value)
