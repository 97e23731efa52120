"""A whole street of processes: start, finality, memory.

    uv run python -m bench.grid [--slots 20] [--time-lapse 180]

Runs `commonwatt testnet up` with twelve homes and prints the figures of its report. The baseline
of finality is the block interval.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator

from bench.figures import Said, command, figure
from node.genesis import ChainParams


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--slots", type=int, default=20)
    parser.add_argument("--time-lapse", type=int, default=180)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run the street."""
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "cli", "testnet", "up", "--json"),
            *("--slots", str(given.slots), "--time-lapse", str(given.time_lapse)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    rss = [node["rss_mib"] for node in report["nodes"]]
    cpu = [100 * node["cpu_s"] / node["uptime_s"] for node in report["nodes"]]
    finality, interval_ms = report["finality_ms"], ChainParams().block_interval_ms
    slots = report["slots"]
    yield f"{report['homes']} homes, {slots} slots, {report['trades']} trades"
    yield figure("all connected", "s", report["all_connected_s"], wall=True, aim=45)
    yield figure("first block", "s", report["first_block_s"], wall=True, aim=45)
    yield f"finality of {finality['count']} transactions:"
    over = "a block interval", interval_ms
    yield figure("an order final, p50", "ms", finality["p50"], over=over, wall=True)
    yield figure("an order final, p95", "ms", finality["p95"], over=over, wall=True, aim=2_500)
    yield figure(f"memory of a node after {slots} slots", "MiB", rss, aim=150)
    yield figure("CPU of a node while trading", "% of a core", cpu)


if __name__ == "__main__":
    command(__doc__, options, figures)
