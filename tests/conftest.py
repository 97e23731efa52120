"""What every test shares."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# As in a daemon (`node.launch`), read when numpy is first loaded, which is by a test's module.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The same examples each time, however slow the machine: what fails here fails everywhere.
settings.register_profile(
    "commonwatt", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("commonwatt")


@pytest.fixture(autouse=True)
def _no_daemon_keeps_the_log() -> Iterator[None]:
    """Take away the handlers of a daemon that ran inside a test: its stream ends with the test."""
    yield
    root = logging.getLogger()
    root.handlers[:] = [item for item in root.handlers if type(item) is not logging.StreamHandler]
    root.setLevel(logging.WARNING)
    logging.getLogger("commonwatt").setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def _no_daemon_keeps_the_collector() -> Iterator[None]:
    """Undo what a daemon asks of the collector: its test's garbage would stay to the end."""
    thresholds = gc.get_threshold()
    yield
    if gc.get_threshold() != thresholds:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@pytest.fixture(autouse=True, scope="module")
def _applications_end_with_their_tests() -> Iterator[None]:
    """Free applications: to the collector they are small cycles, their contracts are megabytes."""
    yield
    gc.collect()
