"""How well false meters are found out: `uv run python -m bench.meters [--trials 40]`.

Real homes (two feeders: six of the Smart Grid Smart City trial in half hours, eight of CityLearn in
hours, with the production of two of them) hang on a head meter that is made up here: what flowed,
losses that grow with the square of the power to `LOSS_AT_PEAK`, and errors. Every meter reads up to
half a percent wrong for good; each slot is off by a percent of itself (clocks that do not agree),
the head's by half of that, in whole watt-hours. After three weeks one home's meter begins to lie,
in one of four ways; the seven days that follow are judged. Detected: an alarm. Named first: it is
the first of the alarm's suspects. Without a lie there must be no alarm. The baseline of naming is
chance.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.figures import Said, command, figure
from hems.sources.citylearn import read_folder
from hems.sources.grid import MISSING
from hems.sources.wide import read_wide
from node.feeder.meters import FeederSettings, find_alarms

Floats = npt.NDArray[np.float64]

SHARED: Final = Path(__file__).parents[2] / "shared" / "data"
NSW: Final = "nsw_smart_grid_smart_city_load_2012-2014.csv.gz"
COMPLETE: Final = ("6414", "7562", "7936", "8060", "8064", "8250")
CITYLEARN: Final = "citylearn_2022"
HONEST_DAYS: Final = 21
JUDGED_DAYS: Final = 7
LOSS_AT_PEAK: Final = 0.05
GAIN: Final = 0.005
JITTER: Final = 0.01
KWP: Final = 3.0
SETTINGS: Final = FeederSettings()


class Feeder(NamedTuple):
    """Homes' true net import, homes by slots, without gaps. [Wh]"""

    name: str
    flows_wh: Floats
    slots_per_day: int


def scaled(told: Floats, share: float) -> Floats:
    """A meter that tells a share of what it takes."""
    return np.where(told > 0, told * share, told)


def clipped(told: Floats, share: float) -> Floats:
    """A meter that never tells more than a share of its highest slots."""
    return np.minimum(told, np.quantile(told, 0.98) * share)


def shifted(told: Floats, slots: float) -> Floats:
    """A meter that tells everything so many slots later: when power is cheap."""
    return np.roll(told, int(slots))


def replayed(told: Floats, past: Floats) -> Floats:
    """A meter that says again what it said in its quietest week."""
    weeks = past[: len(past) // len(told) * len(told)].reshape(-1, len(told))
    return weeks[np.argmin(weeks.sum(axis=1))]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=SHARED)


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Let homes of both feeders lie in each way."""
    for feeder in feeders(given.data):
        homes, slots = feeder.flows_wh.shape
        per_hour = feeder.slots_per_day // 24
        ways: dict[str, Callable[[Floats, Floats], Floats] | None] = {
            "honest": None,
            "tells 90 %": lambda told, _: scaled(told, 0.9),
            "tells 80 %": lambda told, _: scaled(told, 0.8),
            "tells 60 %": lambda told, _: scaled(told, 0.6),
            "clipped at half its highest": lambda told, _: clipped(told, 0.5),
            "shifted by six hours": lambda told, _, n=per_hour: shifted(told, 6 * n),
            "a week said again": replayed,
        }
        days = slots // feeder.slots_per_day
        yield f"{feeder.name}: {homes} homes, {days} days, {given.trials} trials each"
        for way, lie in ways.items():
            rng = np.random.default_rng(given.seed)
            detected, first, among = 0, 0, 0
            for trial in range(given.trials):
                liar = trial % homes
                suspects = judge(feeder, liar, lie, rng)
                if suspects is not None:
                    detected += 1
                    first += suspects[:1] == [liar]
                    among += liar in suspects
            share = 100 / given.trials
            if lie is None:
                yield figure(f"{feeder.name}, honest: false alarms", "%", detected * share)
                continue
            name = f"{feeder.name}, {way}"
            yield figure(f"{name}: detected", "%", detected * share, better="higher")
            if detected:
                found = (first * 100 / detected, among * 100 / detected)
                chance = ("chance", 100 / homes)
                yield figure(f"{name}: named first", "%", found[0], over=chance, better="higher")
                yield figure(f"{name}: among three", "%", found[1], better="higher")


def judge(
    feeder: Feeder,
    liar: int,
    lie: Callable[[Floats, Floats], Floats] | None,
    rng: np.random.Generator,
) -> list[int] | None:
    """Return the suspects of some week in which a home lies; None without an alarm."""
    per_day = feeder.slots_per_day
    count = (HONEST_DAYS + JUDGED_DAYS) * per_day
    homes, slots = feeder.flows_wh.shape
    first = int(rng.integers(0, (slots - count) // per_day + 1)) * per_day
    flows = feeder.flows_wh[:, first : first + count]
    head = _head(flows, rng)
    told = flows * (1 + rng.uniform(-GAIN, GAIN, (homes, 1)))
    told = np.round(told * (1 + rng.normal(0, JITTER, told.shape)))
    begins = HONEST_DAYS * per_day
    if lie is not None:
        told[liar, begins:] = np.round(lie(told[liar, begins:], told[liar, :begins]))
    alarms = find_alarms(told, head, per_day, SETTINGS)
    return [suspect.home for suspect in alarms[0].suspects] if alarms else None


def _head(flows: Floats, rng: np.random.Generator) -> Floats:
    through = flows.sum(axis=0)
    peak = float(np.abs(through).max())
    losses = LOSS_AT_PEAK * through**2 / peak
    head: Floats = (through + losses) * (1 + rng.uniform(-GAIN, GAIN))
    return np.round(head * (1 + rng.normal(0, JITTER / 2, head.shape)))


def feeders(data: Path) -> Iterator[Feeder]:
    """Return both feeders; of the first the longest time in which all of its homes are known."""
    nsw = read_wide(data / NSW)
    homes = [home for home in nsw.homes if home.name.endswith(COMPLETE)]
    known = np.all([home.load_uwh != MISSING for home in homes], axis=0)
    days = known.reshape(nsw.days, nsw.steps_per_day).all(axis=1)
    first, last = _longest(days)
    part = slice(first * nsw.steps_per_day, last * nsw.steps_per_day)
    flows = np.array([home.load_uwh[part] for home in homes]) / 1e6
    yield Feeder("Smart City", flows, nsw.steps_per_day)
    found = []
    folder = read_folder(data / CITYLEARN)
    for place, home in enumerate(folder.homes):
        load = home.load_uwh / 1e6
        if place % 4 == 0 and home.pv_uwh is not None:
            load = load - KWP * home.pv_uwh / 1e6
        found.append(load)
    yield Feeder("CityLearn", np.array(found), folder.steps_per_day)


def _longest(days: npt.NDArray[np.bool_]) -> tuple[int, int]:
    best, begun = (0, 0), None
    for day, is_whole in enumerate([*days, False]):
        if is_whole and begun is None:
            begun = day
        elif not is_whole and begun is not None:
            best = max(best, (begun, day), key=lambda span: span[1] - span[0])
            begun = None
    return best


if __name__ == "__main__":
    command(__doc__, options, figures)
