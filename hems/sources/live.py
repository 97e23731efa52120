"""A home measured as it lives: what its meters say, kept in a file, as energy per step.

Whoever hears the meters hands their readings in (`heard_power`, `heard_counter`); here they become
energy in bins of five minutes with how much of each was covered. A step is known where its bins
are covered but for a tenth; what is missing of that is taken at the step's own mean power.
"""

import math
import sqlite3
import threading
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from hems.civil import DAY_MS, HOUR_MS, BoolArray, IntArray
from hems.errors import ConfigError, DataError
from hems.sensors import POWER_KW_MAX
from hems.sources.base import MICRO, Measurements, check_window
from hems.sources.counter import Reading, fault_of

Channel: TypeAlias = Literal["load", "pv"]
CHANNELS: Final[tuple[Channel, ...]] = get_args(Channel)

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


class _Bin(NamedTuple):
    uwh: float = 0.0
    covered_ms: int = 0


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

    Raises
    ------
    DataError
        The file cannot be opened.
    """

    def __init__(self, path: Path, has_pv: bool, stale_ms: int) -> None:
        self._has_pv = has_pv
        self._stale_ms = stale_ms
        self._lock = threading.Lock()
        self._unsaved: dict[tuple[Channel, int], _Bin] = {}
        self._powers: dict[Channel, Heard] = {}
        self._counters: dict[Channel, Reading] = {}
        self._heard: dict[Channel, Heard] = {}
        # Until when a channel's energy is in the bins; nothing is counted twice.
        self._until_ms: dict[Channel, int] = {}
        self.faults: dict[str, int] = {}
        try:
            self._file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = NORMAL")
            self._file.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise DataError(f"{path}: cannot hold measurements ({error})") from None

    def heard_power(self, channel: Channel, at_ms: int, power_w: float) -> None:
        """Take a power, which holds until the next one. [W]

        What no home takes or makes is counted as a fault and not used.
        """
        if not (math.isfinite(power_w) and 0 <= power_w <= POWER_W_MAX):
            self._count(channel, "range")
            return
        with self._lock:
            before = self._powers.get(channel)
            if before is not None and at_ms <= before.at_ms:
                self._count(channel, "clock")
                return
            self._hold(channel, at_ms)
            self._powers[channel] = self._heard[channel] = Heard(at_ms, power_w)
            self._until_ms[channel] = max(at_ms, self._until_ms.get(channel, at_ms))

    def heard_counter(self, channel: Channel, at_ms: int, counter_wh: float) -> None:
        """Take a register's value; see `hems.sources.counter`. [Wh since the meter began]"""
        if not (math.isfinite(counter_wh) and counter_wh >= 0):
            self._count(channel, "range")
            return
        reading = Reading(at_ms, counter_wh)
        with self._lock:
            last = self._counters.get(channel)
            fault = None if last is None else fault_of(last, reading, self._stale_ms)
            if fault is not None:
                self._count(channel, fault)
            elif last is not None:
                used_wh, elapsed_ms = counter_wh - last.counter_wh, at_ms - last.at_ms
                self._add(channel, last.at_ms, at_ms, used_wh)
                self._heard[channel] = Heard(at_ms, used_wh * HOUR_MS / elapsed_ms)
            if fault != "clock":
                self._counters[channel] = reading

    def last(self, channel: Channel) -> Heard | None:
        """Return the last reading of a channel, None if there was none yet."""
        return self._heard.get(channel)

    def is_stale(self, channel: Channel, at_ms: int) -> bool:
        """Tell whether a channel has said nothing for too long."""
        last = self._heard.get(channel)
        return last is None or at_ms - last.at_ms > self._stale_ms

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
            for channel in self._powers:
                self._hold(channel, end_ms)
            load_wh, known = self._steps("load", start_ms, end_ms, steps)
            if not self._has_pv:
                return Measurements(load_wh, np.zeros(steps, np.int64), known)
            pv_wh, pv_known = self._steps("pv", start_ms, end_ms, steps)
        both = known & pv_known
        return Measurements(np.where(both, load_wh, 0), np.where(both, pv_wh, 0), both)

    def close(self) -> None:
        """Save what is heard, and let go of the file."""
        with self._lock:
            self._save()
            self._file.close()

    def _hold(self, channel: Channel, until_ms: int) -> None:
        """Let the last power hold until a moment, no longer than it is fresh."""
        last = self._powers.get(channel)
        if last is None:
            return
        begin_ms = self._until_ms[channel]
        end_ms = min(until_ms, last.at_ms + self._stale_ms)
        if end_ms > begin_ms:
            self._add(channel, begin_ms, end_ms, last.power_w * (end_ms - begin_ms) / HOUR_MS)
            self._until_ms[channel] = end_ms

    def _add(self, channel: Channel, start_ms: int, end_ms: int, energy_wh: float) -> None:
        """Spread energy evenly over a time."""
        for at_ms in range(start_ms - start_ms % BIN_MS, end_ms, BIN_MS):
            part_ms = min(end_ms, at_ms + BIN_MS) - max(start_ms, at_ms)
            found = self._unsaved.get((channel, at_ms)) or self._saved(channel, at_ms)
            uwh = found.uwh + energy_wh * MICRO * part_ms / (end_ms - start_ms)
            self._unsaved[channel, at_ms] = _Bin(uwh, found.covered_ms + part_ms)
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
            for channel in CHANNELS:
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
        rows += [(at, *b) for (c, at), b in self._unsaved.items() if c == channel]
        # What is not saved yet comes last, and stands for what was saved of it before.
        for at_ms, energy, covered in rows:
            if start_ms <= at_ms < end_ms:
                place = (at_ms - start_ms) // BIN_MS
                uwh[place], covered_ms[place] = energy, covered
        energy_uwh = uwh.reshape(steps, -1).sum(axis=1)
        share = covered_ms.reshape(steps, -1).sum(axis=1) * steps / (end_ms - start_ms)
        known = share >= COVERED_MIN
        whole = np.divide(energy_uwh, share, out=np.zeros(steps), where=known)
        return np.rint(whole / MICRO).astype(np.int64), np.asarray(known)

    def _count(self, channel: Channel, kind: str) -> None:
        key = f"{channel}_{kind}"
        self.faults[key] = self.faults.get(key, 0) + 1
