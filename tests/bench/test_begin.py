"""The benchmarks begin: what they take from the rooms is still there."""

import importlib
import shlex
from pathlib import Path

import numpy as np
import pytest

from bench import forecast
from bench.catalogue import CATALOGUE, NAMES, Entry
from bench.figures import parser_of
from hems.forecast import pv_blend
from hems.intraday import persist_pv

BENCH = Path(__file__).parents[2] / "bench"
# Run by hand: they need a checkout, or an extra.
BY_HAND = {"peers.gsy_e", "peers.lightgbm_trees"}


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_benchmark_begins_and_takes_its_quick_settings(entry: Entry) -> None:
    module = importlib.import_module(f"bench.{entry.name}")
    assert callable(module.figures)
    given = parser_of(module.__doc__, module.options).parse_args(shlex.split(entry.quick))
    assert given.json is None


@pytest.mark.parametrize("name", sorted(BY_HAND))
def test_what_is_run_by_hand_begins(name: str) -> None:
    assert callable(importlib.import_module(f"bench.{name}").figures)


@pytest.mark.parametrize(
    "name", sorted({file.stem for file in BENCH.glob("[a-z]*.py")} - set(NAMES))
)
def test_the_other_modules_begin(name: str) -> None:
    importlib.import_module(f"bench.{name}")


def test_every_benchmark_is_in_the_catalogue() -> None:
    found = {
        ".".join(file.relative_to(BENCH).with_suffix("").parts)
        for folder in (BENCH, BENCH / "peers")
        for file in folder.glob("[a-z]*.py")
        if "\ndef figures(" in file.read_text()
    }
    assert found - BY_HAND == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


def test_the_correction_by_today_is_scored_at_every_step() -> None:
    day = np.maximum(np.sin(np.linspace(-np.pi / 2, 3 * np.pi / 2, 24)), 0.0)
    sky = np.random.default_rng(3).uniform(0.2, 1.0, 12)
    score = forecast.step_forward(
        np.outer(np.repeat(sky, 2), 1000 * day).ravel(), 24, pv_blend, persist_pv
    )
    assert {values.shape for values in score[:-1]} == {(forecast.LEADS,)}
    # A morning says more of the noon than yesterday does.
    assert score.skill_rmse[0] > 0.2
