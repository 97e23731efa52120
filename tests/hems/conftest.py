from collections.abc import Iterator

import pytest

from hems.plan import planner


@pytest.fixture(autouse=True, scope="session")
def _time_to_think() -> Iterator[None]:
    """Let a busy machine find the optimum, too: the limit is wall-clock time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "TIME_LIMIT_S", 60.0)
        patch.setattr(planner, "BRANCHING_LIMIT_S", 60.0)
        yield
