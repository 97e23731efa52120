"""Loads that can be moved and have meters of their own: what they took decides how far they are."""

from collections.abc import Mapping
from datetime import tzinfo
from typing import Final

from hems.devices.base import HOUR_MS
from hems.devices.flexible import Range
from hems.devices.loads import MINUTE_MS, Appliance, Load
from hems.devices.progress import DeviceState
from hems.devices.windows import minutes_of, spans

# Of its programme's mean power: an appliance that takes less stands by.
ON_SHARE: Final = 0.1


def on_w(load: Appliance) -> float:
    """Return the power from which an appliance's programme is taken to run. [W]"""
    return ON_SHARE * sum(load.profile_w) / len(load.profile_w)


def metered(
    loads: Mapping[str, Load],
    states: Mapping[str, DeviceState],
    start_ms: int,
    slot_ms: int,
    taken_wh: Mapping[str, int],
    zone: tzinfo,
) -> tuple[Range, ...]:
    """Return what each device took in a slot by its meter, as a range of nothing else. [Wh]

    An appliance's programme has begun with the first slot of its window in which it takes more
    than standing by. What runs outside its window, or again in it, is its owner's and no progress.
    """
    found = []
    for name, load in loads.items():
        wh, state = taken_wh.get(name, 0), states.get(name, DeviceState())
        begun_ms = state.begun_ms
        if isinstance(load, Appliance):
            begun_ms = _begun_ms(load, state, start_ms, slot_ms, wh, zone)
        elif begun_ms is None:
            begun_ms = start_ms
        found.append(Range(name, wh, wh, wh, begun_ms))
    return tuple(found)


def _begun_ms(
    load: Appliance, state: DeviceState, start_ms: int, slot_ms: int, wh: int, zone: tzinfo
) -> int | None:
    if state.begun_ms is not None and start_ms < state.begun_ms + load.run_minutes * MINUTE_MS:
        return state.begun_ms
    if wh * HOUR_MS < on_w(load) * slot_ms:
        return None
    begin, end = minutes_of("earliest", load.earliest), minutes_of("deadline", load.deadline)
    for span in spans(begin, end, start_ms, start_ms + slot_ms, zone):
        if state.begun_ms is None or span.begin_ms != state.window_ms:
            return max(start_ms, span.begin_ms)
    return None
