"""How far a home that catches up is, on a terminal, in the log and in its status."""

import io
import logging
from pathlib import Path

import pytest

from node.chain.catching_up import CatchingUp, duration
from node.genesis import ChainParams
from node.logs import CLEAR_LINE
from tests.node.grid import PATIENCE_S, QUICK, Grid, at_height, make_genesis, running, until


class Chain:
    """A chain of 1,000 blocks that comes in."""

    def __init__(self) -> None:
        self.s, self.height, self.head, self.fetching = 100.0, 0, 1_000, False
        self.watch = CatchingUp(
            "street",
            lambda: self.height,
            lambda: self.head - self.height,
            lambda: self.fetching,
            lambda: self.s,
        )

    def go(self, seconds: float, blocks: int) -> None:
        self.s, self.height = self.s + seconds, self.height + blocks


def test_pace_and_time_left_are_those_of_the_last_half_minute() -> None:
    chain = Chain()
    found = chain.watch.look()
    assert found is not None
    assert (found.height, found.target, found.blocks_per_s, found.left_s) == (0, 1_000, None, None)
    for _ in range(10):
        chain.go(1, 10)
        found = chain.watch.look()
    assert found is not None
    assert (found.blocks_per_s, found.left_s) == (10, 90)
    assert found.words() == "height 100 of 1000, 10 blocks/s, 90 s left"
    for _ in range(40):
        chain.go(1, 20)
        found = chain.watch.look()
    assert found is not None
    assert (found.height, found.blocks_per_s, found.left_s) == (900, 20, 5)
    assert chain.watch.state() == {
        "height": 900, "target": 1_000, "blocks_per_s": 20.0, "left_s": 5, "snapshot": False,
    }  # fmt: skip


def test_a_snapshot_is_no_pace() -> None:
    chain = Chain()
    chain.fetching = True
    for _ in range(3):
        chain.go(1, 0)
        found = chain.watch.look()
    assert found is not None
    assert found.words() == "height 0 of 1000, fetching a snapshot"
    chain.fetching = False
    chain.go(1, 800)
    chain.watch.look()
    chain.go(2, 10)
    found = chain.watch.look()
    assert found is not None
    assert (found.blocks_per_s, found.left_s) == (5, 38)


def test_who_stands_still_has_no_time_left_to_tell() -> None:
    chain = Chain()
    chain.watch.look()
    chain.go(5, 0)
    found = chain.watch.look()
    assert found is not None
    assert found.words() == "height 0 of 1000, 0 blocks/s"


def test_the_log_is_told_every_few_seconds_and_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "commonwatt.sync")
    chain = Chain()
    for _ in range(11):
        chain.watch.tell(None)
        chain.go(1, 90)
    chain.go(1, 10)
    chain.watch.tell(None)
    assert [record.getMessage() for record in caplog.records] == [
        "street catches up: height 0 of 1000",
        "street catches up: height 450 of 1000, 90 blocks/s, 6 s left",
        "street catches up: height 900 of 1000, 90 blocks/s, 1 s left",
        "street caught up: 1000 blocks in 12 s",
    ]
    caplog.clear()
    # What comes a little late is no news; neither is what is level.
    chain.head += 15
    chain.watch.tell(None)
    assert (caplog.records, chain.watch.state()) == ([], None)


def test_on_a_terminal_a_line_is_drawn_anew_and_taken_away() -> None:
    chain, screen = Chain(), io.StringIO()
    chain.watch.tell(screen)
    chain.go(2, 100)
    chain.watch.tell(screen)
    chain.go(1, 900)
    chain.watch.tell(screen)
    assert screen.getvalue().split(CLEAR_LINE)[1:] == [
        "street: height 0 of 1000",
        "street: height 100 of 1000, 50 blocks/s, 18 s left",
        "",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3_600, "60 min"), (11_100, "3 h 05 min")],
)
def test_times_are_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.slow
async def test_a_node_that_comes_late_tells_how_it_catches_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "commonwatt.sync")
    for name, value in (("BEHIND_MIN", 3), ("LOOK_S", 0.01)):
        monkeypatch.setattr(f"node.chain.catching_up.{name}", value)
    chain = ChainParams(block_interval_ms=30, heartbeat_ms=60, consensus=QUICK)
    grid = Grid(tmp_path, make_genesis(2, 1, chain=chain))
    async with running(grid, [0]):
        # So many that the late one is seen on its way.
        await at_height(grid.members[:1], 60)
        await grid.start([1])
        tier = grid.members[1].node.tier
        told = f"{tier.genesis.chain_id} caught up: "
        await until(lambda: told in caplog.text, "the last line", PATIENCE_S)
        assert f"{tier.genesis.chain_id} catches up: height " in caplog.text
        assert "catching_up" in tier.status.snapshot()
