"""What is told of a street at its end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.errors import ControlError
from testnet.report import Observations, final_report, node_row


async def test_a_street_that_has_fallen_silent_says_so(tmp_path: Path) -> None:
    street: Any = SimpleNamespace(names=["home-01", "home-02"], home=lambda name: tmp_path / name)
    seen = Observations(street.names, 0.0, 0)
    for name in street.names:
        seen.take_status(name, {"height": 7, "peers": ["another"]})
    with pytest.raises(ControlError, match="of 2 homes from home-01 on none answers any more"):
        await final_report(street, [seen], {}, None)
    assert seen.alive() == []


def test_a_report_says_what_each_home_has_had_of_it() -> None:
    home = {"bought_wh": 310, "sold_wh": 20, "saved_micro": 41_000}
    row = node_row("home-01", {"peers": [], "home": home}, {}, {})
    assert home.items() <= row.items()
    # A node of the main chain has no home, and one that fell silent says nothing.
    for status in ({"peers": [], "home": None}, None):
        assert home.keys() <= node_row("neutral-01", status, {}, {}).keys()
        assert node_row("neutral-01", status, {}, {})["saved_micro"] is None
