"""What every test shares."""

import gc
import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from market.vm.engine import Module
from market.vm.gate import Program
from market.vm.starlark import StarlarkEngine

# As in a daemon (`node.launch`), read when numpy is first loaded, which is by a test's module.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The same examples each time, however slow the machine: what fails here fails everywhere.
settings.register_profile(
    "commonwatt", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("commonwatt")


class SharingEngine(StarlarkEngine):
    """Loads a text once: what is loaded is frozen, so that applications cannot tell."""

    PROGRAMS_MAX = 64

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[tuple[str, str], Module] = {}

    def load(self, program: Program) -> Module:
        key = (program.name, program.text)
        module = self._modules.get(key)
        if module is None:
            module = super().load(program)
            if len(self._modules) < self.PROGRAMS_MAX:
                self._modules[key] = module
        return module


@pytest.fixture(autouse=True, scope="session")
def _contracts_are_loaded_once() -> Iterator[None]:
    """Give all applications one engine: loading the contracts is most of making one."""
    engine = SharingEngine()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("market.app.StarlarkEngine", lambda: engine)
        yield


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
