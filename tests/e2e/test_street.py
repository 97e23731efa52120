"""A street as a stranger runs it: real processes, real network, real disks.

Slow; `.ci/run` runs these. One authority is killed without warning in the second test.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.api.control import ask
from node.errors import ControlError
from node.setup import DATA_NAME, GENESIS_NAME, HOME_NAME
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.report import bills_add_up, energy_balanced, money_conserved
from testnet.street import Street, StreetPlan, create_street
from tests.e2e.chains import Signed

# Bites on failure only: a build server may be slow.
PATIENCE_S = 900.0
SHARED = Path(__file__).parents[3] / "shared" / "data"
NSW = SHARED / "nsw_smart_grid_smart_city_load_2012-2014.csv.gz"


def run_street(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run `commonwatt testnet up` to its end; return exit code, report and standard error."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", "testnet", "up", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def check_report(report: dict[str, Any], homes: int, slots: int) -> None:
    assert report["homes"] == homes
    assert report["slots"] == slots
    assert report["trades"] > 0
    assert report["traded_wh"] > 0
    assert report["money_conserved"]
    assert report["state_roots_equal"]
    assert report["energy_balanced"]
    assert report["bills_add_up"]
    assert len(report["nodes"]) == homes
    # A home that is a block behind when asked has none of that height.
    assert len({node["state_root"] for node in report["nodes"]} - {None}) == 1
    assert all(node["restarts"] == 0 for node in report["nodes"])


@pytest.mark.slow
def test_the_built_in_street_trades_and_resumes(tmp_path: Path) -> None:
    street = str(tmp_path / "street")
    code, report, errors = run_street("--slots", "8", "--time-lapse", "180", "--dir", street)
    assert code == 0, errors
    check_report(report, homes=12, slots=8)
    code, again, errors = run_street("--slots", "2", "--dir", street)
    assert code == 0, errors
    check_report(again, homes=12, slots=2)
    # What was traded before the stop may be settled by the first block; a home may lack it yet.
    assert again["height"] >= report["height"]
    assert again["per_slot"][0]["slot"] > report["per_slot"][-1]["slot"]
    code, _, errors = run_street("--slots", "2", "--homes", "5", "--dir", street)
    assert code == 2
    assert "it cannot become 5" in errors


@pytest.mark.long
def test_a_street_of_other_agents_trades(tmp_path: Path) -> None:
    street = tmp_path / "street"
    # In the morning CE's homes with PV fill their batteries: home-01 is there to sell to them.
    agents = ["ce", "home-01=mpc", "home-05=hu_prosumer"]
    options = [word for name in agents for word in ("--agent", name)]
    sizes = ["--homes", "6", "--speculators", "1", "--slots", "6", "--time-lapse", "180"]
    options += ["--slot-minutes", "30"]
    code, report, errors = run_street(*sizes, *options, "--dir", str(street))
    assert code == 0, errors
    check_report(report, homes=6, slots=6)
    memory = json.loads((street / "home-05" / DATA_NAME / HOME_NAME).read_text())
    assert memory["agent"]["name"] == "hu_prosumer"
    code, _, errors = run_street("--slots", "1", "--agent", "mpc", "--dir", str(street))
    assert code == 2
    assert "agent = ce; it cannot become mpc" in errors


# The market's day begins at nine, and the homes may be up minutes later: by then it is afternoon at
# the latest, and there is time for offers. Sharing needs a surplus: it is given a whole day.
@pytest.mark.long
@pytest.mark.parametrize(
    ("mechanism", "slot_minutes", "time_lapse", "slots"),
    [("uniform", 30, 180, 5), ("request_offer", 30, 90, 4), ("sharing", 60, 1_200, 24)],
)
def test_the_street_trades_by_each_mechanism(
    mechanism: str, slot_minutes: int, time_lapse: int, slots: int
) -> None:
    numbers = ("--slot-minutes", slot_minutes, "--time-lapse", time_lapse, "--slots", slots)
    code, report, errors = run_street("--mechanism", mechanism, *map(str, numbers))
    assert code == 0, errors
    check_report(report, homes=12, slots=slots)


@pytest.mark.slow
@pytest.mark.skipif(not NSW.exists(), reason="the measurements lie beside the repository")
def test_a_street_replays_measurements() -> None:
    code, report, errors = run_street("--slots", "8", "--time-lapse", "180", "--data", str(NSW))
    assert code == 0, errors
    check_report(report, homes=12, slots=8)


@pytest.fixture
async def street(tmp_path: Path) -> AsyncIterator[tuple[Street, list[HomeProcess]]]:
    made = create_street(
        tmp_path / "street", StreetPlan(homes=6, authorities=4, time_lapse=180, slot_minutes=15)
    )
    homes = [HomeProcess(name, made.home(name)) for name in made.names]
    try:
        await start_all(homes)
        yield made, homes
    finally:
        await stop_all(homes)


async def asked(street: Street, name: str, question: str, **arguments: Any) -> Any:
    return await ask(street.home(name) / DATA_NAME, question, timeout_s=60, **arguments)


async def status(street: Street, name: str) -> dict[str, Any] | None:
    try:
        answer: dict[str, Any] = await asked(street, name, "status")
    except ControlError:
        return None
    return answer


async def reached(street: Street, name: str, height: int) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            seen = await status(street, name)
            if seen is not None and seen["height"] >= height:
                return seen
            await asyncio.sleep(0.3)


@pytest.mark.slow
async def test_a_killed_authority_comes_back_and_never_votes_twice(
    street: tuple[Street, list[HomeProcess]],
) -> None:
    made, homes = street
    victim = homes[1]
    await reached(made, "home-01", 8)
    await reached(made, victim.name, 5)
    pid = victim.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # The others go on without it, whatever it was in the middle of.
    before = await reached(made, "home-01", 1)
    after = await reached(made, "home-01", before["height"] + 3)
    # It is started again from its directory, catches up and votes.
    back = await reached(made, victim.name, after["height"] + 3)
    assert victim.restarts == 1
    assert back["voting"]
    height = (await reached(made, "home-01", 1))["height"]
    await asyncio.gather(*(reached(made, name, height) for name in made.names))
    roots = [(await asked(made, name, "block", height=height))["state_root"] for name in made.names]
    assert len(set(roots)) == 1
    signed = Signed()
    for name in made.names[:4]:
        assert signed.read(name, made.home(name) / DATA_NAME) == []
    before_restart, after_restart = signed.heights(victim.name)
    assert after_restart > before_restart


def prove(made: Street, peer: str, *words: str) -> dict[str, Any]:
    """Ask a home of the street, as somebody with the genesis file only."""
    genesis = str(made.home("home-01") / GENESIS_NAME)
    options = ["--verify", "--json", "--from", peer, "--genesis", genesis]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *words, *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    proven: dict[str, Any] = json.loads(done.stdout)
    return proven


async def decided_order(made: Street, name: str) -> dict[str, Any]:
    """Return an order that a home has handed in and a block holds, as `explain` shows it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            entry: dict[str, Any]
            for entry in await asked(made, name, "transactions", count=50):
                if entry["status"] == "decided" and entry["asked"]["entry"] == "post_order":
                    return entry
            await asyncio.sleep(1)


@pytest.mark.slow
async def test_books_of_a_running_street_add_up(
    street: tuple[Street, list[HomeProcess]],
) -> None:
    made, _ = street
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                slots = await asked(made, "home-05", "slots", count=10)
            except ControlError:
                slots = []
            if sum(slot["trades"] for slot in slots) > 3:
                break
            await asyncio.sleep(1)
    for slot in slots:
        book = await asked(made, "home-05", "slot", slot=slot["slot"])
        assert energy_balanced(book)
        assert bills_add_up(book)
        # The checks themselves can fail: one watt-hour or micro-unit is enough.
        if book["bills"] and slot["trades"]:
            book["bills"][0]["total_micro"] += 1
            assert not bills_add_up(book)
            book["bills"][0]["import_wh"] += 1
            assert not energy_balanced(book)
    book = await asked(made, "home-05", "slot", slot=slots[-1]["slot"])
    height = (await reached(made, "home-05", 1))["height"]
    posted = await decided_order(made, "home-05")
    for name in ("home-02", "home-06"):
        # An authority, and a home that is none: both can prove.
        (peer,) = (await reached(made, name, height))["listens"]
        words = ("bill", "--home", "home-05", "--slot", str(slots[-1]["slot"]))
        proven = await asyncio.to_thread(prove, made, peer, *words)
        assert proven["home"]["name"] == "home-05"
        assert proven["bill"] in book["bills"]
        assert proven["proof"]["signatures"] >= 3
        await reached(made, name, posted["height"])
        words = ("market", "explain", posted["id"])
        proven = await asyncio.to_thread(prove, made, peer, *words)
        assert (proven["asked"], proven["code"]) == (posted["asked"], "ok")
        assert proven["proof"]["signatures"] >= 3
    money = await asked(made, "home-05", "money")
    assert money_conserved(money)
    assert not money_conserved({**money, "held_micro": money["held_micro"] + 1})
