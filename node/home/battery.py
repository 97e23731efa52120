"""A home's battery as its owner steers it, and as a real one tells how full it is."""

import logging
from collections.abc import Callable
from typing import Any

from hems.civil import DAY_MS, MINUTE_MS
from hems.devices import Battery
from hems.errors import HemsError
from hems.home import HomeEnergyManager
from hems.sources.live import LiveSource
from node.home.memory import HomeMemory

log = logging.getLogger("commonwatt.household")


class OwnersBattery:
    """What an owner wants of the battery beside the plan: a reserve, and for a while a power.

    Parameters
    ----------
    rated : Battery or None
        The battery as the settings have it, without a reserve beyond.
    manager : HomeEnergyManager
    memory : HomeMemory
        Keeps the reserve.
    save : callable
        Makes the memory durable.
    live : LiveSource or None
        Where a real battery says how full it is.
    market_ms : callable
        The market's time. [ms]
    """

    def __init__(
        self,
        rated: Battery | None,
        manager: HomeEnergyManager,
        memory: HomeMemory,
        save: Callable[[], None],
        live: LiveSource | None,
        market_ms: Callable[[], int],
    ) -> None:
        self.rated = rated
        self._manager = manager
        self._memory = memory
        self._save = save
        self._live = live
        self._market_ms = market_ms
        self._soc_taken_ms = 0
        if memory.reserve is not None:
            try:
                manager.keep_reserve(memory.reserve)
            except HemsError as error:
                # The battery was changed since.
                log.warning("the reserve that was set is left out: %s", error)
                memory.reserve = None

    def keep_reserve(self, soc: float) -> None:
        """Keep a reserve in it, a fraction; it outlives the daemon. Raises `HemsError`."""
        self._manager.keep_reserve(soc)
        self._memory.reserve = soc
        self._save()

    def command(self, power_w: float, minutes: int) -> None:
        """Let it charge, or discharge if negative, for some minutes of market time. [W]

        It ends with the daemon, too. Raises `HemsError`.
        """
        battery = self._manager.config.battery
        if battery is None:
            raise HemsError("power: this home has no battery")
        self._manager.steering.command(battery, power_w, minutes, self._market_ms())

    def release(self) -> None:
        """Let it follow the plan again."""
        self._manager.steering.release(self._market_ms())

    def state(self) -> dict[str, Any]:
        """Return what it is to do now, by whom, and its reserve; empty without a battery.

        `setpoint_w` is None where there is no plan for now.
        """
        battery = self._manager.config.battery
        if battery is None:
            return {}
        now_ms = self._market_ms()
        command = self._manager.steering.at(now_ms)
        # How full a real battery is has to be known: it is asked for nothing blindly.
        is_blind = self._live is not None and self._live.soc(now_ms) is None
        left_ms = 0 if command is None else command.until_ms - now_ms
        return {
            "setpoint_w": None if is_blind else self._manager.setpoint_w(now_ms),
            "steered_by": "plan" if command is None else "owner",
            "minutes_left": None if command is None else -(-left_ms // MINUTE_MS),
            "reserve": round(100 * battery.soc_min),
        }

    def take_soc(self) -> None:
        """Take over how full a real battery says it is, where that can be."""
        if self._live is None:
            return
        now_ms = self._market_ms()
        soc = self._live.soc(now_ms)
        elapsed_ms = min(now_ms - self._soc_taken_ms, DAY_MS)
        if soc is not None and self._manager.report_soc(soc, elapsed_ms):
            self._soc_taken_ms = now_ms
