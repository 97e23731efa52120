"""How many orders per second a street decides, and how soon each is final.

    uv run python -m bench.throughput [--authorities 4] [--seconds 30] [--rate R] [--profile]

Authorities as daemon processes: libp2p on loopback, stores on disk, blocks of 1 s. A process of its
own (niced, its orders signed beforehand) hands orders of many homes in through the control sockets.

First it keeps a backlog waiting; what is then decided per second is the sustained rate. Then it
posts 80 % of that at an even pace (or `--rate`, without the first part): how long an order takes
from being handed in until the node it was handed to has applied its block. The bound is what the
signatures alone would allow: every node verifies every order once.
"""

import argparse
import asyncio
import collections
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Said, command, figure
from bench.load import ORDERS_PER_SLOT, Posted, Spec, begin, key_of, ready_poster
from bench.machine import signature_us
from market.genesis import HomeEntry, MarketParams
from node import launch
from node.api.control import ask
from node.config import Config, NetworkSection, NodeSection, settings_text
from node.errors import ControlError
from node.genesis import GENESIS_VERSION, ChainParams, Genesis, write_genesis
from node.setup import CONFIG_NAME, DATA_NAME, GENESIS_NAME, create_home
from node.status import summary_ms
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.street import FEED_IN_MICRO_PER_KWH, TARIFF_BANDS, free_ports
from wire.keys import SigningKey

HOMES = 2_000
MARKET_START_MS = 1_762_128_000_000
BALANCE_MICRO = 10**12
# Processes of one machine start one after the other.
START_S = 120
START_EACH_S = 15
WARM_S = 6
SHARE = 0.8
# Promised of so many authorities on two cores. [1/s]
SUSTAINED_AIMS = {4: 1_000.0, 16: 300.0, 32: 120.0}
POLL_S = 0.2
# Signed per second of a run at full backlog; what a run has left over costs only its signing.
SUPPLY_PER_S = 2_000
# Room before the first slot used, so that no gate closes during a run.
FIRST_SLOT = 2


class Profiled(HomeProcess):
    """A daemon under the sampler."""

    @property
    def profile_path(self) -> Path:
        """Where the sampler writes."""
        return self.directory / "profile.json"

    async def _spawn(self) -> None:
        run, _, _, *rest = launch.command(self.directory / CONFIG_NAME)
        with self.log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(run, "-P", "-m", "bench.sampler", str(self.profile_path), *rest[1:]),
                "--until-stdin-closes",
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                process_group=0,
                env=launch.environment() | {"PYTHONPATH": os.getcwd()},
            )


class Bench:
    """A running street of authorities."""

    def __init__(
        self, directory: Path, authorities: int, backlog: int, profile: bool, **market: Any
    ) -> None:
        self.directory = directory
        self.backlog = backlog
        self.nonce = 1
        keys = [SigningKey.generate() for _ in range(authorities)]
        self.genesis = bench_genesis(keys, **market)
        self.genesis.check()
        ports = free_ports(authorities)
        addresses = [f"/ip4/127.0.0.1/tcp/{port}" for port in ports]
        dial = [f"{at}/p2p/{key.peer_id}" for at, key in zip(addresses, keys, strict=True)]
        self.nodes: list[HomeProcess] = []
        for place, key in enumerate(keys):
            name = f"node-{place:02d}"
            network = NetworkSection(
                listen=addresses[place],
                bootstrap=tuple(dial[other] for other in range(authorities) if other != place),
            )
            config = Config(node=NodeSection(name=name, log_level="info"), network=network)
            create_home(directory / name, settings_text(config), key)
            write_genesis(self.genesis, directory / name / GENESIS_NAME)
            kind = Profiled if profile and not place else HomeProcess
            self.nodes.append(kind(name, directory / name))

    def data(self, place: int) -> Path:
        """Return a node's data directory."""
        return self.nodes[place].directory / DATA_NAME

    async def status(self, place: int) -> dict[str, Any]:
        """Return what a node says of itself."""
        answer: dict[str, Any] = await ask(self.data(place), "status", timeout_s=120)
        return answer

    async def until_up(self) -> None:
        """Wait until all are connected with each other and vote."""
        async with asyncio.timeout(START_S + START_EACH_S * len(self.nodes)):
            for place, node in enumerate(self.nodes):
                while True:
                    await asyncio.sleep(0.5)
                    if node.failure:
                        raise SystemExit(node.failure)
                    try:
                        status = await self.status(place)
                    except ControlError:
                        continue
                    if status["voting"] and len(status["peers"]) >= len(self.nodes) - 1:
                        break

    async def load(self, seconds: float, rate: float) -> dict[str, Any]:
        """Post for so long after a warm-up, at a rate or (0) with a backlog; return the figures."""
        total_s = WARM_S + seconds
        orders = int(total_s * (rate or SUPPLY_PER_S)) + HOMES
        spec = Spec(
            data=[str(self.data(place)) for place in range(len(self.nodes))],
            chain_id=self.genesis.chain_id,
            homes=HOMES,
            orders=orders,
            first_nonce=self.nonce,
            first_slot=MARKET_START_MS // self.genesis.market.slot_ms + FIRST_SLOT,
            seconds=total_s,
            rate=rate,
            backlog=self.backlog,
        )
        self.nonce += orders // HOMES + 1
        poster = await ready_poster(spec, self.directory / "load.json")
        begin(poster)
        await asyncio.sleep(WARM_S)
        figures = await self._watch(seconds)
        posted = msgspec.json.decode((await poster.communicate())[0], type=Posted)
        if posted.ran_out:
            raise SystemExit("the orders signed beforehand ran out; raise SUPPLY_PER_S")
        figures["refused"] = posted.refused
        figures["poster_late_s"] = round(posted.late_s, 2)
        figures["executed"] = await self._settled()
        figures["counts"] = (await self.status(0))["counts"]
        return figures

    async def _watch(self, seconds: float) -> dict[str, Any]:
        """Watch the first node's chain grow, and everybody's clocks."""
        profiled = isinstance(self.nodes[0], Profiled)
        if profiled:
            os.kill(self.nodes[0].pid or 0, signal.SIGUSR1)
        seen: list[tuple[float, int, int, int]] = []
        earlier = [await self._latencies_ms(place) for place in range(len(self.nodes))]
        cpu = [_cpu_s(node.pid) for node in self.nodes]
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            status = await self.status(0)
            counts = status["counts"]
            if not seen or counts["blocks"] != seen[-1][1]:
                now = time.monotonic()
                seen.append((now, counts["blocks"], counts["transactions"], status["mempool"]))
            await asyncio.sleep(POLL_S)
        used = [_cpu_s(node.pid) - before for node, before in zip(self.nodes, cpu, strict=True)]
        if profiled:
            os.kill(self.nodes[0].pid or 0, signal.SIGUSR2)
        passed_s = time.monotonic() - begun
        if len(seen) < 3:
            raise SystemExit(f"{len(seen) - 1} blocks were decided in {passed_s:.0f} s: too few")
        # The first block seen was decided before the window.
        decided_s = seen[-1][0] - seen[1][0]
        decided = seen[-1][2] - seen[1][2]
        blocks = seen[-1][1] - seen[1][1]
        all_orders = decided / decided_s * passed_s
        latencies: list[float] = []
        for place, known in enumerate(earlier):
            latencies += _fresh(known, await self._latencies_ms(place))
        finality = summary_ms(latencies)
        half = len(seen) // 2
        return {
            "orders_per_s": decided / decided_s,
            "orders_per_block": decided / blocks,
            "block_s": decided_s / blocks,
            "waiting_first_half": statistics.mean(item[3] for item in seen[:half]),
            "waiting_second_half": statistics.mean(item[3] for item in seen[half:]),
            "cpu_us_per_order": [1e6 * each / max(all_orders, 1) for each in used],
            "cores_used": sum(used) / passed_s,
            "finality_ms": finality,
        }

    async def _latencies_ms(self, place: int) -> list[float]:
        answer: list[float] = await ask(self.data(place), "latencies", timeout_s=120)
        return answer

    async def _settled(self) -> dict[str, int]:
        """Wait until nothing is left; return how many were decided and how many stand in slots."""
        status = await self.status(0)
        while status["mempool"]:
            await asyncio.sleep(0.5)
            status = await self.status(0)
        first = MARKET_START_MS // self.genesis.market.slot_ms + FIRST_SLOT
        posted = 0
        for slot in range(first, first + self.nonce // ORDERS_PER_SLOT + 1):
            found = await ask(
                self.data(0), "query", contract="market", entry="round", args={"slot": slot}
            )
            posted += found["posted"]
        return {"decided": status["counts"]["transactions"], "posted": posted}


def bench_genesis(keys: list[SigningKey], **changes: Any) -> Genesis:
    """Return a genesis of `HOMES` homes, decided by the authorities with these keys.

    Keyword arguments replace fields of its market.
    """
    homes = tuple(_entry(home) for home in range(HOMES))
    market = MarketParams(
        chain_id=f"bench-{keys[0].address[2:10]}",
        genesis_ms=time.time_ns() // 1_000_000,
        market_start_ms=MARKET_START_MS,
        time_lapse=1,
        slot_minutes=15,
        currency="AUD",
        regulator=SigningKey.generate().address,
        homes=homes,
        utc_offsets=((0, 660),),
        tariffs=((0, TARIFF_BANDS),),
        feed_in=((0, FEED_IN_MICRO_PER_KWH),),
    )
    publics = tuple(key.public for key in keys)
    market = msgspec.structs.replace(market, **changes)
    return Genesis(GENESIS_VERSION, publics, ChainParams(heartbeat_ms=1_000), market)


def _entry(home: int) -> HomeEntry:
    key = key_of(home)
    return HomeEntry(
        address=key.address,
        meter=key.derive("meter").address,
        name=f"home-{home:04d}",
        role="prosumer",
        import_cap_w=15_000,
        export_cap_w=10_000,
        balance_micro=BALANCE_MICRO,
    )


def _fresh(earlier: list[float], now: list[float]) -> list[float]:
    """Return what a node's list, of which it keeps the end, has gained."""
    for gone in range(len(earlier)):
        if now[: len(earlier) - gone] == earlier[gone:]:
            return now[len(earlier) - gone :]
    return now


def _cpu_s(pid: int | None) -> float:
    """Return what a process has used, user and system. [s]"""
    if pid is None:
        raise SystemExit("a node has stopped; its log is in its directory")
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def of_run(
    title: str, found: dict[str, Any], bound: float, sustained: float | None
) -> Iterator[Said]:
    """Yield the figures of one run; `sustained` is the aim of one with a backlog. [1/s]"""
    finality, executed = found["finality_ms"], found["executed"]
    yield figure(
        f"{title}, orders/s", "", found["orders_per_s"], better="higher", wall=True,
        over=("the bound of the signatures", bound),
        aim=sustained if title == "sustained" else None,
    )  # fmt: skip
    yield figure(f"{title}, orders in a block", "", found["orders_per_block"], better="neither")
    yield figure(f"{title}, a block each", "s", found["block_s"], wall=True)
    yield figure(f"{title}, CPU per order and node", "us", found["cpu_us_per_order"])
    yield f"  {found['cores_used']:.2f} cores in all"
    for part, aim in (("p50", None), ("p95", None if title == "sustained" else 2_500)):
        took_ms = finality[part] or 0.0
        yield figure(f"{title}, final after, {part}", "ms", took_ms, wall=True, aim=aim)
    yield (
        f"  finality of the last {finality['count']}; waiting {found['waiting_first_half']:.0f}, "
        f"then {found['waiting_second_half']:.0f}; refused {found['refused']}; "
        f"decided {executed['decided']}, accepted by the contracts {executed['posted']}"
    )
    yield f"  counts {found['counts']}; the poster was late by {found['poster_late_s']} s"


def of_profile(path: Path, cpu_us: float) -> Iterator[str]:
    """Yield where the first node's CPU went, in µs per order."""
    found = json.loads(path.read_text())
    total = sum(used for _, _, used in found["phases"])
    threads: collections.Counter[str] = collections.Counter()
    yield f"profile of the first node, us per order ({cpu_us:.0f} in all)"
    for thread, phase, used in found["phases"]:
        threads[thread] += used
        if used / total > 0.003:
            yield f"  {thread:12} {phase:28} {used / total * cpu_us:7.1f}"
    yield "  threads: " + ", ".join(f"{k} {v / total * cpu_us:.0f}" for k, v in threads.items())
    for name, used in found["functions"][:40]:
        yield f"  {used / total * cpu_us:7.1f}  {name}"


async def run(given: argparse.Namespace) -> list[Said]:
    """Run all and return the figures."""
    bound = len(os.sched_getaffinity(0)) / (given.authorities * signature_us() * 1e-6)
    said: list[Said] = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), given.authorities, given.backlog, given.profile)
        try:
            await start_all(bench.nodes)
            await bench.until_up()
            rate = given.rate
            runs = [("at the rate", rate)] if rate else [("sustained", 0.0), ("at 80 %", SHARE)]
            sustained = 0.0
            for title, pace in runs:
                found = await bench.load(
                    given.seconds, SHARE * sustained if pace == SHARE else pace
                )
                sustained = sustained or found["orders_per_s"]
                said += of_run(title, found, bound, SUSTAINED_AIMS.get(given.authorities))
                first = bench.nodes[0]
                if isinstance(first, Profiled):
                    said += of_profile(first.profile_path, found["cpu_us_per_order"][0])
        finally:
            await stop_all(bench.nodes)
            for node in bench.nodes:
                if node.log_path.exists() and (text := node.log_path.read_text()):
                    print(f"{node.name}: {text[-given.log :]}", file=sys.stderr)
    return said


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--authorities", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--backlog", type=int, default=3_000)
    parser.add_argument("--profile", action="store_true", help="where the first node's CPU goes")
    parser.add_argument("--log", type=int, default=600, help="characters of each node's log shown")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run it."""
    yield from asyncio.run(run(given))


if __name__ == "__main__":
    command(__doc__, options, figures)
