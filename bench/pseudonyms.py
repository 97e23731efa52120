"""How long a home's pseudonym would hold: `uv run python -m bench.pseudonyms [--days 7,28]`.

Settlement has every home's import and export per slot on the chain. Let homes take new names, keys
and accounts in each period, with nothing else to tell them apart (no capability, no place on the
feeder, no balance, no address on the network): a neighbour who keeps the blocks still has the
readings. Here it links the names of one period with those of the next by these alone, in the
plainest way there is: the mean and the deviation at each time of day and the spread of all
readings, weighed alike; of all pairs of names the likest is one home, then the likest of the
others. Real homes of two feeders, as in `bench.meters`. The baseline is chance.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.figures import Said, command, figure
from bench.meters import SHARED, Feeder, Floats, feeders


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--days", default="1,7,28", help="Lengths of a period.")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Link the names of each period with those of the next one, on both feeders."""
    for feeder in feeders(given.data):
        homes, slots = feeder.flows_wh.shape
        for days in (int(word) for word in given.days.split(",")):
            width = days * feeder.slots_per_day
            firsts = range(0, slots - 2 * width + 1, width)
            shares = [100 * linked(feeder, first, width) for first in firsts]
            name = f"{feeder.name}, {homes} homes, {days} days: linked"
            mean = float(np.mean(shares))
            yield f"{name}: {len(shares)} changes of names"
            yield figure(name, "%", mean, over=("chance", 100 / homes))


def linked(feeder: Feeder, first: int, width: int) -> float:
    """Return the share of homes whose names of two periods are linked rightly."""
    before = marks(feeder.flows_wh[:, first : first + width], feeder.slots_per_day)
    after = marks(feeder.flows_wh[:, first + width : first + 2 * width], feeder.slots_per_day)
    spread = np.concatenate([before, after]).std(axis=0) + 1e-9
    apart = np.linalg.norm((before[:, None] - after[None]) / spread, axis=2)
    right = 0
    for _ in range(len(apart)):
        old, new = divmod(int(apart.argmin()), len(apart))
        right += old == new
        apart[old, :] = apart[:, new] = np.inf
    return right / len(apart)


def marks(told: Floats, slots_per_day: int) -> Floats:
    """Return what homes are known by: homes by features."""
    days = told.reshape(len(told), -1, slots_per_day)
    levels = np.quantile(told, np.linspace(0.05, 0.95, slots_per_day), axis=1).T
    return np.concatenate([days.mean(axis=1), days.std(axis=1), levels], axis=1)


if __name__ == "__main__":
    command(__doc__, options, figures)
