"""What one peer may do, and what happens to the one that does more.

A peer has a budget of messages and bytes per second (token buckets, so bursts pass) and a count of
offences that fades. Over a limit it is disconnected and banned, each time twice as long. Everything
here takes the time as an argument and belongs to one thread.
"""

import logging
from collections import OrderedDict
from typing import Final

import msgspec

LOG: Final = logging.getLogger("commonwatt.network")

# Peers remembered as offenders or in the log, the oldest forgotten first. An Ed25519 peer id costs
# its owner nothing, so memory spent per stranger must end somewhere.
REMEMBERED_PEERS_MAX: Final = 1_024
LOG_INTERVAL_S: Final = 60.0


class Limits(msgspec.Struct, frozen=True):
    """Limits per peer, and how many peers to have.

    A proposal of the largest size every second, with its votes, stays below the rates; GossipSub
    itself cannot carry more than a few hundred messages per second on one core. What one author
    may gossip is limited apart from what its neighbours pass on, or it could have them banned.
    """

    messages_per_s: int = 200
    messages_burst: int = 2_000
    bytes_per_s: int = 4 * 1_048_576
    bytes_burst: int = 64 * 1_048_576
    author_messages_per_s: int = 50
    author_burst: int = 500
    streams_max: int = 64
    requests_max: int = 16
    offences_max: int = 10
    offence_fades_s: float = 60.0
    ban_s: float = 60.0
    ban_max_s: float = 3_600.0
    peers_target: int = 8
    peers_max: int = 64


class Rate:
    """A token bucket."""

    __slots__ = ("_burst", "_left", "_per_s", "_seen_s")

    def __init__(self, per_s: float, burst: float, now_s: float, left: float | None = None) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst if left is None else left
        self._seen_s = now_s

    @property
    def left(self) -> float:
        """What was left of the budget when it was last asked for."""
        return self._left

    def take(self, amount: float, now_s: float) -> bool:
        """Spend `amount`; False if the budget did not have it."""
        passed_s = max(0.0, now_s - self._seen_s)
        self._left = min(self._burst, self._left + passed_s * self._per_s)
        self._seen_s = now_s
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Budget:
    """What one connected peer may still send."""

    __slots__ = ("_bytes", "_messages")

    def __init__(self, limits: Limits, now_s: float) -> None:
        self._messages = Rate(limits.messages_per_s, limits.messages_burst, now_s)
        self._bytes = Rate(limits.bytes_per_s, limits.bytes_burst, now_s)

    def problem(self, size: int, now_s: float, messages: int = 1) -> str | None:
        """Take messages of together `size` bytes; say which limit that breaks, or None."""
        if not self._messages.take(messages, now_s):
            return "more messages per second than allowed"
        if not self._bytes.take(size, now_s):
            return "more bytes per second than allowed"
        return None


class Authors:
    """What the authors of gossip may still say, whoever passes it on."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._rates: OrderedDict[bytes, Rate] = OrderedDict()

    def afford(self, author: bytes, now_s: float) -> bool:
        """Charge an author for one message; False if it is over its limit."""
        rate = self._rates.get(author)
        if rate is None:
            rate = Rate(self._limits.author_messages_per_s, self._limits.author_burst, now_s)
            self._rates[author] = rate
            if len(self._rates) > REMEMBERED_PEERS_MAX:
                self._rates.popitem(last=False)
        else:
            self._rates.move_to_end(author)
        return rate.take(1, now_s)


class _Record:
    __slots__ = ("bans", "faded_s", "offences", "until_s")

    def __init__(self, now_s: float) -> None:
        self.offences = 0
        self.faded_s = now_s
        self.bans = 0
        self.until_s = 0.0


class Offences:
    """Offences and bans of the peers that had any."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def add(self, peer_id: str, now_s: float, count: int = 1) -> bool:
        """Count an offence as `count`; True if it brings a ban (which then has begun)."""
        record = self._record(peer_id, now_s)
        faded = int((now_s - record.faded_s) / self._limits.offence_fades_s)
        record.offences = max(0, record.offences - faded)
        record.faded_s += faded * self._limits.offence_fades_s
        record.offences += count
        if record.offences < self._limits.offences_max:
            return False
        self.ban(peer_id, now_s)
        return True

    def ban(self, peer_id: str, now_s: float) -> float:
        """Ban a peer, twice as long as the last time; return for how long. [s]"""
        record = self._record(peer_id, now_s)
        duration_s = min(self._limits.ban_s * 2.0**record.bans, self._limits.ban_max_s)
        # A peer that behaved for as long as the longest ban starts again at the shortest.
        if record.bans and now_s - record.until_s > self._limits.ban_max_s:
            record.bans, duration_s = 0, self._limits.ban_s
        record.bans = min(record.bans + 1, 16)
        record.offences = 0
        record.faded_s = now_s
        record.until_s = now_s + duration_s
        return duration_s

    def banned(self, peer_id: str, now_s: float) -> bool:
        """Tell whether a peer is banned now."""
        record = self._records.get(peer_id)
        return record is not None and now_s < record.until_s

    def _record(self, peer_id: str, now_s: float) -> _Record:
        record = self._records.get(peer_id)
        if record is None:
            record = self._records[peer_id] = _Record(now_s)
            if len(self._records) > REMEMBERED_PEERS_MAX:
                self._records.popitem(last=False)
        else:
            self._records.move_to_end(peer_id)
        return record


class QuietLog:
    """One line per peer and minute for what peers do wrong; the rest is only counted."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def warn(self, peer_id: str, text: str, now_s: float) -> None:
        """Log `text` about a peer, unless that peer had its line within `LOG_INTERVAL_S`."""
        last_s, muted = self._seen.get(peer_id, (None, 0))
        if last_s is not None and now_s - last_s < LOG_INTERVAL_S:
            self._seen[peer_id] = (last_s, muted + 1)
            return
        more = f" ({muted} more since the last line)" if muted else ""
        self._seen[peer_id] = (now_s, 0)
        self._seen.move_to_end(peer_id)
        if len(self._seen) > REMEMBERED_PEERS_MAX:
            self._seen.popitem(last=False)
        LOG.warning("%s: %s%s", peer_id or "someone", one_line(text), more)


def one_line(text: str, chars_max: int = 300) -> str:
    """Make untrusted text fit for a log: printable, on one line, bounded."""
    shown = "".join(char if char.isprintable() else "·" for char in text[: chars_max + 1])
    return shown if len(shown) <= chars_max else shown[:chars_max] + "…"
