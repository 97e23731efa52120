"""What the network costs: CPU per message, per megabyte, and idle; resident memory; time to meet.

    uv run python -m bench.network [--homes 8] [--seconds 15] [--per-second 2]

First two nodes in one process (both ends are counted), five rounds each; the baseline is the same
traffic in the in-memory twin. Then a street of processes on loopback, each measuring itself.
"""

import argparse
import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

from bench.figures import Said, command, figure, parser_of
from node.network._limits import Limits
from node.network.base import Network
from node.network.libp2p import Libp2pNetwork
from node.network.memory import Hub, MemoryNetwork
from wire.keys import SigningKey

ROUNDS = 5
MESSAGES = 200
MESSAGE_BYTES = 500
ANSWER_BYTES = 10_000_000
PSK = bytes(32)
TOPIC = "bench"
FIRST_PORT = 26_500
SETTLE_S = 12.0
LIMITS = Limits(
    messages_per_s=10**6,
    messages_burst=10**6,
    bytes_per_s=10**10,
    bytes_burst=10**10,
    author_messages_per_s=10**6,
    author_burst=10**6,
)


class Pair:
    """Two connected networks and a count of what the second received."""

    def __init__(self, first: Network, second: Network) -> None:
        self.first = first
        self.second = second
        self.received = 0
        answer = bytes(ANSWER_BYTES)

        def count(_peer: str, _data: bytes) -> None:
            self.received += 1

        async def large(_peer: str, _data: bytes) -> bytes:
            return answer

        for network in (first, second):
            network.on_gossip(TOPIC, count)
            network.on_send("vote", count)
            network.on_request("large", large)

    async def start(self) -> None:
        await self.first.start()
        await self.second.start()
        self.second.want(self.first.listen_addresses()[0])
        await until(lambda: bool(self.first.peers() and self.second.peers()))

    async def gossip(self) -> None:
        await self._each(0.008, lambda data: self.first.publish(TOPIC, data))

    async def send(self) -> None:
        await self._each(0.008, self._send)

    async def burst(self) -> None:
        await self._each(0.0, self._send)

    async def answer(self) -> None:
        peer_id = self.first.peer_id
        await self.second.request(peer_id, "large", b"", timeout_s=60)

    async def _send(self, data: bytes) -> None:
        self.first.send(self.second.peer_id, "vote", data)

    async def _each(self, pause_s: float, say: Callable[[bytes], Awaitable[None]]) -> None:
        target = self.received + MESSAGES
        for _ in range(MESSAGES):
            await say(os.urandom(MESSAGE_BYTES))
            if pause_s:
                await asyncio.sleep(pause_s)
        await until(lambda: self.received >= target)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1_048_576


async def measure(pair: Pair, work: Callable[[Pair], Awaitable[None]]) -> tuple[float, list[float]]:
    """Return wall seconds (median) and CPU seconds of each round."""
    walls, cpus = [], []
    for _ in range(ROUNDS):
        cpu, wall = time.process_time(), time.perf_counter()
        await work(pair)
        cpus.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
    return statistics.median(walls), cpus


async def pairs() -> list[Said]:
    """Measure two nodes of this process."""
    keys = [SigningKey(bytes([number + 1]) * 32) for number in range(2)]
    listen = "/ip4/127.0.0.1/tcp/0"
    real = Pair(*(Libp2pNetwork(key, listen, PSK, limits=LIMITS) for key in keys))
    hub = Hub()
    twin = Pair(*(MemoryNetwork(key.peer_id, hub, LIMITS) for key in keys))
    await real.start()
    await twin.start()
    said: list[Said] = [f"CPU of both ends, {ROUNDS} rounds"]
    for name, work, unit in (
        ("gossip, one at a time", Pair.gossip, MESSAGES),
        ("message stream, one at a time", Pair.send, MESSAGES),
        ("message stream, in a burst", Pair.burst, MESSAGES),
        ("answer of 10 MB", Pair.answer, 1),
    ):
        wall_s, cpus = await measure(real, work)
        _, base = await measure(twin, work)
        each = [1_000 * cpu / unit for cpu in cpus]
        of_twin = "the in-memory twin", [1_000 * cpu / unit for cpu in base]
        said.append(figure(name, "ms", each, over=of_twin))
        if unit == 1:
            rate = ANSWER_BYTES / wall_s / 1e6
            said.append(figure(f"{name}, rate", "MB/s", rate, better="higher", wall=True))
    cpu = time.process_time()
    await asyncio.sleep(10)
    idle_percent = 100 * (time.process_time() - cpu) / 10
    said.append(figure("idle, both ends of one link", "% of a core", idle_percent))
    for network in (real.first, real.second, twin.first, twin.second):
        await network.stop()
    return said


class Report(msgspec.Struct, frozen=True):
    """What one home of the street measured of itself."""

    met_s: float
    peers: int
    cpu_percent: float
    rss_mib: float
    heard_share: float


async def home(number: int, homes: int, seconds: float, per_second: float) -> None:
    """Run one home of the street and print its report."""
    network = Libp2pNetwork(
        SigningKey(bytes([number + 1]) * 32), f"/ip4/127.0.0.1/tcp/{FIRST_PORT + number}", PSK
    )
    heard = 0

    def hear(_peer: str, _data: bytes) -> None:
        nonlocal heard
        heard += 1

    network.on_gossip(TOPIC, hear)
    began_s = time.perf_counter()
    await network.start()
    if number:
        first = SigningKey(bytes([1]) * 32).peer_id
        network.want(f"/ip4/127.0.0.1/tcp/{FIRST_PORT}/p2p/{first}")
    await until(lambda: len(network.peers()) >= min(homes - 1, 5))
    met_s = time.perf_counter() - began_s
    await asyncio.sleep(max(0.0, SETTLE_S - met_s))
    cpu, wall = time.process_time(), time.perf_counter()
    rounds = max(1, round(seconds * per_second / homes))
    for _ in range(rounds):
        await asyncio.sleep(homes / per_second)
        await network.publish(TOPIC, os.urandom(MESSAGE_BYTES))
    cpu_percent = 100 * (time.process_time() - cpu) / (time.perf_counter() - wall)
    await asyncio.sleep(3)
    rss_mib = resident_mib()
    share = heard / (rounds * (homes - 1))
    report = Report(met_s, len(network.peers()), cpu_percent, rss_mib, share)
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()
    await asyncio.sleep(2)
    await network.stop()


async def street(homes: int, seconds: float, per_second: float) -> list[Said]:
    """Measure a street of processes."""
    options = ["--seconds", str(seconds), "--per-second", str(per_second), "--homes", str(homes)]
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.network", "--home", str(number), *options,
            stdout=asyncio.subprocess.PIPE,
        )
        for number in range(homes)
    ]  # fmt: skip
    outputs = [(await process.communicate())[0] for process in processes]
    reports = [msgspec.json.decode(output, type=Report) for output in outputs]
    said: list[Said] = [f"{homes} processes, {per_second:g} messages/s in all"]
    met = [report.met_s for report in reports]
    said.append(figure("five peers after the start", "s", met, wall=True))
    peers = [float(report.peers) for report in reports]
    said.append(figure("peers", "", peers, better="neither"))
    cpu = [report.cpu_percent for report in reports]
    said.append(figure("CPU of a home", "% of a core", cpu))
    said.append(figure("resident memory of a home", "MiB", [report.rss_mib for report in reports]))
    heard = [100 * report.heard_share for report in reports]
    said.append(figure("gossip heard", "%", heard, better="higher"))
    return said


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--per-second", type=float, default=2.0)
    parser.add_argument("--home", type=int, help=argparse.SUPPRESS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure pairs, then a street."""
    yield from uvloop.run(pairs())
    yield from uvloop.run(street(given.homes, given.seconds, given.per_second))


if __name__ == "__main__":
    if "--home" in sys.argv:
        given = parser_of(__doc__, options).parse_args()
        uvloop.run(home(given.home, given.homes, given.seconds, given.per_second))
    else:
        command(__doc__, options, figures)
