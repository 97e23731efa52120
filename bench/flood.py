"""What a flood does to everybody else: far more transactions than can be decided.

    uv run python -m bench.flood [--capacity 763] [--times 10] [--seconds 20] [--only NAME ...]

Four authorities as daemon processes, as in `bench.throughput`; twelve honest homes post twenty
orders a second through them. First they are alone: that is the baseline. Then peers that know the
community's key bring `times` the street's capacity (measured first, unless it is given) for
`seconds`, from processes of their own on the same machine: one account through one peer, a thousand
accounts through one, wrong signatures, by gossip, and a thousand accounts through eight peers of
which those that are cut come back under other names.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench import flooder, load
from bench.figures import Said, command, figure
from bench.load import Posted
from bench.machine import rss_mib
from bench.throughput import FIRST_SLOT, MARKET_START_MS, Bench, _fresh
from node.genesis import community_key
from node.status import summary_ms
from node.tiers import topics
from testnet.processes import start_all, stop_all

HONEST_HOMES = 12
HONEST_PER_S = 20.0
FIRST_ACCOUNT = 1_000
ACCOUNTS = 1_000
SETTLE_S = 5.0
WATCH_S = 0.5
CAPACITY_S = 10.0
FINAL_S = 60.0
KINDS: dict[str, dict[str, Any]] = {
    "one account, one peer": {"accounts": 1, "peers": 1},
    "1,000 accounts, one peer": {"accounts": ACCOUNTS, "peers": 1},
    "wrong signatures, one peer": {"accounts": ACCOUNTS, "peers": 1, "spoilt": True},
    "1,000 accounts, one peer, gossip": {"accounts": ACCOUNTS, "peers": 1, "gossip": True},
    "1,000 accounts, 8 peers of ever new names": {
        "accounts": ACCOUNTS, "peers": 8, "renew": True,
    },
}  # fmt: skip


class Row(msgspec.Struct):
    """What was seen in one run."""

    name: str
    honest_accepted: int
    honest_final: int
    finality_ms: dict[str, Any]
    rss_mib: float
    restarts: int
    flooded: flooder.Flooded | None


class Flood:
    """The street, and who comes to it."""

    def __init__(self, bench: Bench, seconds: float, rate: float) -> None:
        self._bench = bench
        self._seconds = seconds
        self._rate = rate
        self._before: list[list[float]] = []

    async def row(self, name: str, kind: dict[str, Any] | None) -> Row:
        """Let the honest post, beside a flood if `kind` is one, and return what they saw."""
        bench = self._bench
        process = None if kind is None else await self._flooder(kind)
        honest = await self._honest()
        before = [await bench._latencies_ms(place) for place in range(len(bench.nodes))]
        restarts = sum(node.restarts for node in bench.nodes)
        if honest.stdin is None or (process is not None and process.stdin is None):
            raise RuntimeError("a process has no pipes")
        honest.stdin.write(b"go\n")
        if process is not None and process.stdin is not None:
            process.stdin.write(b"go\n")
        watch = asyncio.create_task(self._peak_mib())
        posted = msgspec.json.decode((await honest.communicate())[0], type=Posted)
        told = None
        if process is not None:
            told = msgspec.json.decode((await process.communicate())[0], type=flooder.Flooded)
        await asyncio.sleep(SETTLE_S)
        watch.cancel()
        peak = (await asyncio.gather(watch, return_exceptions=True))[0]
        if isinstance(peak, BaseException) and not isinstance(peak, asyncio.CancelledError):
            raise peak
        row = Row(
            name,
            posted.accepted,
            0,
            {},
            self._most_mib,
            sum(node.restarts for node in bench.nodes) - restarts,
            told,
        )
        self._before = before
        await self._count(row)
        return row

    async def until_final(self, row: Row) -> None:
        """Wait until all that was accepted in the last run is final, or for `FINAL_S`."""
        end_s = time.monotonic() + FINAL_S
        while row.honest_final < row.honest_accepted and time.monotonic() < end_s:
            await asyncio.sleep(WATCH_S)
            await self._count(row)

    async def _count(self, row: Row) -> None:
        latencies: list[float] = []
        for place, known in enumerate(self._before):
            latencies += _fresh(known, await self._bench._latencies_ms(place))
        row.honest_final = len(latencies)
        row.finality_ms = summary_ms(latencies)

    async def _peak_mib(self) -> None:
        self._most_mib = 0.0
        while True:
            for node in self._bench.nodes:
                self._most_mib = max(self._most_mib, rss_mib(node.pid))
            await asyncio.sleep(WATCH_S)

    async def _honest(self) -> asyncio.subprocess.Process:
        bench = self._bench
        orders = int(self._seconds * HONEST_PER_S) + HONEST_HOMES
        spec = load.Spec(
            data=[str(bench.data(place)) for place in range(len(bench.nodes))],
            chain_id=bench.genesis.chain_id,
            homes=HONEST_HOMES,
            orders=orders,
            first_nonce=bench.nonce,
            first_slot=_first_slot(bench),
            seconds=self._seconds,
            rate=HONEST_PER_S,
            backlog=0,
        )
        bench.nonce += orders // HONEST_HOMES + 1
        return await self._started("bench.load", msgspec.json.encode(spec))

    async def _flooder(self, kind: dict[str, Any]) -> asyncio.subprocess.Process:
        bench = self._bench
        addresses = []
        for place in range(len(bench.nodes)):
            status = await bench.status(place)
            addresses.append(status["listens"][0])
        spec = flooder.Spec(
            addresses=addresses,
            psk=community_key(bench.genesis.hash).hex(),
            topic=topics(bench.genesis)[0],
            chain_id=bench.genesis.chain_id,
            first_account=FIRST_ACCOUNT,
            first_nonce=time.time_ns(),
            first_slot=_first_slot(bench),
            rate=self._rate,
            seconds=self._seconds,
            **kind,
        )
        return await self._started("bench.flooder", msgspec.json.encode(spec))

    async def _started(self, module: str, spec: bytes) -> asyncio.subprocess.Process:
        file = self._bench.directory / f"{module}.json"
        file.write_bytes(spec)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, str(file)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise SystemExit(f"{module} did not begin")
        return process


def _first_slot(bench: Bench) -> int:
    return MARKET_START_MS // bench.genesis.market.slot_ms + FIRST_SLOT


def of_row(row: Row, usual: Row) -> Iterator[Said]:
    """Yield the figures of one run; `usual` is the one without a flood."""
    told, final = row.flooded, row.finality_ms
    name = "undisturbed" if told is None else row.name
    if told is not None:
        yield figure(f"{name}, brought", "/s", told.brought / told.seconds, better="neither")
        known = [each for each in told.cut_s if each is not None]
        if len(known) == len(told.cut_s):
            yield figure(f"{name}, cut by the last authority", "s", max(known), wall=True, aim=5.0)
        else:
            yield f"  {name}: the first peer kept {len(told.cut_s) - len(known)} authorities"
        yield f"  {told.names} names"
    for part in ("p50", "p95"):
        alone = usual.finality_ms[part] or 0.0
        yield figure(
            f"{name}, honest orders final after, {part}", "ms", final[part] or 0.0, wall=True,
            over=None if told is None else ("undisturbed", alone),
            aim=2 * alone if told is not None and part == "p95" else None,
        )  # fmt: skip
    yield figure(
        f"{name}, honest orders that were final", "", row.honest_final, better="higher",
        over=("those that were accepted", row.honest_accepted),
    )  # fmt: skip
    yield figure(f"{name}, largest node", "MiB", row.rss_mib)
    if row.restarts:
        raise SystemExit(f"{name}: {row.restarts} nodes died")


async def run(given: argparse.Namespace) -> list[Said]:
    """Run all and return what was seen."""
    said: list[Said] = []
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), 4, 1_000, False)
        try:
            await start_all(bench.nodes)
            await bench.until_up()
            capacity = given.capacity
            if not capacity:
                capacity = (await bench.load(CAPACITY_S, 0.0))["orders_per_s"]
                said.append(figure("capacity", "orders/s", capacity, better="higher", wall=True))
            flood = Flood(bench, given.seconds, given.times * capacity)
            usual = await flood.row("none", None)
            said += of_row(usual, usual)
            for name, kind in KINDS.items():
                if given.only and not any(part in name for part in given.only):
                    continue
                row = await flood.row(name, kind)
                await flood.until_final(row)
                said += of_row(row, usual)
                print(msgspec.json.encode(row).decode(), file=sys.stderr, flush=True)
        finally:
            await stop_all(bench.nodes)
            for node in bench.nodes:
                if given.log and node.log_path.exists():
                    print(node.log_path.read_text()[-given.log :], file=sys.stderr)
    return said


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--capacity", type=float, default=0.0, help="orders/s; 0: measured first")
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--only", nargs="+", default=[], help="parts of names")
    parser.add_argument("--log", type=int, default=0, help="characters of each node's log shown")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run it."""
    yield from asyncio.run(run(given))


if __name__ == "__main__":
    command(__doc__, options, figures)
