"""What a home's meters say, held against what they can mean: bad readings found and kept out.

Meters lie in few ways, and each is looked for (`KINDS`). What cannot be is *refused*: the reading
counts as missing, for the meter as for the forecast. What can be but hardly is *doubted*: it stays
the meter's reading, for that is what is billed, but no forecast learns from it. What is plain is
*repaired* (production at night is none).

Limits are the home's own: medians, deviations from them and high ranks of the last `MEMORY_DAYS` at
the same time of day, so that neither a few bad readings nor a season move them, and a new habit is
believed after some days. A step is judged by what came before it and by nothing later than the
moment of asking; the same measurements give the same verdicts, whoever asked before.
"""

import math
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from hems.civil import DAY_MS, HOUR_MS, BoolArray, FloatArray, IntArray
from hems.errors import ConfigError

# A house connection of 63 A, three phases, is 43 kW: more than this is a wrong unit, not a home.
POWER_KW_MAX: Final = 100.0
# A home's standby is never nothing: less mean power than this was not measured.
STANDBY_W: Final = 1.0
ZERO_SHARE_MAX: Final = 0.01
MEMORY_DAYS: Final = 28
# With fewer days than this at a time of day nothing is usual, and nothing doubted.
DAYS_MIN: Final = 5

# A spike is far above this time of day and far above the month's high readings. [deviations, times]
SPIKE_DEVIATIONS: Final = 10.0
SPIKE_TOPS: Final = 1.8
TOP_RANK: Final = 3
# The production of a clear sky may be exceeded by this, for sun between clouds and for the season.
SUN_ABOVE_BEST: Final = 1.35
SUN_ABOVE_PEAK: Final = 0.10
NIGHT_QUANTILE: Final = 0.75
NIGHT_DARK: Final = 0.005
NIGHT_LIGHT: Final = 0.02
# Below nothing by so little, it is the inverter's own consumption.
PV_BELOW_ZERO: Final = 0.02
STUCK_STEPS_MIN: Final = 4
STUCK_HOURS: Final = 3.0
STUCK_LOW_HOURS: Final = 8.0
STUCK_PV_HOURS: Final = 2.0
STUCK_PV_FULL: Final = 0.95
# A meter that knows fewer different readings than this repeats itself by nature.
DISTINCT_MIN: Final = 20
ZERO_HOURS: Final = 6.0
DEAD_SHARE: Final = 0.01
# The state of charge a battery reports may be off what was reckoned by so much.
SOC_SLACK: Final = 0.02

KINDS: Final = (
    "missing",
    "negative",
    "unit",
    "zero",
    "spike",
    "stuck",
    "night",
    "sun",
    "dead",
    "soc",
    "hole",
)
REASONS: Final = {
    "missing": "there was no reading; it is forecast",
    "negative": "energy below zero; are import and export mixed up?",
    "unit": f"more than {POWER_KW_MAX:g} kW; is it Wh taken for kWh?",
    "zero": "a home at nothing is a meter that did not answer; taken as missing",
    "spike": "far above what this home ever takes; kept out of the forecast",
    "stuck": "the same reading again and again; kept out of the forecast",
    "night": "production in the dark; taken as none",
    "sun": "more sun than a clear sky gives; taken as usual at this time",
    "dead": "a day without production; is the inverter off?",
    "soc": "a state of charge that cannot be; the reckoned one is kept",
    "hole": "the grid names no price; the one before stands in",
    "reset": "a register that fell; is the meter new? It is counted on from there",
    "jump": "a register that grew by more than any home takes; it is counted on from there",
    "silence": "no reading for too long; what was used meanwhile is not known",
    "clock": "a reading of a time that was counted already; left out",
    "absent": "the meter says that it does not know",
    "text": "a message that is no number, or neither on nor off",
    "size": "a message longer than any reading",
}
# What is heard of a meter and is no reading (`hems.sources.live`).
HEARD: Final = ("reset", "jump", "silence", "clock", "absent", "text", "size")
Outcome: TypeAlias = Literal["refused", "doubted", "repaired", "said"]
GOOD: Final = -1
CODE: Final = {kind: code for code, kind in enumerate(KINDS)}
_REFUSED: Final = (CODE["missing"], CODE["negative"], CODE["unit"])
# How many steps are compared with their past at once, so that memory stays small.
_CHUNK_STEPS: Final = 2_048


class Limits(NamedTuple):
    """What is usual at each step, from the days before it; shape (steps,). [Wh] NaN: not known.

    `load_high` and `pv_high`: above this a reading is doubted. `load`, `pv`: medians at this time
    of day. `dark`: it is night. `pv_peak`: the most production of any time of day. `pv_day`: usual
    production of the 24 hours that end with the step.
    """

    load: FloatArray
    load_high: FloatArray
    pv: FloatArray
    pv_high: FloatArray
    pv_peak: FloatArray
    pv_day: FloatArray
    dark: BoolArray

    @classmethod
    def unknown(cls, steps: int) -> "Limits":
        """Return limits of steps of which nothing is known before."""
        none = np.full(steps, np.nan)
        return cls(none, none, none, none, none, none, np.zeros(steps, np.bool_))

    def cut(self, rows: slice) -> "Limits":
        """Return those of some steps."""
        return Limits(*(values[rows] for values in self))  # type: ignore[arg-type]

    def followed_by(self, later: "Limits") -> "Limits":
        """Return these and the later ones."""
        both = zip(self, later, strict=True)
        return Limits(*(np.concatenate(parts) for parts in both))


class Checked(NamedTuple):
    """Readings after the check, shape (steps,). [Wh]

    `load_fault` and `pv_fault` hold places in `KINDS`, -1 where nothing is wrong.
    """

    load_wh: FloatArray
    pv_wh: FloatArray
    load_fault: IntArray
    pv_fault: IntArray

    def since(self, first: int) -> "Checked":
        """Return the steps from `first` on."""
        return Checked(*(values[first:] for values in self))  # type: ignore[arg-type]

    @property
    def believed(self) -> BoolArray:
        """Which steps a forecast may learn from. Doubted production is repaired, load is not."""
        good: BoolArray = (self.load_fault == GOOD) & _can_be(self.pv_fault)
        return good

    @property
    def readable(self) -> BoolArray:
        """Which steps have a reading that can be, doubted ones too."""
        good: BoolArray = _can_be(self.load_fault) & _can_be(self.pv_fault)
        return good


def outcome(channel: str, kind: str) -> Outcome:
    """Return what became of readings of `load`, `pv`, `tariff` or a device with a fault."""
    if kind in ("missing", "negative", "unit", "soc") or kind in HEARD:
        return "refused"
    if channel in ("pv", "tariff"):
        return "said" if kind == "dead" else "repaired"
    return "doubted"


def zero_gaps(load_wh: FloatArray, step_ms: int) -> BoolArray:
    """Return which readings of a load are gaps written as zeros.

    All those below `STANDBY_W`, where they are more than `ZERO_SHARE_MAX` of what was measured;
    else only runs of `ZERO_HOURS`, since a fuse may be out for an hour. NaN is no reading.
    """
    zeros = load_wh < STANDBY_W * step_ms / HOUR_MS
    if zeros.sum() == np.isfinite(load_wh).sum():
        # Storage, or a plant: no load at all is no gap in one.
        return np.zeros(len(load_wh), np.bool_)
    if zeros.sum() > ZERO_SHARE_MAX * max(1, int(np.isfinite(load_wh).sum())):
        return zeros
    result: BoolArray = zeros & (_run_lengths(zeros) * step_ms >= ZERO_HOURS * HOUR_MS)
    return result


def limits(
    load_wh: FloatArray, pv_wh: FloatArray, steps_per_day: int, first: int = 0, phase: int = 0
) -> Limits:
    """Return what is usual at the steps from `first` on, each from the days before its own.

    Parameters
    ----------
    load_wh, pv_wh : float array, shape (steps,)
        Readings, oldest first, NaN where there is none. [Wh]
    steps_per_day : int
        At least 24.
    first : int
    phase : int
        Which step of its day the first reading is.

    Returns
    -------
    Limits
        Shape (steps - first,).
    """
    load, pv = _plain(load_wh), _plain(pv_wh)
    result = Limits.unknown(0)
    for low in range(first, len(load), _CHUNK_STEPS):
        high = min(low + _CHUNK_STEPS, len(load))
        result = result.followed_by(_limits_of(load, pv, steps_per_day, phase, low, high))
    return result


def check(load_wh: FloatArray, pv_wh: FloatArray, usual: Limits, steps_per_day: int) -> Checked:
    """Judge readings by what was usual; shapes as in `limits`, the last one is the latest."""
    step_ms = DAY_MS // steps_per_day
    most_wh = POWER_KW_MAX * 1000 * step_ms / HOUR_MS
    load_fault = np.full(len(load_wh), GOOD, np.int64)
    pv_fault = load_fault.copy()
    with np.errstate(invalid="ignore"):
        own_use = (pv_wh < 0) & (pv_wh >= -PV_BELOW_ZERO * usual.pv_peak)
        pv = np.where(own_use, 0.0, pv_wh)
        # The last verdict stands: what cannot be says more than what is unusual.
        _mark(load_fault, "spike", load_wh > usual.load_high)
        _mark(load_fault, "stuck", _stuck_load(load_wh, usual.load, step_ms))
        _mark(load_fault, "zero", zero_gaps(load_wh, step_ms))
        _mark(pv_fault, "dead", _dead(pv, usual.pv_day, steps_per_day))
        _mark(pv_fault, "stuck", _stuck_pv(pv, usual.pv_peak, step_ms))
        _mark(pv_fault, "sun", pv > usual.pv_high)
        _mark(pv_fault, "night", usual.dark & (pv > NIGHT_LIGHT * usual.pv_peak))
        for fault, values in ((load_fault, load_wh), (pv_fault, pv)):
            _mark(fault, "unit", values > most_wh)
            _mark(fault, "negative", values < 0)
            _mark(fault, "missing", ~np.isfinite(values))
    pv = np.where(pv_fault == CODE["night"], 0.0, pv)
    doubted = (pv_fault == CODE["stuck"]) | (pv_fault == CODE["sun"])
    pv = np.where(doubted & np.isfinite(usual.pv), usual.pv, pv)
    return Checked(load_wh, pv, load_fault, pv_fault)


def checked_soc(reported: float, reckoned: float, soc_change_max: float) -> tuple[float, bool]:
    """Return the state of charge to go on with, and whether the reported one was believed.

    Parameters
    ----------
    reported : float
        By the battery; a fraction.
    reckoned : float
        From the last one and what passed since.
    soc_change_max : float
        What the power limit allows since the last report, a fraction of the capacity.

    Returns
    -------
    soc : float
        Within 0 and 1: `reported` where it can be, `reckoned` where it is no number, outside 0 to
        1 by more than a rounding (percent taken for a fraction, say), or further off than the
        battery can have gone.
    believed : bool
    """
    within = math.isfinite(reported) and -SOC_SLACK <= reported <= 1 + SOC_SLACK
    if not within or abs(reported - reckoned) > soc_change_max + SOC_SLACK:
        return min(max(reckoned, 0.0), 1.0), False
    return min(max(reported, 0.0), 1.0), True


def soc_change_max(power_w: int, capacity_wh: int, elapsed_ms: int) -> float:
    """Return the most a state of charge can change in a time. Raises `ConfigError`."""
    if elapsed_ms < 0 or capacity_wh <= 0:
        raise ConfigError(f"elapsed {elapsed_ms} ms, capacity {capacity_wh} Wh: must be positive")
    return min(1.0, power_w * elapsed_ms / HOUR_MS / capacity_wh)


def _can_be(faults: IntArray) -> BoolArray:
    result: BoolArray = np.isin(faults, _REFUSED, invert=True)
    return result


def _mark(faults: IntArray, kind: str, where: BoolArray) -> None:
    faults[where] = CODE[kind]


def _plain(values_wh: FloatArray) -> FloatArray:
    """Leave out what no limit shall be learnt from: nothing below zero is usual."""
    with np.errstate(invalid="ignore"):
        return np.where(values_wh >= 0, values_wh, np.nan)


def _limits_of(
    load: FloatArray, pv: FloatArray, steps_per_day: int, phase: int, low: int, high: int
) -> Limits:
    days = np.arange(1, MEMORY_DAYS + 1)[:, None] * steps_per_day
    past = np.arange(low, high) - days
    lagged = _at(load, past)
    median = _median(lagged)
    deviation = 1.4826 * _median(np.abs(lagged - median))
    top = _tops(load, steps_per_day, phase, low, high)
    load_high = np.maximum(median + SPIKE_DEVIATIONS * deviation, SPIKE_TOPS * top)
    hour = round(steps_per_day / 24)
    around = np.arange(low - hour, high + hour) - days
    light = np.lib.stride_tricks.sliding_window_view(_upper(_at(pv, around)), 2 * hour + 1)
    peak = _tops(pv, steps_per_day, phase, low, high)
    best = _rank(np.concatenate([_at(pv, past + shift) for shift in (-1, 0, 1)]))
    pv_median = _median(_at(pv, past))
    seen = np.isfinite(_at(pv, past)).sum(axis=0) >= NIGHT_QUANTILE * MEMORY_DAYS
    with np.errstate(invalid="ignore"):
        dark = seen & (light.max(axis=1) <= NIGHT_DARK * peak) & (peak > 0)
    pv_high = np.where(np.isnan(pv_median), np.nan, SUN_ABOVE_BEST * best + SUN_ABOVE_PEAK * peak)
    pv_day = _usual_days(pv, steps_per_day, low, high)
    return Limits(median, load_high, pv_median, pv_high, peak, pv_day, dark)


def _at(values: FloatArray, places: IntArray) -> FloatArray:
    if len(values) == 0:
        return np.full(places.shape, np.nan)
    inside = (places >= 0) & (places < len(values))
    return np.where(inside, values[np.clip(places, 0, len(values) - 1)], np.nan)


def _median(values: FloatArray) -> FloatArray:
    """Return the median of each column's readings, NaN where there are less than `DAYS_MIN`."""
    count = np.isfinite(values).sum(axis=0)
    ordered = np.sort(values, axis=0)  # NaN last
    last = np.maximum(count - 1, 0)
    low, high = (
        np.take_along_axis(ordered, place[None], axis=0)[0]
        for place in (last // 2, (last + 1) // 2)
    )
    return np.where(count >= DAYS_MIN, (low + high) / 2, np.nan)


def _rank(values: FloatArray) -> FloatArray:
    """Return the `TOP_RANK`-highest of each column, 0 where there are fewer."""
    filled = np.where(np.isnan(values), 0.0, values)
    ranked: FloatArray = np.partition(filled, -TOP_RANK, axis=0)[-TOP_RANK]
    return ranked


def _upper(values: FloatArray) -> FloatArray:
    """Return each column's `NIGHT_QUANTILE`, what is missing counting as dark."""
    filled = np.where(np.isnan(values), 0.0, values)
    place = math.ceil(NIGHT_QUANTILE * (len(values) - 1))
    return np.asarray(np.partition(filled, place, axis=0)[place])


def _tops(values: FloatArray, steps_per_day: int, phase: int, low: int, high: int) -> FloatArray:
    """Return for each step the `TOP_RANK`-highest reading of the memory before its day (UTC)."""
    result = np.full(high - low, np.nan)
    for day in range((low + phase) // steps_per_day, (high - 1 + phase) // steps_per_day + 1):
        begin = day * steps_per_day - phase
        memory = values[max(0, begin - MEMORY_DAYS * steps_per_day) : max(0, begin)]
        memory = memory[np.isfinite(memory)]
        if len(memory) >= DAYS_MIN * steps_per_day:
            top = np.partition(memory, -TOP_RANK)[-TOP_RANK]
            result[max(0, begin - low) : max(0, begin - low + steps_per_day)] = top
    return result


def _usual_days(pv: FloatArray, steps_per_day: int, low: int, high: int) -> FloatArray:
    """Return the median of the 24-hour sums that ended whole days before each step."""
    totals = np.concatenate(([0.0], np.cumsum(np.where(np.isnan(pv), 0.0, pv))))
    ends = np.arange(low + 1, high + 1) - steps_per_day * np.arange(1, MEMORY_DAYS + 1)[:, None]
    sums = totals[np.maximum(ends, 0)] - totals[np.maximum(ends - steps_per_day, 0)]
    return _median(np.where(ends >= steps_per_day, sums, np.nan))


def _dead(pv: FloatArray, usual_day_wh: FloatArray, steps_per_day: int) -> BoolArray:
    """Return the days (any 24 hours) with next to no production, where there usually is some."""
    dead = np.zeros(len(pv), np.bool_)
    if len(pv) < steps_per_day:
        return dead
    totals = np.concatenate(([0.0], np.cumsum(np.where(np.isnan(pv), 0.0, pv))))
    missing = np.concatenate(([0], np.cumsum(np.isnan(pv))))
    complete = missing[steps_per_day:] == missing[:-steps_per_day]
    usual = usual_day_wh[steps_per_day - 1 :]
    sums = totals[steps_per_day:] - totals[:-steps_per_day]
    for end in np.flatnonzero(complete & (usual > 0) & (sums < DEAD_SHARE * usual)):
        dead[end : end + steps_per_day] = True
    return dead


def _run_lengths(flags: BoolArray) -> IntArray:
    """Return for each True the length of its run, 0 for False."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    lengths = np.zeros(len(flags), np.int64)
    for begin, end in edges.reshape(-1, 2):
        lengths[begin:end] = end - begin
    return lengths


def _stuck_load(load: FloatArray, usual: FloatArray, step_ms: int) -> BoolArray:
    high = load > np.where(np.isnan(usual), math.inf, usual)
    hours = np.where(high, STUCK_HOURS, STUCK_LOW_HOURS)
    return _stuck(load, np.isfinite(usual) & (load > 0), hours, step_ms)


def _stuck_pv(pv: FloatArray, peak: FloatArray, step_ms: int) -> BoolArray:
    # At full power an inverter says the same for hours.
    some = (pv > NIGHT_LIGHT * peak) & (pv < STUCK_PV_FULL * peak)
    return _stuck(pv, some, np.full(len(pv), STUCK_PV_HOURS), step_ms)


def _stuck(values: FloatArray, judged: BoolArray, hours: FloatArray, step_ms: int) -> BoolArray:
    """Return the runs of equal readings that last so long at a step that is judged."""
    if len(np.unique(values[np.isfinite(values)])) < DISTINCT_MIN:
        return np.zeros(len(values), np.bool_)
    begins = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    sizes = np.diff(np.append(begins, len(values)))
    run = np.repeat(sizes, sizes)
    long_ = judged & (run >= STUCK_STEPS_MIN) & (run * step_ms >= hours * HOUR_MS)
    # A run counts as a whole: what is usual moves along it.
    result: BoolArray = np.repeat(np.logical_or.reduceat(long_, begins), sizes)
    return result
