"""A sweep: a study's cells over every combination of some settings, and what came of each.

study = "ce-sdt"            # or "huang"
seeds = 3
[base]                      # what stays
users = 30
[vary]                      # what changes: all combinations
share_percent = [20, 50]
storage_wh = [0, 5000]
"""

import itertools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from market import contracts
from study.ce.day import Day, run_day
from study.ce.run import MODEL as CE_MODEL
from study.ce.run import digest_of
from study.ce.setting import Setting as CeSetting
from study.ce.setting import Types
from study.cells import CELLS_MAX, Progress, Results, run_cells
from study.errors import SettingError
from study.hu.market import Course, run_market
from study.hu.market import Setting as HuSetting
from study.hu.run import MODEL as HU_MODEL
from study.tables import Table, Value, write_table

STUDIES: Final = ("ce-sdt", "huang")
# tomllib takes time by the square of a dotted key.
CONFIG_BYTES_MAX: Final = 16_384


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a file asks for."""

    study: str
    vary: dict[str, list[Any]]
    seeds: int = 1
    base: dict[str, Any] = {}

    def combinations(self) -> list[dict[str, Any]]:
        """Return the settings that change, of every cell but for the seeds."""
        names = list(self.vary)
        return [
            dict(zip(names, values, strict=True))
            for values in itertools.product(*self.vary.values())
        ]

    def settings(self, kind: type[msgspec.Struct]) -> list[Any]:
        """Return every cell's setting. Raises `SettingError`."""
        known = [name for name in kind.__struct_fields__ if name != "seed"]
        for name in (*self.base, *self.vary):
            if name not in known:
                raise SettingError(
                    f"{self.study} has no setting {name!r}; it has {', '.join(known)}"
                )
        both = sorted(set(self.base) & set(self.vary))
        if both:
            raise SettingError(f"{both[0]} is in [base] and in [vary]: it can be in one")
        found = []
        for changes in self.combinations():
            for seed in range(1, self.seeds + 1):
                try:
                    one: Any = msgspec.convert({**self.base, **changes, "seed": seed}, kind)
                except msgspec.ValidationError as error:
                    raise SettingError(f"{self.base | changes}: {error}") from None
                found.append(one.check())
        return found


def read_sweep(path: Path) -> Sweep:
    """Read a file. Raises `SettingError` that says what is wrong with it."""
    try:
        text = path.read_bytes()
        if len(text) > CONFIG_BYTES_MAX:
            raise SettingError(f"{path}: {len(text)} bytes; a sweep's file has {CONFIG_BYTES_MAX}")
        sweep = msgspec.convert(tomllib.loads(text.decode()), Sweep)
    except OSError as error:
        raise SettingError(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise SettingError(f"{path}: nested too deep") from None
    # Not only TOMLDecodeError: an integer of thousands of digits is another ValueError.
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingError(f"{path}: {error}") from None
    if sweep.study not in STUDIES:
        raise SettingError(f"{path}: study {sweep.study!r}; there are {' and '.join(STUDIES)}")
    cells = sweep.seeds
    for name, values in sweep.vary.items():
        if not values:
            raise SettingError(f"{path}: {name} varies over nothing; give at least one value")
        cells *= len(values)
    if not 1 <= cells <= CELLS_MAX:
        raise SettingError(f"{path}: {cells} cells; a sweep has 1 to {CELLS_MAX}")
    return sweep


def run(
    *,
    out: Path,
    sweep: Sweep,
    types: Types,
    jobs: int,
    tell: Callable[[Progress], None],
    executor: Executor | None = None,
) -> list[str]:
    """Run a sweep's cells; write `sweep.csv`, a row for each. Raises `StudyError`."""
    about = {"study": f"sweep of {sweep.study}", "contracts": contracts.fingerprint()[:16]}
    rows: list[Mapping[str, Value]]
    if sweep.study == "ce-sdt":
        about |= {"model": CE_MODEL, "data": digest_of(types)}
        settings: list[CeSetting] = sweep.settings(CeSetting)
        days = run_cells(
            Results(out, about, Day),
            settings,
            partial(run_day, types=types),
            jobs,
            tell,
            executor,
        )
        rows = [_of_day(days[one]) for one in settings]
    else:
        about["model"] = HU_MODEL
        cases: list[HuSetting] = sweep.settings(HuSetting)
        courses = run_cells(Results(out, about, Course), cases, run_market, jobs, tell, executor)
        rows = [_of_course(courses[one]) for one in cases]
    changes = [change for change in sweep.combinations() for _ in range(sweep.seeds)]
    seeds = [seed for _ in sweep.combinations() for seed in range(1, sweep.seeds + 1)]
    return write_table(out, "sweep", _table(list(sweep.vary), changes, seeds, rows))


def _table(
    names: Sequence[str],
    changes: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    rows: Sequence[Mapping[str, Value]],
) -> Table:
    lines = [
        [*(_plain(change[name]) for name in names), seed, *row.values()]
        for change, seed, row in zip(changes, seeds, rows, strict=True)
    ]
    return Table((*names, "seed", *rows[0]), lines)


def _plain(value: Any) -> Value:
    return value if isinstance(value, int | float | str) else str(value)


def _of_day(day: Day) -> dict[str, Value]:
    """A community's day in a row: bills, self-sufficiency and self-consumption, peak, trade."""
    ones, twos = day.consumers, day.generators
    load_wh = ones.load_wh + twos.load_wh
    grid_wh = ones.grid_wh + twos.grid_wh
    kept_wh = twos.pv_wh - twos.fed_in_wh - day.stored_wh
    traded_wh = sum(hour.traded_wh for hour in day.hours)
    return {
        "consumers_paid_micro": ones.paid_micro,
        "consumers_traditional_micro": ones.gross_micro,
        "generators_paid_micro": twos.paid_micro,
        "generators_traditional_micro": twos.gross_micro,
        "self_sufficiency": round(1 - grid_wh / load_wh, 6),
        "self_consumption": round(kept_wh / twos.pv_wh, 6) if twos.pv_wh else 0.0,
        "grid_wh": grid_wh,
        "peak_grid_w": max(hour.grid_wh for hour in day.hours),
        "fed_in_wh": ones.fed_in_wh + twos.fed_in_wh,
        "traded_wh": traded_wh,
        "price_micro_per_kwh": sum(h.price_micro for h in day.hours) * 1000 // max(1, traded_wh),
        "transactions": day.transactions,
    }


def _of_course(course: Course) -> dict[str, Value]:
    """Hu's case in a row: how much of the demand was traded, and the prices."""
    prices = [cycle.price for cycle in course.cycles if cycle.traded_wh]
    demand_wh = sum(cycle.demand_wh for cycle in course.cycles)
    return {
        "demand_wh": demand_wh,
        "traded_wh": sum(cycle.traded_wh for cycle in course.cycles),
        "first_price_micro_per_kwh": round(course.cycles[0].price),
        "mean_price_micro_per_kwh": round(sum(prices) / max(1, len(prices))),
        "highest_price_micro_per_kwh": max(cycle.high_micro_per_kwh for cycle in course.cycles),
        "transactions": course.transactions,
    }
