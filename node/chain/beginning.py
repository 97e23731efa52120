"""A home's first start: an authority's log is born before its chain begins, or not at all.

Whoever makes the keys of a grid on many hosts cannot make the hosts' disks. So a disk with nothing
on it is either one that is new, whose authority has never signed, or one that was lost. The chain's
beginning tells them apart: nobody signs anything before `genesis_ms`, so who finds neither chain
nor log before that moment has never signed, waits for it, and begins with an empty log. Later a log
that is missing is lost, and its authority abstains (`node.chain.wal`, consensus spec R22).

This rests on the host's clock. One that is put forward while the home waits was wrong before; it
proves nothing then, and no log is made.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from node.chain.wal import Wal
from node.errors import ConfigError
from node.setup import DATABASE_NAME, WAL_NAME

log = logging.getLogger("commonwatt.beginning")

# The clock is looked at again so often: it may be set meanwhile.
LOOK_EVERY_S: Final = 1.0
# A clock that gained more than this on the steady one was set.
CLOCK_GAIN_MS_MAX: Final = 5_000


class Beginning(NamedTuple):
    """One chain of a home: when it begins, and the directory it is kept in. [ms]"""

    genesis_ms: int
    data: Path


async def await_beginning(
    chains: Sequence[Beginning],
    now_ms: Callable[[], int],
    stop: asyncio.Event,
    steady: Callable[[], float] = time.monotonic,
) -> bool:
    """Wait until the chains begin of which there is nothing here; make their logs then.

    Parameters
    ----------
    chains : sequence of Beginning
    now_ms : callable
        Real time, UTC. [ms]
    stop : asyncio.Event
        Ends the waiting.
    steady : callable
        A clock that is never set. [s]

    Returns
    -------
    bool
        Whether the home may start; False if it was told to stop.

    Raises
    ------
    ConfigError
        A log cannot be written.
    """
    begun_ms, begun_s = now_ms(), steady()
    unborn = [
        chain
        for chain in chains
        if begun_ms < chain.genesis_ms and not (chain.data / DATABASE_NAME).exists()
    ]
    if not unborn:
        return True
    genesis_ms = max(chain.genesis_ms for chain in unborn)
    log.info("the chain begins in %.0f s; waiting", (genesis_ms - begun_ms) / 1_000)
    while (left_ms := genesis_ms - now_ms()) > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(left_ms / 1_000, LOOK_EVERY_S)):
                await stop.wait()
        if stop.is_set():
            return False
    gained_ms = (now_ms() - begun_ms) - (steady() - begun_s) * 1_000
    if gained_ms > CLOCK_GAIN_MS_MAX:
        log.warning("the clock was put forward by %.0f s; no log is begun", gained_ms / 1_000)
        return True
    for chain in unborn:
        _bear(chain.data)
    return True


def _bear(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (data / WAL_NAME).exists():
            Wal.create(data / WAL_NAME)
    except OSError as error:
        raise ConfigError(f"{error.filename or data}: {error.strerror}") from None
