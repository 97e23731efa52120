"""A community's day on the contracts: CE-SDT's default, 60 homes for 24 hours.

    uv run python -m bench.day [--users 60] [--rounds 3]

As `commonwatt study ce-sdt` lives it: every order, offer and reading signed, encoded, decoded and
verified, every block executed with its roots and conservation laws, every interval settled; in one
process, and then with four authorities in it that agree on every block.
"""

import argparse
import time
from collections.abc import Iterator

from bench.figures import Said, command, figure
from study.ce.day import Day, run_day
from study.ce.setting import Setting, built_in_types

USERS = 60
AUTHORITIES = 4
AIM_S = {0: 5.0, AUTHORITIES: 15.0}


def lived(users: int, authorities: int, seed: int) -> tuple[Day, float]:
    """Return a day, and what it took. [s of the processor]"""
    setting = Setting(users=users, authorities=authorities, seed=seed)
    begun = time.process_time()
    day = run_day(setting, built_in_types())
    return day, time.process_time() - begun


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--rounds", type=int, default=3, help="days, each of another seed")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Live the days."""
    for authorities, aim in AIM_S.items():
        took = []
        for seed in range(1, given.rounds + 1):
            day, spent_s = lived(given.users, authorities, seed)
            took.append(spent_s)
        yield f"  {day.transactions:,} transactions in {day.blocks} blocks, {day.trades:,} trades"
        how = f"{authorities} authorities agree" if authorities else "one process"
        bound = aim if given.users == USERS else None
        yield figure(f"a day of {given.users} homes, {how}", "s", took, aim=bound)


if __name__ == "__main__":
    command(__doc__, options, figures)
