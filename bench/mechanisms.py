"""Each mechanism on a street of processes: `uv run python -m bench.mechanisms [NAME ...]`.

Runs `commonwatt testnet up` with twelve homes once for each mechanism, through a whole day in slots
of an hour, and prints a row of its report for each. The baseline of what the homes save is their
bill by the grid alone. Options: `--slots 24`, `--time-lapse 360`, `--homes 12`.
"""

import argparse
import json
import subprocess
import sys
from typing import Any, Final

from bench.machine import describe

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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mechanisms", nargs="*", metavar="NAME", default=list(MECHANISMS))
    parser.add_argument("--time-lapse", type=int, default=TIME_LAPSE)
    parser.add_argument("--homes", type=int, default=HOMES)
    parser.add_argument("--slots", type=int, default=SLOTS)
    options = parser.parse_args()
    print(describe())
    print(HEAD, flush=True)
    for name in options.mechanisms:
        if name not in MECHANISMS:
            parser.error(f"{name} is no mechanism; there are: {', '.join(MECHANISMS)}")
        report = run(name, options.slots, options.time_lapse, options.homes)
        print(row(name, report), flush=True)


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
    main()
