"""A community of CE, table 1, and who is in it.

Users draw one of the load types (figure 4), those who generate one of the PV types (figure 3), and
each settles in intervals of its own: 45 to 75 minutes, drawn anew for each (ST).
"""

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

import msgspec

from study.errors import SettingError

DAY_MINUTES: Final = 1_440
USERS_MIN: Final = 2
USERS_MAX: Final = 2_000
AUTHORITIES_MIN: Final = 4
AUTHORITIES_MAX: Final = 32
# With fewer there is nobody to choose among; the paper has 15.
LOAD_TYPES_MIN: Final = 15

Profile = tuple[int, ...]


class Types(msgspec.Struct, frozen=True):
    """Mean power by hour of the day, 24 values each. [W], and of PV per kilowatt of peak power."""

    name: str
    load_w: tuple[Profile, ...]
    pv_w_per_kwp: tuple[Profile, ...]


class Setting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One community and what it is tried with.

    Parameters
    ----------
    users : how many (Ω).
    share_percent : how many of them generate (Ω²/Ω).
    seed : of who draws what, of the intervals, and of the agents' prices.
    load_percent : what users use, of what their types do.
    pv_w : peak power of a generator. [W]
    storage_wh : what its battery holds; empty at midnight. [Wh]
    settle_minutes : the shortest and the longest interval (ST).
    block_minutes : the time from block of requests to block of requests; so long may be offered.
    spread : how far an offer lies from the suggested price at most, a fraction of it.
    feed_in : whether surplus that nobody takes is paid for, at the feed-in tariff.
    hours : the part of the day that is lived, from and to.
    authorities : how many agree on each block; 0 where one process executes it, and nobody votes.
    """

    users: int = 60
    share_percent: int = 20
    seed: int = 1
    load_percent: int = 226
    pv_w: int = 5_000
    storage_wh: int = 5_000
    settle_minutes: tuple[int, int] = (45, 75)
    block_minutes: int = 5
    spread: float = 0.1
    feed_in: bool = True
    hours: tuple[int, int] = (0, 24)
    authorities: int = 0

    def check(self) -> "Setting":
        """Return the setting if there can be such a community. Raises `SettingError`."""
        if not USERS_MIN <= self.users <= USERS_MAX:
            raise SettingError(
                f"users {self.users}: a community here has {USERS_MIN} to {USERS_MAX} homes"
            )
        if not 0 <= self.share_percent <= 100:
            raise SettingError(
                f"share {self.share_percent} %: who generate are 0 to 100 % of the users"
            )
        if self.share_percent and not self.generators:
            raise SettingError(
                f"share {self.share_percent} % of {self.users} users is nobody: at least "
                f"{-(-50 // self.users)} %, or 0"
            )
        if not 1 <= self.load_percent <= 10_000:
            raise SettingError(f"load {self.load_percent} %: 1 to 10,000 % of the types' load")
        if self.authorities and not AUTHORITIES_MIN <= self.authorities <= AUTHORITIES_MAX:
            raise SettingError(
                f"authorities {self.authorities}: {AUTHORITIES_MIN} to {AUTHORITIES_MAX} agree, "
                "or 0 for none"
            )
        if not 0 <= self.hours[0] < self.hours[1] <= DAY_MINUTES // 60:
            raise SettingError(f"hours {self.hours}: from and to, in order, within 0 and 24")
        if self.pv_w < 0 or self.storage_wh < 0:
            raise SettingError("pv_w and storage_wh: power and energy are not negative")
        low, high = self.settle_minutes
        if not 2 * self.block_minutes <= low <= high <= 240:
            raise SettingError(
                f"settle_minutes {low} to {high}: in order, at least twice block_minutes "
                f"({self.block_minutes}), at most 240"
            )
        if not 1 <= self.block_minutes <= 30 or 60 % self.block_minutes:
            raise SettingError(
                f"block_minutes {self.block_minutes}: a divisor of 60, at most 30: 1, 2, 3, 4, "
                "5, 6, 10, 12, 15, 20 or 30"
            )
        if not 0 <= self.spread < 1:
            raise SettingError(f"spread {self.spread}: a fraction from 0 to below 1")
        return self

    @property
    def generators(self) -> int:
        """How many generate."""
        return (self.users * self.share_percent + 50) // 100


class Interval(NamedTuple):
    """One settlement interval of a user, in minutes of the day, and its energy (CE 14). [Wh]"""

    start: int
    end: int
    load_wh: int
    pv_wh: int


class User(NamedTuple):
    """A home: whether it generates, what it is like, and its intervals through the day."""

    number: int
    generates: bool
    load_type: int
    pv_type: int
    intervals: tuple[Interval, ...]

    @property
    def load_wh(self) -> int:
        """What it uses in the day. [Wh]"""
        return sum(interval.load_wh for interval in self.intervals)

    @property
    def pv_wh(self) -> int:
        """What it generates in the day. [Wh]"""
        return sum(interval.pv_wh for interval in self.intervals)


def built_in_types() -> Types:
    """Return the types of the built-in community (`hems.sources.community_data`)."""
    from hems.sources import community_data as tables

    return Types(
        "built-in (NSW Smart Grid Smart City 11/2012, Ausgrid 11/2011)",
        tables.LOAD_TYPES_W,
        tables.PV_TYPES_W_PER_KWP,
    )


def draw_users(setting: Setting, types: Types) -> list[User]:
    """Return the users, by number, the same for the same setting."""
    random = Random(f"ce-sdt/{setting.seed}")  # noqa: S311 - no secret  # nosec B311
    chosen = set(random.sample(range(setting.users), setting.generators))  # nosec B311 - no secret
    return [
        _draw_user(number, number - 1 in chosen, setting, types)
        for number in range(1, setting.users + 1)
    ]


def _draw_user(number: int, generates: bool, setting: Setting, types: Types) -> User:
    # Its own stream: a user is the same whoever else there is.
    random = Random(f"ce-sdt/{setting.seed}/{number}")  # noqa: S311 - no secret  # nosec B311
    load_type = random.randrange(len(types.load_w))  # nosec B311 - no secret
    pv_type = random.randrange(len(types.pv_w_per_kwp))  # nosec B311 - no secret
    load = _running_wh([watts * setting.load_percent // 100 for watts in types.load_w[load_type]])
    peak = setting.pv_w if generates else 0
    sun = [watts * peak // 1000 for watts in types.pv_w_per_kwp[pv_type]]
    pv = _running_wh([min(watts, peak) for watts in sun])
    first, last = (60 * hour for hour in setting.hours)
    intervals, start = [], first
    while start < last:
        end = min(last, start + random.randint(*setting.settle_minutes))  # nosec B311 - no secret
        intervals.append(Interval(start, end, load[end] - load[start], pv[end] - pv[start]))
        start = end
    return User(number, generates, load_type, pv_type, tuple(intervals))


def _running_wh(by_hour_w: Sequence[int]) -> list[int]:
    """Return what has been used up to each minute of the day. [Wh]"""
    found, watt_minutes = [0], 0
    for minute in range(DAY_MINUTES):
        watt_minutes += by_hour_w[minute // 60]
        found.append(watt_minutes // 60)
    return found
