"""Neighbourhoods: the configurations of many homes at once, built-in or from a file.

Which homes have PV and a battery is spread evenly, not drawn, so that a small street has both
kinds: of `homes`, the share asked for, rounded.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from hems import civil
from hems.civil import WEEK_DAYS, BoolArray
from hems.config import (
    CommunityHome,
    ConstantHome,
    ForecastSettings,
    HomeConfig,
    ReplayHome,
    SyntheticHome,
)
from hems.devices import Battery
from hems.devices.loads import Appliance, Car, HeatPump, Load
from hems.errors import ConfigError, DataError
from hems.forecast import HISTORY_DAYS
from hems.sources.community import PV_PEAK_W_DEFAULT
from hems.sources.draws import uniforms
from hems.sources.formats import read_file
from hems.sources.grid import HomeSeries, Picked, WideData, free_starts, pick
from hems.sources.synthetic import Heating

HOMES_MAX: Final = 100_000
PV_SHARE_DEFAULT: Final = 0.6
# With less history than this a home has no same weekday to forecast from.
HISTORY_DAYS_MIN: Final = 7


class Neighbourhood(NamedTuple):
    """Homes, and what their owner should know of how they were made (one line each)."""

    homes: list[HomeConfig]
    notes: list[str]


def built_in(
    homes: int,
    seed: int = 1,
    zone: str = "Australia/Sydney",
    pv_share: float = PV_SHARE_DEFAULT,
    battery: Battery | None = Battery(),  # noqa: B008 - immutable
    pv_peak_w: int = PV_PEAK_W_DEFAULT,
    flexible: bool = False,
    pv_shares: Sequence[tuple[int, float]] | None = None,
) -> Neighbourhood:
    """Return homes of the built-in community. Raises `ConfigError`.

    `pv_shares` are those of several groups of homes, each with its number, instead of `pv_share`.
    With `flexible` every other home has a dishwasher that can wait, every third a car and every
    fourth a heat pump, beside the loads that were measured.
    """
    groups = pv_shares or [(homes, pv_share)]
    has_pv = np.concatenate([_spread(size, share) for size, share in groups])
    if len(has_pv) != homes:
        raise ConfigError(f"pv_shares: of {len(has_pv)} homes, not of {homes}")
    return Neighbourhood(
        [
            HomeConfig(
                source=CommunityHome(home=i, seed=seed, pv_peak_w=pv_peak_w if has_pv[i] else 0),
                zone=zone,
                battery=battery if has_pv[i] else None,
                devices=_devices(i) if flexible else {},
            )
            for i in range(homes)
        ],
        [],
    )


def _devices(home: int) -> dict[str, Load]:
    """Return what a home of a flexible street has; a heat pump that cools, as November does."""
    found: dict[str, Load] = {}
    if home % 2 == 0:
        found["dishwasher"] = Appliance(
            profile_w=(1_900, 150, 100, 1_800, 100, 50), earliest="19:00", deadline="16:00"
        )
    if home % 3 == 0:
        found["car"] = Car(power_min_w=1_380)
    if home % 4 == 1:
        found["heat-pump"] = HeatPump(
            cooling=True, comfort_min_c=22.0, comfort_max_c=25.0, outdoor_mean_c=23.0
        )
    return found


def synthetic(
    homes: int,
    seed: int = 1,
    zone: str = "Australia/Sydney",
    pv_share: float = PV_SHARE_DEFAULT,
    battery: Battery | None = Battery(),  # noqa: B008 - immutable
    pv_peak_w: int = PV_PEAK_W_DEFAULT,
) -> Neighbourhood:
    """Return synthetic households (`hems.sources.synthetic`), of one to five persons.

    A third heats with a heat pump, a sixth with electricity; half have electric hot water, a
    quarter a car. Raises `ConfigError`.
    """
    has_pv = _spread(homes, pv_share)
    configs = []
    for i in range(homes):
        draws = uniforms(5, "synthetic", "household", seed, i)
        heating: Heating = "heat_pump" if draws[1] < 1 / 3 else "electric"
        source = SyntheticHome(
            home=i,
            seed=seed,
            persons=1 + int(5 * draws[0] ** 1.3),
            heating=heating if draws[1] < 1 / 2 else "none",
            hot_water=bool(draws[2] < 1 / 2),
            pv_peak_w=pv_peak_w if has_pv[i] else 0,
            ev_km_per_day=round(15 + 40 * float(draws[4]), 1) if draws[3] < 1 / 4 else 0.0,
        )
        own = battery if has_pv[i] else None
        configs.append(HomeConfig(source=source, zone=zone, battery=own))
    return Neighbourhood(configs, [])


def replayed(
    path: Path,
    homes: int,
    market_start_ms: int,
    run_days: int = 1,
    seed: int = 1,
    zone: str = "Australia/Sydney",
    pv_share: float = PV_SHARE_DEFAULT,
    battery: Battery | None = Battery(),  # noqa: B008 - immutable
    pv_peak_w: int = PV_PEAK_W_DEFAULT,
    pv_scale: float = 1.0,
) -> Neighbourhood:
    """Return homes that replay a file (`hems.sources.formats`) from the market's first day on.

    Of a file longer than 28 days of history and `run_days`, days are used in which most homes
    have no gap, at the market's time of the year if there is a choice; homes with gaps in them
    are left out. A shorter file (`HISTORY_DAYS_MIN` of history at least) must have no gap at all.
    The homes are used in turn; where more are asked for than there are, a home is used again some
    weeks earlier or later. Homes have the production the file gives them; in a file without any,
    the share of homes asked for gets the built-in community's. Of those with production, the same
    share has the battery. `pv_scale` multiplies what the file's homes produce; where it gives the
    production of 1 kWp, homes have `pv_peak_w`.

    Raises
    ------
    ConfigError
        Arguments that cannot be.
    DataError
        The file cannot be read, has too few days, or gaps that leave no home.
    """
    has_pv = _spread(homes, pv_share)
    tz = civil.zone_of(zone)
    if run_days < 1:
        raise ConfigError(f"run_days {run_days}: at least 1")
    data = read_file(path, tz)
    market_day = civil.day_of(market_start_ms, tz)
    picked, history_days = _pick(data, run_days, market_day)
    if data.pv_per_kwp:
        pv_scale *= pv_peak_w / 1000
    file_has_pv = any(home.pv_uwh is not None for home in data.homes)
    notes = [f"{name} is left out: {reason}" for name, reason in picked.left_out.items()]
    configs = []
    for i in range(homes):
        series = picked.homes[i % len(picked.homes)]
        starts = _starts(data, series, picked)
        first = starts[(i // len(picked.homes)) % len(starts)]
        pv = None
        if not file_has_pv and has_pv[i]:
            pv = CommunityHome(home=i, seed=seed, pv_peak_w=pv_peak_w)
        source = ReplayHome(
            path=str(path),
            home=series.name,
            data_date=civil.date_of(first + history_days),
            market_date=civil.date_of(market_day),
            last_date=civil.date_of(first + history_days + run_days - 1),
            repeat_date=civil.date_of(first),
            pv_scale=pv_scale,
            pv=pv,
        )
        produces = pv is not None or series.pv_uwh is not None
        stores = produces and has_pv[i]
        # A street on one machine would train all its homes at once, and miss its first slots.
        settings = ForecastSettings(model="blend")
        stored = battery if stores else None
        configs.append(HomeConfig(source=source, zone=zone, battery=stored, forecast=settings))
    if data.pv_per_kwp and file_has_pv:
        notes.append(f"production is that of 1 kWp; homes have {pv_scale:g} kWp")
    if homes > len(picked.homes):
        notes.append(
            f"{len(picked.homes)} homes of the file are complete; {homes} replay them, "
            "some in other weeks"
        )
    if not file_has_pv:
        notes.append("the file has no production (NAME_pv); homes with PV have the built-in one")
    return Neighbourhood(configs, notes)


def with_storage(
    street: Neighbourhood,
    count: int,
    agent: str = "hu_speculator",
    battery: Battery = Battery(),  # noqa: B008 - immutable
) -> Neighbourhood:
    """Return a street whose last homes are storage only: no load, no production, a battery.

    What they buy they store, and what they sell they have bought, if their agent is a speculator.

    Raises
    ------
    ConfigError
        More than there are homes.
    """
    if not 0 <= count <= len(street.homes):
        raise ConfigError(f"{count} homes of storage: 0 to {len(street.homes)}, of all homes")
    first = len(street.homes) - count
    stores = [
        HomeConfig(source=ConstantHome(), zone=home.zone, battery=battery, agent=agent)
        for home in street.homes[first:]
    ]
    return street._replace(homes=[*street.homes[:first], *stores])


def _pick(data: WideData, run_days: int, market_day: int) -> tuple[Picked, int]:
    """Pick the days to replay; return also how many of them are history."""
    days = HISTORY_DAYS + run_days
    if data.days >= days:
        return pick(data, days, like_day=market_day - HISTORY_DAYS), HISTORY_DAYS
    if data.days < HISTORY_DAYS_MIN + run_days:
        raise DataError(
            f"{data.name}: too few days: {data.days}; {HISTORY_DAYS_MIN} of history and {run_days} "
            "to run are needed"
        )
    # A short file has no other days to turn to: all of it is needed, of every home.
    picked = pick(data, data.days, homes_min=len(data.homes), first_day=data.first_day)
    return picked, data.days - run_days


def _starts(data: WideData, home: HomeSeries, picked: Picked) -> list[int]:
    """Return the days a home could begin on, whole weeks from the picked one, nearest first."""
    offset = picked.first_day - data.first_day
    free = free_starts(data, home, picked.days)
    free = free[(free - offset) % WEEK_DAYS == 0]
    ordered = sorted(free.tolist(), key=lambda start: (abs(start - offset), start))
    return [data.first_day + start for start in ordered]


def _spread(homes: int, share: float) -> BoolArray:
    if not 1 <= homes <= HOMES_MAX:
        raise ConfigError(f"{homes} homes: a neighbourhood has 1 to {HOMES_MAX}")
    if not 0 <= share <= 1:
        raise ConfigError(f"pv_share {share}: a fraction between 0 and 1")
    before = np.floor(np.arange(homes + 1) * share + 0.5)
    result: BoolArray = np.diff(before) > 0
    return result
