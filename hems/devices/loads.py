"""Loads that can be moved, as settings: appliances, deferrable energy, cars, heat pumps.

Times are the wall clock's; a window's end before its begin is on the next day. What cannot be (a
programme longer than its window, a car that cannot be charged in time) is refused here, once, and
not found out every night.
"""

import math
from typing import Final, TypeAlias

import msgspec
import numpy as np

from hems.civil import FloatArray, IntArray
from hems.devices.base import CAPACITY_WH_MAX, HOUR_MS, MICRO, POWER_W_MAX
from hems.devices.windows import DAY_MINUTES, length_minutes, minutes_of
from hems.errors import ConfigError

MINUTE_MS: Final = 60_000
PROFILE_STEPS_MAX: Final = 288
DISCOMFORT_MICRO_MAX: Final = 1_000_000_000
CELSIUS_MIN: Final = -60.0
CELSIUS_MAX: Final = 100.0


class Appliance(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="appliance",
):
    """A programme that runs once in each window, and not in pieces: a dishwasher.

    `profile_w` is its power, `step_minutes` each [W]; it runs between `earliest` and `deadline`.
    """

    profile_w: tuple[int, ...]
    step_minutes: int = 15
    earliest: str = "00:00"
    deadline: str = "24:00"

    def __post_init__(self) -> None:
        window = _window(self.earliest, self.deadline)
        if not 1 <= len(self.profile_w) <= PROFILE_STEPS_MAX:
            raise ConfigError(f"profile_w: 1 to {PROFILE_STEPS_MAX} powers, not none or more")
        if not all(0 <= power <= POWER_W_MAX for power in self.profile_w):
            raise ConfigError(f"profile_w: powers are 0 to {POWER_W_MAX} W")
        if self.profile_w[0] == 0:
            raise ConfigError("profile_w: a programme begins with a power above 0")
        if not 1 <= self.step_minutes <= 60:
            raise ConfigError(f"step_minutes {self.step_minutes}: 1 to 60")
        if self.run_minutes > window:
            raise ConfigError(
                f"a programme of {self.run_minutes} minutes does not fit between "
                f"{self.earliest} and {self.deadline} ({window} minutes)"
            )

    @property
    def run_minutes(self) -> int:
        """How long it runs."""
        return len(self.profile_w) * self.step_minutes

    def energy_until_wh(self, after_ms: int) -> int:
        """Return what it has taken so long after its start. [Wh]

        Of the running total the floor, so that any slots add up to the same programme.
        """
        step_ms = self.step_minutes * MINUTE_MS
        whole, rest_ms = divmod(max(0, after_ms), step_ms)
        total = sum(self.profile_w[:whole]) * step_ms
        if whole < len(self.profile_w):
            total += self.profile_w[whole] * rest_ms
        return total // HOUR_MS

    def taken_wh(self, after_ms: IntArray) -> FloatArray:
        """Return what it has taken so long after its start, of any shape. [Wh]"""
        step_ms = self.step_minutes * MINUTE_MS
        points_ms = step_ms * np.arange(len(self.profile_w) + 1)
        taken = np.concatenate((np.zeros(1), np.cumsum(self.profile_w) * step_ms / HOUR_MS))
        result: FloatArray = np.interp(after_ms, points_ms, taken)
        return result


class Deferrable(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="deferrable",
):
    """Energy to take in each window, in pieces or not: a pool pump, a boiler.

    `energy_wh` is taken between `earliest` and `deadline` at up to `power_w`. With
    `power_min_w` it is either off or takes at least that; once on it stays on for
    `run_minutes_min`, once its energy lasts so long.
    """

    energy_wh: int
    power_w: int
    power_min_w: int = 0
    run_minutes_min: int = 0
    earliest: str = "00:00"
    deadline: str = "24:00"

    def __post_init__(self) -> None:
        window = _window(self.earliest, self.deadline)
        _check_power(self.power_w, self.power_min_w)
        if not 0 < self.energy_wh <= CAPACITY_WH_MAX:
            raise ConfigError(f"energy_wh {self.energy_wh}: 1 to {CAPACITY_WH_MAX} Wh")
        if self.energy_wh * 60 > self.power_w * window:
            raise ConfigError(
                f"{self.energy_wh} Wh between {self.earliest} and {self.deadline} would take "
                f"{self.energy_wh * 60 // window + 1} W, power_w is {self.power_w}"
            )
        if self.run_minutes_min and not self.power_min_w:
            raise ConfigError("run_minutes_min: needs power_min_w, the least when it is on")
        if not 0 <= self.run_minutes_min <= window:
            raise ConfigError(
                f"run_minutes_min {self.run_minutes_min}: 0 to the window's {window} minutes"
            )
        if self.run_minutes_min * self.power_min_w > self.energy_wh * 60:
            raise ConfigError(
                f"{self.run_minutes_min} minutes at {self.power_min_w} W are more than the "
                f"{self.energy_wh} Wh wanted"
            )


class Car(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="car",
):
    """An electric car: at home from `arrive` to `leave`, charged to `soc_target` by then.

    Each trip takes `trip_wh` out of its battery. `power_min_w`: the least a charging point can
    give when it is on (6 A are 1,380 W at 230 V); 0 for a continuous one.
    """

    capacity_wh: int = 50_000
    power_w: int = 7_400
    power_min_w: int = 0
    charge_efficiency: float = 0.9
    soc_target: float = 0.8
    trip_wh: int = 8_000
    arrive: str = "18:00"
    leave: str = "07:30"

    def __post_init__(self) -> None:
        window = _window(self.arrive, self.leave, "arrive", "leave")
        _check_power(self.power_w, self.power_min_w)
        if not 0 < self.capacity_wh <= CAPACITY_WH_MAX:
            raise ConfigError(f"capacity_wh {self.capacity_wh}: 1 to {CAPACITY_WH_MAX} Wh")
        if not 0 < self.charge_efficiency <= 1:
            raise ConfigError(
                f"charge_efficiency {self.charge_efficiency}: a fraction above 0, at most 1"
            )
        if not 0 < self.soc_target <= 1:
            raise ConfigError(f"soc_target {self.soc_target}: a fraction above 0, at most 1")
        if not 0 <= self.trip_wh <= self.soc_target * self.capacity_wh:
            raise ConfigError(
                f"trip_wh {self.trip_wh}: 0 to what it leaves with, "
                f"{self.soc_target * self.capacity_wh:.0f} Wh"
            )
        if window == DAY_MINUTES:
            raise ConfigError(f"arrive and leave are both {self.arrive}: it is never away")
        needed = self.trip_wh / self.charge_efficiency
        if needed * 60 > self.power_w * window:
            raise ConfigError(
                f"{needed:.0f} Wh for the next trip cannot be charged between {self.arrive} and "
                f"{self.leave} at {self.power_w} W; {self.power_w * window // 60} Wh can"
            )

    @property
    def charge_ppm(self) -> int:
        """Charging efficiency in parts per million."""
        return max(1, round(self.charge_efficiency * MICRO))

    @property
    def target_uwh(self) -> int:
        """What it shall leave with. [micro-Wh]"""
        return round(self.soc_target * self.capacity_wh * MICRO)


class HeatPump(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="heat_pump",
):
    """A heat pump and the house it keeps within a band: one thermal node.

    `capacity_wh_per_c` is the heat that warms the house by a degree, `loss_w_per_c` what it loses
    per degree above the outside. `cop` is heat moved per electricity; with `cooling` it is moved
    out. Leaving the band costs `discomfort_micro_per_c_h` per degree and hour. The outside follows
    a day's curve, `outdoor_mean_c` ± `outdoor_swing_c`, warmest at three in the afternoon.
    """

    power_w: int = 2_000
    power_min_w: int = 0
    cop: float = 3.5
    cooling: bool = False
    capacity_wh_per_c: float = 3_000.0
    loss_w_per_c: float = 150.0
    comfort_min_c: float = 20.0
    comfort_max_c: float = 22.0
    discomfort_micro_per_c_h: int = 1_000_000
    outdoor_mean_c: float = 10.0
    outdoor_swing_c: float = 5.0

    def __post_init__(self) -> None:
        _check_power(self.power_w, self.power_min_w)
        for name, least, most in (
            ("cop", 0.1, 20.0),
            ("capacity_wh_per_c", 1.0, 1e6),
            ("loss_w_per_c", 0.1, 1e5),
            ("comfort_min_c", CELSIUS_MIN, CELSIUS_MAX),
            ("comfort_max_c", CELSIUS_MIN, CELSIUS_MAX),
            ("outdoor_mean_c", CELSIUS_MIN, CELSIUS_MAX),
            ("outdoor_swing_c", 0.0, 50.0),
            ("discomfort_micro_per_c_h", 1, DISCOMFORT_MICRO_MAX),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"{name} {value}: {least:g} to {most:g}")
        if not self.comfort_min_c < self.comfort_max_c:
            raise ConfigError(
                f"comfort_min_c {self.comfort_min_c}: must be below comfort_max_c "
                f"{self.comfort_max_c}"
            )

    @property
    def memory_h(self) -> float:
        """How long the house takes to come to 1/e of its distance to the outside. [h]"""
        return self.capacity_wh_per_c / self.loss_w_per_c

    def keep(self, hours: float) -> float:
        """Return the share of the distance to the outside that is left after so long."""
        return math.exp(-hours / self.memory_h)

    def warmed_c(self, energy_wh: float, hours: float) -> float:
        """Return what electricity, taken evenly over so long, has done by then. [°C]"""
        sign = -1.0 if self.cooling else 1.0
        return sign * self.cop * energy_wh / hours / self.loss_w_per_c * (1 - self.keep(hours))

    def outdoor_c(self, hour_of_day: float) -> float:
        """Return the temperature outside at a time of day. [°C]"""
        phase = (hour_of_day - 15) / 24 * 2 * math.pi
        return self.outdoor_mean_c + self.outdoor_swing_c * math.cos(phase)


class Adjustable(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="adjustable",
):
    """A load its user would like at `nominal_w`, and can bear otherwise (CE 3.1, users Ω¹).

    Between `begin` and `end` it takes `power_min_w` to `power_w`. Being at P costs the user
    `discomfort * (P - nominal)²`, in micro-units per kW² and hour, the plan's as much by pieces.
    """

    nominal_w: int
    power_w: int
    power_min_w: int = 0
    discomfort_micro_per_kw2_h: int = 500_000
    begin: str = "00:00"
    end: str = "24:00"

    def __post_init__(self) -> None:
        _window(self.begin, self.end, "begin", "end")
        if not 0 <= self.power_min_w <= self.nominal_w <= self.power_w <= POWER_W_MAX:
            raise ConfigError(
                f"power_min_w {self.power_min_w}, nominal_w {self.nominal_w}, power_w "
                f"{self.power_w}: ascending, from 0 to {POWER_W_MAX} W"
            )
        if not 0 < self.discomfort_micro_per_kw2_h <= DISCOMFORT_MICRO_MAX:
            raise ConfigError(
                f"discomfort_micro_per_kw2_h {self.discomfort_micro_per_kw2_h}: "
                f"1 to {DISCOMFORT_MICRO_MAX}"
            )


Load: TypeAlias = Appliance | Deferrable | Car | HeatPump | Adjustable


def _window(begin: str, end: str, begin_name: str = "earliest", end_name: str = "deadline") -> int:
    """Return the window's minutes. Raises `ConfigError`."""
    first, last = minutes_of(begin_name, begin), minutes_of(end_name, end)
    if first == DAY_MINUTES or last == 0:
        raise ConfigError(f"{begin_name} {begin!r}, {end_name} {end!r}: a day is 00:00 to 24:00")
    return length_minutes(first, last)


def _check_power(power_w: int, power_min_w: int) -> None:
    if not 0 < power_w <= POWER_W_MAX:
        raise ConfigError(f"power_w {power_w}: must be 1 to {POWER_W_MAX} W")
    if not 0 <= power_min_w <= power_w:
        raise ConfigError(f"power_min_w {power_min_w}: 0 to power_w {power_w}")
