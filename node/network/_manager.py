"""Runs libp2p's services so that nothing a stranger sends can end them.

libp2p's own manager cancels the whole service, and with it the run, when any task of it raises;
that is how one malformed protobuf ended a node (guards 1 to 3). Here a task that raises is reported
and forgotten, and a task that must live is started again.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

RESTART_S: Final = 1.0


class Manager:
    """What libp2p's `Service.manager` must be, on one plain nursery."""

    def __init__(self, nursery: trio.Nursery, failed: Callable[[str, Exception], None]) -> None:
        self._nursery = nursery
        self._failed = failed
        self._finished = trio.Event()

    @property
    def is_started(self) -> bool:
        return True

    @property
    def is_running(self) -> bool:
        return not self._finished.is_set()

    @property
    def is_finished(self) -> bool:
        return self._finished.is_set()

    @property
    def is_cancelled(self) -> bool:
        return self._finished.is_set()

    def run_task(
        self,
        work: Callable[..., Awaitable[Any]],
        *args: Any,
        daemon: bool = False,
        name: str | None = None,
    ) -> None:
        """Run `work(*args)` in the background."""
        if self.is_running:
            run = self._run_for_ever if daemon else self._run_once
            self._nursery.start_soon(run, work, args, name=name or work)

    def run_daemon_task(
        self, work: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None
    ) -> None:
        """Run `work(*args)`, and again whenever it ends."""
        self.run_task(work, *args, daemon=True, name=name)

    async def wait_started(self) -> None:
        """Return: it is started from its making."""

    async def wait_finished(self) -> None:
        """Wait for `stop`."""
        await self._finished.wait()

    def cancel(self) -> None:
        """Let everything that waits for the end go on; the nursery's owner cancels the rest."""
        self._finished.set()

    async def stop(self) -> None:
        """As `cancel`."""
        self.cancel()

    async def _run_once(self, work: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:
            await work(*args)
        except Exception as error:
            self._failed(_name(work), error)

    async def _run_for_ever(
        self, work: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        while self.is_running:
            await self._run_once(work, args)
            await trio.sleep(RESTART_S)


def _name(work: Callable[..., Awaitable[Any]]) -> str:
    return str(getattr(work, "__qualname__", work))
