"""A whole street of processes: start, finality, memory.

    uv run python -m bench.grid [--slots 20] [--time-lapse 180]

Runs `commonwatt testnet up` with twelve homes and prints the figures of its report. The baseline
of finality is the block interval.
"""

import argparse
import json
import statistics
import subprocess
import sys

from bench.machine import describe
from node.genesis import ChainParams


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slots", type=int, default=20)
    parser.add_argument("--time-lapse", type=int, default=180)
    options = parser.parse_args()
    print(describe(), flush=True)
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "cli", "testnet", "up", "--json"),
            *("--slots", str(options.slots), "--time-lapse", str(options.time_lapse)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    rss = [node["rss_mib"] for node in report["nodes"]]
    cpu = [100 * node["cpu_s"] / node["uptime_s"] for node in report["nodes"]]
    finality, interval_ms = report["finality_ms"], ChainParams().block_interval_ms
    connected, first = report["all_connected_s"], report["first_block_s"]
    print(f"{report['homes']} homes, {report['slots']} slots, {report['trades']} trades")
    print(f"all connected after {connected} s, first block after {first} s")
    print(
        f"an order is final after p50 {finality['p50']:.0f} ms, p95 {finality['p95']:.0f} ms: "
        f"{finality['p95'] / interval_ms:.2f} block intervals ({finality['count']} transactions)"
    )
    print(f"memory: median {statistics.median(rss):.1f} MiB ({min(rss):.1f} .. {max(rss):.1f})")
    print(f"CPU while trading: median {statistics.median(cpu):.1f} % of a core per node")


if __name__ == "__main__":
    main()
