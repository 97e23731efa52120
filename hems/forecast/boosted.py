"""Gradient-boosted trees over a home's features, in numpy: the mean, or a quantile.

All nodes of one level of a tree ask the same question, as in CatBoost (Prokhorenkova et al. 2018,
arXiv:1706.09516): a tree of depth d is d features, d thresholds and 2^d leaves, and forecasting is
a look-up. Splits are found on histograms of binned features (LightGBM, Ke et al. 2017). What is
random has a seed: the same history gives the same trees.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hems.civil import FloatArray, IntArray

TREES: Final = 120
DEPTH: Final = 4
LEARNING_RATE: Final = 0.08
BINS: Final = 32
# Of the rows and of the features, each tree sees these shares.
ROW_SHARE: Final = 0.5
FEATURE_SHARE: Final = 0.5
# A leaf's value is drawn to nothing by so many rows, and a split leaves so many in each node.
LEAF_PULL: Final = 20.0
NODE_ROWS_MIN: Final = 40.0
SEED: Final = 1
# A unit is no less than this, so that a step of nothing has one.
UNIT_MIN_WH: Final = 0.1
# Rows forecast at once: each holds a number for every level of every tree.
_CHUNK_ROWS: Final = 512

_LEAVES: Final = 1 << DEPTH


class Unit(NamedTuple):
    """Which feature all energies are taken as multiples of: the first `energies` features are."""

    feature: int
    energies: int

    def sizes(self, features: FloatArray) -> FloatArray:
        """Return the unit of each row, shape (rows,), never nothing. [Wh]"""
        return np.asarray(np.maximum(features[:, self.feature], UNIT_MIN_WH))


class Trees(NamedTuple):
    """Trees of one target; `root` if they were grown on the square root of energy.

    `features` and `thresholds` have shape (trees, DEPTH), `leaves` (trees, 2^DEPTH). With a `unit`
    they know no watt-hours, only multiples of it.
    """

    start: float
    features: IntArray
    thresholds: FloatArray
    leaves: FloatArray
    root: bool = False
    unit: Unit | None = None

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts, shape (...,) of features (..., features); never negative. [Wh]"""
        flat = features.reshape(-1, features.shape[-1])
        trees = np.arange(len(self.leaves))
        found = np.empty(len(flat))
        for low in range(0, len(flat), _CHUNK_ROWS):
            part = flat[low : low + _CHUNK_ROWS]
            if self.unit is not None:
                per = np.ones(part.shape)
                per[:, : self.unit.energies] = self.unit.sizes(part)[:, None]
                part = part / per
            above = part[:, self.features] > self.thresholds
            leaf = above @ (1 << np.arange(DEPTH))
            found[low : low + _CHUNK_ROWS] = self.leaves[trees, leaf].sum(axis=1)
        energy = np.maximum(self.start + found, 0.0)
        energy = energy**2 if self.root else energy
        if self.unit is not None:
            energy *= self.unit.sizes(flat)
        return np.asarray(energy.reshape(features.shape[:-1]))


class Binned(NamedTuple):
    """Features as bins: shape (features, rows); bin b of a feature ends with its b-th edge.

    `sizes` are the rows' units, shape (rows,), where energies are multiples of one. [Wh]
    """

    edges: list[FloatArray]
    bins: NDArray[np.uint8]
    unit: Unit | None = None
    sizes: FloatArray | None = None


def binned(features: FloatArray, unit: Unit | None = None) -> Binned:
    """Sort each feature of rows (rows, features) into `BINS` bins of about as many rows."""
    sizes = None if unit is None else unit.sizes(features)
    edges, bins = [], np.empty(features.T.shape, np.uint8)
    for place, column in enumerate(features.T):
        if unit is not None and place < unit.energies:
            column = column / sizes
        edges.append(np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1])))
        bins[place] = np.searchsorted(edges[-1], column)
    return Binned(edges, bins, unit, sizes)


def grow(
    rows: Binned,
    energy_wh: FloatArray,
    row_weights: FloatArray,
    level: float | None = None,
    root: bool = False,
    seed: int = SEED,
) -> Trees:
    """Grow trees; of rows in a unit, so that an error counts as much as its energy.

    Parameters
    ----------
    rows : Binned
    energy_wh, row_weights : float array, shape (rows,)
    level : float, optional
        The quantile to forecast; the mean if left out.
    root : bool
        Grow them on the square root, where a few large loads weigh less.
    seed : int
        Of the rows and features each tree sees.
    """
    rng = np.random.default_rng(seed)
    if rows.sizes is not None:
        energy_wh, row_weights = energy_wh / rows.sizes, row_weights * rows.sizes
    target = np.sqrt(energy_wh) if root else energy_wh
    weights = row_weights / row_weights.mean()
    all_in_one = np.zeros(len(target), np.int64)
    start = float(_leaf_values(target, weights, all_in_one, 1, level)[0])
    forecast = np.full(len(target), start)
    features = np.zeros((TREES, DEPTH), np.int64)
    thresholds = np.full((TREES, DEPTH), np.inf)
    leaves = np.zeros((TREES, _LEAVES))
    for tree in range(TREES):
        seen = np.flatnonzero(rng.random(len(target)) < ROW_SHARE)
        among = rng.choice(len(rows.edges), max(1, round(len(rows.edges) * FEATURE_SHARE)), False)
        residual = target[seen] - forecast[seen]
        slope = residual if level is None else np.where(residual > 0, level, level - 1.0)
        splits = _splits(rows, among, seen, slope * weights[seen], weights[seen])
        leaf = _leaf_of(rows, splits)
        values = _leaf_values(residual, weights[seen], leaf[seen], _LEAVES, level)
        held = np.bincount(leaf[seen], weights[seen], _LEAVES)
        leaves[tree] = LEARNING_RATE * values * held / (held + LEAF_PULL)
        forecast += leaves[tree][leaf]
        for place, (feature, edge) in splits.items():
            features[tree, place] = feature
            thresholds[tree, place] = rows.edges[feature][edge]
    return Trees(start, features, thresholds, leaves, root, rows.unit)


def _splits(
    rows: Binned, among: IntArray, seen: IntArray, slope: FloatArray, weights: FloatArray
) -> dict[int, tuple[int, int]]:
    """Return each level's feature and edge: those that explain most, over all its nodes."""
    columns = rows.bins[among][:, seen].astype(np.int64)
    node = np.zeros(len(seen), np.int64)
    splits: dict[int, tuple[int, int]] = {}
    for place in range(DEPTH):
        nodes = 1 << place
        cells = columns + node * BINS
        left, held = (
            np.array([np.bincount(cell, each, nodes * BINS) for cell in cells])
            .reshape(len(among), nodes, BINS)
            .cumsum(axis=2)
            for each in (slope, weights)
        )
        gain = _gain(left, held)
        of, at = divmod(int(gain.argmax()), BINS)
        if gain[of, at] <= 0:
            break
        splits[place] = int(among[of]), at
        node |= (columns[of] > at).astype(np.int64) << place
    return splits


def _gain(left: FloatArray, held: FloatArray) -> FloatArray:
    """Return what a split after each bin explains, shape (features, bins).

    Of the cumulated slopes and weights of shape (features, nodes, bins). A node that would be left
    with too few rows on one side gains nothing by it; beyond a feature's last edge there are none.
    """
    slopes, rows = left[..., -1:], held[..., -1:]
    rest = rows - held
    gain = left**2 / (held + LEAF_PULL) + (slopes - left) ** 2 / (rest + LEAF_PULL)
    gain -= slopes**2 / (rows + LEAF_PULL)
    allowed = (held >= NODE_ROWS_MIN) & (rest >= NODE_ROWS_MIN)
    return np.asarray(np.where(allowed, gain, 0.0).sum(axis=1))


def _leaf_of(rows: Binned, splits: dict[int, tuple[int, int]]) -> IntArray:
    leaf = np.zeros(rows.bins.shape[1], np.int64)
    for place, (feature, edge) in splits.items():
        leaf |= (rows.bins[feature] > edge).astype(np.int64) << place
    return leaf


def _leaf_values(
    residual: FloatArray, weights: FloatArray, leaf: IntArray, leaves: int, level: float | None
) -> FloatArray:
    """Return each leaf's weighted mean or quantile, 0 where nothing is in it."""
    if level is None or len(residual) == 0:
        held = np.bincount(leaf, weights, leaves)
        total = np.bincount(leaf, weights * residual, leaves)
        return np.asarray(np.divide(total, held, out=np.zeros(leaves), where=held > 0))
    order = np.lexsort((residual, leaf))
    ordered, below = residual[order], np.cumsum(weights[order])
    bounds = np.searchsorted(leaf[order], np.arange(leaves + 1))
    first, last = bounds[:-1], bounds[1:]
    before = np.concatenate(([0.0], below))
    at = np.searchsorted(below, before[first] + level * (before[last] - before[first]))
    at = np.clip(at, first, np.maximum(last - 1, first))
    return np.asarray(np.where(last > first, ordered[np.minimum(at, len(ordered) - 1)], 0.0))
