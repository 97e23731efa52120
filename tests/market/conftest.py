"""Every test of the contracts also tries what is passed over: an idle hook must have no work."""

from collections.abc import Mapping

import pytest

from market import idle
from market.app import Application
from market.vm.executor import Executor
from market.vm.gas import HOOK_CAPS
from market.vm.journal import Journal
from wire.codec import Plain


def done_when_idle(
    app: Application, journal: Journal, name: str, shown: Mapping[str, Plain]
) -> list[str]:
    """Return what a contract's `on_block` would say and write now, undone."""
    mark = journal.mark()
    outcome = app._executor.run(journal, name, "on_block", {}, dict(shown), HOOK_CAPS)
    changes = journal.since(mark)
    done = [
        key
        for key, value in changes.writes.items()
        if key != idle.key_of(name) and changes.before.get(key) != value
    ]
    journal.rollback(mark)
    if outcome.error is not None:
        done.append(f"{outcome.error}; {outcome.detail}")
    return done + [event.name for event in outcome.events]


@pytest.fixture(autouse=True)
def an_idle_hook_has_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    is_idle = Application._is_idle

    def tried(app: Application, journal: Journal, name: str, shown: Mapping[str, Plain]) -> bool:
        found = is_idle(app, journal, name, shown)
        # What replays a block is given compute for that alone, and keeps what it reads.
        if found and type(app._executor) is Executor:
            done = done_when_idle(app, journal, name, shown)
            assert not done, f"{name}.on_block was passed over and had work: {done}"
        return found

    monkeypatch.setattr(Application, "_is_idle", tried)
