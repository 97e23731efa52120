"""The API of a running node, over a real socket."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from market import client
from node.config import WebSection
from tests.node.grid import (
    PATIENCE_S,
    REGULATOR,
    Grid,
    Member,
    at_height,
    make_genesis,
    running,
    until,
)

WEB = WebSection(listen="127.0.0.1:0", dashboard=True)


def with_api(member: Member) -> Member:
    """Give a member that has not been started an API, on any port."""
    member.config = msgspec.structs.replace(member.config, web=WEB, directory=member.directory)
    return member


@pytest.fixture
async def member(tmp_path: Path) -> AsyncIterator[Member]:
    """The first of four homes; only it has the API."""
    grid = Grid(tmp_path, make_genesis(4, 4), households=True)
    first = with_api(grid.members[0])
    async with running(grid, range(4)) as members:
        await at_height(members, 1)
        yield first


def asking(member: Member) -> httpx.AsyncClient:
    assert member.node.web is not None
    token = (member.directory / "web.token").read_text().strip()
    headers = {"authorization": f"Bearer {token}"}
    url = member.node.web.url
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=PATIENCE_S)


async def test_a_node_answers(member: Member) -> None:
    async with asking(member) as http:
        status = (await http.get("/v1/status")).json()
        assert status["address"] == member.key.address
        assert (await http.get("/v1/peers")).json() != []
        assert (await http.get("/readyz")).status_code == 200
        for path in PATHS:
            answer = await http.get(path.format(address=member.key.address))
            assert answer.status_code == 200, (path, answer.text)
        for path, code in ABSENT.items():
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == code, path
        for path in ("/", "/community", "/market", "/chain"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["content-type"]) == (200, HTML), path
        page = (await http.get("/v1/blocks?count=2")).json()
        older = (await http.get(f"/v1/blocks?before={page['next_before']}")).json()
        rows = [*page["blocks"], *older["blocks"]]
        heights = [row["height"] for row in rows]
        assert all(len(row["signers"]) >= 3 for row in rows if row["height"])
        assert heights == list(range(heights[0], heights[-1] - 1, -1))
        metrics = (await http.get("/metrics")).text
        assert 'commonwatt_height{chain="grid"}' in metrics
        assert "commonwatt_home_battery_soc_ratio" in metrics
        assert "\ncommonwatt_money_minted_units" in metrics


HTML = "text/html; charset=utf-8"
PATHS = (
    "/v1/latencies",
    "/v1/blocks/0",
    "/v1/transactions",
    "/v1/market/book",
    "/v1/market/prices",
    "/v1/market/trades",
    "/v1/market/slots",
    "/v1/homes",
    "/v1/money",
    "/v1/accounts/home-1",
    "/v1/accounts/{address}/nonce",
    "/v1/bills/{address}",
    "/v1/bills/{address}/proof",
    "/v1/carbon",
    "/v1/governance",
    "/v1/contracts",
    "/v1/contracts/market",
    "/v1/headers?epoch=0&height=1",
    "/v1/home/devices",
    "/v1/home/deliveries",
)
ABSENT = {
    "/v1/regions": (409, "absent"),
    "/v1/flows": (409, "absent"),
    "/v1/market/requests": (409, "absent"),
    "/v1/accounts/nobody": (404, "unknown"),
    "/v1/main/status": (404, "no_such_path"),
    "/v1/contracts/nothing": (404, "unknown_contract"),
    "/v1/blocks/1000000": (404, "unknown"),
}


async def test_what_is_handed_in_is_heard_of_in_the_events(member: Member) -> None:
    async with asking(member) as http, http.stream("GET", "/v1/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        lines = events.aiter_lines()
        assert (await anext(lines)).startswith("retry:")
        signed = member.sign(client.transfer(REGULATOR.address, 1))
        answer = await http.post("/v1/transactions", json={"transaction": signed.raw.hex()})
        assert (answer.status_code, answer.json()) == (202, {"id": signed.tx_id.hex()})
        path = f"/v1/transactions/{signed.tx_id.hex()}"
        heights = []
        async with asyncio.timeout(PATIENCE_S):
            while True:
                line = await anext(lines)
                if line == "event: block":
                    block = json.loads((await anext(lines)).partition("data: ")[2])
                    heights.append(block["height"])
                    # Its household signs, too.
                    found = (await http.get(path)).json()
                    if block["transactions"] and found["status"] == "decided":
                        break
        assert heights == list(range(heights[0], heights[-1] + 1))
        assert (found["status"], found["code"]) == ("decided", "ok")
        assert (await http.get(f"{path}/proof")).json()["proof"]
        again = await http.post("/v1/transactions", json={"transaction": signed.raw.hex()})
        assert again.status_code == 422
        # A node that stops ends the stream, and is not held up by it.
        await member.stop()
        async with asyncio.timeout(PATIENCE_S):
            async for _ in lines:
                pass


async def test_the_home_s_plan_is_shown(member: Member) -> None:
    assert member.node.household is not None
    manager = member.node.household.manager
    await until(lambda: manager.planned is not None, "a plan")
    async with asking(member) as http:
        plan = (await http.get("/v1/home/plan")).json()
        forecast = (await http.get("/v1/home/forecast")).json()
    steps = len(plan["starts_ms"])
    assert steps > 8
    assert all(len(plan[name]) == steps for name in ("load_wh", "stored_wh", "import_wh"))
    ends = [at + ms for at, ms in zip(plan["starts_ms"], plan["lengths_ms"], strict=True)]
    assert ends[:-1] == plan["starts_ms"][1:]
    assert forecast["starts_ms"][0] == plan["starts_ms"][0]
    for low, mean, high in zip(
        *(forecast["load"][f"{name}_wh"] for name in ("low", "mean", "high")), strict=True
    ):
        assert low <= mean <= high


def test_a_node_without_it_does_not_load_its_libraries() -> None:
    code = "import sys, node.daemon; sys.exit('fastapi' in sys.modules or 'uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
