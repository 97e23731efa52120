"""Batteries (CE 7 to 11): what they can do, and what happens to their energy, exactly."""

from typing import Final

import msgspec

from hems.devices.base import CAPACITY_WH_MAX, HOUR_MS, MICRO, POWER_W_MAX
from hems.errors import ConfigError, InvariantError

WEAR_MICRO_PER_KWH_MAX: Final = 1_000_000_000


class Battery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A battery and how it may be used (CE 7 to 11).

    Parameters
    ----------
    capacity_wh : int
        Energy it holds when full. [Wh]
    power_w : int, optional
        Limit of charging and of discharging, at the home's side; half the capacity per hour if
        not given. [W]
    charge_power_w, discharge_power_w : int, optional
        Limits of their own instead, where the inverter takes and gives unequally. [W]
    charge_efficiency, discharge_efficiency : float
        In (0, 1]; kept to a millionth.
    soc_min, soc_max : float
        Range of the state of charge, fractions of the capacity.
    soc_end : float
        State of charge wanted at the end of a plan (CE 11); a wish, given up where no energy is.
    wear_micro_per_kwh : int
        Cost of ageing for each kWh taken out of it. [micro/kWh]
    grid_charging : bool
        Whether it may be charged from the grid. Without it, only surplus of own production and
        what was bought from neighbours may go in.

    Raises
    ------
    ConfigError
        A value is outside its range.
    """

    capacity_wh: int = 5_000
    power_w: int | None = None
    charge_power_w: int | None = None
    discharge_power_w: int | None = None
    charge_efficiency: float = 0.95
    discharge_efficiency: float = 0.95
    soc_min: float = 0.1
    soc_max: float = 1.0
    soc_end: float = 0.2
    wear_micro_per_kwh: int = 20_000
    grid_charging: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.capacity_wh <= CAPACITY_WH_MAX:
            raise ConfigError(
                f"capacity_wh {self.capacity_wh}: a battery holds 1 to {CAPACITY_WH_MAX} Wh"
            )
        for name in ("power_w", "charge_power_w", "discharge_power_w"):
            power_w = getattr(self, name)
            if power_w is not None and not 0 < power_w <= POWER_W_MAX:
                raise ConfigError(f"{name} {power_w}: must be 1 to {POWER_W_MAX} W")
        for name in ("charge_efficiency", "discharge_efficiency"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"{name} {getattr(self, name)}: a fraction above 0, at most 1")
        if not 0 <= self.soc_min < self.soc_max <= 1:
            raise ConfigError(
                f"soc_min {self.soc_min}, soc_max {self.soc_max}: "
                "fractions with 0 <= soc_min < soc_max <= 1"
            )
        if not self.soc_min <= self.soc_end <= self.soc_max:
            raise ConfigError(f"soc_end {self.soc_end}: must lie within soc_min and soc_max")
        if not 0 <= self.wear_micro_per_kwh <= WEAR_MICRO_PER_KWH_MAX:
            raise ConfigError(
                f"wear_micro_per_kwh {self.wear_micro_per_kwh}: 0 to {WEAR_MICRO_PER_KWH_MAX}"
            )

    @property
    def power_limit_w(self) -> int:
        """The power limit where none of its own is given for charging or discharging. [W]"""
        return self.power_w if self.power_w is not None else max(1, self.capacity_wh // 2)

    @property
    def charge_limit_w(self) -> int:
        """The limit of charging in force. [W]"""
        return self.charge_power_w if self.charge_power_w is not None else self.power_limit_w

    @property
    def discharge_limit_w(self) -> int:
        """The limit of discharging in force. [W]"""
        return self.discharge_power_w if self.discharge_power_w is not None else self.power_limit_w

    @property
    def charge_ppm(self) -> int:
        """Charging efficiency in parts per million."""
        return max(1, round(self.charge_efficiency * MICRO))

    @property
    def discharge_ppm(self) -> int:
        """Discharging efficiency in parts per million."""
        return max(1, round(self.discharge_efficiency * MICRO))

    @property
    def min_uwh(self) -> int:
        """Least energy it is left with. [micro-Wh]"""
        return round(self.soc_min * self.capacity_wh * MICRO)

    @property
    def max_uwh(self) -> int:
        """Most energy it is filled to. [micro-Wh]"""
        return round(self.soc_max * self.capacity_wh * MICRO)

    @property
    def end_uwh(self) -> int:
        """What it is wished to hold at the end, and thought to at first. [micro-Wh]"""
        return round(self.soc_end * self.capacity_wh * MICRO)

    def charge_max_wh(self, stored_uwh: int, step_ms: int) -> int:
        """Return the most a step can charge from this state. [Wh at the home's side]"""
        room_wh = max(0, self.max_uwh - stored_uwh) // self.charge_ppm
        return min(self.charge_limit_w * step_ms // HOUR_MS, room_wh)

    def discharge_max_wh(self, stored_uwh: int, step_ms: int) -> int:
        """Return the most a step can discharge from this state. [Wh at the home's side]"""
        there_wh = max(0, stored_uwh - self.min_uwh) * self.discharge_ppm // (MICRO * MICRO)
        return min(self.discharge_limit_w * step_ms // HOUR_MS, there_wh)

    def step(self, stored_uwh: int, action_wh: int, step_ms: int) -> int:
        """Return the energy stored after a step (CE 7 to 9). [micro-Wh]

        Charging (`action_wh` > 0) stores `action * efficiency`; discharging takes
        `action / efficiency` out, not times, as CE 9 is printed: that would create energy.

        Raises
        ------
        InvariantError
            The action is more than the power limit or the state of charge allows.
        """
        if action_wh >= 0:
            if action_wh > self.charge_max_wh(stored_uwh, step_ms):
                raise InvariantError(f"cannot charge {action_wh} Wh on {stored_uwh} micro-Wh")
            return stored_uwh + action_wh * self.charge_ppm
        if -action_wh > self.discharge_max_wh(stored_uwh, step_ms):
            raise InvariantError(f"cannot discharge {-action_wh} Wh from {stored_uwh} micro-Wh")
        # Floor division of a negative rounds away from zero: what is lost is never given out.
        return stored_uwh + action_wh * MICRO * MICRO // self.discharge_ppm
