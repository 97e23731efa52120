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
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from bench.figures import Said, command, figure, parser_of
from bench.forecast import LOAD_FILE

HOME = "home_10006414"
DATE = date(2014, 2, 1)
STEP_MS = 30 * 60_000
MODELS = ("blend", "ridge", "boosted")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--home", default=HOME)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--child", choices=MODELS, help=argparse.SUPPRESS)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Measure each model in a process of its own."""
    for name in given.models.split(","):
        if name not in MODELS:
            raise SystemExit(f"{name} is no model; there are: {', '.join(MODELS)}")
        words = [sys.executable, "-m", "bench.hems_memory", "--child", name]
        words += ["--data", str(given.data), "--home", given.home]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        now, most, spent = map(float, done.stdout.split())
        yield figure(f"{name}, resident beyond Python with numpy", "MiB", now)
        yield figure(f"{name}, the most there was", "MiB", most)
        yield figure(f"{name}, first plan with its training", "s", spent)


def measure(name: str, data: Path, home: str) -> None:
    """Plan a slot; print memory now, the most there was [MiB] and CPU seconds."""
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
    print(now - bare, most - bare, spent)


def memory_mib() -> tuple[float, float]:
    """Return resident memory and the most there was. [MiB]"""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(kib["VmRSS"]) / 1024, int(kib["VmHWM"]) / 1024


if __name__ == "__main__":
    if "--child" in sys.argv:
        given = parser_of(__doc__, options).parse_args()
        measure(given.child, given.data, given.home)
    else:
        command(__doc__, options, figures)
