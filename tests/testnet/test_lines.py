"""What a street says where there is no screen."""

from typing import Any

import pytest

from testnet.lines import BROKEN, Lines, end_line
from testnet.report import PROMISES, Observations

REPORT: dict[str, Any] = {
    "slots": 3,
    "trades": 7,
    "traded_wh": 2_345,
    "savings_percent": 12.34,
    **dict.fromkeys(PROMISES, True),
}


def slot(number: int, trades: int = 0, high_micro: int = 250_000) -> dict[str, Any]:
    return {
        "slot": number,
        "trades": trades,
        "traded_wh": 100 * trades,
        "low_micro_per_kwh": 200_000,
        "high_micro_per_kwh": high_micro,
        "grid_wh": 1_500,
        "fed_in_wh": 0,
    }


def test_each_thing_is_said_once() -> None:
    said: list[str] = []
    seen = Observations(["home-01", "home-02"], 0.0, 5)
    lines = Lines(said.append)
    lines.show([seen])
    seen.up.add("home-01")
    seen.first_block_s = 12.0
    seen.take_slots([slot(4), slot(5, 3), slot(6)])
    lines.show([seen])
    seen.take_slots([slot(5, 3), slot(7, 1, 200_000)])
    lines.show([seen])
    assert said == [
        "0 of 2 homes are up",
        "1 of 2 homes are up",
        "first block after 12 s",
        "slot 5: 3 trades, 0.30 kWh at 0.200 to 0.250; from the grid 1.50 kWh, fed in 0.00",
        "slot 6: 0 trades, 0.00 kWh; from the grid 1.50 kWh, fed in 0.00",
        "slot 7: 1 trades, 0.10 kWh at 0.200; from the grid 1.50 kWh, fed in 0.00",
    ]


def test_regions_are_told_apart() -> None:
    said: list[str] = []
    regions = [Observations([name], 0.0, 0) for name in ("a", "b")]
    regions[1].first_block_s = 3.0
    Lines(said.append).show(regions)
    assert said == ["0 of 2 homes are up", "region 2, first block after 3 s"]


def test_the_end_says_what_was_broken() -> None:
    assert end_line(REPORT) == (
        "3 slots, 7 trades, 2.35 kWh, 12.3 % saved against the grid alone; "
        "all homes agree, money and energy add up"
    )
    regions = {"regions": [{}, {}], "anchored": 42, "audited": 30, "offers": 5, "exported_wh": 469}
    assert end_line(REPORT | regions) == (
        "3 slots, 7 trades, 2.35 kWh, 12.3 % saved against the grid alone; 2 regions, 42 "
        "checkpoints anchored, 30 audited, 5 offers between regions, 0.47 kWh sold; "
        "all homes agree, money and energy add up"
    )
    assert "saved" not in end_line(REPORT | {"savings_percent": None})
    assert end_line(REPORT | {"main": {"state_roots_equal": False}}).endswith("its state")


@pytest.mark.parametrize("promise", PROMISES)
def test_a_broken_promise_is_named(promise: str) -> None:
    assert end_line(REPORT | {promise: False}).endswith(BROKEN[promise])
