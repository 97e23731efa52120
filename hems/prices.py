"""The grid's prices over a plan's steps; holes in a tariff are mended.

A plan needs a price for each of its steps. Where the tariff names none, the last one before stands
in (at the beginning, the first after): tables are steps that hold until the next.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from hems.civil import BoolArray, FloatArray, IntArray
from hems.errors import ConfigError

# Of a moment [ms, UTC], the price [micro/kWh]; None where there is none.
Tariff: TypeAlias = Callable[[int], int | None]


def tariff_over(tariff: Tariff, starts_ms: IntArray) -> tuple[FloatArray, BoolArray]:
    """Return a tariff's price at each moment, and where it had a hole.

    Parameters
    ----------
    tariff : callable
    starts_ms : int array, shape (steps,)
        Ascending. [ms]

    Returns
    -------
    prices : float array, shape (steps,)
        [micro/kWh]
    is_hole : bool array, shape (steps,)

    Raises
    ------
    ConfigError
        There is no price at any of the moments.
    """
    named = [tariff(int(at)) for at in starts_ms]
    prices = np.array([math.nan if price is None else float(price) for price in named])
    is_hole = ~np.isfinite(prices)
    known = np.flatnonzero(~is_hole)
    if len(known) == 0:
        raise ConfigError(
            f"the tariff has no price for any of {len(prices)} slots from {starts_ms[0]} on; "
            "nothing can be planned without"
        )
    before = np.searchsorted(known, np.arange(len(prices)), side="right") - 1
    return prices[known[np.maximum(before, 0)]], is_hole
