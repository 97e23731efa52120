"""Who runs a study's cells: processes of this machine, or Dask where one machine is too small.

Dask (the extra `dask`) is asked for by `dask`, for workers of its own on this machine, or by the
address of a scheduler, `tcp://HOST:8786`. Its workers need Commonwatt of the same version. Cells
are handed out and kept by `study.cells` as here, so a study may go on with another engine.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Final

from study.errors import SettingError

HERE: Final = "here"
DASK: Final = "dask"
SCHEMES: Final = ("tcp://", "tls://", "ws://", "wss://")
CONNECT_S: Final = 10


@contextmanager
def executor_of(engine: str, jobs: int | None) -> Iterator[tuple[Executor | None, int]]:
    """Open an engine; hand out its executor, None for processes here, and how many cells at a time.

    Parameters
    ----------
    engine : str
        As `--engine`.
    jobs : int, optional
        Cells at a time; of this machine's CPUs or the engine's threads, if not given.

    Raises
    ------
    SettingError
        There is no such engine, it is not installed, or nobody answers at its address.
    """
    if engine == HERE:
        yield None, jobs or os.cpu_count() or 1
        return
    if engine != DASK and not engine.startswith(SCHEMES):
        raise SettingError(f"engine {engine!r}: here, dask, or the address tcp://HOST:PORT of one")
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise SettingError(
            "cells on Dask need the extra `dask`: install commonwatt with it (uv sync --extra dask)"
        ) from None
    if engine == DASK:
        # A process each: contracts and numbers share no interpreter lock.
        count = jobs or os.cpu_count() or 1
        cluster = LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None, processes=True
        )
        with cluster, Client(cluster) as client:
            yield client.get_executor(pure=False), count
        return
    try:
        client = Client(engine, timeout=CONNECT_S)
    except (OSError, TimeoutError) as error:
        raise SettingError(f"no scheduler of Dask answers at {engine}: {error}") from None
    with client:
        yield client.get_executor(pure=False), jobs or sum(client.nthreads().values()) or 1
