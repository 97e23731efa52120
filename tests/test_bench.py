"""The benchmarks begin: what they take from the rooms is still there."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What a peer's own package is needed for.
ELSEWHERE = {"pymarket_auctions"}
NAMES = sorted(file.stem for file in (ROOT / "bench").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ELSEWHERE])
def test_a_benchmark_begins(name: str) -> None:
    importlib.import_module(f"bench.{name}")
