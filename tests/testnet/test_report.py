"""What is told of a street at its end."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.errors import ControlError
from testnet.report import Observations, final_report


async def test_a_street_that_has_fallen_silent_says_so(tmp_path: Path) -> None:
    street: Any = SimpleNamespace(names=["home-01", "home-02"], home=lambda name: tmp_path / name)
    seen = Observations(street.names, 0.0, 0)
    for name in street.names:
        seen.take_status(name, {"height": 7, "peers": ["another"]})
    with pytest.raises(ControlError, match="of 2 homes from home-01 on none answers any more"):
        await final_report(street, [seen], {}, None)
    assert seen.alive() == []
