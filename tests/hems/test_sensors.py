"""What is wrong with readings is found, and what is right is left alone."""

import numpy as np
import pytest

from hems import sensors
from hems.civil import DAY_MS, FloatArray
from hems.errors import ConfigError
from hems.sensors import KINDS, Checked

STEPS = 48
DAYS = 40
LAST = STEPS * (DAYS - 2)


def home(seed: int = 1) -> tuple[FloatArray, FloatArray]:
    """Forty days of half hours: an evening peak with scatter, a sun from 6 to 18 with clouds."""
    chance = np.random.default_rng(seed)
    hour = np.arange(STEPS) / 2
    load = 80 + 400 * np.exp(-(((hour - 19) / 2) ** 2))
    sun = 1500 * np.clip(np.sin((hour - 6) / 12 * np.pi), 0, None) * ((hour > 6) & (hour < 18))
    loads = np.tile(load, DAYS) * chance.lognormal(-0.1, 0.45, STEPS * DAYS)
    suns = np.tile(sun, DAYS) * chance.uniform(0.2, 1.0, (DAYS, 1)).repeat(STEPS)
    return np.rint(loads), np.rint(suns * chance.uniform(0.9, 1.0, STEPS * DAYS))


def judge(load: FloatArray, pv: FloatArray) -> Checked:
    return sensors.check(load, pv, sensors.limits(load, pv, STEPS), STEPS)


def kinds(faults: np.ndarray) -> dict[str, list[int]]:
    return {
        KINDS[code]: np.flatnonzero(faults == code).tolist()
        for code in np.unique(faults)
        if code >= 0
    }


def test_an_honest_home_is_left_alone() -> None:
    for seed in range(5):
        load, pv = home(seed)
        got = judge(load, pv)
        assert kinds(got.load_fault) == kinds(got.pv_fault) == {}
        assert (got.pv_wh == pv).all()
        assert got.believed.all()


@pytest.mark.parametrize(
    ("kind", "readings", "refused"),
    [
        ("spike", [9_000.0], False),
        ("unit", [80_000.0], True),
        ("negative", [-3.0], True),
        ("missing", [np.nan], True),
        ("stuck", [900.0] * 8, False),
        ("stuck", [61.0] * 20, False),
        ("zero", [0.0] * 14, False),
    ],
)
def test_a_bad_load_is_found(kind: str, readings: list[float], refused: bool) -> None:
    load, pv = home()
    at = LAST + 4
    load[at : at + len(readings)] = readings
    got = judge(load, pv)
    assert kinds(got.load_fault) == {kind: [*range(at, at + len(readings))]}
    assert not got.believed[at : at + len(readings)].any()
    assert got.readable[at] == (not refused)
    assert kinds(got.pv_fault) == {}


def test_production_at_night_is_taken_as_none() -> None:
    load, pv = home()
    pv[LAST + 4] = 200
    got = judge(load, pv)
    assert kinds(got.pv_fault) == {"night": [LAST + 4]}
    assert got.pv_wh[LAST + 4] == 0
    assert got.believed.all()


def test_an_inverters_own_use_is_no_production() -> None:
    load, pv = home()
    pv[LAST + 4] = -4
    got = judge(load, pv)
    assert kinds(got.pv_fault) == {}
    assert got.pv_wh[LAST + 4] == 0
    pv[LAST + 4] = -300
    assert kinds(judge(load, pv).pv_fault) == {"negative": [LAST + 4]}


@pytest.mark.parametrize(("kind", "readings"), [("sun", [4_000.0]), ("stuck", [700.0] * 6)])
def test_doubted_production_is_taken_as_usual(kind: str, readings: list[float]) -> None:
    load, pv = home()
    at = LAST + 20
    usual = np.median(pv[at % STEPS :: STEPS][:-2])
    pv[at : at + len(readings)] = readings
    got = judge(load, pv)
    assert kinds(got.pv_fault) == {kind: [*range(at, at + len(readings))]}
    assert got.pv_wh[at] == pytest.approx(usual, rel=0.2)
    assert got.believed.all()


def test_a_day_without_production_is_said_and_stands() -> None:
    load, pv = home()
    pv[-STEPS:] = 0
    got = judge(load, pv)
    assert "dead" in kinds(got.pv_fault)
    assert (got.pv_wh == pv).all()
    assert got.believed.all()


def test_no_verdict_looks_into_the_future() -> None:
    load, pv = home()
    usual = sensors.limits(load, pv, STEPS)
    changed = load.copy()
    changed[LAST:] = 5_000
    later = sensors.limits(changed, np.where(np.arange(len(pv)) < LAST, pv, 0), STEPS)
    for before, after in zip(usual, later, strict=True):
        np.testing.assert_array_equal(before[:LAST], after[:LAST])
    # Nor does it matter where the limits were begun to be worked out.
    parts = sensors.limits(load, pv, STEPS, first=LAST)
    for whole, part in zip(usual, parts, strict=True):
        np.testing.assert_array_equal(whole[LAST:], part)


def test_a_new_habit_is_believed_after_some_days() -> None:
    load, pv = home()
    for day in range(DAYS - 8, DAYS):
        load[day * STEPS + 2 : day * STEPS + 6] += 3_500 + day
    found = kinds(judge(load, pv).load_fault).get("spike", [])
    assert found
    assert max(found) < (DAYS - 4) * STEPS


def test_few_readings_say_nothing() -> None:
    load, pv = home()
    days = slice(0, 4 * STEPS)
    load[60] = 9_000
    assert kinds(judge(load[days], pv[days]).load_fault) == {}
    none = np.zeros(0)
    assert len(judge(none, none).load_fault) == 0


def test_zeros_are_gaps_where_they_are_many_or_long() -> None:
    load = np.full(1_000, 50.0)
    load[100] = 0
    assert sensors.zero_gaps(load, DAY_MS // STEPS).sum() == 0
    load[200:213] = 0.2
    assert np.flatnonzero(sensors.zero_gaps(load, DAY_MS // STEPS)).tolist() == [
        100,
        *range(200, 213),
    ]
    load[200:213] = 50
    load[300:310] = 0
    assert np.flatnonzero(sensors.zero_gaps(load, DAY_MS // STEPS)).tolist() == [
        100,
        *range(300, 310),
    ]


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (0.55, (0.55, True)),
        (1.01, (0.5, False)),
        (55.0, (0.5, False)),
        (-0.3, (0.5, False)),
        (float("nan"), (0.5, False)),
        (0.9, (0.5, False)),
    ],
)
def test_a_state_of_charge_must_be_one(reported: float, expected: tuple[float, bool]) -> None:
    assert sensors.checked_soc(reported, 0.5, 0.1) == expected


def test_a_full_battery_may_round_up() -> None:
    assert sensors.checked_soc(1.01, 0.98, 0.1) == (1.0, True)


def test_a_battery_changes_as_fast_as_its_power() -> None:
    assert sensors.soc_change_max(2_500, 5_000, 3_600_000) == 0.5
    assert sensors.soc_change_max(2_500, 5_000, 36_000_000) == 1.0
    with pytest.raises(ConfigError, match="elapsed -1"):
        sensors.soc_change_max(2_500, 5_000, -1)


def test_every_kind_has_an_outcome_and_a_reason() -> None:
    assert {kind: sensors.outcome("load", kind) for kind in ("spike", "zero", "unit")} == {
        "spike": "doubted",
        "zero": "doubted",
        "unit": "refused",
    }
    assert [sensors.outcome("pv", kind) for kind in ("night", "sun", "stuck", "dead")] == [
        *["repaired"] * 3,
        "said",
    ]
    assert sensors.outcome("battery", "soc") == "refused"
    assert sensors.outcome("tariff", "hole") == "repaired"
    assert set(sensors.REASONS) == {*sensors.KINDS, *sensors.HEARD}
    assert {sensors.outcome("load", kind) for kind in sensors.HEARD} == {"refused"}
