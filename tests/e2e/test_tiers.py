"""A short trial of two regions as processes; `python -m tests.e2e.tiers` runs longer ones."""

from pathlib import Path

import pytest

from testnet.street import StreetPlan
from tests.e2e.tiers import Trial


@pytest.mark.long
async def test_a_region_stops_and_returns_and_all_adds_up(tmp_path: Path) -> None:
    said: list[str] = []
    plan = StreetPlan(homes=8, regions=2, time_lapse=180)
    trial = Trial(tmp_path, plan, said.append, halt_ms=15_000)
    report = await trial.run(1)
    assert not report["problems"], "\n".join([*said, *report["problems"]])
    assert report["lost"] == 2
    assert min(report["slots"].values()) > 1
