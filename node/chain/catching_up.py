"""How far a home that catches up is: a line on a terminal, else one in the log now and then.

A home that has just joined, or was away for long, applies blocks for minutes. Who waits for it is
told how many there are, how fast they come and how long the rest will take.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TextIO

from node.logs import CLEAR_LINE, terminal

log = logging.getLogger("commonwatt.sync")

# A home that lacks fewer blocks is only late; one that catches up does until it lacks no more.
BEHIND_MIN: Final = 20
BEHIND_DONE: Final = 2
# The pace is that of the last so many seconds.
PACE_S: Final = 30.0
PACE_S_MIN: Final = 1.0
LOOK_S: Final = 1.0
TELL_S: Final = 5.0
SAMPLE_S: Final = 0.5
SAMPLES_MAX: Final = 64


class Progress(NamedTuple):
    """How far it is.

    `blocks_per_s` and `left_s` are None while nothing is known of the pace, and `left_s` where it
    is none. While a snapshot is fetched no block comes, and then many at once.
    """

    height: int
    target: int
    blocks_per_s: float | None
    left_s: float | None
    snapshot: bool

    def words(self) -> str:
        """Return it as a sentence's part."""
        text = f"height {self.height} of {self.target}"
        if self.snapshot:
            return f"{text}, fetching a snapshot"
        if self.blocks_per_s is None:
            return text
        text += f", {self.blocks_per_s:.0f} blocks/s"
        return text if self.left_s is None else f"{text}, {duration(self.left_s)} left"


def duration(seconds: float) -> str:
    """Return a time as people say it: `40 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


class CatchingUp:
    """Watches one chain of a node.

    Parameters
    ----------
    chain_id : str
    height, behind, fetching : callables
        Height of the last applied block, how many are known to be missing, and whether a snapshot
        is on its way.
    now_s : callable
        A clock that does not jump. [s]
    """

    def __init__(
        self,
        chain_id: str,
        height: Callable[[], int],
        behind: Callable[[], int],
        fetching: Callable[[], bool],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain_id = chain_id
        self._height = height
        self._behind = behind
        self._fetching = fetching
        self._now_s = now_s
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES_MAX)
        self._begun: tuple[float, int] | None = None
        self._was_fetching = False
        self._told_s = 0.0

    def look(self) -> Progress | None:
        """Take note of how far it is; return it while it catches up, else None."""
        now_s, height, behind = self._now_s(), self._height(), self._behind()
        if behind < (BEHIND_MIN if self._begun is None else BEHIND_DONE + 1):
            self._samples.clear()
            return None
        if self._begun is None:
            self._begun, self._told_s = (now_s, height), now_s - TELL_S
        is_fetching = self._fetching()
        if is_fetching or self._was_fetching:
            # A snapshot's blocks are no pace.
            self._samples.clear()
        self._was_fetching = is_fetching
        if not self._samples or now_s - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now_s, height))
        while now_s - self._samples[0][0] > PACE_S:
            self._samples.popleft()
        since_s, since = self._samples[0]
        pace, left_s = None, None
        if now_s - since_s >= PACE_S_MIN:
            pace = (height - since) / (now_s - since_s)
            left_s = behind / pace if pace > 0 else None
        return Progress(height, height + behind, pace, left_s, is_fetching)

    def state(self) -> dict[str, Any] | None:
        """Return how far it is as a plain map, None for a home that does not catch up."""
        found = self.look()
        if found is None:
            return None
        return found._asdict() | {
            "blocks_per_s": None if found.blocks_per_s is None else round(found.blocks_per_s, 1),
            "left_s": None if found.left_s is None else round(found.left_s),
        }

    def tell(self, screen: TextIO | None) -> None:
        """Say how far it is: always on a terminal, elsewhere every few seconds."""
        found, begun = self.look(), self._begun
        now_s = self._now_s()
        if found is not None:
            if screen is not None:
                screen.write(f"{CLEAR_LINE}{self._chain_id}: {found.words()}")
                screen.flush()
            elif now_s - self._told_s >= TELL_S:
                self._told_s = now_s
                log.info("%s catches up: %s", self._chain_id, found.words())
        elif begun is not None:
            if screen is not None:
                screen.write(CLEAR_LINE)
                screen.flush()
            self._begun = None
            taken_s, blocks = now_s - begun[0], self._height() - begun[1]
            log.info("%s caught up: %d blocks in %s", self._chain_id, blocks, duration(taken_s))

    async def run(self) -> None:
        """Tell, for ever."""
        while True:
            self.tell(terminal())
            await asyncio.sleep(LOOK_S)
