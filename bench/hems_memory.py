"""What planning and forecasting add to a node's memory, and what a training costs.

    uv run python -m bench.hems_memory [--data LOAD.csv.gz]

For each model a process of its own: Python with numpy, then a home of the file with a battery that
plans its first slot from a year of half hours, trained before. Resident memory after it, and the
most there was on the way, both beyond Python with numpy. The file's other homes are not held, but
reading it leaves its mark, which the blend shows.
"""

import argparse
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from bench.forecast import LOAD_FILE
from bench.machine import describe

HOME = "home_10006414"
DATE = date(2014, 2, 1)
STEP_MS = 30 * 60_000
MODELS = ("blend", "ridge", "boosted")


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--home", default=HOME)
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure(arguments.child, arguments.data, arguments.home)
        return
    print(describe())
    print("beyond Python with numpy: resident, most; CPU of the first plan, training included")
    for name in MODELS:
        command = [sys.executable, "-m", "bench.hems_memory", "--child", name]
        rest = ["--data", str(arguments.data), "--home", arguments.home]
        subprocess.run([*command, *rest], check=True)


def measure(name: str, data: Path, home: str) -> None:
    """Plan a slot and say what it took."""
    bare, _ = memory_mib()
    from hems.config import ForecastSettings, HomeConfig, ReplayHome
    from hems.devices import Battery
    from hems.home import HomeEnergyManager, MarketView

    source = ReplayHome(path=str(data), home=home, data_date=DATE, market_date=DATE)
    settings = ForecastSettings(model=name)  # type: ignore[arg-type]
    manager = HomeEnergyManager(HomeConfig(source=source, battery=Battery(), forecast=settings))
    start_ms = int(time.mktime((2014, 2, 1, 12, 0, 0, 0, 0, 0))) // 1800 * STEP_MS
    begin = time.process_time()
    manager.plan_slot(start_ms, STEP_MS, MarketView(lambda ms: 300_000, 100_000))
    spent = time.process_time() - begin
    now, most = memory_mib()
    print(f"{name:8} {now - bare:5.0f} MiB {most - bare:5.0f} MiB {spent:6.1f} s", flush=True)


def memory_mib() -> tuple[float, float]:
    """Return resident memory and the most there was. [MiB]"""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(kib["VmRSS"]) / 1024, int(kib["VmHWM"]) / 1024


if __name__ == "__main__":
    main()
