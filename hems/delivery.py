"""What physically happens in a slot: readings, batteries and movable loads, not what was planned.

The plan's part in it is what it wants (`Wanted`); the meters, the owner's commands and the devices'
own limits have the last word.
"""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from typing import Final, NamedTuple

import msgspec

from hems import control
from hems.config import HomeConfig
from hems.devices.base import MICRO
from hems.devices.flexible import FlexibleLoads, Range
from hems.devices.metered import metered
from hems.sources.checked import CheckedSource
from hems.state import HomeState
from hems.steering import Steering


class Wanted(NamedTuple):
    """What a plan wants of a slot, and expects of it where its reading is not known. [Wh]

    `device_wh` is what each movable load is to take; without a plan they serve themselves.
    """

    intent: control.Intent
    load_wh: int = 0
    pv_wh: int = 0
    device_wh: Mapping[str, float] | None = None


NOTHING_PLANNED: Final = Wanted(control.SELF_CONSUMPTION)


class Delivery(NamedTuple):
    """What physically happened in a slot. [Wh]

    `import_wh` and `export_wh` are the meter's reading, trades included. `baseline_*` is what the
    same load and production would have read without battery. `known` is False where the source
    had a gap and the forecast was delivered instead. `load_wh` includes `device_wh`, what each
    movable load took.
    """

    slot_start_ms: int
    slot_ms: int
    load_wh: int
    pv_wh: int
    charge_wh: int
    discharge_wh: int
    curtail_wh: int
    import_wh: int
    export_wh: int
    stored_wh: int
    traded_wh: int
    baseline_import_wh: int
    baseline_export_wh: int
    known: bool
    device_wh: dict[str, int] = {}  # noqa: RUF012 - a tuple's default, never written to


class House:
    """The house around the manager: its meter, batteries and movable loads.

    Parameters
    ----------
    source : CheckedSource
        What it reads.
    loads : FlexibleLoads
    steering : Steering
        The commands of its owner.
    zone : tzinfo
        Where it stands.
    battery_wh, device_wh : callable, optional
        What battery and movable loads really took, as `hems.home.HomeEnergyManager` says.
    """

    def __init__(
        self,
        source: CheckedSource,
        loads: FlexibleLoads,
        steering: Steering,
        zone: tzinfo,
        battery_wh: Callable[[int, int], int | None] | None,
        device_wh: Callable[[str, int, int], int | None] | None,
    ) -> None:
        self._source = source
        self._loads = loads
        self._steering = steering
        self._zone = zone
        self._battery_wh = battery_wh
        self._device_wh = device_wh

    def let_happen(
        self, config: HomeConfig, state: HomeState, start_ms: int, slot_ms: int, wanted: Wanted
    ) -> tuple[HomeState, Delivery]:
        """Let a slot happen, and return the home's state after it and what it came to.

        Commands that end in it are forgotten. Raises as `hems.control.follow`.
        """
        actual = self._source.reading(start_ms, start_ms + slot_ms, slot_ms)
        known = bool(actual.known[0])
        load_wh, pv_wh = wanted.load_wh, wanted.pv_wh
        if known:
            load_wh, pv_wh = int(actual.load_wh[0]), int(actual.pv_wh[0])
        intent = self._commanded(wanted.intent, start_ms, start_ms + slot_ms)
        ranges = self._ranges(config, state, start_ms, slot_ms, wanted.device_wh)
        flows = self._flows(config, state, start_ms, slot_ms, load_wh, pv_wh, intent, ranges)
        taken = {one.name: (one, wh) for one, wh in zip(ranges, flows.taken_wh, strict=True)}
        after = msgspec.structs.replace(
            state,
            stored_uwh=flows.stored_uwh,
            batteries=dict(zip(state.batteries, flows.more_stored_uwh, strict=True)),
            devices=self._loads.after(state.devices, start_ms, slot_ms, taken),
            next_slot_ms=start_ms + slot_ms,
            committed_wh={at: wh for at, wh in state.committed_wh.items() if at > start_ms},
        )
        delivery = Delivery(
            start_ms,
            slot_ms,
            flows.load_wh,
            pv_wh,
            flows.charge_wh,
            flows.discharge_wh,
            flows.curtail_wh,
            flows.import_wh,
            flows.export_wh,
            (flows.stored_uwh + sum(flows.more_stored_uwh)) // MICRO,
            state.committed_wh.get(start_ms, 0),
            max(0, flows.load_wh - pv_wh),
            max(0, pv_wh - flows.load_wh),
            known,
            {name: wh for name, (_, wh) in taken.items()},
        )
        return after, delivery

    def _commanded(self, intent: control.Intent, start_ms: int, end_ms: int) -> control.Intent:
        """Return what the owner makes of an intent."""
        more_wh = sum(intent.more_action_wh)
        wanted_wh = self._steering.wanted_wh(start_ms, end_ms, intent.action_wh - more_wh)
        self._steering.forget(end_ms)
        if wanted_wh is None:
            return intent
        return intent._replace(action_wh=wanted_wh + more_wh, is_commanded=True)

    def _ranges(
        self,
        config: HomeConfig,
        state: HomeState,
        start_ms: int,
        slot_ms: int,
        planned_wh: Mapping[str, float] | None,
    ) -> tuple[Range, ...]:
        """Return what each movable load may take; of one with a meter, what it took."""
        if self._device_wh is None:
            return self._loads.ranges(state.devices, start_ms, slot_ms, planned_wh)
        end_ms = start_ms + slot_ms
        taken_wh = {name: self._device_wh(name, start_ms, end_ms) or 0 for name in config.devices}
        return metered(config.devices, state.devices, start_ms, slot_ms, taken_wh, self._zone)

    def _flows(
        self,
        config: HomeConfig,
        state: HomeState,
        start_ms: int,
        slot_ms: int,
        load_wh: int,
        pv_wh: int,
        intent: control.Intent,
        ranges: tuple[Range, ...],
    ) -> control.Flows:
        """Return what passed: by the battery's own meter if it has one, else as it should."""
        battery = config.battery
        if battery is not None and self._battery_wh is not None:
            action_wh = self._battery_wh(start_ms, start_ms + slot_ms)
            if action_wh is not None:
                taken_wh = [one.planned_wh for one in ranges]
                return control.measured(
                    battery, state.stored_uwh, load_wh, pv_wh, action_wh, taken_wh
                )
        more = [(config.more_batteries[name], uwh) for name, uwh in state.batteries.items()]
        return control.follow(
            battery,
            state.stored_uwh,
            slot_ms,
            load_wh,
            pv_wh,
            state.committed_wh.get(start_ms, 0),
            intent,
            config.limits,
            more,
            ranges,
        )
