"""Between the two threads: calls go over in bounded queues, one wake-up for a whole burst.

Each counter here is written by one thread only, so that their difference is a safe estimate of
what is queued, without a lock.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio

INBOX_MAX: Final = 8_192
INBOX_BYTES_MAX: Final = 64 * 1_048_576
# Calls run per turn of the event loop, so that a flood of gossip cannot starve its timers.
INBOX_BATCH_MAX: Final = 64
ORDERS_MAX: Final = 8_192
ORDERS_BYTES_MAX: Final = 64 * 1_048_576
OUTBOX_MAX: Final = 1_024
OUTBOX_BYTES_MAX: Final = 16 * 1_048_576


class Inbox:
    """Calls the trio thread wants made in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[tuple[int, Callable[[], None]]] = deque()
        self._woken = False
        self._put = self._put_bytes = 0
        self._taken = self._taken_bytes = 0
        self._closed = False

    def has_room(self, size: int = 0) -> bool:
        """Tell whether a call that carries `size` bytes would be taken."""
        return (
            self._put - self._taken < INBOX_MAX
            and self._put_bytes - self._taken_bytes + size <= INBOX_BYTES_MAX
        )

    def put(self, call: Callable[[], None], size: int = 0, must: bool = False) -> bool:
        """Queue a call; False if it is dropped. `must` is for the few that may not be."""
        if self._closed or not (must or self.has_room(size)):
            return False
        self._put += 1
        self._put_bytes += size
        self._calls.append((size, call))
        if not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                # The event loop was closed without stopping us: nobody is left to tell.
                self._closed = True
        return True

    def close(self) -> None:
        """Make no more calls."""
        self._closed = True

    def _run(self) -> None:
        self._woken = False
        for _ in range(INBOX_BATCH_MAX):
            if self._closed or not self._calls:
                return
            size, call = self._calls.popleft()
            self._taken += 1
            self._taken_bytes += size
            call()
        if self._calls and not self._woken:
            self._woken = True
            self._loop.call_soon(self._run)


class Orders:
    """Calls the event loop wants made in the trio thread, each with that run's side."""

    def __init__(self) -> None:
        self._calls: deque[tuple[int, Callable[[Any], None]]] = deque()
        self._put = self._put_bytes = 0
        self._taken = self._taken_bytes = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._side: Any = None

    def attach(self, token: trio.lowlevel.TrioToken, side: Any) -> None:
        """Begin a run (in the trio thread)."""
        self._side = side
        self._token = token

    def detach(self) -> None:
        """End a run; what was ordered of it is lost."""
        self._token = None
        self._side = None
        while self._calls:
            size, _ = self._calls.popleft()
            self._taken += 1
            self._taken_bytes += size

    def has_room(self, size: int = 0) -> bool:
        """Tell whether a call that carries `size` bytes would be taken."""
        return (
            self._put - self._taken < ORDERS_MAX
            and self._put_bytes - self._taken_bytes + size <= ORDERS_BYTES_MAX
        )

    def put(self, call: Callable[[Any], None], size: int = 0, must: bool = False) -> bool:
        """Order a call; False if there is no run or it is not keeping up."""
        token = self._token
        if token is None or not (must or self.has_room(size)):
            return False
        self._put += 1
        self._put_bytes += size
        self._calls.append((size, call))
        try:
            token.run_sync_soon(self._run, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    def _run(self) -> None:
        side = self._side
        while self._calls and side is not None:
            size, call = self._calls.popleft()
            self._taken += 1
            self._taken_bytes += size
            call(side)


class Waker:
    """Wakes the trio thread, once for all that a turn of the event loop offers to whomever.

    A wake-up is a system call, during which the trio thread takes over the interpreter: one for
    each peer of a broadcast costs more than the broadcast.
    """

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self._token = token
        self._ripe: deque[Outbox] = deque()
        self._due = False

    def add(self, outbox: "Outbox") -> None:
        """Wake this outbox's sender at the end of the turn (in the event loop)."""
        self._ripe.append(outbox)
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._due = False
        try:
            self._token.run_sync_soon(self._run, idempotent=True)
        except trio.RunFinishedError:
            self._ripe.clear()

    def _run(self) -> None:
        while self._ripe:
            self._ripe.popleft().wake()


class Outbox:
    """Frames for one peer, offered by the event loop, taken by that peer's sender task."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._ripe = False
        self._frames: deque[bytes] = deque()
        self._put = self._put_bytes = 0
        self._taken = self._taken_bytes = 0
        self._ready = trio.Event()
        self._closed = False

    def offer(self, frame: bytes) -> bool:
        """Queue a frame; False if it is dropped at once."""
        if (
            self._closed
            or self._put - self._taken >= OUTBOX_MAX
            or self._put_bytes - self._taken_bytes + len(frame) > OUTBOX_BYTES_MAX
        ):
            return False
        self._put += 1
        self._put_bytes += len(frame)
        self._frames.append(frame)
        # Written after the frame and, by the other thread, before the frames are looked at.
        if not self._ripe:
            self._ripe = True
            self._waker.add(self)
        return True

    async def take(self, bytes_max: int) -> list[bytes]:
        """Wait for frames and return some, together about `bytes_max` long (in the trio thread)."""
        while not self._frames:
            self._ready = trio.Event()
            await self._ready.wait()
        frames = []
        size = 0
        while self._frames and size < bytes_max:
            frame = self._frames.popleft()
            frames.append(frame)
            size += len(frame)
        self._taken += len(frames)
        self._taken_bytes += size
        return frames

    def close(self) -> int:
        """Take no more; return how many frames were left (in the trio thread)."""
        self._closed = True
        left = len(self._frames)
        self._frames.clear()
        return left

    def wake(self) -> None:
        """Let the sender task look for frames (in the trio thread)."""
        self._ripe = False
        self._ready.set()
