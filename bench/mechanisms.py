"""Each mechanism on a street of processes: `uv run python -m bench.mechanisms [NAME ...]`.

Runs `commonwatt testnet up` with twelve homes once for each mechanism, through a whole day in slots
of an hour, and prints a row of its report for each. The baseline of what the homes save is their
bill by the grid alone. Options: `--slots 24`, `--time-lapse 360`, `--homes 12`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

from bench.figures import Said, command, figure

MECHANISMS: Final = ("high_low", "uniform", "request_offer", "sharing")
# Offers to a request are taken for a third of a slot: here for 3.3 s.
SLOT_MINUTES: Final = 60
SLOTS: Final = 24
TIME_LAPSE: Final = 360
HOMES: Final = 12

HEAD: Final = (
    "| mechanism | slots | trades | traded kWh | prices per kWh | from the grid kWh | fed in kWh "
    "| saved | checks |\n|---|---|---|---|---|---|---|---|---|"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("mechanisms", nargs="*", metavar="NAME", default=list(MECHANISMS))
    parser.add_argument("--time-lapse", type=int, default=TIME_LAPSE)
    parser.add_argument("--homes", type=int, default=HOMES)
    parser.add_argument("--slots", type=int, default=SLOTS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run a street by each mechanism."""
    for name in given.mechanisms:
        if name not in MECHANISMS:
            raise SystemExit(f"{name} is no mechanism; there are: {', '.join(MECHANISMS)}")
    yield HEAD
    for name in given.mechanisms:
        report = run(name, given.slots, given.time_lapse, given.homes)
        yield row(name, report)
        yield figure(f"{name}, traded", "kWh", report["traded_wh"] / 1000, better="higher")
        saved = report["savings_percent"]
        if saved is not None:
            yield figure(f"{name}, saved", "%", saved, better="higher")


def run(mechanism: str, slots: int, time_lapse: int, homes: int) -> dict[str, Any]:
    """Run a street by a mechanism to its end; return its report."""
    numbers = {
        "--slots": slots,
        "--slot-minutes": SLOT_MINUTES,
        "--time-lapse": time_lapse,
        "--homes": homes,
    }
    words = [word for name, value in numbers.items() for word in (name, str(value))]
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "cli", "testnet", "up", "--json"),
            *("--mechanism", mechanism, *words),
        ],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def row(mechanism: str, report: dict[str, Any]) -> str:
    """Return a report as a row of the table."""
    traded = [slot for slot in report["per_slot"] if slot["trades"]]
    prices = "-"
    if traded:
        low = min(slot["low_micro_per_kwh"] for slot in traded)
        high = max(slot["high_micro_per_kwh"] for slot in traded)
        prices = f"{low / 1e6:.4f} to {high / 1e6:.4f}"
    checks = ("money_conserved", "energy_balanced", "bills_add_up", "state_roots_equal")
    failed = [name for name in checks if not report[name]]
    saved = report["savings_percent"]
    return (
        f"| `{mechanism}` | {report['slots']} | {report['trades']} | "
        f"{report['traded_wh'] / 1000:.2f} | {prices} | {report['grid_wh'] / 1000:.2f} | "
        f"{report['fed_in_wh'] / 1000:.2f} | {'-' if saved is None else f'{saved:.1f} %'} | "
        f"{'all hold' if not failed else ', '.join(failed) + ' FAILED'} |"
    )


if __name__ == "__main__":
    command(__doc__, options, figures)
