"""CE's figures 5 to 10: which communities each needs, what is drawn, and what must show."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from study.ce.day import Day
from study.ce.setting import Setting, Types
from study.errors import SettingError
from study.money import FEED_IN_MICRO_PER_KWH, TARIFF_BANDS
from study.plots import Drawing, Line
from study.stats import Check
from study.tables import Table

FIGURES: Final = (5, 6, 7, 8, 9, 10)
# Of the base community: 15 to 240 users where that is 60.
SIZES_PERCENT: Final = (25, 50, 100, 200, 400)
SHARES_PERCENT: Final = (10, 20, 30, 40, 50, 60, 70, 80)
MIDDAY: Final = range(10, 15)
INF: Final = float("inf")

Days = Mapping[Setting, Day]


class Plan(msgspec.Struct, frozen=True):
    """What is asked for: figures, the base community, and how many seeds."""

    figures: tuple[int, ...]
    base: Setting
    seeds: int

    def settings(self) -> list[Setting]:
        """Return all communities that the figures need, the quickest first. Raises as `check`."""
        found = [setting for figure in self.figures for setting in self.of(figure)]
        return sorted(
            dict.fromkeys(setting.check() for setting in found),
            key=lambda setting: (setting.users, setting.share_percent, setting.seed),
        )

    def of(self, figure: int) -> list[Setting]:
        """Return the communities that a figure shows."""
        if figure == 5:
            return self.seeded()
        if figure in (6, 7):
            return [one for users in self.sizes() for one in self.seeded(users=users)]
        return [one for share in SHARES_PERCENT for one in self.seeded(share_percent=share)]

    def sizes(self) -> list[int]:
        """How many users the communities of figures 6 and 7 have."""
        return [max(1, self.base.users * percent // 100) for percent in SIZES_PERCENT]

    def seeded(self, **changes: int) -> list[Setting]:
        """Return the base community so changed, once for each seed."""
        return [
            msgspec.structs.replace(self.base, seed=seed, **changes)
            for seed in range(1, self.seeds + 1)
        ]


def figures_of(text: str) -> tuple[int, ...]:
    """Read `--figure`: one, several with commas, or all. Raises `SettingError`."""
    if text == "all":
        return FIGURES
    found = []
    for word in text.split(","):
        if not word.strip().isdecimal() or int(word) not in FIGURES:
            raise SettingError(f"figure {word!r}: CE has results in figures 5 to 10")
        found.append(int(word))
    return tuple(dict.fromkeys(found))


# -- what is drawn


def table_of(figure: int, plan: Plan, days: Days) -> Table:
    """Return all that a figure shows, of each run."""
    settings = plan.of(figure)
    if figure == 10:
        costs = [(s, (*_costs(days[s]), *_least(days[s]))) for s in settings]
        return Table(
            ("share_percent", "seed", "consumers", "generators", "all",
             "consumers_at_feed_in", "all_at_least"),
            [[s.share_percent, s.seed, *map(_rounded, each)] for s, each in costs],
        )  # fmt: skip
    titles = ("users", "share_percent", "seed", "hour", "need_wh_per_user", "grid_wh_per_user",
              "traded_wh_per_user", "fed_in_wh_per_user", "price_micro_per_kwh")  # fmt: skip
    rows = []
    for setting in settings:
        for hour, each in enumerate(days[setting].hours, start=setting.hours[0]):
            energies = (each.need_wh, each.grid_wh, each.traded_wh, each.fed_in_wh)
            price = each.price_micro * 1000 // each.traded_wh if each.traded_wh else 0
            per_user = [_rounded(energy / setting.users) for energy in energies]
            rows.append(
                [setting.users, setting.share_percent, setting.seed, hour, *per_user, price]
            )
    return Table(titles, rows)


def drawing_of(figure: int, plan: Plan, days: Days, types: Types) -> Drawing:
    """Return a figure as lines: means over the seeds, and from the lowest to the highest."""
    text = assumptions(plan, types, figure)
    hour, per_user = "hour of the day", "Wh per user and hour"
    if figure == 5:
        named: list[tuple[str, Callable[[Setting, Day], list[float]]]] = [
            ("users need", lambda s, d: [h.need_wh / 1000 for h in d.hours]),
            ("the grid supplies", lambda s, d: [h.grid_wh / 1000 for h in d.hours]),
        ]
        lines = [_hourly(name, plan.seeded(), days, value) for name, value in named]
        title = (
            f"CE figure 5: power of {plan.base.users} users, {plan.base.share_percent} % generate"
        )
        return Drawing(title, hour, "kWh per hour", lines, text, steps=True)
    if figure in (6, 7):
        groups = [(f"{n} users", plan.seeded(users=n)) for n in plan.sizes()]
        what = "need" if figure == 6 else "grid supply"
        title = f"CE figure {figure}: {what} per user, by number of users"
    elif figure in (8, 9):
        groups = [(f"{share} %", plan.seeded(share_percent=share)) for share in SHARES_PERCENT]
        what = "need" if figure == 8 else "grid supply"
        title = f"CE figure {figure}: {what} per user, by share of who generate"
    else:
        return _costs_drawing(plan, days, text)
    value = _need if what == "need" else _grid
    lines = [_hourly(name, settings, days, value) for name, settings in groups]
    return Drawing(title, hour, per_user, lines, text, steps=True)


def _costs_drawing(plan: Plan, days: Days, text: str) -> Drawing:
    lines = []
    for place, name in enumerate(("Ω¹, who only use", "Ω², who generate", "all users")):
        by_share = [
            [_costs(days[one])[place] for one in plan.seeded(share_percent=share)]
            for share in SHARES_PERCENT
        ]
        lines.append(_line(name, SHARES_PERCENT, by_share))
    marks = [(share, value, f"paper {name}") for share, _, name, value in _PAPER_COSTS]
    title = "CE figure 10: cost of a day, of one's own traditional bill"
    return Drawing(title, "who generate [%]", "cost / traditional bill", lines, text, marks)


def _hourly(
    name: str,
    settings: Sequence[Setting],
    days: Days,
    value: Callable[[Setting, Day], list[float]],
) -> Line:
    by_seed = [value(setting, days[setting]) for setting in settings]
    return _line(name, range(*settings[0].hours), list(zip(*by_seed, strict=True)))


def _line(name: str, x: Sequence[float], values: Sequence[Sequence[float]]) -> Line:
    means = [statistics.fmean(group) for group in values]
    return Line(name, x, means, list(map(min, values)), list(map(max, values)))


def _need(setting: Setting, day: Day) -> list[float]:
    return [hour.need_wh / setting.users for hour in day.hours]


def _grid(setting: Setting, day: Day) -> list[float]:
    return [hour.grid_wh / setting.users for hour in day.hours]


def _costs(day: Day) -> tuple[float, float, float]:
    """What Ω¹, Ω² and all paid, of their traditional bills; nan for a class that nobody is in."""
    ones, twos = day.consumers, day.generators
    return (
        _ratio(ones.paid_micro, ones.gross_micro),
        _ratio(twos.paid_micro, twos.gross_micro),
        _ratio(ones.paid_micro + twos.paid_micro, ones.gross_micro + twos.gross_micro),
    )


def _least(day: Day) -> tuple[float, float]:
    """What Ω¹ would pay with all trades at the feed-in tariff, and what all would pay at least.

    That is with all that is not generated bought at the lowest tariff. Of their traditional bills.
    """
    ones, twos = day.consumers, day.generators
    cheap = ones.paid_micro - ones.trades_micro + ones.bought_wh * FEED_IN_MICRO_PER_KWH // 1000
    lowest = min(price for _, price in TARIFF_BANDS)
    lack_wh = ones.load_wh + twos.load_wh - ones.pv_wh - twos.pv_wh
    lack_micro = lack_wh * (lowest if lack_wh > 0 else FEED_IN_MICRO_PER_KWH) // 1000
    return (
        _ratio(cheap, ones.gross_micro),
        _ratio(lack_micro, ones.gross_micro + twos.gross_micro),
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def _rounded(value: float) -> float:
    return round(value, 4)


def assumptions(plan: Plan, types: Types, figure: int) -> str:
    """Return what a figure rests on, for under it."""
    base = plan.base
    who = f"{base.users} users, {base.share_percent} % generate"
    if figure in (6, 7):
        who = f"{base.share_percent} % generate"
    elif figure > 7:
        who = f"{base.users} users"
    low, high = base.settle_minutes
    fed = "fed in at 10 c/kWh" if base.feed_in else "wasted"
    return (
        f"{who}; {plan.seeds} seeds: lines are means, shades reach from the lowest to the highest. "
        f"Types: {types.name}; loads at {base.load_percent} % of them. PV {base.pv_w} W, batteries "
        f"{base.storage_wh} Wh, empty at midnight, η = 1, no limit of power, never charged from "
        f"the grid. Intervals of {low} to {high} minutes, energy by CE 14 piecewise; requests are "
        f"posted {base.block_minutes} to {2 * base.block_minutes} minutes ahead, offers lie within "
        f"±{base.spread:.0%} of the suggested price; homes know their intervals exactly and keep "
        f"nothing back for later ones. CE table 2's tariff; surplus nobody takes is {fed}."
    )


# -- what must show

# Share [%], class, its name, and its cost of its traditional bill.
_PAPER_COSTS: Final = (
    (30, 0, "Ω¹", 0.683),
    (50, 0, "Ω¹", 0.602),
    (70, 0, "Ω¹", 0.447),
    (50, 1, "Ω²", 0.196),
    (50, 2, "all", 0.431),
)
COST_BAND: Final = 0.05
NEED_SPREAD_MAX: Final = 0.07
GRID_RATIO_MAX: Final = 0.7
# Of what it is where nobody generates: what counts as nothing.
NOTHING: Final = 0.02


def checks_of(figure: int, plan: Plan, days: Days) -> list[Check]:
    """Return what a figure must show (docs/results.md), of each seed."""
    made: dict[int, Callable[[Plan, Days], list[Check]]] = {
        5: _check_balance,
        6: _check_need,
        7: _check_midday,
        8: _check_shares,
        9: _check_nothing,
        10: _check_costs,
    }
    return made[figure](plan, days)


def _check_balance(plan: Plan, days: Days) -> list[Check]:
    errors = []
    for setting in plan.seeded():
        hours = days[setting].hours
        off = [h.need_wh - h.grid_wh - h.traded_wh + h.returned_wh for h in hours]
        errors.append(float(max(map(abs, off))))
    text = "|need − grid supply − trades| in any hour, Wh, what was bought and not used counted"
    return [Check("CE 5", text, "0", tuple(errors), 0, 1, digits=0)]


def _check_need(plan: Plan, days: Days) -> list[Check]:
    spreads = []
    for seed in range(1, plan.seeds + 1):
        needs = [
            sum(_need(one, days[one]))
            for users in plan.sizes()
            for one in plan.seeded(users=users)
            if one.seed == seed
        ]
        spreads.append((max(needs) - min(needs)) / statistics.fmean(needs))
    means = [
        statistics.fmean(sum(_need(one, days[one])) for one in plan.seeded(users=users))
        for users in plan.sizes()
    ]
    spread = (max(means) - min(means)) / statistics.fmean(means)
    sizes, band = f"{plan.sizes()[0]} to {plan.sizes()[-1]} users", (0, NEED_SPREAD_MAX)
    return [
        Check("CE 6", f"spread of the mean need per user, {sizes}", "stable", (spread,), *band),
        Check("CE 6", f"the same within each seed, {sizes}", "stable", tuple(spreads), *band),
    ]


def _check_midday(plan: Plan, days: Days) -> list[Check]:
    few, many = plan.sizes()[0], plan.sizes()[-1]
    small = [_midday(one, days[one]) for one in plan.seeded(users=few)]
    base = statistics.fmean(small)
    large = [_midday(one, days[one]) for one in plan.seeded(users=many)]
    text = f"midday grid supply per user, {many} users over {few} (the mean of the seeds)"
    values = tuple(_ratio(value, base) for value in large)
    return [Check("CE 7", text, "falls", values, 0, GRID_RATIO_MAX)]


def _check_shares(plan: Plan, days: Days) -> list[Check]:
    steps = []
    for seed in range(1, plan.seeds + 1):
        needs = []
        for share in SHARES_PERCENT:
            one = msgspec.structs.replace(plan.base, seed=seed, share_percent=share)
            needs.append(sum(_need(one, days[one])))
        steps.append(max(b / a - 1 for a, b in pairwise(needs)))
    text = "largest change of the need from one share to the next, 10 to 80 %"
    return [Check("CE 8", text, "falls", tuple(steps), -INF, 0)]


def _check_nothing(plan: Plan, days: Days) -> list[Check]:
    shares = [share for share in SHARES_PERCENT if share > 50]
    supplied, wasted = [], []
    for one in (one for share in shares for one in plan.seeded(share_percent=share)):
        day = days[one]
        load_wh = (day.consumers.load_wh + day.generators.load_wh) / len(day.hours) * len(MIDDAY)
        supplied.append(_ratio(sum(day.hours[hour].grid_wh for hour in MIDDAY), load_wh))
        wasted.append(sum(hour.fed_in_wh for hour in day.hours) / one.users)
    grid = "grid supply 10 to 15 h above 50 %, of the mean load"
    surplus = "surplus that no user takes above 50 %, Wh per user"
    return [
        Check("CE 9", grid, "0", tuple(supplied), 0, NOTHING),
        Check("CE 9", surplus, "> 0", tuple(wasted), 1, INF, digits=0),
    ]


def _check_costs(plan: Plan, days: Days) -> list[Check]:
    found = []
    for share, place, name, paper in _PAPER_COSTS:
        values = _costs_at(plan, days, share, place)
        text = f"cost of {name} at {share} %, of the traditional bill"
        found.append(
            Check("CE 10", text, f"{paper:.3f}", values, paper - COST_BAND, paper + COST_BAND)
        )
    text = "cost of Ω² at 70 %, of the traditional bill"
    found.append(Check("CE 10", text, "<= 0", _costs_at(plan, days, 70, 1), -INF, 0))
    ratios = []
    for one in plan.seeded(share_percent=50):
        ones, twos = days[one].consumers, days[one].generators
        ratios.append(_ratio(twos.gross_micro / twos.users, ones.gross_micro / ones.users))
    text = "traditional bill of Ω² over Ω¹'s (what loads are scaled by)"
    found.append(Check("CE 10", text, "0.728", tuple(ratios), 0.728 - COST_BAND, 0.728 + COST_BAND))
    return found


def _costs_at(plan: Plan, days: Days, share: int, place: int) -> tuple[float, ...]:
    return tuple(_costs(days[one])[place] for one in plan.seeded(share_percent=share))


def _midday(setting: Setting, day: Day) -> float:
    return sum(day.hours[hour].grid_wh for hour in MIDDAY) / setting.users
