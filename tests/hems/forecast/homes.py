"""Homes to learn from: hourly loads with habits a model can find."""

import numpy as np


def home(days: int, seed: int = 1, steps_per_day: int = 24, weekend: float = 2.0) -> np.ndarray:
    """A home whose weekends differ and whose days are skewed, and whose level lasts some days."""
    rng = np.random.default_rng(seed)
    hours = np.arange(steps_per_day) * 24 / steps_per_day
    shape = 100 + 300 * np.exp(-(((hours - 19) / 2.5) ** 2))
    level, levels = 0.0, []
    for _ in range(days):
        level = 0.85 * level + rng.normal(0, 0.25)
        levels.append(level)
    week = np.where(np.arange(days) % 7 >= 5, weekend, 1.0)
    noise = rng.lognormal(-0.18, 0.6, (days, steps_per_day))
    values: np.ndarray = (shape * (week * np.exp(levels))[:, None] * noise).ravel()
    return values
