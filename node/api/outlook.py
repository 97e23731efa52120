"""What the home of this node expects and means to do, of its last plan.

forecast   load and production slot by slot, each with its 80 % band
plan       grid, batteries and movable loads per step, prices, and what energy is worth
devices    batteries and movable loads as they stand
deliveries the last slots as they were delivered, newest last

Steps are lists of the same length; their starts are in market time. Energies are per step. [Wh]
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from hems.delivery import Delivery
from hems.forecast import Forecast
from hems.home import HomeEnergyManager, SlotPlan
from node.api.control import Answer
from node.errors import AbsentError, UnknownError

MICRO_PER_UNIT: Final = 1_000_000


class Outlook:
    """Answers about the home of this node.

    Parameters
    ----------
    manager : HomeEnergyManager or None
        None: the node has no home.
    deliveries : callable
        The last deliveries that the household keeps, newest last.
    """

    def __init__(
        self,
        manager: HomeEnergyManager | None,
        deliveries: Callable[[], Sequence[Delivery]] = lambda: (),
    ) -> None:
        self._manager = manager
        self._deliveries = deliveries

    def table(self) -> dict[str, Answer]:
        """Return the answers by the question's name."""
        return {
            "forecast": self.forecast,
            "plan": self.plan,
            "devices": self.devices,
            "deliveries": self.deliveries,
        }

    async def forecast(self, question: Mapping[str, Any]) -> Any:
        """The load and production that the last plan was made for."""
        del question
        planned = self._planned()
        # The first step is one slot, which is as forecasts have it.
        slot_ms = int(planned.plan.given.step_ms[0])
        starts = _steps(planned.begins_ms, [slot_ms] * len(planned.load.mean_wh))
        return starts | {"load": _band(planned.load), "pv": _band(planned.pv)}

    async def plan(self, question: Mapping[str, Any]) -> Any:
        """The last plan."""
        del question
        planned = self._planned()
        plan, given = planned.plan, planned.plan.given
        lengths_ms = [int(length) for length in given.step_ms]
        return _steps(planned.begins_ms, lengths_ms) | {
            "for_slot_start_ms": planned.slot_start_ms,
            "method": plan.method,
            "cost_micro": round(plan.cost_micro),
            "load_wh": _whole(given.load_wh),
            "pv_wh": _whole(given.pv_wh),
            "traded_wh": _whole(given.traded_wh),
            "import_wh": _whole(plan.import_wh),
            "export_wh": _whole(plan.export_wh),
            "curtail_wh": _whole(plan.curtail_wh),
            "charge_wh": _whole(plan.charge_wh),
            "discharge_wh": _whole(plan.discharge_wh),
            "stored_wh": _whole(plan.stored_wh),
            "device_wh": {name: _whole(taken) for name, taken in plan.device_wh.items()},
            "import_micro_per_kwh": _whole(given.import_micro_per_kwh),
            "export_micro_per_kwh": _whole(given.export_micro_per_kwh),
            "value_micro_per_kwh": _whole(plan.value_micro_per_kwh),
        }

    async def devices(self, question: Mapping[str, Any]) -> Any:
        """What the home's batteries hold, and how far its movable loads are."""
        del question
        manager = self._need()
        config, state = manager.config, manager.state
        batteries = []
        if config.battery is not None:
            batteries.append(_battery("battery", config.battery.capacity_wh, state.stored_uwh))
        batteries += [
            _battery(name, more.capacity_wh, state.batteries.get(name, 0))
            for name, more in config.more_batteries.items()
        ]
        devices = [
            {
                "name": name,
                "kind": type(device).__struct_config__.tag,
                "window_ms": progress.window_ms,
                "taken_wh": progress.taken_wh,
                "begun_ms": progress.begun_ms,
                "stored_wh": progress.stored_uwh // MICRO_PER_UNIT,
                "plugged": progress.plugged,
            }
            for name, device in config.devices.items()
            if (progress := state.devices.get(name)) is not None
        ]
        return {"batteries": batteries, "devices": devices}

    async def deliveries(self, question: Mapping[str, Any]) -> Any:
        """What physically happened in the last slots since the node started, at most 96. [Wh]"""
        del question
        self._need()
        return [one._asdict() for one in self._deliveries()]

    def _need(self) -> HomeEnergyManager:
        if self._manager is None:
            raise AbsentError("this node has no home: there is no [home] in its settings")
        return self._manager

    def _planned(self) -> SlotPlan:
        planned = self._need().planned
        if planned is None:
            raise UnknownError("nothing has been planned yet: a plan comes before each gate")
        return planned


def _steps(begins_ms: int, lengths_ms: list[int]) -> dict[str, Any]:
    ends_ms = itertools.accumulate(lengths_ms, initial=begins_ms)
    return {"starts_ms": list(ends_ms)[:-1], "lengths_ms": lengths_ms}


def _band(found: Forecast) -> dict[str, list[int]]:
    return {
        "mean_wh": _whole(found.mean_wh),
        "low_wh": _whole(found.low_wh),
        "high_wh": _whole(found.high_wh),
    }


def _battery(name: str, capacity_wh: int, stored_uwh: int) -> dict[str, Any]:
    return {"name": name, "capacity_wh": capacity_wh, "stored_wh": stored_uwh // MICRO_PER_UNIT}


def _whole(values: Iterable[float]) -> list[int]:
    return [round(float(value)) for value in values]
