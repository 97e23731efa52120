"""What a community is tried with: who matches, who trades how, what batteries and carbon may."""

from typing import Final, NamedTuple

import msgspec

from study.errors import SettingError

# No orders at all; every home for itself.
ALONE: Final = "none"
MECHANISMS: Final = (ALONE, "request_offer", "high_low", "uniform", "sharing")
AGENTS: Final = ("mpc", "ce", "hu_prosumer", "zero_intelligence")
HOMES_MIN: Final = 2
HOMES_MAX: Final = 500
DAYS_MAX: Final = 28
HOURS: Final = 24


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One community, and what it is tried with.

    Parameters
    ----------
    homes : how many; six of ten have PV and a battery, as in the built-in community.
    days : how long.
    seed : of the homes' days, and of the agents' draws.
    mechanism : of the contracts; "none" where nothing is traded.
    agent : of every home.
    grid_charging : whether batteries may be charged from the grid.
    quota_g : what a home may emit in a day before it pays for more; 0 without quotas. [g]
    slot_minutes : length of a slot.
    """

    homes: int = 12
    days: int = 1
    seed: int = 1
    mechanism: str = "high_low"
    agent: str = "mpc"
    grid_charging: bool = False
    quota_g: int = 0
    slot_minutes: int = 30

    def check(self) -> "Setting":
        """Return the setting if there can be such a community. Raises `SettingError`."""
        if not HOMES_MIN <= self.homes <= HOMES_MAX:
            raise SettingError(f"homes {self.homes}: {HOMES_MIN} to {HOMES_MAX} trade here")
        if not 1 <= self.days <= DAYS_MAX:
            raise SettingError(f"days {self.days}: 1 to {DAYS_MAX}")
        for name, value, known in (
            ("mechanism", self.mechanism, MECHANISMS),
            ("agent", self.agent, AGENTS),
        ):
            if value not in known:
                raise SettingError(f"{name} {value!r}: one of {', '.join(known)}")
        if not 0 <= self.quota_g <= 1_000_000:
            raise SettingError(f"quota_g {self.quota_g}: 0 to 1,000,000 g a day")
        if self.slot_minutes not in (5, 10, 15, 20, 30, 60):
            raise SettingError(
                f"slot_minutes {self.slot_minutes}: a divisor of 60 from 5: 5, 10, 15, 20, 30 or 60"
            )
        return self


class Case(NamedTuple):
    """A row of the comparison: its name, and what is changed for it."""

    name: str
    changes: dict[str, str | bool | int]


QUOTA_G: Final = 2_500
CASES: Final = (
    Case("no market", {"mechanism": ALONE}),
    Case("request_offer, mpc", {"mechanism": "request_offer"}),
    Case("high_low, mpc", {"mechanism": "high_low"}),
    Case("uniform, mpc", {"mechanism": "uniform"}),
    Case("sharing", {"mechanism": "sharing"}),
    Case("request_offer, ce", {"mechanism": "request_offer", "agent": "ce"}),
    Case("high_low, hu_prosumer", {"mechanism": "high_low", "agent": "hu_prosumer"}),
    Case("high_low, zero_intelligence", {"mechanism": "high_low", "agent": "zero_intelligence"}),
    Case("no market, charging from the grid", {"mechanism": ALONE, "grid_charging": True}),
    Case("high_low, mpc, charging from the grid", {"grid_charging": True}),
    Case("high_low, mpc, carbon quotas", {"quota_g": QUOTA_G}),
)


def cases_of(text: str) -> tuple[Case, ...]:
    """Read `--only`: cases whose names begin with one of some words. Raises `SettingError`."""
    if text == "all":
        return CASES
    begins = tuple(word.strip() for word in text.split(";") if word.strip())
    found = tuple(case for case in CASES if begins and case.name.startswith(begins))
    if not found:
        names = "; ".join(case.name for case in CASES)
        raise SettingError(f"--only {text!r}: no case begins so; there are: {names}")
    return found
