"""A feeder whose head meter is right, and homes whose meters are not."""

from collections.abc import Callable

import numpy as np
import pytest

from node.errors import MeteringError
from node.feeder.meters import FeederSettings, Floats, find_alarms

PER_DAY = 24
DAYS = 28
LIES_FROM = 21 * PER_DAY
HOMES = 6
SETTINGS = FeederSettings()


def feeder(seed: int = 1) -> tuple[Floats, Floats]:
    """Six homes of different habits, one with a roof, and a head meter; losses by the square."""
    rng = np.random.default_rng(seed)
    hours = np.arange(DAYS * PER_DAY)
    flows = []
    for _ in range(HOMES):
        habit = rng.uniform(100, 900, PER_DAY)
        mood = rng.lognormal(0, 0.4, len(hours))
        flows.append(habit[hours % PER_DAY] * mood)
    flows[0] = flows[0] - 1_500 * np.clip(np.sin((hours % PER_DAY - 6) / 12 * np.pi), 0, 1)
    true = np.array(flows)
    through = true.sum(axis=0)
    head = through + 2e-5 * through**2
    head = head * (1 + rng.normal(0, 0.003, len(head)))
    told = true * (1 + rng.uniform(-0.004, 0.004, (HOMES, 1)))
    return np.round(told), np.round(head)


def test_honest_meters_raise_no_alarm() -> None:
    for seed in range(1, 6):
        assert find_alarms(*feeder(seed), PER_DAY, SETTINGS) == []


LIES: dict[str, tuple[Callable[[Floats, Floats], Floats], str]] = {
    "scaled": (lambda told, past: told * 0.7, "scaled"),
    "clipped": (lambda told, past: np.minimum(told, np.median(told)), "clipped"),
    "shifted": (lambda told, past: np.roll(told, 5), "shifted by 5"),
    "repeated": (lambda told, past: past[-len(told) :], "repeated"),
}


@pytest.mark.parametrize("name", LIES)
@pytest.mark.parametrize("liar", [1, 4])
def test_who_lies_is_named_first_and_how(name: str, liar: int) -> None:
    told, head = feeder()
    lie, way = LIES[name]
    told[liar, LIES_FROM:] = np.round(lie(told[liar, LIES_FROM:], told[liar, :LIES_FROM]))
    (alarm,) = find_alarms(told, head, PER_DAY, SETTINGS)
    assert alarm.last == DAYS * PER_DAY
    assert alarm.suspects[0].home == liar
    assert alarm.suspects[0].way == way
    assert alarm.suspects[0].explained > 0.4


def test_how_much_is_missing_is_what_was_not_told() -> None:
    told, head = feeder()
    hidden = told[2, LIES_FROM:] * 0.4
    told[2, LIES_FROM:] -= hidden
    (alarm,) = find_alarms(told, head, PER_DAY, SETTINGS)
    assert alarm.missing_wh == pytest.approx(hidden.sum(), rel=0.1)
    assert alarm.moved_wh >= alarm.missing_wh


def test_an_export_that_never_was_is_a_lie_too() -> None:
    told, head = feeder()
    given = np.minimum(told[0, LIES_FROM:], 0)
    told[0, LIES_FROM:] += np.round(given * 0.5)
    (alarm,) = find_alarms(told, head, PER_DAY, SETTINGS)
    assert alarm.missing_wh > 0
    assert alarm.suspects[0][:2] == (0, "export scaled")


def test_what_everybody_takes_more_of_is_no_lie() -> None:
    """A cold week: all take half as much again, and say so."""
    told, head = feeder()
    more = told[:, LIES_FROM:] * 0.5
    told[:, LIES_FROM:] += np.round(more)
    through = told[:, LIES_FROM:].sum(axis=0)
    head[LIES_FROM:] = through + 2e-5 * through**2
    assert find_alarms(told, head, PER_DAY, SETTINGS) == []


def test_slots_in_which_somebody_told_nothing_are_left_out() -> None:
    told, head = feeder()
    silent = np.random.default_rng(3).random(told.shape) < 0.02
    assert find_alarms(np.where(silent, np.nan, told), head, PER_DAY, SETTINGS) == []
    told[3, LIES_FROM:] *= 0.6
    (alarm,) = find_alarms(np.where(silent, np.nan, told), head, PER_DAY, SETTINGS)
    assert alarm.suspects[0].home == 3


def test_the_same_readings_give_the_same_alarms() -> None:
    told, head = feeder()
    told[3, LIES_FROM:] *= 0.6
    first = find_alarms(told, head, PER_DAY, SETTINGS)
    assert first == find_alarms(told.copy(), head.copy(), PER_DAY, SETTINGS)


def test_what_cannot_be_judged_is_refused() -> None:
    told, head = feeder()
    with pytest.raises(MeteringError, match="homes by slots"):
        find_alarms(told[0], head, PER_DAY, SETTINGS)
    with pytest.raises(MeteringError, match="homes by slots"):
        find_alarms(told, head[1:], PER_DAY, SETTINGS)
    with pytest.raises(MeteringError, match="one slot"):
        find_alarms(told, head, 0, SETTINGS)
    told[0, : 20 * PER_DAY] = np.nan
    with pytest.raises(MeteringError, match="to learn losses from"):
        find_alarms(told, head, PER_DAY, SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trusted_days": 1},
        {"window_days": 0},
        {"tolerance": 0.0},
        {"tolerance": 1.0},
        {"deviations": 0.0},
    ],
)
def test_settings_that_cannot_be_meant(wrong: dict[str, float]) -> None:
    with pytest.raises(MeteringError):
        FeederSettings(**wrong)  # type: ignore[arg-type]
