"""A log is born before its chain begins, by a clock that is not set meanwhile, and never after."""

import asyncio
from pathlib import Path

import pytest

from consensus.wal import AbstainRecord
from node.chain.beginning import CLOCK_GAIN_MS_MAX, Beginning, await_beginning
from node.chain.wal import Wal
from node.errors import ConfigError
from node.setup import DATABASE_NAME, WAL_NAME

GENESIS_MS = 1_000_000_000


class Clocks:
    """A wall clock and a steady one that move when they are looked at; the wall's may be set."""

    def __init__(self, now_ms: int, set_by_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._set_by_ms = set_by_ms
        self._looks = 0

    def now_ms(self) -> int:
        self._looks += 1
        if self._looks == 2:
            self._now_ms += self._set_by_ms
        elif self._looks > 2:
            self._now_ms = max(self._now_ms, GENESIS_MS)
        return self._now_ms

    def steady(self) -> float:
        return (self._now_ms - (self._set_by_ms if self._looks > 1 else 0)) / 1_000


async def begin(clocks: Clocks, *data: Path) -> bool:
    chains = [Beginning(GENESIS_MS, one) for one in data]
    return await await_beginning(chains, clocks.now_ms, asyncio.Event(), clocks.steady)


def abstains(data: Path) -> bool:
    wal = Wal.open(data / WAL_NAME)
    wal.close()
    return any(isinstance(record, AbstainRecord) for record in wal.records)


async def test_a_home_that_is_there_in_time_begins_with_an_empty_log(tmp_path: Path) -> None:
    region, main = tmp_path / "data", tmp_path / "data" / "main"
    assert await begin(Clocks(GENESIS_MS - 20), region, main)
    assert not abstains(region)
    assert not abstains(main)


@pytest.mark.parametrize("late_ms", [0, 1, 3_600_000])
async def test_after_the_beginning_a_missing_log_is_a_lost_one(
    tmp_path: Path, late_ms: int
) -> None:
    assert await begin(Clocks(GENESIS_MS + late_ms), tmp_path)
    assert not (tmp_path / WAL_NAME).exists()
    assert abstains(tmp_path)


async def test_who_has_a_chain_neither_waits_nor_gets_a_log(tmp_path: Path) -> None:
    # Its clock is wrong: the chain has begun.
    (tmp_path / DATABASE_NAME).write_bytes(b"")
    assert await begin(Clocks(GENESIS_MS - 10**9), tmp_path)
    assert abstains(tmp_path)


async def test_a_clock_put_forward_proves_nothing(tmp_path: Path) -> None:
    clocks = Clocks(GENESIS_MS - 20, set_by_ms=CLOCK_GAIN_MS_MAX + 1_000)
    assert await begin(clocks, tmp_path)
    assert abstains(tmp_path)


async def test_a_log_that_is_there_stays(tmp_path: Path) -> None:
    Wal.open(tmp_path / WAL_NAME).close()
    assert await begin(Clocks(GENESIS_MS - 20), tmp_path)
    assert abstains(tmp_path)


async def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(
        await_beginning([Beginning(GENESIS_MS, tmp_path)], lambda: GENESIS_MS - 10**9, stop)
    )
    await asyncio.sleep(0)
    stop.set()
    assert not await waiting
    assert not (tmp_path / WAL_NAME).exists()


async def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(ConfigError, match="data: File exists"):
        await begin(Clocks(GENESIS_MS - 20), tmp_path / "data")
