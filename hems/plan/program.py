"""The linear programme of a home's batteries and grid, as arrays; devices add their own to it.

Columns come by kind, then by step: import, export, curtail, excess, then charge, discharge and
stored of each battery, then what each battery misses at the end. Rows: balance, then storage of
each battery, then their ends, then (for several batteries that may not be charged from the grid)
what they may take together. Energies are in kWh, costs in currency.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np

from hems.civil import HOUR_MS, FloatArray, IntArray
from hems.devices import MICRO, Battery
from hems.plan.given import (
    EXCESS_FACTOR,
    MISSING_FACTOR,
    Limits,
    PlanInput,
    dearest_micro_per_kwh,
    grid_room_wh,
    storable_wh,
)

# Curtailing costs next to nothing, but more than selling for nothing.
_CURTAIL_COST: Final = 1e-6
# Among plans of equal cost, the one that acts early, by this per kWh and step: a plan made again
# at every step would otherwise put off for ever what is worth as much tomorrow.
DELAY_COST: Final = 3e-7

IMPORT, EXPORT, CURTAIL, EXCESS = range(4)
_GRID_KINDS: Final = 4
CHARGE, DISCHARGE, STORED = range(3)
_BATTERY_KINDS: Final = 3


class Columns(NamedTuple):
    """Costs and bounds of columns, shape (n,)."""

    cost: FloatArray
    lower: FloatArray
    upper: FloatArray


class Rows(NamedTuple):
    """Bounds of rows, shape (n,)."""

    lower: FloatArray
    upper: FloatArray


class Matrix(NamedTuple):
    """Coefficients by column: `rows[starts[j]:starts[j + 1]]` are the rows of column j."""

    starts: IntArray
    rows: IntArray
    value: FloatArray

    def same_as(self, other: "Matrix") -> bool:
        """Tell whether two are equal."""
        return all(map(np.array_equal, self, other))


class Program(NamedTuple):
    """A programme to minimise."""

    columns: Columns
    rows: Rows
    matrix: Matrix


class Core:
    """The part of the programme that every home has. Its matrix depends on nothing but `steps`.

    Parameters
    ----------
    batteries : tuple of Battery
    steps : int
    """

    def __init__(self, batteries: tuple[Battery, ...], steps: int) -> None:
        self.batteries = batteries
        self.steps = steps
        self.kinds = _GRID_KINDS + _BATTERY_KINDS * len(batteries)
        self.columns = self.kinds * steps + len(batteries)
        self.without_grid = [i for i, b in enumerate(batteries) if not b.grid_charging]
        # One battery alone is bounded by its column; several share a row.
        self.shares = len(self.without_grid) > 1
        self.shared_row = (1 + len(batteries)) * steps + len(batteries)
        self.rows = self.shared_row + (steps if self.shares else 0)
        self.matrix = self._matrix()
        self._delay = DELAY_COST * np.arange(steps)

    def kind(self, battery: int, what: int) -> int:
        """Return the kind of column of a battery's charge, discharge or content."""
        return _GRID_KINDS + _BATTERY_KINDS * battery + what

    def column_data(self, given: PlanInput, limits: Limits) -> Columns:
        """Return costs and bounds."""
        steps, kinds = self.steps, self.kinds
        flat = Columns(*np.zeros((3, self.columns)))
        cost, lower, upper = (part[: kinds * steps].reshape(kinds, steps) for part in flat)
        dearest = dearest_micro_per_kwh(given) / MICRO
        cost[IMPORT] = given.import_micro_per_kwh / MICRO
        cost[EXPORT] = -given.export_micro_per_kwh / MICRO
        cost[CURTAIL] = _CURTAIL_COST
        cost[EXCESS] = EXCESS_FACTOR * dearest
        import_wh, export_wh = grid_room_wh(given, limits)
        upper[IMPORT], upper[EXPORT] = import_wh / 1000, export_wh / 1000
        upper[CURTAIL] = (given.pv_wh + np.maximum(given.traded_wh, 0.0)) / 1000
        upper[EXCESS] = 0.0 if limits.import_w is None else math.inf
        hours = given.step_ms / HOUR_MS
        contents = (given.stored_wh, *given.more_stored_wh)
        for i, battery in enumerate(self.batteries):
            charge, discharge = self.kind(i, CHARGE), self.kind(i, DISCHARGE)
            upper[charge] = battery.charge_limit_w * hours / 1000
            if not battery.grid_charging and not self.shares:
                upper[charge] = np.minimum(upper[charge], storable_wh(given) / 1000)
            upper[discharge] = battery.discharge_limit_w * hours / 1000
            cost[charge] = self._delay
            cost[self.kind(i, STORED), -1] = -given.end_value_micro_per_kwh / MICRO
            cost[discharge] = battery.wear_micro_per_kwh / MICRO + self._delay
            # A state outside its range may stay there, but not go further out.
            stored_kwh = contents[i] / 1000
            lower[self.kind(i, STORED)] = min(battery.min_uwh / 1e9, stored_kwh)
            upper[self.kind(i, STORED)] = max(battery.max_uwh / 1e9, stored_kwh)
        if given.import_micro_per_kwh.min() < 0:
            # Where the grid pays for taking energy, a battery could earn by running in a circle.
            need_wh = given.load_wh - given.pv_wh - given.traded_wh
            relief_kwh = np.where(
                given.import_micro_per_kwh < 0,
                np.maximum(need_wh - import_wh, 0.0) / 1000,
                math.inf,
            )
            for i in range(len(self.batteries)):
                discharge = self.kind(i, DISCHARGE)
                upper[discharge] = np.minimum(upper[discharge], relief_kwh)
        flat.cost[kinds * steps :] = MISSING_FACTOR * dearest
        flat.upper[kinds * steps :] = math.inf
        return flat

    def row_data(self, given: PlanInput) -> Rows:
        """Return the bounds of the rows."""
        steps, count = self.steps, len(self.batteries)
        lower = np.zeros(self.rows)
        lower[:steps] = (given.load_wh - given.pv_wh - given.traded_wh) / 1000
        for i, stored_wh in enumerate((given.stored_wh, *given.more_stored_wh)[:count]):
            lower[(1 + i) * steps] = stored_wh / 1000
        upper = lower.copy()
        for i, battery in enumerate(self.batteries):
            end = (1 + count) * steps + i
            lower[end] = battery.soc_end * battery.capacity_wh / 1000
            upper[end] = math.inf
        if self.shares:
            lower[self.shared_row :] = -math.inf
            upper[self.shared_row :] = storable_wh(given) / 1000
        return Rows(lower, upper)

    def _matrix(self) -> Matrix:
        steps, count = self.steps, len(self.batteries)
        balance = np.arange(steps)
        pairs: list[list[tuple[IntArray, Any]]] = [
            [(balance, sign)] for sign in (1.0, -1.0, -1.0, 1.0)
        ]
        for i, battery in enumerate(self.batteries):
            storage = (1 + i) * steps + balance
            into, out = battery.charge_ppm / MICRO, MICRO / battery.discharge_ppm
            charge = [(balance, -1.0), (storage, -into)]
            if self.shares and i in self.without_grid:
                charge.append((self.shared_row + balance, 1.0))
            end = (1 + count) * steps + i
            # The last step's energy counts towards the end row instead of a following step.
            following = (np.append(storage[1:], end), np.append(np.full(steps - 1, -1.0), 1.0))
            pairs += [charge, [(balance, 1.0), (storage, out)], [(storage, 1.0), following]]
        counts, index, value = [], [], []
        for entries in pairs:
            counts.append(np.full(steps, len(entries)))
            index.append(np.column_stack([rows for rows, _ in entries]).ravel())
            value.append(np.column_stack([np.broadcast_to(v, steps) for _, v in entries]).ravel())
        counts.append(np.ones(count, np.int64))
        index.append((1 + count) * steps + np.arange(count))
        value.append(np.ones(count))
        starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.concatenate(counts))))
        return Matrix(starts, np.concatenate(index), np.concatenate(value))


class Builder:
    """Collects what devices add to the core: columns, rows and their coefficients."""

    def __init__(self, columns: int, rows: int) -> None:
        self.column_count = self._first_column = columns
        self.row_count = rows
        self._costs: list[Columns] = []
        self._rows: list[Rows] = []
        self._entries: list[tuple[IntArray, IntArray, FloatArray]] = []

    def add_columns(
        self,
        count: int,
        cost: FloatArray | float = 0.0,
        lower: FloatArray | float = 0.0,
        upper: FloatArray | float = math.inf,
    ) -> IntArray:
        """Add columns; return their places."""
        cost, lower, upper = (np.broadcast_to(v, count) for v in (cost, lower, upper))
        self._costs.append(Columns(cost, lower, upper))
        first = self.column_count
        self.column_count += count
        return np.arange(first, self.column_count)

    def add_rows(
        self, count: int, lower: FloatArray | float, upper: FloatArray | float
    ) -> IntArray:
        """Add rows; return their places."""
        self._rows.append(Rows(np.broadcast_to(lower, count), np.broadcast_to(upper, count)))
        first = self.row_count
        self.row_count += count
        return np.arange(first, self.row_count)

    def put(self, rows: IntArray, columns: IntArray, values: FloatArray | float) -> None:
        """Set coefficients, each place once at most."""
        self._entries.append((rows, columns, np.broadcast_to(values, len(rows))))

    def program(self, columns: Columns, rows: Rows, matrix: Matrix) -> Program:
        """Return the core with what was added."""
        count = self.column_count - self._first_column
        places = np.concatenate([columns for _, columns, _ in self._entries]) - self._first_column
        index = np.concatenate([rows for rows, _, _ in self._entries])
        value = np.concatenate([values for _, _, values in self._entries])
        order = np.lexsort((index, places))
        lengths = np.bincount(places, minlength=count)
        return Program(
            Columns(*(np.concatenate(p) for p in zip(columns, *self._costs, strict=True))),
            Rows(*(np.concatenate(p) for p in zip(rows, *self._rows, strict=True))),
            Matrix(
                np.concatenate((matrix.starts, matrix.starts[-1] + np.cumsum(lengths))),
                np.concatenate((matrix.rows, index[order])),
                np.concatenate((matrix.value, value[order])),
            ),
        )
