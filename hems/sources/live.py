"""A home measured as it lives: what its meters say, kept in a file, as energy per step.

Whoever hears the meters hands their readings in (`heard_power`, `heard_counter`); here they become
energy in bins of five minutes with how much of each was covered. A step is known where its bins
are covered but for a tenth; what is missing of that is taken at the step's own mean power.

A register only grows. Where it does not, the meter was changed or began anew; where the time of a
reading is not later than the last one's, a clock was put back: it is left out until time has caught
up. Neither is energy, and counting goes on from there.

A battery's power is heard beside, charging positive, and its state of charge; neither is part of
what a home takes or makes. So are loads that can be moved, each by its name, which may have passed
the load's meter as well.
"""

import math
import sqlite3
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import numpy as np

from hems.civil import DAY_MS, HOUR_MS, BoolArray, IntArray
from hems.errors import ConfigError, DataError
from hems.sensors import POWER_KW_MAX
from hems.sources.base import MICRO, Measurements, check_window
from hems.sources.checked import Faults

# One of these, or a load's name.
Channel: TypeAlias = str
CHANNELS: Final[tuple[Channel, ...]] = ("load", "pv", "battery")

BIN_MS: Final = 300_000
COVERED_MIN: Final = 0.9
# Bins that are not in the file yet; a crash loses at most these.
UNSAVED_MAX: Final = 4
# The longest history a home learns from, and a season beside.
KEPT_DAYS: Final = 460
POWER_W_MAX: Final = POWER_KW_MAX * 1000

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS energy (
    channel TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    uwh INTEGER NOT NULL,
    covered_ms INTEGER NOT NULL,
    PRIMARY KEY (channel, at_ms)
) WITHOUT ROWID
"""


class Heard(NamedTuple):
    """The last reading of a channel: when, and the mean power it stands for. [ms, UTC; W]"""

    at_ms: int
    power_w: float


class _Register(NamedTuple):
    """A register's value at a moment. [ms, UTC; Wh since the meter began]"""

    at_ms: int
    counter_wh: float


class _Bin(NamedTuple):
    uwh: float = 0.0
    covered_ms: int = 0

    def plus(self, other: "_Bin") -> "_Bin":
        return _Bin(self.uwh + other.uwh, self.covered_ms + other.covered_ms)


class LiveSource:
    """Load and production as meters tell them. Safe to use from several threads.

    Parameters
    ----------
    path : Path
        The file of what was heard; made if there is none.
    has_pv : bool
        Whether production is measured; without, it is nothing and known.
    stale_ms : int
        So long a power holds, and so far two readings of a register may be apart. [ms]
    faults : Faults, optional
        Where readings that are none are counted.
    devices : collection of str
        The movable loads that have meters of their own.
    in_load : collection of str
        Those of them that the load's meter measures as well: theirs is taken off.

    Raises
    ------
    DataError
        The file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        has_pv: bool,
        stale_ms: int,
        faults: Faults | None = None,
        devices: Collection[str] = (),
        in_load: Collection[str] = (),
    ) -> None:
        self.has_pv = has_pv
        self._channels = (*CHANNELS, *devices)
        self.in_load = tuple(in_load)
        self.stale_ms = stale_ms
        self._lock = threading.Lock()
        self._unsaved: dict[tuple[Channel, int], _Bin] = {}
        self._powers: dict[Channel, Heard] = {}
        self._counters: dict[Channel, _Register] = {}
        self._soc: tuple[int, float] | None = None
        self.faults = faults if faults is not None else Faults()
        try:
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise DataError(f"{path}: cannot hold measurements ({error})") from None

    def heard_power(self, channel: Channel, at_ms: int, power_w: float) -> None:
        """Take a power, which holds until the next one. [W]

        What no home takes or makes is counted as a fault and not used. A battery's is negative
        while it discharges.
        """
        if not abs(power_w) <= POWER_W_MAX or (power_w < 0 and channel != "battery"):
            is_negative = power_w < 0 and channel != "battery"
            self.note(channel, "negative" if is_negative else "unit", at_ms)
            return
        with self._lock:
            before = self._powers.get(channel)
            if before is not None and at_ms <= before.at_ms:
                self.note(channel, "clock", at_ms)
                return
            if before is not None:
                self._add(channel, *self._held(before, at_ms))
            self._powers[channel] = Heard(at_ms, power_w)

    def heard_counter(self, channel: Channel, at_ms: int, counter_wh: float) -> None:
        """Take a register's value. [Wh since the meter began]"""
        if not 0 <= counter_wh < math.inf:
            self.note(channel, "negative", at_ms)
            return
        with self._lock:
            last = self._counters.get(channel)
            if last is not None and at_ms <= last.at_ms:
                # What is heard of a time that was counted already would count it twice.
                self.note(channel, "clock", at_ms)
                return
            self._counters[channel] = _Register(at_ms, counter_wh)
            if last is None:
                return
            elapsed_ms, used_wh = at_ms - last.at_ms, counter_wh - last.counter_wh
            if used_wh < 0:
                self.note(channel, "reset", at_ms)
            elif used_wh * HOUR_MS > POWER_W_MAX * elapsed_ms:
                self.note(channel, "jump", at_ms)
            elif elapsed_ms > self.stale_ms:
                self.note(channel, "silence", at_ms)
            else:
                self._add(channel, last.at_ms, at_ms, used_wh)
                self._powers[channel] = Heard(at_ms, used_wh * HOUR_MS / elapsed_ms)

    def heard_soc(self, at_ms: int, soc: float) -> None:
        """Take a battery's state of charge. [fraction of its capacity]"""
        if not 0 <= soc <= 1:
            self.note("battery", "soc", at_ms)
            return
        self._soc = at_ms, soc

    def soc(self, at_ms: int) -> float | None:
        """Return the state of charge that was heard last, None if that is too long ago."""
        if self._soc is None or not 0 <= at_ms - self._soc[0] <= self.stale_ms:
            return None
        return self._soc[1]

    def battery_wh(self, start_ms: int, end_ms: int) -> int | None:
        """Return what a battery took in whole bins, discharging negative; None: not known. [Wh]"""
        return self.taken_wh("battery", start_ms, end_ms)

    def taken_wh(self, channel: Channel, start_ms: int, end_ms: int) -> int | None:
        """Return what passed a meter in whole bins; None: not known. [Wh]"""
        with self._lock:
            energy_wh, known = self._steps(channel, start_ms, end_ms, 1)
        return int(energy_wh[0]) if known[0] else None

    def note(self, channel: Channel, kind: str, at_ms: int) -> None:
        """Count what was heard and is no reading; logged once when it begins (`Faults`)."""
        self.faults.note(channel, kind, np.array([at_ms], np.int64))

    def last(self, channel: Channel) -> Heard | None:
        """Return the last reading of a channel, None if there was none yet."""
        return self._powers.get(channel)

    def is_stale(self, channel: Channel, at_ms: int) -> bool:
        """Tell whether a channel has said nothing for too long."""
        last = self._powers.get(channel)
        return last is None or at_ms - last.at_ms > self.stale_ms

    def awaits(self, until_ms: int, now_ms: int) -> bool:
        """Tell whether a register may yet say what was used before a moment."""
        return any(
            last.at_ms < until_ms and now_ms - last.at_ms <= self.stale_ms
            for last in self._counters.values()
        )

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of `[start_ms, end_ms)`; see `Source`.

        Raises
        ------
        ConfigError
            As `Source.window`, and for steps that are no whole number of five minutes.
        """
        steps = check_window(start_ms, end_ms, step_ms)
        if step_ms % BIN_MS or start_ms % BIN_MS:
            raise ConfigError(
                f"what is heard is kept in steps of {BIN_MS // 60_000} minutes; {step_ms} ms from "
                f"{start_ms} are none of these"
            )
        with self._lock:
            load_wh, known = self._steps("load", start_ms, end_ms, steps)
            for name in self.in_load:
                # Where it was not heard, what it took stays part of the load.
                device_wh, heard = self._steps(name, start_ms, end_ms, steps)
                load_wh = np.maximum(load_wh - np.where(heard, device_wh, 0), 0)
            if not self.has_pv:
                return Measurements(load_wh, np.zeros(steps, np.int64), known)
            pv_wh, pv_known = self._steps("pv", start_ms, end_ms, steps)
        both = known & pv_known
        return Measurements(np.where(both, load_wh, 0), np.where(both, pv_wh, 0), both)

    def close(self) -> None:
        """Save what is heard, and let go of the file."""
        with self._lock:
            self._save()
            self._file.close()

    def _held(self, last: Heard, until_ms: int) -> tuple[int, int, float]:
        """Return from when to when a power holds, no longer than it is fresh, and its energy."""
        end_ms = max(last.at_ms, min(until_ms, last.at_ms + self.stale_ms))
        return last.at_ms, end_ms, last.power_w * (end_ms - last.at_ms) / HOUR_MS

    def _add(self, channel: Channel, start_ms: int, end_ms: int, energy_wh: float) -> None:
        for at_ms, part in _spread(start_ms, end_ms, energy_wh):
            found = self._unsaved.get((channel, at_ms)) or self._saved(channel, at_ms)
            self._unsaved[channel, at_ms] = found.plus(part)
        if len(self._unsaved) > UNSAVED_MAX:
            self._save()

    def _saved(self, channel: Channel, at_ms: int) -> _Bin:
        row = self._file.execute(
            "SELECT uwh, covered_ms FROM energy WHERE channel = ? AND at_ms = ?", (channel, at_ms)
        ).fetchone()
        return _Bin(*row) if row else _Bin()

    def _save(self) -> None:
        if not self._unsaved:
            return
        rows = [(c, at, round(b.uwh), b.covered_ms) for (c, at), b in self._unsaved.items()]
        oldest_ms = max(at for _, at, _, _ in rows) - KEPT_DAYS * DAY_MS
        with self._file:
            self._file.execute("BEGIN")
            self._file.executemany("INSERT OR REPLACE INTO energy VALUES (?, ?, ?, ?)", rows)
            for channel in self._channels:
                self._file.execute(
                    "DELETE FROM energy WHERE channel = ? AND at_ms < ?", (channel, oldest_ms)
                )
        self._unsaved.clear()

    def _steps(
        self, channel: Channel, start_ms: int, end_ms: int, steps: int
    ) -> tuple[IntArray, BoolArray]:
        """Return energy and what is known of it per step. [Wh]"""
        bins = (end_ms - start_ms) // BIN_MS
        uwh, covered_ms = np.zeros(bins), np.zeros(bins)
        rows = self._file.execute(
            "SELECT at_ms, uwh, covered_ms FROM energy"
            " WHERE channel = ? AND at_ms >= ? AND at_ms < ?",
            (channel, start_ms, end_ms),
        ).fetchall()
        found = {at_ms: _Bin(*values) for at_ms, *values in rows}
        found |= {at_ms: part for (of, at_ms), part in self._unsaved.items() if of == channel}
        held = self._powers.get(channel)
        if held is not None and channel not in self._counters:
            # The last power holds still. The next one says for how long it really did.
            for at_ms, part in _spread(*self._held(held, end_ms)):
                found[at_ms] = found.get(at_ms, _Bin()).plus(part)
        for at_ms, part in found.items():
            if start_ms <= at_ms < end_ms:
                place = (at_ms - start_ms) // BIN_MS
                uwh[place], covered_ms[place] = part
        energy_uwh = uwh.reshape(steps, -1).sum(axis=1)
        share = covered_ms.reshape(steps, -1).sum(axis=1) * steps / (end_ms - start_ms)
        known = share >= COVERED_MIN
        whole = np.divide(energy_uwh, share, out=np.zeros(steps), where=known)
        return np.rint(whole / MICRO).astype(np.int64), np.asarray(known)


def _spread(start_ms: int, end_ms: int, energy_wh: float) -> Iterator[tuple[int, _Bin]]:
    """Return the bins of a time in which energy flowed evenly; of no time, none."""
    if end_ms <= start_ms:
        return
    for at_ms in range(start_ms - start_ms % BIN_MS, end_ms, BIN_MS):
        part_ms = min(end_ms, at_ms + BIN_MS) - max(start_ms, at_ms)
        yield at_ms, _Bin(energy_wh * MICRO * part_ms / (end_ms - start_ms), part_ms)
