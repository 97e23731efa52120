"""A command is obeyed as it comes, within the battery's bounds, or not at all."""

from typing import Any, cast

import pytest

from node.home.household import Household
from node.mqtt.commands import Commands
from tests.node.mqtt.test_bridge import AT, House

NOW_S = 1_795_310_771.0


def commands_of() -> tuple[Commands, House]:
    house = House()
    return Commands(AT, cast(Household, house), 300, lambda: NOW_S), house


@pytest.mark.parametrize(
    ("payload", "commanded"),
    [
        (b"1500", [(1_500.0, 60)]),
        (b" -2000.0 ", [(-2_000.0, 60)]),
        (b'{"power_w": -800, "minutes": 15}', [(-800.0, 15)]),
        (b'{"power_w": 0, "at": 1795310771}', [(0.0, 60)]),
        (b'{"power_w": 10, "minutes": 240, "at": 1795310471.5}', [(10.0, 240)]),
        (b"AUTO", []),
    ],
)
def test_a_command_for_the_battery(payload: bytes, commanded: list[tuple[float, int]]) -> None:
    commands, house = commands_of()
    assert commands.heard(AT.battery_set, payload, False)
    assert house.battery.commanded == commanded
    assert commands.refused == 0


@pytest.mark.parametrize(
    ("payload", "is_retained"),
    [
        (b"1500", True),
        (b"2001", False),
        (b"-2000.1", False),
        (b"nan", False),
        (b"1e400", False),
        (b"unavailable", False),
        (b"", False),
        (None, False),
        (5, False),
        (b"auto", False),
        (b"\xff\xfe", False),
        (b"9" * 20_000, False),
        (b"{" + b" " * 20_000 + b"}", False),
        (b"[1500]", False),
        (b"{", False),
        (b'{"power_w": "1500"}', False),
        (b'{"power_w": NaN}', False),
        (b'{"power_w": 500, "minutes": 0}', False),
        (b'{"power_w": 500, "minutes": 241}', False),
        (b'{"power_w": 500, "until": 1}', False),
        (b'{"minutes": 5}', False),
        # Sent 301 s ago, and by a clock that is ahead.
        (b'{"power_w": 500, "at": 1795310470}', False),
        (b'{"power_w": 500, "at": 1795310772}', False),
        (b"{" * 5_000, False),
    ],
)
def test_the_battery_obeys_nothing_stale_out_of_range_or_unclear(
    payload: Any, is_retained: bool
) -> None:
    commands, house = commands_of()
    house.battery.commanded.append((1.0, 1))
    assert not commands.heard(AT.battery_set, payload, is_retained)
    assert house.battery.commanded == [(1.0, 1)]
    assert commands.refused == 1


@pytest.mark.parametrize(("payload", "kept"), [(b"35", 0.35), (b"99.5", 0.995), (b"10", 0.1)])
def test_a_reserve(payload: bytes, kept: float) -> None:
    commands, house = commands_of()
    assert commands.heard(AT.reserve_set, payload, False)
    assert house.battery.reserve == kept


@pytest.mark.parametrize("payload", [b"100", b"9", b"-1", b"half", b"{}", b"", None])
def test_what_is_no_reserve(payload: Any) -> None:
    commands, house = commands_of()
    assert not commands.heard(AT.reserve_set, payload, False)
    assert house.battery.reserve == 0.1
