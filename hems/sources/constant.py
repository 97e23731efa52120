"""A home whose load and production never change: storage without either, or a plant.

It is measured at all times, so there is nothing to forecast wrongly.
"""

import numpy as np

from hems.civil import HOUR_MS
from hems.devices import POWER_W_MAX
from hems.errors import ConfigError
from hems.sources.base import Measurements, check_window


class ConstantSource:
    """A source of constant power. [W]

    Raises
    ------
    ConfigError
        A power that is negative or above `hems.devices.POWER_W_MAX`.
    """

    def __init__(self, load_w: int = 0, pv_w: int = 0) -> None:
        for name, power_w in (("load_w", load_w), ("pv_w", pv_w)):
            if not 0 <= power_w <= POWER_W_MAX:
                raise ConfigError(f"{name} {power_w}: 0 to {POWER_W_MAX} W")
        self._load_w, self._pv_w = load_w, pv_w

    def window(self, start_ms: int, end_ms: int, step_ms: int) -> Measurements:
        """Return the steps of `[start_ms, end_ms)`; see `Source`."""
        steps = check_window(start_ms, end_ms, step_ms)
        edges_ms = start_ms + step_ms * np.arange(steps + 1, dtype=np.int64)
        # Cut from one running total, so that steps of any length add up alike.
        load_wh, pv_wh = (np.diff(edges_ms * w // HOUR_MS) for w in (self._load_w, self._pv_w))
        return Measurements(load_wh, pv_wh, np.ones(steps, np.bool_))
