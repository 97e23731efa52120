"""A plan on paper: what a country would cost, by what a home and a region cost when measured."""

from typing import Final, NamedTuple

import numpy as np

HOMES: Final = 10_000_000
SLOT_S: Final = 900
SLOTS_A_YEAR: Final = 35_040
# Nobody plans a core to be busy with this alone.
CORE_SHARE_MAX: Final = 0.5


class RegionCost(NamedTuple):
    """Of a region, in one node's work for a slot. [s of the processor, bytes, MiB]

    `main_s` and `main_bytes` are what the main chain has of it: checkpoints, offer, audits.
    """

    homes: int
    region_s: float
    region_bytes: float
    memory_mib: float
    main_s: float
    main_bytes: float


class Plan(NamedTuple):
    """A country in regions of one size.

    Shares are of one core, of each node; storage is a year's blocks, of each node that keeps them.
    """

    homes_per_region: int
    regions: int
    region_share: float
    region_gib_a_year: float
    main_share: float
    main_mb_s: float
    main_tib_a_year: float
    memory_mib: float


def plan(cost: RegionCost, homes: int = HOMES, slot_s: float = SLOT_S) -> Plan:
    """Return what a country of so many homes comes to. Raises `ValueError` for none."""
    if homes < 1 or cost.homes < 1:
        raise ValueError("a country and its regions have homes: 1 or more")
    regions = -(-homes // cost.homes)
    slots = SLOTS_A_YEAR * SLOT_S / slot_s
    return Plan(
        cost.homes,
        regions,
        cost.region_s / slot_s,
        cost.region_bytes * slots / 2**30,
        regions * cost.main_s / slot_s,
        regions * cost.main_bytes / slot_s / 1e6,
        regions * cost.main_bytes * slots / 2**40,
        cost.memory_mib,
    )


def regions_max(cost: RegionCost, slot_s: float = SLOT_S) -> int:
    """Return how many regions one main chain carries at `CORE_SHARE_MAX` of a core."""
    return int(CORE_SHARE_MAX * slot_s / cost.main_s)


def exponent(sizes: list[float], costs: list[float]) -> float:
    """Return b of cost = a * size**b, by least squares of the logarithms.

    Raises `ValueError` for fewer than two different sizes, or what is not above 0.
    """
    if len(set(sizes)) < 2 or len(sizes) != len(costs) or min(*sizes, *costs) <= 0:
        raise ValueError("two different sizes or more, and costs above 0, are needed")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
