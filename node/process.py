"""What the operating system knows of this process, for status and metrics."""

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
