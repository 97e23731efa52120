"""What each agent earns: a street of homes trades by the real contracts, one agent at a time.

    uv run python -m bench.agents [--homes 12] [--days 1] [--seeds 1,2] [--only ce,mpc] [--jobs 2]
        [--picture FILE]

Homes post orders to `market.app` two slots ahead, as in a running street; the contracts clear at
the gate, and settle on what the homes' meters then read. In process and in virtual time: no
network, no consensus. What a home earns is its saving: what the same readings would have cost at
the grid's prices, minus its bills. The baseline is the street of zero-intelligence agents.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import Pool
from pathlib import Path
from textwrap import wrap
from typing import Final, NamedTuple

import msgspec

from bench.figures import Said, command, figure
from hems.config import ConstantHome, HomeConfig
from hems.forecast.plots import bars_svg
from hems.neighbourhood import built_in, with_storage
from market import client
from study.compare.street import ZONE, Street

MECHANISM: Final = "high_low"
REGULATOR_PRICE: Final = 200_000
PLANT_W: Final = 2_000
LINE_LETTERS: Final = 14


class Run(NamedTuple):
    """A street: its name in the table, its homes, and those whose agent the row is about."""

    name: str
    homes: list[HomeConfig]
    about: list[int]


def with_agent(
    homes: list[HomeConfig], choose: Callable[[HomeConfig], str], seed: int, **settings: str
) -> list[HomeConfig]:
    """Return homes with the agents chosen for them, each with a seed of its own."""
    found = []
    for place, home in enumerate(homes):
        agent = choose(home)
        own = {} if agent == "mpc" else {"seed": 1_000 * seed + place, **settings}
        found.append(msgspec.structs.replace(home, agent=agent, agent_settings=own))
    return found


def runs(homes: int, seed: int) -> list[Run]:
    """Return the streets to run."""
    street = built_in(homes, seed=seed)
    every = list(range(homes))

    def by_role(home: HomeConfig) -> str:
        return "hu_producer" if home.battery else "hu_consumer"

    found = [
        Run(
            "zero_intelligence",
            with_agent(street.homes, lambda _: "zero_intelligence", seed),
            every,
        ),
        Run("ce", with_agent(street.homes, lambda _: "ce", seed), every),
        Run("hu_producer, hu_consumer", with_agent(street.homes, by_role, seed), every),
    ]
    for mode in ("literal", "hill_climb"):
        chosen = with_agent(street.homes, lambda _: "hu_prosumer", seed, mode=mode)
        found.append(Run(f"hu_prosumer, {mode}", chosen, every))
    found.append(Run("mpc", street.homes, every))
    found.append(Run("mpc, last home hu_speculator", with_storage(street, 1).homes, [homes - 1]))
    plant = HomeConfig(
        source=ConstantHome(pv_w=PLANT_W),
        # It asks for all its connection can give, which is what it makes.
        export_cap_w=PLANT_W,
        zone=ZONE,
        agent="hu_regulator",
        agent_settings={"price_micro_per_kwh": REGULATOR_PRICE},
    )
    found.append(Run("mpc, last home hu_regulator", [*street.homes[:-1], plant], [homes - 1]))
    return found


def measure(task: tuple[Run, int]) -> tuple[list[client.Total], Counter[str], float]:
    """Let a street live some days; return homes' sums, what was refused, and its CPU seconds."""
    run, days = task
    begin = time.process_time()
    street = Street(run.homes, MECHANISM)
    street.live(days)
    totals = {total.home: total for total in client.totals(street.chain.query)}
    spent = time.process_time() - begin
    return [totals[number] for number in sorted(totals)], street.chain.refused, spent


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--homes", type=int, default=12)
    parser.add_argument("--days", type=int, default=1)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--only", default="", help="rows that begin with one of these")
    parser.add_argument("--jobs", type=int, default=2, help="streets at a time")
    parser.add_argument("--picture", type=Path, help="draw the savings: an SVG file")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Let the streets live."""
    yield f"{given.homes} homes, {given.days} days; saving per day, all homes"
    yield (
        f"seed {'agent':30} traded kWh  penalty  saving  ratio  with PV  without  worst"
        "  the agent's  CPU s  refused"
    )
    begins = tuple(given.only.split(","))
    tasks = [
        (seed, run)
        for seed in map(int, given.seeds.split(","))
        for run in runs(given.homes, seed)
        if run.name.startswith(begins)
    ]
    saved: dict[int, dict[str, float]] = {}
    spent_s = []
    with Pool(given.jobs) as pool:
        measured = pool.imap(measure, [(run, given.days) for _, run in tasks])
        for (seed, run), (totals, refused, spent) in zip(tasks, measured, strict=True):
            of = saved.setdefault(seed, {})
            of[run.name] = sum(total.saved_micro for total in totals) / 1e6 / given.days
            base = next(iter(of.values()))
            spent_s.append(spent)
            text = row(seed, run, given.days, totals, base)
            yield f"{text} {spent:6.1f}  {dict(refused) or ''}"
    if not saved:
        raise SystemExit(f"--only {given.only}: no row begins so")
    for name in next(iter(saved.values())):
        by_seed = [of[name] for of in saved.values()]
        yield figure(f"{name}, saved a day", "dollars", by_seed, better="higher")
    yield figure("a street", "s", spent_s)
    if given.picture:
        given.picture.write_text(drawn(saved))


def row(seed: int, run: Run, days: int, totals: list[client.Total], base: float) -> str:
    """Return most of a row; `base` is the saving of the seed's first one."""
    saved = [total.saved_micro / 1e6 / days for total in totals]
    sunny = [s for s, home in zip(saved, run.homes, strict=True) if home.battery]
    return (
        f"{seed:4} {run.name:30}"
        f" {sum(total.sold_wh for total in totals) / 1000:10.1f}"
        f" {sum(total.penalty_micro for total in totals) / 1e6:8.2f}"
        f" {sum(saved):7.2f} {sum(saved) / base:6.2f} {sum(sunny):8.2f}"
        f" {sum(saved) - sum(sunny):8.2f} {min(saved):6.2f}"
        f" {sum(saved[place] for place in run.about):12.2f}"
    )


def drawn(saved: dict[int, dict[str, float]]) -> str:
    """Return the streets' savings, by seed and agent, as a drawing."""
    agents = list(next(iter(saved.values())))
    names = ["\n".join(wrap(agent.replace("_", " "), LINE_LETTERS)) for agent in agents]
    series = {f"seed {seed}": [of[agent] for agent in agents] for seed, of in saved.items()}
    title = "What all homes save in a day by trading, in dollars"
    return bars_svg(title, names, series, lambda value: f"{value:.1f}")


if __name__ == "__main__":
    command(__doc__, options, figures)
