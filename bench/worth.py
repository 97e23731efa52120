"""What the energy manager is worth: a home's yearly bill with it, against the best and the least.

    uv run python -m bench.worth [--days 364] [--homes a,b] [--parts] [--jobs 2] [--picture FILE]

Ten NSW homes with the Ausgrid home's PV scaled to 5 kWp and the default battery; tariffs of CE's
table 2, feed-in 10 c; slots of half an hour; nothing is traded. Each home lives through the last
`--days` of its measurements

- `none`      without a battery,
- `rules`     with plain self-consumption,
- `managed`   with `HomeEnergyManager` as the node runs it, planned again at every slot,
- `foresight` with a plan that knows the year: the same programme on the measured load and
  production, five days ahead, two of them kept to.

The share is (none - managed) / (none - foresight). `--parts` adds `knows load`, `knows PV` and
`knows both`: the manager given those as its forecast, which says how much is lost to what.

Gaps of a home are lived with what was measured a week before, by all alike; the manager's history
has them as gaps. The PV is that of the same day of the year (2011-07 to 2012-06). A bill holds
the grid's energy; wear (2 c for each kWh discharged) is what a plan minds besides, given apart.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import tzinfo
from multiprocessing import Pool
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from bench.figures import Said, command, figure
from hems import civil, control
from hems.civil import DAY_MS, BoolArray, FloatArray, IntArray
from hems.config import CommunityHome, HomeConfig, PlanSettings
from hems.devices import Battery
from hems.errors import DataError
from hems.forecast import Forecast
from hems.forecast.plots import bars_svg
from hems.foresight import Foresight
from hems.home import HomeEnergyManager, MarketView
from hems.plan import PlanInput, Planner
from hems.sources.base import Measurements, check_window
from hems.sources.checked import CheckedSource
from hems.sources.wide import MISSING, read_wide
from testnet.street import FEED_IN_MICRO_PER_KWH as FEED_IN

SHARED: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
LOAD_FILE: Final = SHARED / "nsw_smart_grid_smart_city_load_2012-2014.csv.gz"
PV_FILE: Final = SHARED / "ausgrid_customer12_load_pv_2011-2012.csv.gz"
PV_FILE_KWP: Final = 1.04
PV_KWP: Final = 5.0
STEPS: Final = 48
SLOT_MS: Final = DAY_MS // STEPS
WEEK: Final = 7 * STEPS
FORESIGHT_DAYS: Final = 5
KEPT_DAYS: Final = 2
JOBS: Final = 2
MANAGED: Final = "managed"
# The NSW homes begin alike.
NAME_LETTERS: Final = 4
# A plan takes milliseconds. The limit is of wall time: on a busy machine rules would be billed.
UNHURRIED: Final = PlanSettings(time_limit_ms=60_000)
PARTS: Final = ("knows both", "knows load", "knows PV")


class Year(NamedTuple):
    """A home's truth: history first, then the days that are billed. Shape (steps,). [Wh]

    `measured` is False in gaps, which hold the week before. `start_ms` is where the billed days
    begin, `first` that place in the arrays.
    """

    name: str
    load_wh: IntArray
    pv_wh: IntArray
    measured: BoolArray
    first: int
    start_ms: int

    @property
    def slots(self) -> int:
        """How many slots are billed."""
        return len(self.load_wh) - self.first


class Bill(NamedTuple):
    """What a year cost, energy and wear. [micro]"""

    energy_micro: int
    wear_micro: int


class YearSource:
    """A year as a source; `lived` fills its gaps."""

    def __init__(self, year: Year, lived: bool = False) -> None:
        self.year, self.lived = year, lived

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of a window, which must be the year's own."""
        steps = check_window(start_ms, end_ms, step_ms)
        if step_ms != SLOT_MS:
            raise DataError(f"steps of {step_ms} ms; this year has {SLOT_MS}")
        year = self.year
        place = year.first + (start_ms - year.start_ms) // SLOT_MS + np.arange(steps)
        inside = (place >= 0) & (place < len(year.load_wh))
        at = np.clip(place, 0, len(year.load_wh) - 1)
        known = inside & (year.measured[at] | self.lived)
        return Measurements(
            np.where(known, year.load_wh[at], 0), np.where(known, year.pv_wh[at], 0), known
        )


class YearMeter(CheckedSource):
    """A year's history with its gaps, but a reading of every slot lived."""

    def __init__(self, year: Year) -> None:
        super().__init__(YearSource(year))
        self._lived = YearSource(year, lived=True)

    def reading(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return what is lived."""
        return self._lived.window(start_ms, end_ms, step_ms)


class Knowing(HomeEnergyManager):
    """A manager that is told the truth for a part of its forecast."""

    def __init__(self, year: Year, config: HomeConfig, load: bool, pv: bool) -> None:
        super().__init__(config, source=YearMeter(year))
        self._foresight = Told(config, YearMeter(year), self.zone, year, (load, pv))


class Told(Foresight):
    """What a home expects, with the truth for a part of it."""

    def __init__(
        self,
        config: HomeConfig,
        source: YearMeter,
        zone: tzinfo,
        year: Year,
        tells: tuple[bool, bool],
    ) -> None:
        super().__init__(config, source, zone)
        self._year, self._tells = year, tells

    def ahead(self, now_ms: int, slots: int, slot_ms: int) -> tuple[Forecast, Forecast]:
        """Return load and production of the slots ahead, told or forecast. [Wh]"""
        first = self._year.first + (now_ms - self._year.start_ms) // slot_ms
        ours = (None, None) if all(self._tells) else super().ahead(now_ms, slots, slot_ms)
        load, pv = (
            _exactly(truth, first, slots) if tells or own is None else own
            for tells, own, truth in zip(
                self._tells, ours, (self._year.load_wh, self._year.pv_wh), strict=True
            )
        )
        return load, pv


def _exactly(truth_wh: IntArray, first: int, slots: int) -> Forecast:
    """Return the truth as a forecast; beyond the year's end its last week again."""
    place = np.arange(first, first + slots)
    beyond = place >= len(truth_wh)
    place[beyond] = len(truth_wh) - WEEK + (place[beyond] - len(truth_wh)) % WEEK
    exact = truth_wh[place].astype(float)
    return Forecast(exact, exact, exact)


def years(load_file: Path, pv_file: Path, days: int, only: set[str]) -> list[Year]:
    """Return the homes of a file of loads with the PV of another. Raises `DataError`."""
    zone = civil.zone_of("UTC")
    loads = read_wide(load_file, missing_rows=True)
    sun = read_wide(pv_file, missing_rows=True)
    pv_uwh = next((home.pv_uwh for home in sun.homes if home.pv_uwh is not None), None)
    if loads.steps_per_day != STEPS or sun.steps_per_day != STEPS or pv_uwh is None:
        raise DataError(f"{load_file}, {pv_file}: half-hourly load, half-hourly pv are needed")
    by_date: dict[tuple[int, int], FloatArray] = {}
    for day in range(sun.days):
        values = pv_uwh[day * STEPS : (day + 1) * STEPS]
        when = civil.date_of(sun.first_day + day)
        if (values != MISSING).all():
            by_date[when.month, when.day] = values * (PV_KWP / PV_FILE_KWP / 1e6)
    found = []
    for home in loads.homes:
        if only and home.name not in only:
            continue
        measured = home.load_uwh != MISSING
        there = np.flatnonzero(measured.reshape(-1, STEPS).any(axis=1))
        low, high = int(there[0]), int(there[-1]) + 1
        billed = min(days, high - low - 28)
        measured = measured[low * STEPS : high * STEPS]
        load = np.rint(home.load_uwh[low * STEPS : high * STEPS] / 1e6).astype(np.int64)
        for step in np.flatnonzero(~measured):
            load[step] = load[step - WEEK] if step >= WEEK else load[step + WEEK]
        dates = [civil.date_of(loads.first_day + day) for day in range(low, high)]
        pv = np.concatenate([_pv_of(by_date, when.month, when.day) for when in dates])
        start_ms = civil.day_start_ms(loads.first_day + high - billed, zone)
        found.append(
            Year(home.name, np.maximum(load, 0), pv, measured, len(load) - billed * STEPS, start_ms)
        )
    return found


def _pv_of(by_date: dict[tuple[int, int], FloatArray], month: int, day: int) -> IntArray:
    """Return that date's production, or the one before it in the year that is there."""
    while (month, day) not in by_date:
        month, day = (month, day - 1) if day > 1 else ((month - 2) % 12 + 1, 31)
    return np.rint(by_date[month, day]).astype(np.int64)


def config() -> HomeConfig:
    """Return the home that is billed. Its civil day is UTC's: labels are civil time."""
    return HomeConfig(
        source=CommunityHome(home=0), zone="UTC", battery=Battery(), planning=UNHURRIED
    )


def local_tariff(at_ms: int) -> int:
    """Return CE table 2's price; the moments of this benchmark are wall-clock labels."""
    hour = at_ms // civil.HOUR_MS % 24
    if hour < 7 or hour >= 22:
        return 177_000
    return 541_100 if 14 <= hour < 20 else 277_100


MARKET: Final = MarketView(local_tariff, FEED_IN)


def without(year: Year) -> Bill:
    """Bill a year without a battery."""
    net = (year.load_wh - year.pv_wh)[year.first :]
    return _billed(year, np.maximum(net, 0), np.maximum(-net, 0), 0, 0)


def by_rules(year: Year) -> Bill:
    """Bill a year of plain self-consumption."""
    battery = Battery()
    stored = first = round(battery.soc_end * battery.capacity_wh * 1_000_000)
    flows = []
    for at in range(year.first, len(year.load_wh)):
        load, pv = int(year.load_wh[at]), int(year.pv_wh[at])
        flow = control.follow(battery, stored, SLOT_MS, load, pv, 0, control.SELF_CONSUMPTION)
        flows.append((flow.import_wh, flow.export_wh, flow.discharge_wh))
        stored = flow.stored_uwh
    imported, exported, discharged = np.array(flows).T
    return _billed(year, imported, exported, int(discharged.sum()), stored - first)


def managed(year: Year, manager: HomeEnergyManager) -> Bill:
    """Bill a year of the manager, planned again at every slot."""
    first = manager.state.stored_uwh
    flows = []
    for slot in range(year.slots):
        one = manager.deliver(year.start_ms + slot * SLOT_MS, SLOT_MS, MARKET)
        flows.append((one.import_wh, one.export_wh, one.discharge_wh))
    imported, exported, discharged = np.array(flows).T
    stored = manager.state.stored_uwh - first
    return _billed(year, imported, exported, int(discharged.sum()), stored)


def foresight(year: Year) -> Bill:
    """Bill a year of a plan that knows what comes."""
    battery = Battery()
    stored_wh = first_wh = battery.soc_end * battery.capacity_wh
    planner = Planner(battery, time_limit_s=60.0)
    parts: list[tuple[FloatArray, FloatArray, FloatArray]] = []
    for begin in range(0, year.slots, KEPT_DAYS * STEPS):
        steps = FORESIGHT_DAYS * STEPS
        at = year.first + begin
        starts = year.start_ms + SLOT_MS * (begin + np.arange(steps))
        plan = planner.solve(
            PlanInput(
                np.full(steps, SLOT_MS, np.int64),
                _exactly(year.load_wh, at, steps).mean_wh,
                _exactly(year.pv_wh, at, steps).mean_wh,
                np.zeros(steps),
                np.array([float(local_tariff(int(start))) for start in starts]),
                np.full(steps, float(FEED_IN)),
                stored_wh,
            )
        )
        if plan.method != "lp":
            raise RuntimeError(f"{year.name}: no optimum from slot {begin}")
        kept = min(KEPT_DAYS * STEPS, year.slots - begin)
        parts.append((plan.import_wh[:kept], plan.export_wh[:kept], plan.discharge_wh[:kept]))
        stored_wh = float(plan.stored_wh[kept - 1])
    imported, exported, discharged = (np.concatenate(p) for p in zip(*parts, strict=True))
    stored_uwh = round((stored_wh - first_wh) * 1e6)
    return _billed(year, imported, exported, round(float(discharged.sum())), stored_uwh)


def _billed(
    year: Year,
    imported: IntArray | FloatArray,
    exported: IntArray | FloatArray,
    discharged_wh: int,
    gained_uwh: int,
) -> Bill:
    """Sum a year; what the battery holds more than at the beginning counts as fed in."""
    starts = year.start_ms + SLOT_MS * np.arange(year.slots)
    price = np.array([local_tariff(int(at)) for at in starts], float)
    energy = float(imported @ price - exported.sum() * FEED_IN) / 1000
    battery = Battery()
    gained = gained_uwh / 1e6 * battery.discharge_efficiency * FEED_IN / 1000
    return Bill(round(energy - gained), discharged_wh * battery.wear_micro_per_kwh // 1000)


def bills(task: tuple[Year, bool]) -> tuple[str, dict[str, Bill], float]:
    """Return one home's bills by strategy, and the CPU seconds of the manager's year."""
    year, parts = task
    result = {"none": without(year), "rules": by_rules(year), "foresight": foresight(year)}
    begin = time.process_time()
    result[MANAGED] = managed(year, HomeEnergyManager(config(), source=YearMeter(year)))
    spent = time.process_time() - begin
    if parts:
        for name, (load, pv) in zip(
            PARTS, ((True, True), (True, False), (False, True)), strict=True
        ):
            result[name] = managed(year, Knowing(year, config(), load, pv))
    return year.name, result, spent


def share(of: dict[str, Bill], name: str, cost: Callable[[Bill], int]) -> float:
    """Return which part of perfect foresight's saving a strategy reaches."""
    most = cost(of["none"]) - cost(of["foresight"])
    return (cost(of["none"]) - cost(of[name])) / most if most else 1.0


def _energy(bill: Bill) -> int:
    return bill.energy_micro


def _with_wear(bill: Bill) -> int:
    return sum(bill)


def table(
    rows: Iterable[tuple[str, dict[str, Bill], float]],
    slots: dict[str, int],
    got: list[dict[str, Bill]],
) -> Iterator[Said]:
    """Yield a line per home as it comes, then the figures; `got` takes the homes' bills."""
    names: list[str] = []
    spent_ms = []
    for name, of, spent in rows:
        if not got:
            names = ["rules", MANAGED, *(part for part in PARTS if part in of)]
            yield (
                f"{'home':14} days "
                + " ".join(f"{s:>10}" for s in ("none", *names, "foresight"))
                + "   share: "
                + " ".join(f"{s:>10}" for s in names)
                + "  with wear  CPU ms/slot"
            )
        got.append(of)
        spent_ms.append(1000 * spent / slots[name])
        bill = " ".join(f"{of[s].energy_micro / 1e6:10.2f}" for s in ("none", *names, "foresight"))
        parts = " ".join(f"{share(of, s, _energy):10.3f}" for s in names)
        yield (
            f"{name:14} {slots[name] // STEPS:4} {bill}          {parts}"
            f" {share(of, MANAGED, _with_wear):10.3f} {spent_ms[-1]:12.2f}"
        )
    for name in names:
        shares = [share(of, name, _energy) for of in got]
        yield figure(f"share of foresight's saving, {name}", "", shares, better="higher")
    with_wear = [share(of, MANAGED, _with_wear) for of in got]
    yield figure(f"share, {MANAGED}, with wear", "", with_wear, better="higher")
    yield figure("a slot of the manager", "ms", spent_ms)


def drawn(names: list[str], homes: list[dict[str, Bill]], days: int) -> str:
    """Return the homes' bills as a drawing."""
    shown = {
        "no battery": "none",
        "rules": "rules",
        "managed": MANAGED,
        "perfect foresight": "foresight",
    }
    series = {words: [of[name].energy_micro / 1e6 for of in homes] for words, name in shown.items()}
    title = f"Each home's bill of {days} days, in dollars"
    short = [name[-NAME_LETTERS:] for name in names]
    return bars_svg(title, short, series, lambda value: f"{value:,.0f}")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the settings."""
    parser.add_argument("--data", type=Path, default=LOAD_FILE)
    parser.add_argument("--pv", type=Path, default=PV_FILE)
    parser.add_argument("--days", type=int, default=364)
    parser.add_argument("--homes", default="", help="names, with commas; all by default")
    parser.add_argument("--parts", action="store_true", help="say what is lost to which forecast")
    parser.add_argument("--jobs", type=int, default=JOBS, help="homes at a time")
    parser.add_argument("--picture", type=Path, help="draw the bills: an SVG file")


def figures(given: argparse.Namespace) -> Iterator[Said]:
    """Let the homes live their years."""
    only = {name for name in given.homes.split(",") if name}
    try:
        found = years(given.data, given.pv, given.days, only)
    except DataError as error:
        raise SystemExit(f"{error}\ngive a load file with --data and a PV file with --pv") from None
    yield f"bills of {given.days} days, dollars; share of the saving of perfect foresight"
    slots = {year.name: year.slots for year in found}
    homes: list[dict[str, Bill]] = []
    with Pool(given.jobs) as pool:
        yield from table(pool.imap(bills, [(year, given.parts) for year in found]), slots, homes)
    if given.picture:
        given.picture.write_text(drawn(list(slots), homes, given.days))


if __name__ == "__main__":
    command(__doc__, options, figures)
