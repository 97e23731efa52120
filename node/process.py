"""What the operating system knows of this process, for status and metrics."""

import asyncio
import gc
import os
import resource
from pathlib import Path
from typing import Final

_PAGE_BYTES: Final = resource.getpagesize()


def rss_mib() -> float:
    """Return the resident memory of this process. [MiB]"""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * _PAGE_BYTES / 1_048_576


def cpu_s() -> float:
    """Return the CPU time this process has used, user and system. [s]"""
    times = os.times()
    return times.user + times.system


# How many more objects than were freed there must be before the youngest are looked at, how often
# those are before the next generation is, and that before all are.
_COLLECTOR_THRESHOLDS: Final = (20_000, 20, 50)
# So often all that came since the start is looked through, whatever there is of it: a neighbour's
# connection lives for long and leaves a hundred objects in cycles. It takes some milliseconds.
COLLECT_ALL_S: Final = 120.0


def collect_seldom() -> None:
    """Spare the collector of cycles what is in use now, and run it less often from here on.

    A node makes and drops many small objects, almost none of them in cycles, beside a state and a
    tree that are large: by default each block would have all of these looked through.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


async def collect_regularly() -> None:
    """Collect all cycles every `COLLECT_ALL_S`, for ever."""
    while True:
        await asyncio.sleep(COLLECT_ALL_S)
        gc.collect()
