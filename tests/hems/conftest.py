from collections.abc import Iterator

import pytest

from hems.plan import planner


@pytest.fixture(autouse=True, scope="session")
def _time_to_think() -> Iterator[None]:
    """Let a busy machine find the optimum, too, and the search prove its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "TIME_LIMIT_S", 60.0)
        patch.setattr(planner, "RUNS_MAX", 100_000)
        yield
