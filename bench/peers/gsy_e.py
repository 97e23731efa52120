"""Grid Singularity's simulator beside ours: the same 60 homes, 24 hours, slots of 15 minutes.

    uv run python -m bench.peers.gsy_e --checkout DIR [--ticks 60] [--rounds 1]

gsy-e is not on the package index: DIR is a checkout of its repository. It is installed into an
environment of its own, with what its own files ask for, and simulates the community that
`bench.day` lives: each home's load and production by the hour, a battery where there is a roof,
the grid at the tariff and the feed-in price, the two-sided pay-as-bid market. Ours signs, verifies,
agrees on and settles all of it; theirs does none of that.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.day import USERS, lived
from bench.figures import Said, command, figure
from bench.peers.environment import ask, python_of
from study.ce.setting import Setting, built_in_types, draw_users

PYTHON: Final = "3.11"
TICK_S: Final = 60
SLOT_MINUTES: Final = 15
# CE table 2's middle tariff, and the feed-in price. [cents/kWh]
TARIFF_CENTS: Final = 27.71
FEED_IN_CENTS: Final = 10.0
PACKAGE: Final = Path("src", "gsy_e")


def checked(text: str) -> Path:
    """Return a checkout's folder. Raises `argparse.ArgumentTypeError` where there is none."""
    found = Path(text).expanduser().resolve()
    if not (found / PACKAGE).is_dir():
        raise argparse.ArgumentTypeError(
            f"{text} is no checkout of gsy-e: it has no folder {PACKAGE}; "
            "clone Grid Singularity's repository gsy-e and give its folder"
        )
    return found


def question(users: int, tick_s: int) -> dict[str, Any]:
    """Return the community as gsy-e is asked for it."""
    setting, types = Setting(users=users), built_in_types()
    homes = []
    for user in draw_users(setting, types):
        load = types.load_w[user.load_type]
        sun = types.pv_w_per_kwp[user.pv_type]
        homes.append(
            {
                "load_w": [watts * setting.load_percent // 100 for watts in load],
                "pv_w": [watts * setting.pv_w // 1000 for watts in sun] if user.generates else [],
                "battery_kwh": setting.storage_wh / 1000 if user.generates else 0,
            }
        )
    return {
        "homes": homes,
        "tick_s": tick_s,
        "slot_minutes": SLOT_MINUTES,
        "tariff_cents": TARIFF_CENTS,
        "feed_in_cents": FEED_IN_CENTS,
    }


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--checkout", type=checked, required=True, metavar="DIR")
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--ticks", type=int, default=TICK_S, help="length of one [s]")
    parser.add_argument("--rounds", type=int, default=1)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Run both."""
    python = python_of([str(given.checkout)], PYTHON)
    ours = [lived(given.users, 0, seed)[1] for seed in range(1, given.rounds + 1)]
    yield figure("ours, a day", "s", ours)
    asked = question(given.users, given.ticks)
    theirs = [ask(python, "gsy_e_day", asked)["cpu_s"] for _ in range(given.rounds)]
    yield figure("gsy-e, a day", "s", theirs, over=("ours", ours))


if __name__ == "__main__":
    command(__doc__, options, figures)
