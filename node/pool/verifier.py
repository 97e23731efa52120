"""Signature checks that are paid once: gossip, mempool and block execution share one memory."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from wire.transaction import CheckedTransaction, Refused, check, check_validity

REMEMBERED_MAX: Final = 20_000
# With fewer than these, nobody looks for those that have expired.
SWEPT_MIN: Final = 512


class TransactionVerifier:
    """Checks transactions, remembering good ones by the hash of their bytes until they expire.

    Whenever there are twice as many as the last time, those that have expired are let go, so that
    a quiet street does not fill its memory, some 25 MiB, over hours.

    Called from the network's thread (before a batch is passed on), from the event loop and from
    the execution thread; the memory is guarded by a lock, the signatures are checked outside it.
    """

    def __init__(self, chain_id: str) -> None:
        self._chain_id = chain_id
        self._known: OrderedDict[bytes, CheckedTransaction] = OrderedDict()
        self._sweep_at = SWEPT_MIN
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._known)

    def new_among(self, raws: Sequence[bytes]) -> int:
        """Return how many of the inputs are not remembered: each costs a signature check."""
        hashes = [hashlib.sha256(raw).digest() for raw in raws]
        with self._lock:
            return sum(digest not in self._known for digest in hashes)

    def check(self, raws: Sequence[bytes], now_ms: int) -> list[CheckedTransaction | Refused]:
        """Return the checked transaction, or why it is refused at `now_ms`, for each input."""
        hashes = [hashlib.sha256(raw).digest() for raw in raws]
        with self._lock:
            known = [self._known.get(digest) for digest in hashes]
        fresh = [place for place, found in enumerate(known) if found is None]
        unchecked = Refused("malformed", "it has not been checked")
        results: list[CheckedTransaction | Refused] = [
            _still_valid(found, now_ms) if found else unchecked for found in known
        ]
        checked = check([raws[place] for place in fresh], self._chain_id, now_ms)
        for place, result in zip(fresh, checked, strict=True):
            results[place] = result
            if isinstance(result, CheckedTransaction):
                self._remember(hashes[place], result, now_ms)
        return results

    def _remember(self, digest: bytes, checked: CheckedTransaction, now_ms: int) -> None:
        with self._lock:
            self._known[digest] = checked
            if len(self._known) >= self._sweep_at:
                for known, old in list(self._known.items()):
                    if old.tx.valid_until_ms < now_ms:
                        del self._known[known]
                self._sweep_at = max(SWEPT_MIN, 2 * len(self._known))
            while len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)


def _still_valid(checked: CheckedTransaction, now_ms: int) -> CheckedTransaction | Refused:
    try:
        check_validity(checked.tx, now_ms)
    except Refused as refused:
        return refused
    return checked
