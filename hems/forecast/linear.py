"""Linear models of a home's features: least squares for the mean, pinball loss for quantiles.

Both are shrunk towards a forecast that needs no training (a feature with weight one): with little
history they are that forecast, with more they depart from it where the home's own past says so.
"""

from typing import Final, NamedTuple

import numpy as np

from hems.civil import FloatArray

# The pull towards the untrained forecast, as a number of rows that agree with it.
PULL_ROWS: Final = 200.0
ROUNDS: Final = 12
# Residuals smaller than this share of the mean load count as this: the loss is smooth there.
_SMOOTH: Final = 0.02


class Linear(NamedTuple):
    """Weights of the features, shape (features,), and a constant. [Wh]"""

    weights: FloatArray
    constant: float

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts, shape (...,) of features (..., features); never negative. [Wh]"""
        return np.asarray(np.maximum(features @ self.weights + self.constant, 0.0))


def fit_mean(
    features: FloatArray, energy_wh: FloatArray, row_weights: FloatArray, untrained: int
) -> Linear:
    """Fit the mean by ridge regression.

    Parameters
    ----------
    features : float array, shape (rows, features)
    energy_wh : float array, shape (rows,)
        What came; all finite.
    row_weights : float array, shape (rows,)
    untrained : int
        Which feature to shrink towards.
    """
    return _Problem(features, energy_wh, untrained).solve(row_weights)


def fit_quantile(
    features: FloatArray,
    energy_wh: FloatArray,
    row_weights: FloatArray,
    untrained: int,
    level: float,
) -> Linear:
    """Fit a quantile by iteratively reweighted least squares. Otherwise as `fit_mean`.

    Each round weighs a row by the pinball loss's slope over its residual's size, which makes the
    minimum of the squares that of the loss.
    """
    problem = _Problem(features, energy_wh, untrained)
    least = _SMOOTH * max(float(energy_wh.mean()), 1e-9) if len(energy_wh) else 1.0
    linear = Linear(np.eye(features.shape[1])[untrained], 0.0)
    for _ in range(ROUNDS):
        residual = energy_wh - (features @ linear.weights + linear.constant)
        slope = np.where(residual > 0, level, 1.0 - level)
        weights = row_weights * slope / np.maximum(np.abs(residual), least)
        linear = problem.solve(weights * (row_weights.sum() / max(weights.sum(), 1e-12)))
    return linear


class _Problem:
    """Weighted ridge regression of the same rows with other weights."""

    def __init__(self, features: FloatArray, energy_wh: FloatArray, untrained: int) -> None:
        self.scale = np.sqrt((features**2).mean(axis=0)) if len(features) else 1.0
        self.scale = np.where(self.scale > 0, self.scale, 1.0)
        one = np.full((len(features), 1), 1.0)
        self.rows = np.concatenate((features / self.scale, one), axis=1)
        self.beyond = energy_wh - features[:, untrained]
        self.untrained = untrained

    def solve(self, row_weights: FloatArray) -> Linear:
        weighted = self.rows * row_weights[:, None]
        squares = weighted.T @ self.rows + PULL_ROWS * np.eye(self.rows.shape[1])
        found = np.linalg.solve(squares, weighted.T @ self.beyond)
        weights = found[:-1] / self.scale
        weights[self.untrained] += 1.0
        return Linear(weights, float(found[-1]))
