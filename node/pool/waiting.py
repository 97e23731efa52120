"""The transactions that wait for a block, kept so that no account can take another's turn.

Who has had least of the last blocks goes first, and where there is no more room, who has most in
here makes it. So an account that posts a few in a slot waits no longer for a thousand others that
post all the time.
"""

from collections.abc import Iterator
from typing import Final

from wire.transaction import CheckedTransaction

# What a block gave is worth so much of that a block later, and forgotten after so many.
USE_KEPT: Final = 0.9
USE_BLOCKS_MAX: Final = 32


class Waiting:
    """Pending transactions by id, in order of arrival, and by sender."""

    def __init__(self) -> None:
        self._all: dict[bytes, CheckedTransaction] = {}
        self._by_sender: dict[str, dict[bytes, CheckedTransaction]] = {}
        # Senders by how many of theirs wait: the last that is not empty has the most.
        self._crowds: list[dict[str, None]] = [{}]
        # What each sender has had of the last blocks, and at which it was reckoned.
        self._used: dict[str, tuple[float, int]] = {}
        self._blocks = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, tx_id: bytes) -> bool:
        return tx_id in self._all

    def __iter__(self) -> Iterator[CheckedTransaction]:
        """Iterate in order of arrival."""
        return iter(self._all.values())

    def get(self, tx_id: bytes) -> CheckedTransaction | None:
        """Return a transaction that waits."""
        return self._all.get(tx_id)

    def count(self, sender: str) -> int:
        """Return how many of a sender wait."""
        return len(self._by_sender.get(sender, ()))

    def add(self, checked: CheckedTransaction) -> None:
        """Add one that does not wait yet."""
        mine = self._by_sender.setdefault(checked.sender, {})
        self._all[checked.tx_id] = mine[checked.tx_id] = checked
        self.bytes += len(checked.raw)
        self._move(checked.sender, len(mine) - 1, len(mine))

    def drop(self, tx_id: bytes, used: bool = False) -> CheckedTransaction | None:
        """Let one go and return it, if it waited; `used` if a block has taken it."""
        checked = self._all.pop(tx_id, None)
        if checked is None:
            return None
        sender = checked.sender
        mine = self._by_sender[sender]
        del mine[tx_id]
        if not mine:
            del self._by_sender[sender]
        self.bytes -= len(checked.raw)
        self._move(sender, len(mine) + 1, len(mine))
        if used:
            self._used[sender] = (self._use(sender) + 1, self._blocks)
        return checked

    def _move(self, sender: str, before: int, now: int) -> None:
        self._crowds[before].pop(sender, None)
        if now == len(self._crowds):
            self._crowds.append({})
        if now:
            self._crowds[now][sender] = None
        while len(self._crowds) > 1 and not self._crowds[-1]:
            self._crowds.pop()

    def most_of(self, more_than: int) -> CheckedTransaction | None:
        """Return the last, by nonce, of who has most waiting, if that is `more_than` so many."""
        if len(self._crowds) - 1 <= more_than:
            return None
        sender = next(iter(self._crowds[-1]))
        return max(self._by_sender[sender].values(), key=lambda checked: checked.tx.nonce)

    def block_passed(self) -> None:
        """Learn that a block has been decided: what those before gave weighs less."""
        self._blocks += 1
        if self._blocks % USE_BLOCKS_MAX == 0:
            oldest = self._blocks - USE_BLOCKS_MAX
            self._used = {who: use for who, use in self._used.items() if use[1] > oldest}

    def _use(self, sender: str) -> float:
        use, block = self._used.get(sender, (0.0, self._blocks))
        return use * USE_KEPT ** (self._blocks - block)

    def in_turn(self) -> list[CheckedTransaction]:
        """Return all: who has had least first, then by arrival; a sender's in order of nonce."""
        lines = {
            sender: sorted(mine.values(), key=lambda checked: checked.tx.nonce, reverse=True)
            for sender, mine in self._by_sender.items()
        }
        turns = {sender: self._use(sender) for sender in lines}
        ranked: list[tuple[float, str]] = []
        for checked in self._all.values():
            ranked.append((turns[checked.sender], checked.sender))
            turns[checked.sender] += 1
        # Of equal rank who came first stays first; a sender's place is taken by its lowest nonce.
        ranked.sort(key=lambda place: place[0])
        return [lines[sender].pop() for _, sender in ranked]
