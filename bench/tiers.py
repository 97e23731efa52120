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
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from bench.figures import Said, command, figure
from testnet.regions import main_interval_ms, regions_of
from testnet.street import StreetPlan


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--regions", type=int, default=3)
    parser.add_argument("--homes", type=int, default=24)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--time-lapse", type=int, default=60)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run the grid; a report whose own checks fail ends the benchmark."""
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
    yield from of_report(json.loads(done.stdout), plan)


def of_report(report: dict[str, Any], plan: StreetPlan) -> Iterator[Said]:
    """Yield the figures of a report."""
    wrong = [
        name
        for name in ("money_conserved", "state_roots_equal", "energy_balanced", "bills_add_up")
        if not report[name]
    ]
    if wrong:
        raise SystemExit(f"the report's checks fail: {', '.join(wrong)}")
    slot_ms = plan.slot_minutes * 60_000 / plan.time_lapse
    interval_ms = main_interval_ms(plan)
    yield (
        f"{plan.regions} regions, {plan.homes} homes, {report['slots']} slots of {slot_ms / 1000:g}"
        f" s, main chain's blocks every {interval_ms / 1000:g} s; {report['anchored']} records "
        f"anchored, {report['audited']} audited, {report['exported_wh']} Wh exported"
    )
    yield blocks(report["anchoring_blocks"])
    for what, took_ms, over, most in (
        ("anchored", report["anchoring_ms"], ("a main block interval", interval_ms), 2),
        ("audited", report["auditing_ms"], ("a slot", slot_ms), 1),
    ):
        for part, aim in (("p50", None), ("p95", float(most * over[1]))):
            yield figure(f"{what}, {part}", "ms", took_ms[part], over=over, wall=True, aim=aim)
    seated = {name for group in regions_of(plan) for name in group.names[: plan.authorities]}
    rows = report["nodes"]
    for title, nodes, aim in (
        ("both chains", [row for row in rows if row["id"] in seated], 180),
        ("region only", [row for row in rows if row["id"] not in seated], None),
        ("main chain only", report["neutral"], None),
    ):
        rss = [node["rss_mib"] for node in nodes if node["rss_mib"] is not None]
        cpu = [100 * node["cpu_s"] / node["uptime_s"] for node in nodes if node["uptime_s"]]
        if rss and cpu:
            yield figure(f"{title}, memory", "MiB", rss, aim=aim)
            yield figure(f"{title}, CPU", "% of a core", cpu)


def blocks(counted: dict[str, int]) -> str:
    """Return which share of records was anchored in the first two blocks, and the latest."""
    total = sum(counted.values())
    soon = sum(count for number, count in counted.items() if int(number) <= 2)
    latest = max(map(int, counted), default=0)
    return f"{soon} of {total} records within 2 main blocks, the latest in block {latest}"


if __name__ == "__main__":
    command(__doc__, options, figures)
