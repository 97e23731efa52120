"""A source behind the check: what is kept, counted and said."""

import logging
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from hems.civil import DAY_MS
from hems.sensors import MEMORY_DAYS
from hems.sources import checked
from hems.sources.base import Measurements, Source
from hems.sources.checked import CheckedSource
from hems.sources.community import CommunitySource

SLOT_MS = DAY_MS // 48
NOW_MS = 20_500 * DAY_MS


class Faulty:
    """A source with readings put into its mouth, by moment."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.load: dict[int, int] = {}
        self.pv: dict[int, int] = {}
        self.asked: list[tuple[int, int]] = []

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        self.asked.append((start_ms, end_ms))
        got = self.inner.window(start_ms, end_ms, step_ms)
        for channel, lies in ((got.load_wh, self.load), (got.pv_wh, self.pv)):
            for at_ms, wh in lies.items():
                if start_ms <= at_ms < end_ms:
                    channel[(at_ms - start_ms) // step_ms] = wh
        return got


def faulty() -> Faulty:
    return Faulty(CommunitySource(3, 1, ZoneInfo("UTC"), pv_peak_w=5_000))


def test_history_leaves_out_what_is_doubted_and_the_meter_keeps_it() -> None:
    inner = faulty()
    at = NOW_MS - 5 * SLOT_MS
    inner.load[at] = 30_000
    source = CheckedSource(inner)
    history = source.window(NOW_MS - DAY_MS, NOW_MS, SLOT_MS)
    assert np.flatnonzero(~history.known).tolist() == [43]
    assert history.load_wh[43] == 0
    reading = source.reading(at, at + SLOT_MS, SLOT_MS)
    assert reading.known.all()
    assert reading.load_wh.tolist() == [30_000]
    inner.load[at] = -1
    assert not source.reading(at, at + SLOT_MS, SLOT_MS).known.any()


def test_each_fault_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    inner = faulty()
    for step in (5, 9, 10):
        inner.load[NOW_MS - step * SLOT_MS] = -20
    source = CheckedSource(inner)
    with caplog.at_level(logging.WARNING, logger="commonwatt.sensors"):
        for slot in range(4):
            now = NOW_MS + slot * SLOT_MS
            source.window(now - 2 * DAY_MS, now, SLOT_MS)
    assert source.faults.counts == {"load_negative": 3}
    assert source.faults.told() == [
        {
            "channel": "load",
            "kind": "negative",
            "outcome": "refused",
            "readings": 3,
            "last_ms": NOW_MS - 5 * SLOT_MS,
        }
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "home: load, 3 of its readings to 2026-02-15T21:30Z: energy below zero; "
        "are import and export mixed up?"
    ]
    caplog.clear()
    inner.load[NOW_MS + 3 * DAY_MS] = -20
    with caplog.at_level(logging.WARNING, logger="commonwatt.sensors"):
        source.window(NOW_MS, NOW_MS + 4 * DAY_MS, SLOT_MS)
    assert len(caplog.records) == 1
    assert source.faults.counts == {"load_negative": 4}


def test_asked_slot_by_slot_or_at_once_it_says_the_same() -> None:
    inner = faulty()
    for step in (100, 300, 301, 700):
        inner.load[NOW_MS - step * SLOT_MS] = 25_000
        inner.pv[NOW_MS - step * SLOT_MS] = 9_000
    stepwise, once = CheckedSource(inner), CheckedSource(inner)
    begin = NOW_MS - 10 * DAY_MS
    stepwise.window(begin, begin + 5 * DAY_MS, SLOT_MS)
    for slot in range(20):
        end = begin + 5 * DAY_MS + slot * SLOT_MS
        stepwise.window(begin, end, SLOT_MS)
    stepwise.window(begin, NOW_MS, SLOT_MS)
    for ours, other in zip(
        stepwise.window(begin, NOW_MS, SLOT_MS), once.window(begin, NOW_MS, SLOT_MS), strict=True
    ):
        np.testing.assert_array_equal(ours, other)
    assert not once.window(begin, NOW_MS, SLOT_MS).known.all()


def test_a_new_slot_costs_its_source_one_slot() -> None:
    inner = faulty()
    source = CheckedSource(inner)
    source.window(NOW_MS - MEMORY_DAYS * DAY_MS, NOW_MS, SLOT_MS)
    inner.asked.clear()
    for slot in range(1, 5):
        now = NOW_MS + slot * SLOT_MS
        source.window(now - MEMORY_DAYS * DAY_MS, now, SLOT_MS)
    assert inner.asked == [(NOW_MS + k * SLOT_MS, NOW_MS + (k + 1) * SLOT_MS) for k in range(4)]


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "TRACK_STEPS_MAX", 40 * 48)
    source = CheckedSource(faulty())
    for day in range(0, 60, 5):
        now = NOW_MS + day * DAY_MS
        got = source.window(now - 5 * DAY_MS, now, SLOT_MS)
        assert got.known.all()
        assert source._track is not None
        assert len(source._track.load_wh) == len(source._track.usual.load) <= 40 * 48
        assert (now - source._track.start_ms) // SLOT_MS == len(source._track.load_wh)


def test_steps_that_are_no_part_of_a_day_are_read_plainly() -> None:
    inner = faulty()
    source = CheckedSource(inner)
    step_ms = 7 * 60_000
    got = source.window(NOW_MS, NOW_MS + 10 * step_ms, step_ms)
    plain = inner.window(NOW_MS, NOW_MS + 10 * step_ms, step_ms)
    np.testing.assert_array_equal(got.load_wh, plain.load_wh)
