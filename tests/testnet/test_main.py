"""What is shown and reported of regions and their main chain, while they run."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from rich.console import Console

from market import client
from testnet import main, report
from testnet.live import FLOWS_SHOWN, _flows, _regions
from testnet.main import MainObservations
from testnet.report import Observations
from testnet.street import Street, StreetPlan
from tests.regions.grid import SLOT
from tests.regions.test_exchange import traded
from tests.regions.trading import World


@pytest.fixture(scope="module")
def world() -> World:
    """A slot in which the first region has sold to the second, and one of which none is offered."""
    world = World()
    traded(world)
    world.close(SLOT + 1)
    return world


def observed(world: World, monkeypatch: pytest.MonkeyPatch) -> MainObservations:
    """What a street of two regions asks, answered by this main chain and these regions."""
    plan = StreetPlan(homes=8, regions=2)
    street = cast(Street, SimpleNamespace(plan=plan, home=Path, directory=Path("street")))

    async def status(data: Path, question: str, **arguments: Any) -> Any:
        del data
        if question == "block":
            assert arguments == {"height": world.main.height}
            return {"state_root": "root"}
        assert (question, arguments) == ("status", {})
        return {
            "chain_id": "main",
            "height": world.main.height,
            "authority": 1,
            "peers": [],
            "rss_mib": 100.0,
            "cpu_s": 1.0,
            "uptime_s": 2.0,
        }

    async def query(data: Path, contract: str, entry: str, args: dict[str, Any]) -> Any:
        own = {"home-01": world.regions[0], "home-05": world.regions[1]}.get(data.parts[0])
        return (own or world.main).query(contract, entry, args)

    monkeypatch.setattr(main, "_ask", status)
    monkeypatch.setattr(main, "_query", query)
    monkeypatch.setattr(main, "main_data", lambda street: Path("main"))
    return MainObservations(street)


def homes_of(tiers: MainObservations) -> list[Observations]:
    groups = [Observations(list(group.names), 0.0, 0) for group in tiers.groups]
    for seen in groups:
        seen.up.add(seen.names[0])
        seen.status[seen.names[0]] = {"height": 3, "peers": []}
    return groups


async def test_flows_between_regions_are_shown_and_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = observed(world, monkeypatch)
    groups = homes_of(tiers)
    for _ in range(2):
        # A slot is counted once, however often it is asked.
        await tiers.poll(groups)
        assert dict(tiers.flows) == {(1, 2): 700}
    told = io.StringIO()
    Console(file=told, width=120).print(_regions(groups, tiers))
    shown = told.getvalue()
    assert "sold between regions, kWh: 1 → 2 0.70" in shown
    assert f"main: height {world.main.height}" in shown
    rows = [line.split() for line in shown.splitlines()]
    anchored = [str(tiers.lasts[number]["number"]) for number in (1, 2)]
    assert [row[-2] for row in rows if row[:1] in (["1"], ["2"])] == anchored


async def test_the_report_says_what_was_sold_elsewhere(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.show()
    tiers = observed(world, monkeypatch)

    async def nothing(*args: object) -> dict[str, Any]:
        return {}

    # That asks for many blocks; tests/e2e has it.
    monkeypatch.setattr(tiers, "_anchoring_blocks", nothing)
    said = await tiers.report(homes_of(tiers), {})
    assert said["main"] == {
        "chain_id": "main",
        "height": world.main.height,
        "nodes": 10,
        "authorities": 10,
        "state_roots_equal": True,
    }
    assert [(row["id"], row["height"], row["state_root"]) for row in said["neutral"]] == [
        (name, world.main.height, "root") for name in ("neutral-01", "neutral-02")
    ]
    assert said["offers"] == 2
    assert (said["exported_wh"], said["imported_wh"]) == (700, 700)
    assert said["flows"] == [{"from": 1, "to": 2, "energy_wh": 700}]
    assert [(row["exported_wh"], row["imported_wh"]) for row in said["regions"]] == [
        (700, 0),
        (0, 700),
    ]
    numbers = [world.main.query("anchor", "last", {"region": n})["number"] for n in (1, 2)]
    assert said["anchored"] == sum(numbers) > 2


async def test_a_slot_is_told_by_its_region(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    books = [
        {"summary": msgspec.to_builtins(client.slot_summary(one.query, SLOT)), "bills": []}
        for one in world.regions
    ]
    money = dict.fromkeys(("balances_micro", "held_micro", "minted_micro", "redeemed_micro"), 0)

    async def gathered(street: Street, seen: Observations, slots: int | None) -> report.Gathered:
        at = dict.fromkeys(seen.names, (3, "root"))
        book = books[0 if "home-01" in seen.names else 1] | {"trades": []}
        return report.Gathered(seen, [SLOT], [book], money, at, [])

    monkeypatch.setattr(report, "gather", gathered)
    tiers = observed(world, monkeypatch)
    groups = homes_of(tiers)
    street = cast(Street, SimpleNamespace(names=[n for one in groups for n in one.names]))
    told = await report.final_report(street, groups, {}, 1)
    assert [(row["region"], row["slot"]) for row in told["per_slot"]] == [(1, SLOT), (2, SLOT)]
    alone = await report.final_report(street, groups[:1], {}, 1)
    assert "region" not in alone["per_slot"][0]


def test_many_flows_are_cut_to_the_largest() -> None:
    flows = {(1, buyer): 1_000 * buyer for buyer in range(2, FLOWS_SHOWN + 4)}
    shown = _flows(flows)
    assert shown.startswith(f"1 → {FLOWS_SHOWN + 3} {FLOWS_SHOWN + 3:.2f}, ")
    assert shown.count("→") == FLOWS_SHOWN
    assert shown.endswith(" …")
