"""What loads that can be moved need over a plan's steps: numbers, without clock or settings.

`hems.devices.flexible` makes them of settings and progress; the planner knows nothing else of a
device. Energies are at the home's side, arrays of shape (steps,). [Wh]
"""

from typing import NamedTuple, TypeAlias

from hems.civil import FloatArray, IntArray


class Window(NamedTuple):
    """Energy wanted within some steps, `energy_wh` to `most_wh` in all.

    `room_wh` is the most each step takes (0 outside the window).
    """

    energy_wh: float
    most_wh: float
    room_wh: FloatArray


class Job(NamedTuple):
    """Energy that may be taken in pieces. [Wh]

    `least_w`: when on it takes at least this; 0 for any power. `run_ms_min`: once on it stays on
    for so long; it has been on for `on_ms` already.
    """

    name: str
    windows: tuple[Window, ...]
    least_w: int = 0
    run_ms_min: int = 0
    on_ms: int = 0


class Starts(NamedTuple):
    """The choices for one run of a programme: `steps` to begin with, shape (n,).

    `energy_wh` has what each choice takes in each step, shape (n, steps).
    """

    steps: IntArray
    energy_wh: FloatArray


class Run(NamedTuple):
    """Programmes that run as a whole, each once."""

    name: str
    starts: tuple[Starts, ...]


class Heat(NamedTuple):
    """A house to keep within a band: `T[t] = keep * T[t-1] + gain * energy + drift`. [°C]

    `gain_c_per_wh` is negative where cooling. `discomfort` is per degree and step, micro-units.
    """

    name: str
    room_wh: FloatArray
    least_w: int
    keep: FloatArray
    gain_c_per_wh: FloatArray
    drift_c: FloatArray
    start_c: float
    low_c: float
    high_c: float
    discomfort_micro: FloatArray


class Adjust(NamedTuple):
    """A load around its nominal power; `discomfort` in micro-units per kW² and hour.

    `hours` is how much of each step it is on for. [h]
    """

    name: str
    hours: FloatArray
    nominal_w: int
    least_w: int
    most_w: int
    discomfort_micro: float


Need: TypeAlias = Job | Run | Heat | Adjust


def reach_wh(need: Need, step: int, taken_wh: float, least_wh: float) -> tuple[float, float]:
    """Return how much more and how much less a device could take in a step. [Wh]

    `least_wh` is what its `least_w` comes to in the step: what is off stays off and what is on
    stays on.
    """
    match need:
        case Job():
            room = sum(float(window.room_wh[step]) for window in need.windows)
            least = least_wh if need.least_w else 0.0
        case Run():
            return 0.0, 0.0
        case Heat():
            room = float(need.room_wh[step])
            least = least_wh if need.least_w else 0.0
        case Adjust():
            room = need.most_w * float(need.hours[step])
            least = need.least_w * float(need.hours[step])
    if least and taken_wh < least / 2:
        return 0.0, 0.0
    return max(0.0, room - taken_wh), max(0.0, taken_wh - least)
