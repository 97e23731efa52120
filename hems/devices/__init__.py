"""The devices of a home: what they can do, and what happens to their energy, exactly.

`battery` stores (CE 7 to 11), `pv` produces (CE 1), `loads` are the loads that can be moved: what
they are, as settings. `flexible` keeps their progress and says what they need. Losses are in parts
per million and stored energy is counted in micro-watt-hours, so a year of slots adds up without a
rounding that creates energy.
"""

from hems.devices.base import CAPACITY_WH_MAX, HOUR_MS, MICRO, POWER_W_MAX
from hems.devices.battery import Battery
from hems.devices.pv import PvArray

__all__ = [
    "CAPACITY_WH_MAX",
    "HOUR_MS",
    "MICRO",
    "POWER_W_MAX",
    "Battery",
    "PvArray",
]
