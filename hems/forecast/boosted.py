"""Gradient-boosted trees over a home's features: the mean and the median (extra `forecast`).

LightGBM, imported only when this model is chosen. One thread and a seed: the same history gives
the same trees, on the same machine, whoever trains them.
"""

import importlib.util
from typing import Any, Final, NamedTuple

import numpy as np

from hems.civil import FloatArray
from hems.errors import ConfigError

TREES: Final = 150
_PARAMETERS: Final = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "seed": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


class Boosted(NamedTuple):
    """Trees of one target; `root` if they were grown on the square root of energy."""

    trees: Any
    root: bool

    def predict(self, features: FloatArray) -> FloatArray:
        """Return forecasts, shape (...,) of features (..., features); never negative. [Wh]"""
        flat = features.reshape(-1, features.shape[-1])
        found = np.maximum(np.asarray(self.trees.predict(flat, num_threads=1)), 0.0)
        energy: FloatArray = found**2 if self.root else found
        return energy.reshape(features.shape[:-1])


def installed() -> bool:
    """Tell whether the extra `forecast` is installed, without loading it."""
    return importlib.util.find_spec("lightgbm") is not None


def fit(
    features: FloatArray, energy_wh: FloatArray, row_weights: FloatArray, objective: str, root: bool
) -> Boosted:
    """Grow trees.

    Parameters
    ----------
    features : float array, shape (rows, features)
    energy_wh, row_weights : float array, shape (rows,)
    objective : str
        `l2` for the mean, `l1` for the median.
    root : bool
        Grow them on the square root, where a few large loads weigh less.

    Raises
    ------
    ConfigError
        The extra is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise ConfigError(
            f"the boosted forecast needs LightGBM ({error}); install commonwatt[forecast], or "
            "choose model = 'ridge'"
        ) from None
    target = np.sqrt(energy_wh) if root else energy_wh
    data = lightgbm.Dataset(features, label=target, weight=row_weights)
    trees = lightgbm.train({**_PARAMETERS, "objective": objective}, data, TREES)
    return Boosted(trees, root)
