"""A region of any size lives through its slots, and a long chain made at once is a real one."""

import argparse
from pathlib import Path

import pytest

from bench import scale, sync
from bench.figures import Figure, parser_of
from bench.ready import aged, heavier_genesis, make_chain
from market.app import Application
from node.chain.store import Store
from node.daemon import now_ms
from node.regions.certifier import natives
from tests.node.grid import make_genesis


def test_a_region_is_measured_slot_by_slot() -> None:
    found = scale.of_size(4, 1, profiled=False)
    assert (found.homes, len(found.cpu_s), len(found.path_s)) == (4, 1, 1)
    # Blocks for orders, gate, readings and settlement, with their certificates.
    assert found.size[0] > 1_000
    assert 0 < found.path_s[0] < 2 * found.cpu_s[0]


def test_sizes_are_numbers_in_rising_order() -> None:
    assert scale.numbers("100,10,10", 100) == [10, 100]
    for wrong in ("ten", "0,5", "101", ""):
        with pytest.raises(argparse.ArgumentTypeError):
            scale.numbers(wrong, 100)


async def test_a_chain_made_at_once_is_loaded_as_any_other(tmp_path: Path) -> None:
    # More than an epoch's blocks, of which the last of each is kept apart.
    height = 101
    genesis = aged(make_genesis(), height + 1, now_ms())
    with heavier_genesis({"ballast/1": b"\x01", "ballast/2": b"\x02"}):
        await make_chain(tmp_path / "chain.db", genesis, height, 1)
    store = await Store.open(tmp_path / "chain.db", genesis.hash)
    try:
        app = Application(genesis.market, None, genesis.founding(), natives())
        items = [item async for item in store.state()]
        app.load(items, height)
        assert ("ballast/2", b"\x02") in items
        ends = await store.epoch_ends(0, 5)
        assert [(end.epoch, end.height) for end in ends] == [(0, 100)]
    finally:
        await store.close()


@pytest.mark.slow
def test_joining_is_measured_by_blocks_and_by_a_snapshot() -> None:
    words = ["--blocks", "20", "--height", "20", "--state-mib", "1", "--repeats", "1"]
    said = [*sync.figures(parser_of(sync.__doc__, sync.options).parse_args(words))]
    names = [one.name for one in said if isinstance(one, Figure)]
    assert [name.partition(",")[0] for name in names] == [
        "catching up", "joining at height 20 by a snapshot of 1 MiB",
    ]  # fmt: skip
