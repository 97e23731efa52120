"""Whose meter tells less than flowed: the feeder's head meter against the sum of its homes' (Hu,
future work: fraud between neighbours).

What the head meter says, less what all homes' meters say, is what the lines lose. How much that is
at which load is learned in days that are trusted, when the meters had just been looked at. Whatever
is missing later beyond it, or comes and goes against it, somebody has taken and not told; a window
of slots in which that is more than meters' errors can be is an alarm.

Who it was the balance alone does not say. For each home, each way of lying predicts a course of
what is missing: a share of what it told (scaled), the slots in which it told the same highest value
(clipped), the difference to what it told some slots later or earlier (shifted), readings of other
days said again (repeated), the difference to its own past, moved as its neighbours' readings moved
since (changed). A home is named with the share of what is missing that its best course explains. It
is a reason to look at a meter, no proof.

Pure functions of what the meters said, without clock or chance.
"""

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from node.errors import MeteringError

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

HOMES_MAX: Final = 5_000
SLOTS_MAX: Final = 500_000
SUSPECTS_MAX: Final = 3
# Of a home that is named, at least this share of what is missing is explained.
EXPLAINED_MIN: Final = 0.1
# A highest value that was told so often (as a share of the slots) is a ceiling.
CEILING_SHARE: Final = 0.04
# Readings said again: from so many days before, so many of them, of so many values at least.
REPEATED_DAYS_MAX: Final = 14
REPEATED_SHARE: Final = 0.5
REPEATED_VALUES_MIN: Final = 12
# Standard deviations of a normal distribution over its median absolute deviation.
_MAD: Final = 1.4826


class FeederSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When there is an alarm.

    Parameters
    ----------
    trusted_days : the first days, in which losses are learned.
    window_days : what is judged at a time; a window begins each day.
    tolerance : what may be missing, as a share of what the head meter says: errors of meters.
    deviations : how many standard deviations of the trusted days' errors it must be, too.
    """

    trusted_days: int = 14
    window_days: int = 7
    tolerance: float = 0.01
    deviations: float = 8.0

    def __post_init__(self) -> None:
        if self.trusted_days < 2 or self.window_days < 1:
            raise MeteringError("trusted_days: at least 2; window_days: at least 1")
        if not 0 < self.tolerance < 1 or self.deviations <= 0:
            raise MeteringError("tolerance: a share between 0 and 1; deviations: more than 0")


class Suspect(NamedTuple):
    """A home, by its place, and what its lie would have been; `explained` is of what is missing."""

    home: int
    way: str
    explained: float


class FeederAlarm(NamedTuple):
    """A window in which energy is missing that losses do not explain.

    Slots are places, the last one excluded. `missing_wh` is what the homes' readings
    lack in sum beyond the losses, `moved_wh` the same without regard to sign, both over the days
    that are wrong by themselves; `head_wh` what flowed in them.
    """

    first: int
    last: int
    missing_wh: int
    moved_wh: int
    head_wh: int
    suspects: tuple[Suspect, ...]


class _Losses(NamedTuple):
    """What the lines lose, by the head's power, and how far off that was in trusted slots."""

    by_power: Floats
    typical_wh: float
    deviation: float
    moved: float

    def unexplained(self, missing: Floats, head: Floats) -> Floats:
        """Return what is missing beyond the losses. [Wh]"""
        return missing - _powers(head) @ self.by_power

    def errors(self, beyond: Floats, head: Floats) -> Floats:
        """Return the same in standard deviations."""
        found: Floats = beyond / (np.abs(head) + self.typical_wh) / self.deviation
        return found


def find_alarms(
    readings_wh: Floats, head_wh: Floats, slots_per_day: int, settings: FeederSettings
) -> list[FeederAlarm]:
    """Return the windows in which energy is missing; those that overlap are one alarm.

    Parameters
    ----------
    readings_wh : what homes told, import less export, homes by slots; NaN where one told nothing:
        such slots are left out. [Wh]
    head_wh : what the head meter told, the same way; NaN where it did not. [Wh]

    Raises
    ------
    MeteringError
        The shapes do not fit, or there is not enough to learn from.
    """
    _check(readings_wh, head_wh, slots_per_day)
    known = ~np.isnan(head_wh) & ~np.isnan(readings_wh).any(axis=0)
    trusted = settings.trusted_days * slots_per_day
    losses = _learn(readings_wh[:, :trusted], head_wh[:trusted], known[:trusted])
    beyond = losses.unexplained(head_wh - readings_wh.sum(axis=0), head_wh)
    width = settings.window_days * slots_per_day
    spans: list[tuple[int, int]] = []
    for first in range(trusted, len(head_wh) - width + 1, slots_per_day):
        places = first + np.flatnonzero(known[first : first + width])
        if len(places) < width // 2 or not _is_alarm(
            beyond[places], head_wh[places], losses, settings
        ):
            continue
        if spans and first < spans[-1][1]:
            spans[-1] = spans[-1][0], first + width
        else:
            spans.append((first, first + width))
    alarms = []
    for first, last in spans:
        days = _wrong_days(beyond, head_wh, known, (first, last), slots_per_day, losses, settings)
        alarms.append(
            FeederAlarm(
                first,
                last,
                round(float(beyond[days].sum())),
                round(float(np.abs(beyond[days]).sum())),
                round(float(np.abs(head_wh[days]).sum())),
                _suspects(readings_wh, days, beyond[days], first, slots_per_day),
            )
        )
    return alarms


def _wrong_days(
    beyond: Floats,
    head: Floats,
    known: npt.NDArray[np.bool_],
    span: tuple[int, int],
    slots_per_day: int,
    losses: "_Losses",
    settings: FeederSettings,
) -> Places:
    """Return the slots of the days that are wrong each by itself; all, if none is."""
    found = []
    for first in range(*span, slots_per_day):
        day = first + np.flatnonzero(known[first : first + slots_per_day])
        if len(day) and _is_off(beyond[day], head[day], losses, settings.tolerance):
            found.append(day)
    if not found:
        return span[0] + np.flatnonzero(known[slice(*span)])
    return np.concatenate(found)


def _is_off(beyond: Floats, head: Floats, losses: "_Losses", tolerance: float) -> bool:
    """Tell whether more is missing, in sum or moved, than meters' errors explain."""
    throughput = float(np.abs(head).sum())
    missing = abs(float(beyond.sum())) / throughput
    moved = float(np.abs(beyond).sum()) / throughput - losses.moved
    return max(missing, moved) > tolerance


def _check(readings_wh: Floats, head_wh: Floats, slots_per_day: int) -> None:
    if readings_wh.ndim != 2 or head_wh.shape != readings_wh.shape[1:]:
        raise MeteringError(
            f"readings are homes by slots, and the head has as many slots: {readings_wh.shape} "
            f"and {head_wh.shape}"
        )
    if readings_wh.shape[0] > HOMES_MAX or readings_wh.shape[1] > SLOTS_MAX:
        raise MeteringError(f"at most {HOMES_MAX} homes and {SLOTS_MAX} slots")
    if slots_per_day < 1:
        raise MeteringError("a day has at least one slot")


def _powers(head: Floats) -> Floats:
    """Return what losses go by: none, the power, its square."""
    size = np.abs(head)
    return np.stack([np.ones_like(size), size, size * size], axis=1)


def _learn(readings: Floats, head: Floats, known: npt.NDArray[np.bool_]) -> _Losses:
    head, told = head[known], readings[:, known]
    if len(head) < max(24, known.size // 2):
        raise MeteringError(
            f"{len(head)} of the {known.size} slots to learn losses from have all readings: at "
            f"least {max(24, known.size // 2)} are needed"
        )
    missing = head - told.sum(axis=0)
    by_power = np.linalg.lstsq(_powers(head), missing, rcond=None)[0]
    typical_wh = max(float(np.median(np.abs(head))), 1.0)
    beyond = missing - _powers(head) @ by_power
    errors = beyond / (np.abs(head) + typical_wh)
    deviation = max(float(_MAD * np.median(np.abs(errors))), 1e-6)
    return _Losses(
        by_power, typical_wh, deviation, float(np.abs(beyond).sum() / np.abs(head).sum())
    )


def _is_alarm(beyond: Floats, head: Floats, losses: _Losses, settings: FeederSettings) -> bool:
    if not _is_off(beyond, head, losses, settings.tolerance):
        return False
    errors = losses.errors(beyond, head)
    count = len(errors)
    # In sum, and in square: what is told at another time is missing in no sum.
    too_little = abs(float(errors.sum())) / np.sqrt(count) > settings.deviations
    too_wild = (float((errors**2).mean()) - 1) * np.sqrt(count / 2) > settings.deviations
    return bool(too_little or too_wild)


def _suspects(
    readings: Floats, places: Places, beyond: Floats, first: int, slots_per_day: int
) -> tuple[Suspect, ...]:
    told = readings[:, places]
    expected = _expected(readings[:, :first], told, places, slots_per_day)
    found = []
    for home in range(len(readings)):
        courses = {
            "scaled": np.maximum(told[home], 0),
            "export scaled": np.maximum(-told[home], 0),
            "changed": expected[home] - told[home],
        }
        ceiling = told[home].max()
        at_ceiling = told[home] >= ceiling * 0.999
        if ceiling > 0 and at_ceiling.mean() >= CEILING_SHARE:
            courses["clipped"] = at_ceiling.astype(np.float64)
        for lag in range(1, slots_per_day // 2 + 1):
            for sign in (lag, -lag):
                courses[f"shifted by {sign}"] = _moved(readings[home], places, sign) - told[home]
        way, explained = max(
            ((way, _explained(beyond, course)) for way, course in courses.items()),
            key=lambda pair: pair[1],
        )
        repeated = _repeated(readings[home], places, slots_per_day)
        if repeated >= max(REPEATED_SHARE, explained):
            way, explained = "repeated", repeated
        found.append(Suspect(home, way, explained))
    found.sort(key=lambda suspect: (-suspect.explained, suspect.home))
    return tuple(one for one in found[:SUSPECTS_MAX] if one.explained >= EXPLAINED_MIN)


def _moved(readings: Floats, places: Places, lag: int) -> Floats:
    """Return what a home told so many slots later; what it told then, where that is unknown."""
    later = np.clip(places + lag, 0, len(readings) - 1)
    found = readings[later]
    return np.where(np.isnan(found), readings[places], found)


def _repeated(readings: Floats, places: Places, slots_per_day: int) -> float:
    """Return the share of the readings that are those of the same number of days before."""
    told = readings[places]
    if len(np.unique(told)) < REPEATED_VALUES_MIN:
        return 0.0
    days = [d for d in range(1, REPEATED_DAYS_MAX + 1) if places[0] >= d * slots_per_day]
    same = [float((readings[places - d * slots_per_day] == told).mean()) for d in days]
    return max(same, default=0.0)


def _explained(beyond: Floats, course: Floats) -> float:
    """Return the share of what is missing, squared, that a course explains; 0 if turned round."""
    size = float(course @ course) * float(beyond @ beyond)
    product = float(beyond @ course)
    return product * product / size if size > 0 and product > 0 else 0.0


def _expected(past: Floats, told: Floats, places: Places, slots_per_day: int) -> Floats:
    """Return what homes would have told by their past, moved as their neighbours moved since."""
    profile = np.zeros((len(past), slots_per_day))
    for part in range(slots_per_day):
        own = past[:, part::slots_per_day]
        profile[:, part] = np.nanmean(own, axis=1) if own.size else 0.0
    usual = np.nan_to_num(profile[:, places % slots_per_day])
    others_usual = usual.sum(axis=0) - usual
    others_told = told.sum(axis=0) - told
    # Neighbours' move is that of their sum; where that is near nothing it says nothing.
    floor = 0.2 * np.abs(others_usual).mean(axis=1, keepdims=True) + 1e-9
    ratio = np.where(
        np.abs(others_usual) > floor, others_told / np.where(others_usual, others_usual, 1), 1
    )
    found: Floats = usual * np.clip(ratio, 0.5, 2.0)
    return found
