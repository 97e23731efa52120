"""Whom to dial, and when: wanted peers always, others until there are enough (guard 16)."""

import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from node.network._addresses import check_peer
from node.network._book import PeerBook
from node.network._limits import Limits
from node.network.base import NetworkError

BACKOFF_MIN_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
# Peers nobody asked for by name are tried ever more rarely, down to this.
IDLE_BACKOFF_MAX_S: Final = 600.0
JITTER: Final = 0.25
DIAL_TIMEOUT_S: Final = 10.0
DIALS_AT_ONCE_MAX: Final = 4
WANTED_MAX: Final = 1_024
HEARD_MAX: Final = 256
HEARD_FAILURES_MAX: Final = 3
SLEEP_MAX_S: Final = 60.0


class _Target:
    __slots__ = ("addresses", "delay_s", "dialling", "due_s", "failures", "wanted")

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.wanted = False
        self.dialling = False
        self.failures = 0
        self.delay_s = BACKOFF_MIN_S
        self.due_s = 0.0


class Dialer:
    """Keeps the connections. `dial(address)` connects or raises; `here(peer_id)` tells if it is.

    `refused(peer_id)` names peers not to dial: banned, or not allowed.
    """

    def __init__(
        self,
        book: PeerBook,
        limits: Limits,
        dial: Callable[[str], Awaitable[None]],
        here: Callable[[str], bool],
        refused: Callable[[str], bool],
        count: Callable[[], int],
    ) -> None:
        self._book = book
        self._limits = limits
        self._dial = dial
        self._here = here
        self._refused = refused
        self._count = count
        self._targets: dict[str, _Target] = {}
        self._pinned: frozenset[str] = frozenset()
        self._wake = trio.Event()
        self._random = random.Random()  # noqa: S311 - no secret  # nosec B311
        for peer_id in book.peer_ids():
            self._targets[peer_id] = _Target()

    def want(self, address: str) -> None:
        """Keep a connection to this address."""
        peer_id = check_peer(address)
        target = self._targets.setdefault(peer_id, _Target())
        if address not in target.addresses:
            target.addresses.insert(0, address)
        target.wanted = True
        target.due_s = 0.0
        self._wake.set()

    def pin(self, names: frozenset[str]) -> None:
        """Keep connections to these peers, by whatever address is known or heard of."""
        for name in names - self._pinned:
            if name in self._targets:
                self._targets[name].due_s = 0.0
                self._targets[name].delay_s = BACKOFF_MIN_S
        self._pinned = names
        self._wake.set()

    def hear(self, address: str) -> None:
        """Learn an address from another peer."""
        peer_id = check_peer(address)
        target = self._targets.get(peer_id)
        if target is None:
            full = len(self._targets) >= HEARD_MAX + WANTED_MAX
            if full and peer_id not in self._pinned:
                return
            target = self._targets[peer_id] = _Target()
        elif target.addresses or self._book.addresses(peer_id):
            return
        target.addresses.append(address)
        self._wake.set()

    def came(self, peer_id: str) -> None:
        """Learn that a peer is connected."""
        target = self._targets.get(peer_id)
        if target is not None:
            target.failures = 0
            target.delay_s = BACKOFF_MIN_S
            target.due_s = 0.0

    def went(self, peer_id: str) -> None:
        """Learn that a peer is gone: it is tried again soon, then with back-off."""
        target = self._targets.get(peer_id)
        if target is not None:
            target.due_s = trio.current_time() + self._jittered(BACKOFF_MIN_S)
        self._wake.set()

    async def run(self) -> None:
        """Dial for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                now_s = trio.current_time()
                self._wake = trio.Event()
                for peer_id in self._due(now_s):
                    self._targets[peer_id].dialling = True
                    nursery.start_soon(self._try, peer_id)
                with trio.move_on_after(self._sleep_s(now_s)):
                    await self._wake.wait()

    def _due(self, now_s: float) -> list[str]:
        busy = sum(target.dialling for target in self._targets.values())
        room = self._limits.peers_target - self._count() - busy
        wanted: list[str] = []
        others: list[str] = []
        for peer_id, target in self._targets.items():
            if target.dialling or target.due_s > now_s or not self._wanting(peer_id, target, room):
                continue
            (wanted if self._is_kept(peer_id, target) else others).append(peer_id)
        self._random.shuffle(others)
        return (wanted + others[: max(0, room)])[: max(0, DIALS_AT_ONCE_MAX - busy)]

    def _wanting(self, peer_id: str, target: _Target, room: int) -> bool:
        if (
            not (self._is_kept(peer_id, target) or room > 0)
            or self._here(peer_id)
            or self._refused(peer_id)
        ):
            return False
        return bool(target.addresses or self._book.addresses(peer_id))

    def _is_kept(self, peer_id: str, target: _Target) -> bool:
        return target.wanted or peer_id in self._pinned

    def _sleep_s(self, now_s: float) -> float:
        room = self._limits.peers_target - self._count()
        due_s = [
            target.due_s
            for peer_id, target in self._targets.items()
            if not target.dialling and self._wanting(peer_id, target, room)
        ]
        if not due_s:
            return SLEEP_MAX_S
        return min(SLEEP_MAX_S, max(BACKOFF_MIN_S / 10, min(due_s) - now_s))

    async def _try(self, peer_id: str) -> None:
        target = self._targets[peer_id]
        try:
            for address in self._addresses(peer_id, target):
                try:
                    with trio.fail_after(DIAL_TIMEOUT_S):
                        await self._dial(address)
                    self.came(peer_id)
                    return
                except (NetworkError, trio.TooSlowError):
                    if self._here(peer_id):
                        self.came(peer_id)
                        return
            self._failed(peer_id, target)
        finally:
            target.dialling = False
            self._wake.set()

    def _addresses(self, peer_id: str, target: _Target) -> list[str]:
        known = self._book.addresses(peer_id)
        return known + [address for address in target.addresses if address not in known]

    def _failed(self, peer_id: str, target: _Target) -> None:
        target.failures += 1
        known = target.wanted or self._book.addresses(peer_id)
        if not known and target.failures >= HEARD_FAILURES_MAX:
            del self._targets[peer_id]
            return
        target.due_s = trio.current_time() + self._jittered(target.delay_s)
        kept = self._is_kept(peer_id, target)
        delay_max_s = BACKOFF_MAX_S if kept else IDLE_BACKOFF_MAX_S
        target.delay_s = min(target.delay_s * 2, delay_max_s)

    def _jittered(self, delay_s: float) -> float:
        return delay_s * self._random.uniform(1 - JITTER, 1 + JITTER)
