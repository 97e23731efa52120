"""A source behind a check: what a forecast may learn from, and what the meter says.

The check itself is `hems.sensors`; here its verdicts are kept from one question to the next, and
what is wrong is counted and said once.
"""

import logging
import math
from typing import Final

import numpy as np

from hems import sensors
from hems.civil import DAY_MS, HOUR_MS, BoolArray, FloatArray, IntArray
from hems.sensors import CODE, GOOD, KINDS, MEMORY_DAYS, Checked, Limits
from hems.sources.base import WINDOW_STEPS_MAX, Measurements, Source, check_window

log = logging.getLogger("commonwatt.sensors")

_STEPS_PER_DAY_MAX: Final = 288
TRACK_STEPS_MAX: Final = WINDOW_STEPS_MAX + (MEMORY_DAYS + 1) * _STEPS_PER_DAY_MAX


class Faults:
    """Counts what was wrong and says it once: one log line when a kind of fault begins.

    A kind that was not seen for a day begins anew. Every step counts once, however often it is
    asked for.
    """

    def __init__(self, name: str = "home") -> None:
        self.name = name
        self.counts: dict[str, int] = {}
        self._last_ms: dict[str, int] = {}

    def note(
        self, channel: str, kind: str, starts_ms: IntArray, level: int = logging.WARNING
    ) -> None:
        """Note the steps at which a channel (`load`, `tariff`, a device by name) has a fault."""
        key = f"{channel}_{kind}"
        last_ms = self._last_ms.get(key)
        fresh = starts_ms if last_ms is None else starts_ms[starts_ms > last_ms]
        if len(fresh) == 0:
            return
        self._last_ms[key] = int(fresh[-1])
        self.counts[key] = self.counts.get(key, 0) + len(fresh)
        if last_ms is None or fresh[0] - last_ms > DAY_MS:
            log.log(
                level,
                "%s: %s, %d of its readings to %s: %s",
                self.name,
                channel,
                len(fresh),
                np.datetime_as_string(np.datetime64(int(fresh[-1]), "ms"), "m") + "Z",
                sensors.REASONS[kind],
            )

    def told(self) -> list[dict[str, str | int]]:
        """Return what was found so far as plain data, by channel and kind; `last_ms` is UTC."""
        found: list[dict[str, str | int]] = []
        for key in sorted(self.counts):
            channel, kind = key.rsplit("_", 1)
            found.append(
                {
                    "channel": channel,
                    "kind": kind,
                    "outcome": sensors.outcome(channel, kind),
                    "readings": self.counts[key],
                    "last_ms": self._last_ms[key],
                }
            )
        return found


class CheckedSource:
    """A source whose bad readings are found.

    `window` answers with what a forecast may learn from, `reading` with what the meter says.

    Parameters
    ----------
    inner : Source
    faults : Faults, optional
        Where what is found is counted.
    level : int
        At which it is logged.
    """

    def __init__(
        self, inner: Source, faults: Faults | None = None, level: int = logging.WARNING
    ) -> None:
        self.inner = inner
        self._level = level
        self.faults = faults if faults is not None else Faults()
        self._track: _Track | None = None

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of `[start_ms, end_ms)`, those that are doubted as not known."""
        steps = check_window(start_ms, end_ms, step_ms)
        if DAY_MS % step_ms or step_ms > HOUR_MS:
            # No time of day comes back in such steps; only what cannot be is found.
            return self.reading(start_ms, end_ms, step_ms)
        track = self._track_of(start_ms, end_ms, step_ms)
        low = (start_ms - track.start_ms) // step_ms
        # A run of equal readings may have begun before the window.
        early = max(0, low - DAY_MS // step_ms)
        rows = slice(early, low + steps)
        usual = track.usual.cut(rows)
        got = sensors.check(track.load_wh[rows], track.pv_wh[rows], usual, DAY_MS // step_ms)
        cut = got.since(low - early)
        self._note(cut, start_ms, step_ms)
        return _measurements(cut, cut.believed)

    def reading(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of `[start_ms, end_ms)` as metered; what cannot be is not known."""
        load_wh, pv_wh = _readings(self.inner.window(start_ms, end_ms, step_ms))
        usual = Limits.unknown(len(load_wh))
        got = sensors.check(load_wh, pv_wh, usual, max(1, DAY_MS // step_ms))
        return _measurements(got, got.readable)

    def _track_of(self, start_ms: int, end_ms: int, step_ms: int) -> "_Track":
        """Return a track that holds the window and, where there is any, a memory before it."""
        track = self._track
        if (
            track is None
            or track.step_ms != step_ms
            or (start_ms - track.start_ms) % step_ms
            or not track.judged_ms <= start_ms <= track.end_ms
        ):
            from_ms = start_ms - MEMORY_DAYS * DAY_MS
            track = _Track(from_ms, start_ms, step_ms, self.inner, end_ms)
        elif end_ms > track.end_ms:
            track.extend(self.inner, end_ms)
        self._track = track
        return track

    def _note(self, got: Checked, start_ms: int, step_ms: int) -> None:
        starts = start_ms + step_ms * np.arange(len(got.load_wh), dtype=np.int64)
        # What was before the first reading is no gap.
        there = np.flatnonzero(got.load_fault != CODE["missing"])
        begun = starts >= (starts[there[0]] if len(there) else math.inf)
        for channel, faults in (("load", got.load_fault), ("pv", got.pv_fault)):
            for code in np.unique(faults[begun]):
                if code != GOOD and (channel, KINDS[code]) != ("pv", "missing"):
                    at = starts[begun & (faults == code)]
                    self.faults.note(channel, KINDS[code], at, self._level)


class _Track:
    """Readings of one step length from a memory before the first judged step, and their limits."""

    def __init__(
        self, start_ms: int, judged_ms: int, step_ms: int, inner: Source, end_ms: int
    ) -> None:
        self.start_ms, self.judged_ms, self.step_ms = start_ms, judged_ms, step_ms
        self.end_ms = judged_ms
        self.load_wh, self.pv_wh = _readings(inner.window(start_ms, judged_ms, step_ms))
        self.usual = Limits.unknown(len(self.load_wh))
        self.extend(inner, end_ms)

    def extend(self, inner: Source, end_ms: int) -> None:
        """Read on to `end_ms` and judge what is new; let go of what is too old."""
        load_wh, pv_wh = _readings(inner.window(self.end_ms, end_ms, self.step_ms))
        before = len(self.load_wh)
        self.load_wh = np.concatenate((self.load_wh, load_wh))
        self.pv_wh = np.concatenate((self.pv_wh, pv_wh))
        steps_per_day = DAY_MS // self.step_ms
        phase = self.start_ms // self.step_ms % steps_per_day
        fresh = sensors.limits(self.load_wh, self.pv_wh, steps_per_day, before, phase)
        self.usual = self.usual.followed_by(fresh)
        self.end_ms = end_ms
        over = len(self.load_wh) - TRACK_STEPS_MAX
        if over > 0:
            self.load_wh, self.pv_wh = self.load_wh[over:], self.pv_wh[over:]
            self.usual = self.usual.cut(slice(over, None))
            self.start_ms += over * self.step_ms
            self.judged_ms = max(self.judged_ms, self.start_ms + MEMORY_DAYS * DAY_MS)


def _readings(raw: Measurements) -> tuple[FloatArray, FloatArray]:
    return np.where(raw.known, raw.load_wh, np.nan), np.where(raw.known, raw.pv_wh, np.nan)


def _measurements(got: Checked, known: BoolArray) -> Measurements:
    load, pv = (np.where(known, values, 0.0) for values in (got.load_wh, got.pv_wh))
    return Measurements(np.rint(load).astype(np.int64), np.rint(pv).astype(np.int64), known)
