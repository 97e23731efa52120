"""What an idle node costs: CPU and memory at one empty block per second.

    uv run python -m bench.idle [--homes 12] [--seconds 60]

A street of real processes makes a heartbeat block each second and trades nothing (its slots are in
real time, a quarter of an hour long). The baseline is the same street with a heartbeat of 30 s.
"""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.figures import Said, command, figure
from node.api.control import ask
from node.errors import ControlError
from node.genesis import ChainParams
from node.setup import DATA_NAME
from testnet.processes import HomeProcess, start_all, stop_all
from testnet.street import Street, StreetPlan, create_street

SETTLE_S = 20
AUTHORITIES = 4


async def statuses(street: Street) -> dict[str, dict[str, Any]]:
    async def one(name: str) -> dict[str, Any]:
        answer: dict[str, Any] = await ask(street.home(name) / DATA_NAME, "status")
        return answer

    return {name: await one(name) for name in street.names}


async def measure(
    homes: int, seconds: int, heartbeat_ms: int
) -> tuple[list[float], list[float], int]:
    """Return CPU [% of a core] and memory [MiB] per node, and how many blocks were made."""
    with tempfile.TemporaryDirectory() as directory:
        street = create_street(
            Path(directory) / "street",
            StreetPlan(homes=homes, time_lapse=1),
            chain=ChainParams(heartbeat_ms=heartbeat_ms),
        )
        processes = [HomeProcess(name, street.home(name)) for name in street.names]
        try:
            await start_all(processes)
            async with asyncio.timeout(180):
                while True:
                    await asyncio.sleep(2)
                    try:
                        begun = await statuses(street)
                    except ControlError:
                        continue
                    if all(status["height"] > 0 for status in begun.values()):
                        break
                    if heartbeat_ms > 5_000 and all(s["peers"] for s in begun.values()):
                        break
            await asyncio.sleep(SETTLE_S)
            begun = await statuses(street)
            await asyncio.sleep(seconds)
            ended = await statuses(street)
        finally:
            await stop_all(processes)
    cpu = [
        100
        * (ended[n]["cpu_s"] - begun[n]["cpu_s"])
        / (ended[n]["uptime_s"] - begun[n]["uptime_s"])
        for n in street.names
    ]
    first = street.names[0]
    blocks = ended[first]["height"] - begun[first]["height"]
    return cpu, [ended[n]["rss_mib"] for n in street.names], blocks


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--seconds", type=int, default=60)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure the baseline, then the street with a block each second."""
    seldom = 1.0
    for heartbeat_ms in (30_000, 1_000):
        cpu, rss, blocks = asyncio.run(measure(given.homes, given.seconds, heartbeat_ms))
        name = f"a block each {heartbeat_ms // 1000} s"
        yield f"{name}: {blocks} blocks in {given.seconds} s"
        often = heartbeat_ms == 1_000
        over = ("the same at one each 30 s", seldom) if often else None
        yield figure(f"{name}, all nodes", "% of a core", cpu, over=over)
        aim = 3.0 if often else None
        yield figure(f"{name}, authorities", "% of a core", cpu[:AUTHORITIES], aim=aim)
        yield figure(f"{name}, followers", "% of a core", cpu[AUTHORITIES:])
        yield figure(f"{name}, memory", "MiB", rss)
        seldom = statistics.median(cpu)


if __name__ == "__main__":
    command(__doc__, options, figures)
