"""Newcomers are let in together, and one who cannot be keeps nobody waiting."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import testnet.operate
from node.api.registrar import Admitted
from node.errors import ControlError
from node.setup import CONFIG_NAME
from testnet.operate import AT_ONCE_MAX, Desk, operate
from testnet.street import Street, StreetPlan, create_street

NAMES = [f"new-{number:02d}" for number in range(1, AT_ONCE_MAX + 3)]


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return create_street(tmp_path / "street", StreetPlan(homes=4))


async def test_newcomers_are_let_in_together(
    monkeypatch: pytest.MonkeyPatch, street: Street
) -> None:
    homes: list[str] = []
    refused = {NAMES[1]: 1}
    under_way = most = 0

    async def applications(_: Any) -> list[dict[str, Any]]:
        return [{"name": name, "address": f"of {name}"} for name in NAMES if name not in homes]

    async def admit(_: Any, asked: dict[str, Any], *__: Any) -> Admitted:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        if refused.pop(asked["name"], 0):
            raise ControlError("bad_nonce: another came first")
        homes.append(asked["name"])
        return Admitted(asked["address"], asked["name"], 5, 1)

    monkeypatch.setattr(testnet.operate, "applications", applications)
    monkeypatch.setattr(testnet.operate, "admit_home", admit)
    monkeypatch.setattr(testnet.operate, "WATCH_EVERY_S", 0.001)
    told: list[str] = []
    first = street.home(street.names[0])
    assert (first / CONFIG_NAME).exists()
    working = asyncio.create_task(operate(street, told.append, Desk(None, [first])))
    while len(homes) < len(NAMES):
        assert not working.done(), working.exception()
        await asyncio.sleep(0.005)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert sorted(homes) == NAMES
    assert most == AT_ONCE_MAX
    assert len([line for line in told if "bad_nonce" in line]) == 1
    assert len([line for line in told if "is a home" in line]) == len(NAMES)
