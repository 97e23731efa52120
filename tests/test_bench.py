"""The benchmarks begin: what they take from the rooms is still there."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from bench import forecast
from hems.forecast import pv_blend
from hems.intraday import persist_pv

ROOT = Path(__file__).parents[1]
# What a peer's own package is needed for.
ELSEWHERE = {"pymarket_auctions"}
NAMES = sorted(file.stem for file in (ROOT / "bench").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_a_benchmark_begins(name: str) -> None:
    importlib.import_module(f"bench.{name}")


def test_the_correction_by_today_is_scored_at_every_step() -> None:
    day = np.maximum(np.sin(np.linspace(-np.pi / 2, 3 * np.pi / 2, 24)), 0.0)
    sky = np.random.default_rng(3).uniform(0.2, 1.0, 12)
    score = forecast.step_forward(
        np.outer(np.repeat(sky, 2), 1000 * day).ravel(), 24, pv_blend, persist_pv
    )
    assert {values.shape for values in score[:-1]} == {(forecast.LEADS,)}
    # A morning says more of the noon than yesterday does.
    assert score.skill_rmse[0] > 0.2
