"""How a daemon's process is started: a lean interpreter with few memory arenas."""

import os
import sys
from pathlib import Path


def command(config: Path) -> list[str]:
    """Return the command line of the daemon with these settings.

    `-P` keeps a module of the same name in the current directory from being taken for ours.
    """
    return [sys.executable, "-P", "-m", "node", "--config", str(config)]


def environment() -> dict[str, str]:
    """Return this process's environment, with what the daemon wants unless it is set already.

    glibc gives every thread an arena of its own; a daemon's few threads would hold some ten MiB of
    freed memory in them. OpenBLAS would share the small products of a forecast's training among all
    CPUs, whose threads then wait for each other by spinning: on a busy machine 30 times the work.
    """
    return {
        "MALLOC_ARENA_MAX": "2",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **os.environ,
    }
