"""The social optimum: what a community could have paid at least, had one mind known its whole day.

One linear programme for all homes' batteries: what the grid sells at the tariff and takes at the
feed-in price is the community's balance, so trade inside costs nothing. Batteries begin and end as
they did, with the same losses and limits; without charging from the grid a battery takes its own
home's production at most. Wear is no money here, as it is on no bill.
"""

from typing import Final, NamedTuple

import numpy as np

from hems.civil import FloatArray, IntArray
from hems.devices import Battery
from hems.plan.program import Columns, Matrix, Program, Rows
from hems.plan.solver import Solver
from study.errors import InvariantError

TIME_LIMIT_S: Final = 60.0
MICRO: Final = 1_000_000
_PER_BATTERY: Final = 3
# What is stored last is in no later row.
_NOWHERE: Final = -1


class Stored(NamedTuple):
    """A home's battery and its day: content before and after [Wh], production by slot [kWh]."""

    battery: Battery
    first_wh: float
    last_wh: float
    pv_kwh: FloatArray


def least_cost(
    net_kwh: FloatArray,
    tariff: FloatArray,
    feed_in: float,
    stores: list[Stored],
    slot_hours: float,
) -> float:
    """Return the least that all homes together pay the grid. [currency]

    Parameters
    ----------
    net_kwh : array, shape (n,)
        Load less production of all homes, by slot.
    tariff : array, shape (n,)
        What the grid sells at. [currency per kWh]
    feed_in : float
        What it takes surplus at. [currency per kWh]

    Raises
    ------
    InvariantError
        There is no way to live this day: what is said to have happened cannot have.
    """
    solution = Solver().solve(_program(net_kwh, tariff, feed_in, stores, slot_hours), TIME_LIMIT_S)
    if solution is None:
        raise InvariantError("the day that was lived is no solution of the social optimum's limits")
    return solution.objective


def _program(
    net_kwh: FloatArray,
    tariff: FloatArray,
    feed_in: float,
    stores: list[Stored],
    slot_hours: float,
) -> Program:
    """Columns: import, export, then charge, discharge, stored of each battery, by slot.

    Rows: the balance of each slot, then what each battery holds.
    """
    steps = len(net_kwh)
    nothing, anything = np.zeros(steps), np.full(steps, np.inf)
    cost, lower, upper = [tariff, np.full(steps, -feed_in)], [nothing] * 2, [anything] * 2
    right = [net_kwh]
    first = np.arange(steps)
    # Of each column by row: the slot's balance, what its battery holds then, and what it does next.
    entries = [[(first, 1.0)], [(first, -1.0)]]
    for place, (battery, first_wh, last_wh, pv_kwh) in enumerate(stores, start=1):
        charge = np.full(steps, battery.charge_limit_w * slot_hours / 1000)
        if not battery.grid_charging:
            charge = np.minimum(charge, pv_kwh)
        discharge = np.full(steps, battery.discharge_limit_w * slot_hours / 1000)
        least = np.full(steps, min(battery.min_uwh / MICRO, first_wh, last_wh) / 1000)
        least[-1] = last_wh / 1000
        most = np.full(steps, battery.max_uwh / MICRO / 1000)
        cost += [nothing] * _PER_BATTERY
        lower += [nothing, nothing, least]
        upper += [charge, discharge, np.maximum(most, least)]
        own = place * steps + first
        entries += [
            [(first, -1.0), (own, battery.charge_ppm / MICRO)],
            [(first, 1.0), (own, -MICRO / battery.discharge_ppm)],
            [(own, -1.0), (np.append(own[1:], _NOWHERE), 1.0)],
        ]
        held = np.zeros(steps)
        held[0] = -first_wh / 1000
        right.append(held)
    bounds = np.concatenate(right)
    return Program(
        Columns(np.concatenate(cost), np.concatenate(lower), np.concatenate(upper)),
        Rows(bounds, bounds),
        _matrix(entries, steps),
    )


def _matrix(entries: list[list[tuple[IntArray, float]]], steps: int) -> Matrix:
    starts, rows, values = [0], [], []
    for column in entries:
        for step in range(steps):
            for places, value in column:
                if places[step] != _NOWHERE:
                    rows.append(int(places[step]))
                    values.append(value)
            starts.append(len(rows))
    return Matrix(np.array(starts), np.array(rows), np.array(values, dtype=np.float64))
