"""What strangers do to a street who connect to all its ports and behave as badly as they can.

    uv run python -m bench.strangers [--strangers 100] [--minutes 10]

Four homes that trade, as processes; the first serves its API. Strangers without the community's key
send garbage, say nothing, speak a byte at a time, begin a handshake and leave it, ask and never
read, and come again as soon as they are let go: to the homes' libp2p ports and to the API, half of
them from one address. Beside them an honest program asks the API on a new connection each time, for
metrics too, one listens to its events, and every home is asked whom it is connected with. The
baseline is the same street for a quarter of the time without strangers.
"""

import argparse
import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from bench.figures import Said, command, figure
from bench.machine import rss_mib
from node.api.control import ask
from node.errors import ControlError
from node.setup import DATA_NAME
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.street import Street, StreetPlan, create_street, free_ports

HOMES = 4
START_S = 300.0
ASK_S = 0.5
SETTLE_S = 3.0
TIMEOUT_S = 30.0
PAUSE_S = 0.1
TRICKLE_S = 0.5
PATIENCE_S = 60.0
CROWD_ADDRESS = "127.66.0.1"

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Behaviour = Callable[[Stream, random.Random], Awaitable[None]]


# -- how strangers behave


async def garbage(stream: Stream, chance: random.Random) -> None:
    reader, writer = stream
    writer.write(chance.randbytes(chance.randrange(1, 65_536)))
    await reader.read()


async def silence(stream: Stream, chance: random.Random) -> None:
    await stream[0].read()


async def _trickle(stream: Stream, data: bytes) -> None:
    for place in range(len(data)):
        stream[1].write(data[place : place + 1])
        await stream[1].drain()
        await asyncio.sleep(TRICKLE_S)
    await stream[0].read()


async def slow_greeting(stream: Stream, chance: random.Random) -> None:
    await _trickle(stream, b"\x13/multistream/1.0.0\n\x07/noise\n" + chance.randbytes(64))


async def half_handshake(stream: Stream, chance: random.Random) -> None:
    stream[1].write(b"\x13/multistream/1.0.0\n\x07/noise\n")
    await stream[1].drain()
    await asyncio.sleep(PAUSE_S)
    stream[1].write(b"\xff\xff" + chance.randbytes(4_096))
    await stream[0].read()


async def endless_length(stream: Stream, chance: random.Random) -> None:
    stream[1].write(b"\xff\xff\xff\xff\x7f" + chance.randbytes(1_024))
    await stream[0].read()


async def slow_request(stream: Stream, chance: random.Random) -> None:
    await _trickle(stream, b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\nx-a: " + b"y" * 400)


async def slow_body(stream: Stream, chance: random.Random) -> None:
    head = b"POST /v1/transactions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 60000\r\n\r\n"
    stream[1].write(head)
    await _trickle(stream, b"{" * 600)


async def slow_read(stream: Stream, chance: random.Random) -> None:
    stream[1].write(b"GET /v1/blocks?count=50 HTTP/1.1\r\nhost: localhost\r\n\r\n" * 200)
    for _ in range(600):
        if not await stream[0].read(1):
            return
        await asyncio.sleep(TRICKLE_S)


async def guesses(stream: Stream, chance: random.Random) -> None:
    for _ in range(100):
        token = chance.randbytes(32).hex()
        stream[1].write(
            b"POST /v1/transactions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n"
            b"authorization: Bearer " + token.encode() + b"\r\n\r\n{}"
        )
        if not await stream[0].read(4_096):
            return


async def deaf_listener(stream: Stream, chance: random.Random) -> None:
    stream[1].write(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await asyncio.sleep(PATIENCE_S)


P2P: tuple[Behaviour, ...] = (garbage, silence, slow_greeting, half_handshake, endless_length)
API: tuple[Behaviour, ...] = (
    garbage, silence, slow_request, slow_body, slow_read, guesses, deaf_listener,
)  # fmt: skip


class Strangers:
    """Connect, misbehave, come again."""

    def __init__(self, count: int, p2p_ports: list[int], api_port: int) -> None:
        self._count = count
        self._p2p_ports = p2p_ports
        self._api_port = api_port
        self.visits: Counter[str] = Counter()
        self.turned_away = 0

    async def run(self) -> None:
        """Go on for ever."""
        await asyncio.gather(*(self._one(number) for number in range(self._count)))

    async def _one(self, number: int) -> None:
        chance = random.Random(number)
        address = CROWD_ADDRESS if number % 2 else f"127.77.{number >> 8}.{number & 255}"
        to_api = number % 4 >= 2
        while True:
            behave = chance.choice(API if to_api else P2P)
            port = self._api_port if to_api else chance.choice(self._p2p_ports)
            self.visits[f"{'API' if to_api else 'libp2p'}: {behave.__name__}"] += 1
            writer = None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    stream = await asyncio.open_connection(
                        "127.0.0.1", port, local_addr=(address, 0)
                    )
                    writer = stream[1]
                    await behave(stream, chance)
            except TimeoutError:
                pass
            except OSError:
                self.turned_away += 1
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await asyncio.sleep(PAUSE_S)


# -- what the honest see


class Seen(NamedTuple):
    """What was seen in one stretch of time."""

    seconds: float
    blocks: int
    peers_missed: int
    dials: int
    api_ms: list[float]
    api_failed: Counter[str]
    events: int
    events_lost: int
    rss_mib: float
    files: int
    restarts: int


async def statuses(street: Street) -> list[dict[str, Any]]:
    """Return what each home says of itself."""
    return [
        await ask(street.home(name) / DATA_NAME, "status", timeout_s=TIMEOUT_S)
        for name in street.names
    ]


async def until_up(street: Street, processes: list[HomeProcess]) -> list[dict[str, Any]]:
    """Wait until all are connected with all; return what they say then."""
    async with asyncio.timeout(START_S):
        while True:
            await asyncio.sleep(ASK_S)
            for process in processes:
                if process.failure:
                    raise SystemExit(process.failure)
            try:
                found = await statuses(street)
            except ControlError:
                continue
            if all(one["height"] > 0 and len(one["peers"]) == HOMES - 1 for one in found):
                return found


class Honest:
    """Watches a street and asks its API, for one stretch of time."""

    def __init__(self, street: Street, processes: list[HomeProcess], url: str, token: str) -> None:
        self._street = street
        self._processes = processes
        self._url = url
        self._token = {"authorization": f"Bearer {token}"}
        self._api_ms: list[float] = []
        self._failed: Counter[str] = Counter()
        self._missed = 0
        self._events = 0
        self._events_lost = 0
        self._rss_mib = 0.0
        self._files = 0

    async def watch(self, seconds: float) -> Seen:
        """Watch for so long."""
        before = await statuses(self._street)
        restarts = sum(process.restarts for process in self._processes)
        tasks = [
            asyncio.create_task(work)
            for work in (self._peers(), self._ask_api(), self._listen(), self._sizes())
        ]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        after = await statuses(self._street)
        return Seen(
            seconds,
            after[0]["height"] - before[0]["height"],
            self._missed,
            sum(_dials(one) for one in after) - sum(_dials(one) for one in before),
            self._api_ms,
            self._failed,
            self._events,
            self._events_lost,
            self._rss_mib,
            self._files,
            sum(process.restarts for process in self._processes) - restarts,
        )

    async def _peers(self) -> None:
        while True:
            for one in await statuses(self._street):
                self._missed += HOMES - 1 - len(one["peers"])
            await asyncio.sleep(ASK_S)

    async def _ask_api(self) -> None:
        for number in range(10**9):
            begun = time.perf_counter()
            path = "/metrics" if number % 5 == 0 else "/v1/status"
            try:
                async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
                    answer = await http.get(self._url + path)
                if answer.status_code == 200:
                    self._api_ms.append(1_000 * (time.perf_counter() - begun))
                else:
                    self._failed[str(answer.status_code)] += 1
            except httpx.HTTPError as error:
                self._failed[type(error).__name__] += 1
            await asyncio.sleep(ASK_S)

    async def _listen(self) -> None:
        while True:
            try:
                async with (
                    httpx.AsyncClient(timeout=None) as http,
                    http.stream("GET", f"{self._url}/v1/events", headers=self._token) as answer,
                ):
                    async for line in answer.aiter_lines():
                        self._events += line.startswith("event: block")
            except httpx.HTTPError:
                pass
            self._events_lost += 1
            await asyncio.sleep(ASK_S)

    async def _sizes(self) -> None:
        while True:
            for process in self._processes:
                if process.pid is None:
                    continue
                with contextlib.suppress(OSError):
                    self._rss_mib = max(self._rss_mib, rss_mib(process.pid))
                    self._files = max(self._files, len(os.listdir(f"/proc/{process.pid}/fd")))
            await asyncio.sleep(ASK_S)


def _dials(status: dict[str, Any]) -> int:
    return int(status["counts"]["dials"])


class Report(NamedTuple):
    """With and without strangers, and what these did."""

    alone: Seen
    beside: Seen
    visits: Counter[str]
    turned_away: int


async def run(strangers: int, seconds: float, directory: Path) -> Report:
    """Run a street, alone and beside strangers."""
    street = create_street(directory / "street", StreetPlan(homes=HOMES, authorities=HOMES))
    port = free_ports(1)[0]
    processes = [
        HomeProcess(
            name,
            street.home(name),
            {"COMMONWATT_WEB_LISTEN": f"127.0.0.1:{port}"} if place == 0 else None,
        )
        for place, name in enumerate(street.names)
    ]
    try:
        await start_all(processes)
        found = await until_up(street, processes)
        await asyncio.sleep(SETTLE_S)
        token = (street.home(street.names[0]) / "web.token").read_text().strip()

        def honest() -> Honest:
            return Honest(street, processes, f"http://127.0.0.1:{port}", token)

        alone = await honest().watch(seconds / 4)
        ports = [int(one["listens"][0].split("/tcp/")[1].split("/")[0]) for one in found]
        crowd = Strangers(strangers, ports, port)
        task = asyncio.create_task(crowd.run())
        beside = await honest().watch(seconds)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcome, Exception):
            raise outcome
        return Report(alone, beside, crowd.visits, crowd.turned_away)
    finally:
        await stop_all(processes)


def of_stretch(name: str, seen: Seen, alone: Seen | None) -> Iterator[Said]:
    """Yield the figures of one stretch of time; `alone` is the baseline."""

    def over(values: Callable[[Seen], Sequence[float] | float]) -> Any:
        return None if alone is None else ("alone", values(alone))

    def pace(of: Seen) -> float:
        return 60 * of.blocks / of.seconds

    yield figure(
        f"{name}, blocks per minute", "", pace(seen), better="higher", wall=True, over=over(pace)
    )
    lost = seen.peers_missed + seen.dials + seen.events_lost + seen.api_failed.total()
    yield figure(f"{name}, honest connections lost or refused", "", lost, aim=0.0)
    yield (
        f"  of {name}: {seen.peers_missed} peers missed, {seen.dials} dials again, "
        f"{seen.events_lost} streams of events, answers of the API {dict(seen.api_failed)}"
    )
    yield figure(
        f"{name}, an answer of the API",
        "ms",
        seen.api_ms,
        wall=True,
        over=over(lambda of: of.api_ms),
    )
    yield figure(f"{name}, events heard", "", seen.events, better="neither")
    yield figure(f"{name}, largest home", "MiB", seen.rss_mib, over=over(lambda of: of.rss_mib))
    yield figure(
        f"{name}, most open files of a home", "", seen.files, over=over(lambda of: of.files)
    )
    if seen.restarts:
        raise SystemExit(f"{name}: {seen.restarts} homes died")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--strangers", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=10.0)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run it."""
    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(run(given.strangers, 60 * given.minutes, Path(directory)))
    yield from of_stretch("alone", report.alone, None)
    yield from of_stretch("beside strangers", report.beside, report.alone)
    told = ", ".join(f"{name} {count}" for name, count in sorted(report.visits.items()))
    yield f"  visits: {told}; refused or reset: {report.turned_away}"


if __name__ == "__main__":
    command(__doc__, options, figures)
