"""The security check against an AC power flow of a low-voltage feeder, by pandapower.

pandapower is no dependency: the flow is worked out in an environment of its own, by `uv`.
"""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.market import matching_reference as reference
from tests.market.matching_probe import Matching, feeder_map
from tests.market.matching_reference import GRID, STANDING, Feeder, Fees, Order

SCRIPT = Path(__file__).with_name("power_flow.py")
CASES = 20
# The check adds up energy, at the nominal voltage; a line also carries the losses of the lines
# below it, and more current where the voltage has fallen. On this feeder that is at most:
MARGIN_PERCENT = 1.5
# Two arms of three lines and a branch, 31 homes; ratings below what they could ask for together.
STREET = Feeder(
    parents=[0, 0, 1, 2, 0, 4, 5, 2, 4],
    ratings_wh=[0, 24_000, 15_000, 8_000, 20_000, 12_000, 9_000, 8_000, 6_000],
    homes=[0, *(1 + home % 8 for home in range(31))],
)


def power_flows(powers: Sequence[Sequence[int]]) -> list[list[list[float]]]:
    uv = shutil.which("uv")
    assert uv, "this test needs uv, to make an environment with pandapower"
    command = [uv, "run", "--quiet", "--isolated", "--no-project", "--python", sys.executable]
    done = subprocess.run(
        [*command, "--with", "pandapower>=3", "python", str(SCRIPT)],
        input=json.dumps({**feeder_map(STREET), "cases": powers}),
        capture_output=True,
        text=True,
        timeout=1_800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    flows: list[list[list[float]]] = json.loads(done.stdout)
    return flows


def exports(trades: Sequence[Sequence[int]]) -> list[int]:
    """What each home feeds in over an hour, so that watt-hours are watts."""
    powers = [0] * len(STREET.homes)
    for buyer, seller, _, _, energy, *_ in trades:
        powers[seller] += energy
        powers[buyer] -= energy
    return powers


def random_trades(random_: random.Random) -> list[list[int]]:
    """Homes that offer or ask for up to 11 kWh in the hour, under more or less sun."""
    supply = random_.choice([0.2, 0.5, 0.8])
    bids, asks = [], [Order(STANDING, GRID, 200_000, 0)]
    for home in range(1, len(STREET.homes)):
        energy = random_.randrange(2_000, 11_000)
        if random_.random() < supply:
            asks.append(Order(home, home, random_.randrange(60_000, 150_000), energy))
        else:
            bids.append(Order(home, home, random_.randrange(100_000, 220_000), energy))
    return reference.high_low(bids, asks, "ask", Fees())


@pytest.mark.slow
def test_no_line_is_over_its_rating_and_without_the_check_some_are() -> None:
    matching, random_ = Matching(), random.Random(4)
    free, kept, flows = [], [], []
    for _ in range(CASES):
        trades = random_trades(random_)
        result = matching.secure(trades, STREET, [0] * len(STREET.parents), Fees())
        free.append(exports(trades))
        kept.append(exports(result["trades"]))
        flows.append(result["flows"])
    loadings = power_flows([*free, *kept])
    without, checked = loadings[:CASES], loadings[CASES:]
    over = [max(line[0] for line in case) for case in without]
    assert sum(percent > 100 + MARGIN_PERCENT for percent in over) > CASES * 3 // 4, over
    highest = max(line[0] for case in checked for line in case)
    # Near the rating, so that the check does not cut more than it must.
    assert 95 < highest <= 100 + MARGIN_PERCENT, highest
    for case, carried in zip(checked, flows, strict=True):
        for line, (_, watts) in enumerate(case, start=1):
            assert abs(watts - carried[line]) <= MARGIN_PERCENT / 100 * STREET.ratings_wh[line]
