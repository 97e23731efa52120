"""A flood, and a crowd of strangers, against real processes.

`bench.flood` and `bench.strangers` do the same for longer.
"""

from pathlib import Path

import pytest

from bench import flood, strangers
from bench.throughput import Bench
from testnet.processes import start_all, stop_all

pytestmark = pytest.mark.slow

FLOOD_PER_S = 6_000.0
FLOOD_S = 3.0
STRANGERS = 24
STRANGERS_S = 6.0


async def test_who_floods_is_cut_off_and_nobody_else_notices(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 4, 0, False)
    try:
        await start_all(bench.nodes)
        await bench.until_up()
        attack = flood.Flood(bench, FLOOD_S, FLOOD_PER_S)
        row = await attack.row("flood", {"accounts": 1_000, "peers": 1})
        assert row.flooded is not None
        assert None not in row.flooded.cut_s
        assert row.honest_accepted > 0
        await attack.until_final(row)
        assert row.honest_final == row.honest_accepted
        assert row.restarts == 0
        for place in range(len(bench.nodes)):
            status = await bench.status(place)
            assert len(status["peers"]) == len(bench.nodes) - 1
            # A newcomer's first, and what came back while the last of them was dropped.
            assert status["counts"]["transactions"] < FLOOD_PER_S * FLOOD_S / 4
    finally:
        await stop_all(bench.nodes)


async def test_strangers_at_all_ports_end_no_honest_connection(tmp_path: Path) -> None:
    report = await strangers.run(STRANGERS, STRANGERS_S, tmp_path)
    seen = report.beside
    assert report.visits.total() >= STRANGERS
    assert (seen.peers_missed, seen.dials, seen.restarts) == (0, 0, 0)
    assert seen.api_ms
    assert not seen.api_failed
    assert seen.events_lost == 0
