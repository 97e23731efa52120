"""How well bad readings are found: measured homes, with faults put in.

    uv run python -m bench.sensors [--data FILE] [--pv FILE] [--city FOLDER] [--faults 200]

Homes: the ten of NSW (load, half hours), the Ausgrid home (PV, scaled to 5 kWp), CityLearn's eight
(load and 5 kWp of PV, hours). First each home as it is: what is flagged then is counted as a false
alarm, though some of it is surely true (a home's own zeros are left out: they are known gaps).
Then, one at a time, faults are put where the home has a month of history: a fault is found if at
least half of its steps are flagged, seen when the last of them has been read.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.figures import Said, command, figure
from hems import sensors
from hems.civil import FloatArray
from hems.errors import DataError
from hems.sensors import CODE, MEMORY_DAYS
from hems.sources.formats import read_file
from hems.sources.grid import MISSING

SHARED: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
PV_KWP: Final = 5.0
PV_FILE_KWP: Final = 1.04
# Of the peak: a time of day that never saw more in all the file is night.
DARK: Final = 0.002

Fault = Callable[[FloatArray, int, int, np.random.Generator], int]


class Series(NamedTuple):
    """A home's readings, NaN in gaps, shape (steps,). [Wh]"""

    name: str
    load: FloatArray
    pv: FloatArray
    steps_per_day: int


def _times(factor: float) -> Fault:
    def put(values: FloatArray, at: int, _steps: int, _chance: np.random.Generator) -> int:
        values[at] *= factor
        return 1

    return put


def _top(factor: float) -> Fault:
    """A reading that many times the highest but two of the month before."""

    def put(values: FloatArray, at: int, steps: int, _chance: np.random.Generator) -> int:
        month = values[at - MEMORY_DAYS * steps : at]
        values[at] = factor * np.sort(month[np.isfinite(month)])[-3]
        return 1

    return put


def _stuck(hours: int) -> Fault:
    def put(values: FloatArray, at: int, steps: int, _chance: np.random.Generator) -> int:
        count = max(1, hours * steps // 24)
        values[at : at + count] = values[at]
        return count

    return put


def _set(value: float, hours: int = 0) -> Fault:
    def put(values: FloatArray, at: int, steps: int, _chance: np.random.Generator) -> int:
        count = max(1, hours * steps // 24)
        values[at : at + count] = value
        return count

    return put


def _negative(values: FloatArray, at: int, _steps: int, _chance: np.random.Generator) -> int:
    values[at] = -max(1.0, values[at])
    return 1


def _share_of_peak(share: float) -> Fault:
    def put(values: FloatArray, at: int, steps: int, _chance: np.random.Generator) -> int:
        month = values[at - MEMORY_DAYS * steps : at]
        values[at] = share * np.nanmax(month)
        return 1

    return put


LOAD_FAULTS: Final[dict[str, Fault]] = {
    "twice the month's top": _top(2.0),
    "three times the month's top": _top(3.0),
    "ten times the reading": _times(10.0),
    "Wh taken for kWh (x 1000)": _times(1000.0),
    "negative": _negative,
    "stuck for 4 h": _stuck(4),
    "stuck for 12 h": _stuck(12),
    "zero for 12 h": _set(0.0, 12),
    "missing": _set(float("nan")),
}
NIGHT: Final = "at night, 10 % of the peak"
PV_FAULTS: Final[dict[str, Fault]] = {
    NIGHT: _share_of_peak(0.1),
    "twice the peak": _share_of_peak(2.0),
    "Wh taken for kWh (x 1000)": _times(1000.0),
    "negative": _negative,
    "stuck for 4 h": _stuck(4),
    "dead for a day": _set(0.0, 24),
}


def nsw(path: Path) -> list[Series]:
    """Return the homes of a file with load."""
    data = read_file(path, missing_rows=True)
    result = []
    for home in data.homes:
        load = np.where(home.load_uwh == MISSING, np.nan, home.load_uwh / 1e6)
        there = np.flatnonzero(np.isfinite(load))
        load = load[there[0] : there[-1] + 1]
        result.append(Series(home.name, load, np.zeros(len(load)), data.steps_per_day))
    return result


def with_pv(path: Path, factor: float) -> list[Series]:
    """Return the homes of a file with load and PV."""
    data = read_file(path, missing_rows=True)
    result = []
    for home in data.homes:
        load = np.where(home.load_uwh == MISSING, np.nan, home.load_uwh / 1e6)
        if home.pv_uwh is not None:
            pv = np.where(home.pv_uwh == MISSING, np.nan, home.pv_uwh / 1e6 * factor)
            result.append(Series(home.name, load, pv, data.steps_per_day))
    return result


def alarms(of: Series, channel: str) -> float:
    """Return the share of a home's readings, as they are, that is flagged."""
    usual = sensors.limits(of.load, of.pv, of.steps_per_day)
    got = sensors.check(of.load, of.pv, usual, of.steps_per_day)
    faults = got.load_fault if channel == "load" else got.pv_fault
    readings = np.isfinite(of.load if channel == "load" else of.pv)
    flagged = (faults >= 0) & (faults != CODE["zero"]) & readings
    return float(flagged.sum() / max(1, readings.sum()))


def found(of: Series, channel: str, name: str, fault: Fault, count: int) -> tuple[int, int]:
    """Put a fault in at random places, one at a time; return how many were found, and tried."""
    chance = np.random.default_rng(7)
    steps = of.steps_per_day
    values = of.load if channel == "load" else of.pv
    # Of nearly all days: a meter of its own may have counted at night, too.
    light = np.nanquantile(values[: len(values) // steps * steps].reshape(-1, steps), 0.98, axis=0)
    hits = tries = 0
    for _ in range(20 * count):
        if tries == count:
            break
        at = int(chance.integers((2 * MEMORY_DAYS + 1) * steps, len(values) - 2 * steps))
        begin = at - (2 * MEMORY_DAYS) * steps
        cut = values[begin : at + 2 * steps].copy()
        place = at - begin
        if channel == "pv" and name != "dead for a day":
            # Sunny steps have something to distort; dark ones have the night.
            is_dark = light[at % steps] < DARK * light.max()
            if is_dark != (name == NIGHT) or (not is_dark and cut[place] < 0.1 * light.max()):
                continue
        if not np.isfinite(cut[place]) or (channel == "load" and cut[place] == 0):
            continue
        length = fault(cut, place, steps, chance)
        cut = cut[: place + length]
        others = (of.pv if channel == "load" else of.load)[begin : begin + len(cut)]
        load, pv = (cut, others) if channel == "load" else (others, cut)
        judged = place - steps
        usual = sensors.Limits.unknown(judged).followed_by(sensors.limits(load, pv, steps, judged))
        got = sensors.check(load, pv, usual, steps)
        flags = (got.load_fault if channel == "load" else got.pv_fault)[place:] >= 0
        tries += 1
        hits += int(flags.sum() * 2 >= length)
    return hits, tries


def of_homes(
    title: str, homes: list[Series], channel: str, faults: dict[str, Fault], n: int
) -> Iterator[Said]:
    """Yield what is found, and false alarms, for some homes."""
    rates = [100 * alarms(home, channel) for home in homes]
    yield f"{title}: {channel}, {len(homes)} homes"
    yield figure(f"{title}, {channel}: false alarms by home", "%", rates)
    for name, fault in faults.items():
        each = max(1, n // len(homes))
        got = [found(home, channel, name, fault, each) for home in homes]
        tries = sum(tried for _, tried in got)
        if not tries:
            yield f"  {name} found no place to be put"
            continue
        yield f"  {tries} tries; all homes together: {100 * sum(h for h, _ in got) / tries:.1f} %"
        shares = [100 * hits / tried for hits, tried in got if tried]
        yield figure(f"{title}, {channel}: {name}, found by home", "%", shares, better="higher")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    nsw_name = "nsw_smart_grid_smart_city_load_2012-2014.csv.gz"
    parser.add_argument("--data", type=Path, default=SHARED / nsw_name)
    pv_name = "ausgrid_customer12_load_pv_2011-2012.csv.gz"
    parser.add_argument("--pv", type=Path, default=SHARED / pv_name)
    parser.add_argument("--city", type=Path, default=SHARED / "citylearn_2022")
    parser.add_argument("--faults", type=int, default=200, help="of each kind, over all homes")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Put the faults in."""
    try:
        homes = nsw(given.data)
        ausgrid = with_pv(given.pv, PV_KWP / PV_FILE_KWP)
        city = with_pv(given.city, PV_KWP)
    except DataError as error:
        raise SystemExit(f"{error}\ngive the files with --data, --pv and --city") from None
    n = given.faults
    yield from of_homes("NSW", homes, "load", LOAD_FAULTS, n)
    yield from of_homes("CityLearn", city, "load", LOAD_FAULTS, n)
    yield from of_homes("Ausgrid", ausgrid, "pv", PV_FAULTS, n)
    yield from of_homes("CityLearn", city, "pv", PV_FAULTS, n)


if __name__ == "__main__":
    command(__doc__, options, figures)
