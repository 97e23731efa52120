"""What the HTTP API and the dashboard of a node that trades take: time per read, and memory.

    uv run python -m bench.web [--homes 12] [--rounds 40]

A street of real processes trades; its first home has API and dashboard, its second the API alone,
read as often, all others have none. The time of a read is a client's, on a connection that is kept.
The baseline is the same question on the control socket of the same node; that of memory are the
street's other authorities. Where a Chromium is installed, it says when it first paints the home's
page, and how long after a block's event, as a client beside it gets it, the page shows that block.
"""

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx

from bench.figures import Said, command, figure
from node.api.control import ask
from node.errors import ControlError
from node.setup import CONFIG_NAME, DATA_NAME
from node.web.dashboard.words import THIN
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.street import Street, StreetPlan, create_street, free_ports
from tests.browser.chromium import Page, chromium, found

AUTHORITIES: Final = 4
START_S: Final = 300
PAUSE_S: Final = 0.02
TIMEOUT_S: Final = 30.0
PAINTS: Final = 10
WATCH_S: Final = 45.0
# What API and metrics may take. [MiB]
API_MIB: Final = 25
# Path, and the same question on the control socket.
READS: Final[dict[str, tuple[str, dict[str, Any]] | None]] = {
    "/v1/status": ("status", {}),
    "/v1/blocks": ("blocks", {"count": 20}),
    "/v1/market/book": ("market_book", {}),
    "/v1/market/trades": ("market_trades", {}),
    "/v1/market/prices": ("market_prices", {"slots": 8}),
    "/v1/homes": ("homes", {}),
    "/v1/accounts/home-01": ("account", {"account": "home-01"}),
    "/v1/governance": None,
    "/v1/home/plan": ("plan", {}),
    "/metrics": None,
    "/": None,
    "/community": None,
    "/market": None,
    "/chain": None,
}
PAGES: Final = ("/", "/community", "/market", "/chain")


def p95(values: list[float]) -> float:
    """Return the 95th percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * 95 // 100)]


async def timed(work: Callable[[], Awaitable[Any]]) -> float:
    """Return how long something took. [ms]"""
    begun = time.perf_counter()
    await work()
    return 1_000 * (time.perf_counter() - begun)


async def trading(data: Path) -> None:
    """Wait until a slot is settled and a plan is made."""
    async with asyncio.timeout(START_S):
        while True:
            await asyncio.sleep(1)
            try:
                if await ask(data, "slots", count=1) and await ask(data, "plan"):
                    return
            except ControlError:
                continue


async def read_all(
    url: str, data: Path, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the times of each path by HTTP and by the control socket. [ms]"""
    by_http: dict[str, list[float]] = {path: [] for path in READS}
    by_socket: dict[str, list[float]] = {path: [] for path, asked in READS.items() if asked}

    async def get(path: str) -> None:
        (await http.get(path)).raise_for_status()

    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        for _ in range(rounds):
            for path, asked in READS.items():
                by_http[path].append(await timed(lambda path=path: get(path)))  # type: ignore[misc]
                await asyncio.sleep(PAUSE_S)
                if asked is None:
                    continue
                name, args = asked
                by_socket[path].append(
                    await timed(lambda name=name, args=args: ask(data, name, **args))  # type: ignore[misc]
                )
                await asyncio.sleep(PAUSE_S)
    return by_http, by_socket


async def read_api(url: str, rounds: int) -> None:
    """Read all that is no page, for the memory that it takes."""
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        for _ in range(rounds):
            for path in READS:
                if path not in PAGES:
                    (await http.get(path)).raise_for_status()
                    await asyncio.sleep(PAUSE_S)


# When the page shows which block: [text, ms since 1970].
WATCH: Final = """window.seen = []; new MutationObserver(() => window.seen.push(
  [document.getElementById('state').textContent, Date.now()])).observe(
  document.getElementById('state'), {childList: true, subtree: true, characterData: true})"""
PAINT: Final = "performance.getEntriesByName('first-contentful-paint').map((one) => one.startTime)"


async def hear(url: str, heard: dict[int, float]) -> None:
    """Note when the event of each block comes. [s since 1970]"""
    async with (
        httpx.AsyncClient(base_url=url, timeout=None) as http,
        http.stream("GET", "/v1/events") as said,
    ):
        event = ""
        async for line in said.aiter_lines():
            event = line[7:] if line.startswith("event: ") else event
            if line.startswith("data: ") and event == "block":
                heard[json.loads(line[6:])["height"]] = time.time()


async def look(url: str, paints: int, watch_s: float) -> tuple[list[float], list[float]]:
    """Return when pages were first painted, and when blocks were shown after their events. [ms]"""
    painted: list[float] = []
    heard: dict[int, float] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        async with chromium(Path(profile)) as browser:
            page: Page = await browser.page()
            await page.look(1_280, 900)
            for _ in range(paints):
                await page.open(f"{url}/community")
                await page.open(f"{url}/")
                await page.until(f"{PAINT}.length > 0")
                painted += await page.evaluate(PAINT)
            await page.evaluate(WATCH)
            hearing = asyncio.create_task(hear(url, heard))
            await asyncio.sleep(watch_s)
            hearing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hearing
            seen = await page.evaluate("window.seen")
    first: dict[int, float] = {}
    for text, at_ms in seen:
        digits = text.replace(THIN, "").rpartition(" ")[2]
        if digits.isdigit():
            first.setdefault(int(digits), at_ms)
    # A block that another overtook before the page asked is shown with the later one.
    shown = [
        min(at_ms for later, at_ms in first.items() if later >= height) - 1_000 * at
        for height, at in heard.items()
        if any(later >= height for later in first)
    ]
    return painted, shown


async def measure(street: Street, rounds: int) -> list[Said]:
    """Let the street trade, read, and return the figures."""
    first = street.names[0]
    port, alone = free_ports(2)
    for name, its_port, dashboard in ((first, port, "true"), (street.names[1], alone, "false")):
        with (street.home(name) / CONFIG_NAME).open("a") as settings:
            settings.write(f'\n[web]\nlisten = "127.0.0.1:{its_port}"\ndashboard = {dashboard}\n')
    processes = [HomeProcess(name, street.home(name)) for name in street.names]
    data = street.home(first) / DATA_NAME
    try:
        await start_all(processes)
        await trading(data)
        by_http, by_socket = await read_all(f"http://127.0.0.1:{port}", data, rounds)
        await read_api(f"http://127.0.0.1:{alone}", rounds)
        paints = await look(f"http://127.0.0.1:{port}", PAINTS, WATCH_S) if found() else None
        authorities = street.names[:AUTHORITIES]
        rss = [
            (await ask(street.home(name) / DATA_NAME, "status"))["rss_mib"] for name in authorities
        ]
    finally:
        await stop_all(processes)
    return list(of_reads(by_http, by_socket, paints, rss))


def of_reads(
    by_http: dict[str, list[float]],
    by_socket: dict[str, list[float]],
    paints: tuple[list[float], list[float]] | None,
    rss: list[float],
) -> Iterator[Said]:
    """Yield the figures; `rss` [MiB] is first with API and dashboard, then with the API alone."""
    for path, took in by_http.items():
        over = ("the control socket", by_socket[path]) if path in by_socket else None
        yield figure(path, "ms", took, over=over, wall=True)
    other = {"/metrics", *PAGES}
    reads = [one for path, took in by_http.items() if path not in other for one in took]
    pages = [one for path in PAGES for one in by_http[path]]
    sockets = [one for took in by_socket.values() for one in took]
    by_socket_p95 = "the control socket", p95(sockets)
    yield figure("all reads, p95", "ms", p95(reads), over=by_socket_p95, wall=True, aim=20)
    yield figure("the dashboard's pages, p95", "ms", p95(pages), wall=True)
    yield figure("/metrics, p95", "ms", p95(by_http["/metrics"]), wall=True, aim=10)
    if paints is not None:
        painted, shown = paints
        yield figure("first paint", "ms", painted, wall=True, aim=2_000)
        yield figure("a block shown after its event", "ms", shown, wall=True, aim=1_000)
    yield figure("memory of other authorities", "MiB", rss[2:])
    base = "other authorities", rss[2:]
    yield figure("memory with the API", "MiB", rss[1], over=base, aim=median(rss[2:]) + API_MIB)
    yield figure("memory with API and dashboard", "MiB", rss[0], over=base)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=40)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run the street and read."""
    with tempfile.TemporaryDirectory() as directory:
        plan = StreetPlan(homes=given.homes, time_lapse=60)
        yield from asyncio.run(
            measure(create_street(Path(directory) / "street", plan), given.rounds)
        )


if __name__ == "__main__":
    command(__doc__, options, figures)
