"""Two tiers as processes: when results are anchored and audited, and what a node keeps in memory.

    uv run python -m bench.tiers [--regions 3] [--homes 24] [--slots 8] [--time-lapse 60]

Runs `commonwatt testnet up` with several regions and prints the figures of its report. Anchored: in
which block of the main chain after the region's decision, and after how long; the baseline is the
main chain's block interval. Audited: from the region's decision to the block of the main chain in
which enough auditors were content; the baseline is the slot. Times are of the blocks. A region's
authorities keep both chains, its other homes only their region. Records and audits are looked for
once a second, so of those that follow each other faster only the last is counted; records that were
closed before their region was let in are not.
"""

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any

from bench.machine import describe
from testnet.regions import main_interval_ms, regions_of
from testnet.street import StreetPlan


def main() -> None:
    """Print the figures; a report whose own checks fail ends the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regions", type=int, default=3)
    parser.add_argument("--homes", type=int, default=24)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--time-lapse", type=int, default=60)
    given = parser.parse_args()
    print(describe(), flush=True)
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "cli", "testnet", "up", "--json"),
            *("--regions", str(given.regions), "--homes", str(given.homes)),
            *("--slots", str(given.slots), "--time-lapse", str(given.time_lapse)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    plan = StreetPlan(homes=given.homes, regions=given.regions, time_lapse=given.time_lapse)
    show(json.loads(done.stdout), plan)


def show(report: dict[str, Any], plan: StreetPlan) -> None:
    """Print the figures of a report."""
    wrong = [
        name
        for name in ("money_conserved", "state_roots_equal", "energy_balanced", "bills_add_up")
        if not report[name]
    ]
    if wrong:
        raise SystemExit(f"the report's checks fail: {', '.join(wrong)}")
    slot_ms = plan.slot_minutes * 60_000 / plan.time_lapse
    interval_ms = main_interval_ms(plan)
    print(
        f"{plan.regions} regions, {plan.homes} homes, {report['slots']} slots of {slot_ms / 1000:g}"
        f" s, main chain's blocks every {interval_ms / 1000:g} s; {report['anchored']} records "
        f"anchored, {report['audited']} audited, {report['exported_wh']} Wh exported"
    )
    print(
        f"anchored: {blocks(report['anchoring_blocks'])}; {within(report['anchoring_ms'])}, ",
        end="",
    )
    print(f"{report['anchoring_ms']['p50'] / interval_ms:.2f} main block intervals")
    print(f"audited: {within(report['auditing_ms'])}, ", end="")
    print(f"{report['auditing_ms']['p95'] / slot_ms:.2f} slots at p95")
    seated = {name for group in regions_of(plan) for name in group.names[: plan.authorities]}
    rows = report["nodes"]
    for title, nodes in (
        ("both chains", [row for row in rows if row["id"] in seated]),
        ("region only", [row for row in rows if row["id"] not in seated]),
        ("main chain only", report["neutral"]),
    ):
        print(f"{title}: {usage(nodes)}")


def blocks(counted: dict[str, int]) -> str:
    """Return which share of records was anchored in the first two blocks, and the latest."""
    total = sum(counted.values())
    soon = sum(count for number, count in counted.items() if int(number) <= 2)
    latest = max(map(int, counted), default=0)
    return f"{soon} of {total} records within 2 main blocks, the latest in block {latest}"


def within(took_ms: dict[str, Any]) -> str:
    """Return a summary of times in words."""
    return f"p50 {took_ms['p50']:.0f} ms, p95 {took_ms['p95']:.0f} ms ({took_ms['count']} records)"


def usage(nodes: list[dict[str, Any]]) -> str:
    """Return memory and CPU of nodes in words."""
    rss = [node["rss_mib"] for node in nodes if node["rss_mib"] is not None]
    cpu = [100 * node["cpu_s"] / node["uptime_s"] for node in nodes if node["uptime_s"]]
    if not rss or not cpu:
        return "none"
    return (
        f"memory median {statistics.median(rss):.1f} MiB ({min(rss):.1f} .. {max(rss):.1f}), "
        f"CPU {statistics.median(cpu):.1f} % of a core ({min(cpu):.1f} .. {max(cpu):.1f}); "
        f"{len(rss)} nodes"
    )


if __name__ == "__main__":
    main()
